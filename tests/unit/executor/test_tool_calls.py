"""The exact calls of tools that a small Dockerfile comes to, in order; the tools are stand-ins."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from support.fake_tools import FakeTools
from support.stores import Maker

from orca.dispatch.ops import DirectoryOp, ExecOp, FileOp, Op
from orca.dockerfile import parser
from orca.errors import DockerfileError
from orca.events import Event, LayerCommitted, StepFailed, StepFinished, StepStarted, ToolStarted
from orca.executor import effects, rootfs
from orca.executor.build import Build
from orca.executor.effects import Changed, Work
from orca.executor.options import Caching, Naming, Options
from orca.executor.overlay import Mounter
from orca.executor.position import Miss, StageResult
from orca.executor.rootfs import Upper, Workshop
from orca.executor.stage import StageBuilder
from orca.oci.platform import Platform
from orca.tools.command import Command, Finished, Runner

DOCKERFILE = """\
FROM base
ENV A=1 B="2 3"
WORKDIR /srv
COPY site /srv/
RUN make \\
    it
RUN true
EXPOSE 80
LABEL a=b
HEALTHCHECK CMD x
ENTRYPOINT ["/srv/app"]
"""


class Pretending(Runner):
    """A runner that starts nothing: quicker than stand-ins where the calls are known."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, ...]] = []

    def run(self, command: Command, **_: Any) -> Finished:
        self.calls.append(command.argv)
        return Finished(b"", "", 0, 0.0)

    @contextlib.contextmanager
    def running(self, command: Command, **_: Any) -> Iterator[Any]:
        self.calls.append(command.argv)
        Path(command.argv[-1]).mkdir()  # what `umoci raw unpack` would have made
        yield SimpleNamespace(pid=0, wait=lambda: 0)

    def pipeline(self, producer: Command, consumer: Command, *, step: int | None = None) -> Finished:
        return self.run(consumer)


class Site:
    """A build on a store of its own. What ops do to files is made up: each leaves a file that is called as it is."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runner: Runner | None = None) -> None:
        self.maker = Maker.at(tmp_path / "store")
        self.maker.image("base layer", tags=["localhost/base:latest"])
        self.events: list[Event] = []
        self.scratch = tmp_path / "scratch"
        self.scratch.mkdir()
        self.context = tmp_path / "context"
        (self.context / "site").mkdir(parents=True)
        runner = runner or Runner(self.events.append)
        mounter = cast(Mounter, SimpleNamespace(directory=self.maker.store.root / "snapshots", fuse=False))
        self.shop = Workshop(self.maker.store, runner, mounter, self.scratch, self.scratch)
        # What umoci would have unpacked is not there to be looked at.
        monkeypatch.setattr(rootfs, "clean", lambda root: 0)
        for kind in (DirectoryOp, FileOp, ExecOp):
            monkeypatch.setitem(cast(dict[Any, Any], effects.EFFECTS), kind, self.effect)

    def effect(self, op: Op, work: Work) -> Changed:
        if isinstance(op, ExecOp) and op.argv[-1] == "true":
            return None, False
        upper = Upper(work.shop.directory("step"), os.urandom(6).hex())
        upper.fs.mkdir()
        (upper.fs / type(op).__name__).touch()
        return upper, False

    def build(
        self, text: str, *, no_cache: bool = False, look: bool = False, begun: StageResult | None = None
    ) -> StageResult:
        options = Options(
            parser.parse(text), self.context, platform=Platform("linux", "amd64"),
            naming=Naming(epoch=0), caching=Caching(no_cache=no_cache),
        )  # fmt: skip
        build = Build(options, self.maker.store, self.events.append, begun={0: begun} if begun else None)
        return StageBuilder(build, build.plan.target, None if look else self.shop).run()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


@pytest.fixture
def pretending() -> Pretending:
    return Pretending()


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pretending: Pretending) -> Site:
    return Site(tmp_path, monkeypatch, pretending)


def plain(argv: tuple[str, ...], site: Site) -> str:
    """A call with the scratch directory and random names taken out, and tar without what never changes."""
    words = " ".join(argv).replace(str(site.scratch), "S")
    words = re.sub(r"\b(layout|step|unpack)-[0-9a-f]{8}\b", r"\1", words)
    return re.sub(r"^tar .*?--clamp-mtime .*?--directory", "tar … --directory", words)


def calls(site: Site) -> list[tuple[int | None, str]]:
    return [(event.step, plain(event.argv, site)) for event in site.events if isinstance(event, ToolStarted)]


def history(text: str) -> str:
    created = "--history.created=1970-01-01T00:00:00Z"
    return f"--history.created_by={text} --history.comment=orca.dockerfile.v0 {created}"


CONFIG = "umoci config --image S/layout:step"
LAYER = "umoci raw add-layer --image S/layout:step"
HEALTH = 'HEALTHCHECK ["CMD-SHELL" "x"]'
ENTRY = 'ENTRYPOINT ["/srv/app"]'
TAR = "tar … --directory=S/step/fs --files-from=S/step/pack/listing"


def test_every_call_of_a_dockerfile(site: Site, fake_tools: FakeTools) -> None:
    result = site.build(DOCKERFILE)
    expected = [
        (2, f"{CONFIG} --config.env=A=1 --config.env=B=2 3 {history('ENV A=1 B=2 3')}"),
        (3, "umoci raw unpack --image S/layout:step S/unpack/fs"),
        (3, TAR),
        (3, f"{LAYER} {history('WORKDIR /srv')} /dev/stdin"),
        (3, f"{CONFIG} --config.workingdir=/srv --no-history"),
        (4, TAR),
        (4, f"{LAYER} {history('COPY site /srv/ # orca')} /dev/stdin"),
        (5, TAR),
        (5, f"{LAYER} {history('RUN /bin/sh -c make     it # orca')} /dev/stdin"),
        (6, f"{CONFIG} {history('RUN /bin/sh -c true # orca')}"),
        (7, f"{CONFIG} --config.exposedports=80/tcp {history('EXPOSE [80/tcp]')}"),
        (8, f"{CONFIG} --config.label=a=b {history('LABEL a=b')}"),
        # umoci has no word for it: a history entry is all that it writes.
        (9, f"{CONFIG} {history(HEALTH)}"),
        (10, f"{CONFIG} --config.entrypoint=/srv/app {history(ENTRY)}"),
    ]
    assert calls(site) == expected
    # The stand-ins saw the same; tar is the real one.
    seen = [plain(tuple(argv), site) for argv in fake_tools.calls]
    assert sorted(seen) == sorted(call for _, call in expected if not call.startswith("tar"))
    assert result.cached == 1  # FROM
    assert len(result.position.snapshots) == 4


def test_what_is_told(quick: Site, pretending: Pretending) -> None:
    quick.build(DOCKERFILE)
    started = [event for event in quick.events if isinstance(event, StepStarted)]
    assert [(event.step, event.line) for event in started] == list(
        zip(range(1, 11), (1, 2, 3, 4, 5, 7, 8, 9, 10, 11), strict=True)
    )
    assert [event.text for event in started][4] == "RUN make it"
    assert all(event.why.endswith(".") for event in started)
    assert [event.step for event in quick.events if isinstance(event, StepFinished)] == list(range(1, 11))
    layers = {event.step: bool(event.digest) for event in quick.events if isinstance(event, LayerCommitted)}
    assert layers == {3: True, 4: True, 5: True, 6: False}


def test_the_second_time_nothing_is_called(quick: Site, pretending: Pretending) -> None:
    first = quick.build(DOCKERFILE)
    before = len(pretending.calls)
    quick.events.clear()
    second = quick.build(DOCKERFILE, look=True)
    assert (second.cached, second.position.key, second.manifest) == (10, first.position.key, first.manifest)
    assert second.position.state == first.position.state
    assert len(pretending.calls) == before
    assert {event.cached for event in quick.events if isinstance(event, StepFinished)} == {True}


@pytest.mark.parametrize(
    ("old", "new", "cached"),
    [
        ("FROM base", "FROM base", 10),
        ("ENV A=1", "ENV A=2", 1),
        ("WORKDIR /srv", "WORKDIR /srw", 2),
        ("make", "build", 4),
        ("LABEL a=b", "LABEL a=c", 7),
        ("[\"/srv/app\"]", "[\"/srv/app2\"]", 9),
    ],
)  # fmt: skip
def test_a_change_counts_from_its_line_on(old: str, new: str, cached: int, quick: Site, pretending: Pretending) -> None:
    quick.build(DOCKERFILE)
    assert quick.build(DOCKERFILE.replace(old, new)).cached == cached


def test_a_changed_file_counts_from_its_copy_on(quick: Site, pretending: Pretending) -> None:
    quick.build(DOCKERFILE)
    (quick.context / "site/new").touch()
    assert quick.build(DOCKERFILE).cached == 3


def test_looking_without_a_cache_is_a_miss(quick: Site, pretending: Pretending) -> None:
    with pytest.raises(Miss):
        quick.build(DOCKERFILE, look=True)
    assert pretending.calls == []


def test_no_cache_does_all_again(quick: Site, pretending: Pretending) -> None:
    quick.build(DOCKERFILE)
    before = len(pretending.calls)
    assert quick.build(DOCKERFILE, no_cache=True).cached == 1
    assert len(pretending.calls) == 2 * before - 1  # the base is unpacked already


def test_an_error_stops_the_stage_at_its_line(quick: Site, pretending: Pretending) -> None:
    with pytest.raises(DockerfileError, match="unknown signal") as caught:
        quick.build("FROM base\nENV A=1\nSTOPSIGNAL $A$A$A\nRUN never")
    assert caught.value.location is not None and caught.value.location.line == 3
    assert [event.step for event in quick.events if isinstance(event, StepFailed)] == [3]
    assert not [argv for argv in pretending.calls if "never" in " ".join(argv)]


def test_a_stage_goes_on_where_another_ended(quick: Site, pretending: Pretending) -> None:
    lines = DOCKERFILE.splitlines(keepends=True)
    first, rest = "".join(lines[:4]), lines[0] + "".join(lines[4:])
    begun = replace(quick.build(first), rootfs=None)  # as it comes back from the store
    before = len(pretending.calls)
    quick.events.clear()
    done = quick.build(rest, begun=begun)
    assert next(event.text for event in quick.events if isinstance(event, StepStarted)) == "RUN make it"
    assert not [argv for argv in pretending.calls[before:] if "unpack" in argv]
    assert done.position.snapshots[1:] == begun.position.snapshots  # RUN's own lies on them
    whole = quick.build(DOCKERFILE, look=True)
    assert (whole.cached, whole.position, whole.base_layers) == (10, done.position, done.base_layers)


def test_a_position_that_is_known_by_its_key_alone_has_no_image(quick: Site, pretending: Pretending) -> None:
    begun = replace(quick.build("FROM base\nENV A=1"), only_key=True)
    with pytest.raises(Miss):
        quick.build("FROM base", look=True, begun=begun)
