"""COPY, ADD, WORKDIR."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orca.dispatch.files import absolute
from orca.dispatch.ops import DirectoryOp, FileOp, Step
from orca.errors import DockerfileError, NotYet
from orca.oci.image import ImageConfig

Translate = Callable[..., list[Step]]
BASE = ImageConfig(working_dir="/srv/app", user="daemon", env=(("PATH", "/bin"), ("D", "dir")))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("x", "/srv/x"),
        ("x/", "/srv/x/"),
        (".", "/srv/"),
        ("./", "/srv/"),
        ("..", "/"),
        ("../../..", "/"),
        ("../x/.", "/x/"),
        ("/", "/"),
        ("//", "/"),
        ("//x", "/x"),
        ("/a//b/../c", "/a/c"),
        ("/a/", "/a/"),
        ("/../etc", "/etc"),
        ("...", "/srv/..."),
    ],
)
def test_absolute(path: str, expected: str) -> None:
    assert absolute(path, "/srv") == expected
    if not path.startswith("/"):
        assert absolute(path, "srv") == expected  # a base's WorkingDir need not be absolute


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("WORKDIR /x", "/x"),
        ("WORKDIR x", "/srv/app/x"),
        ("WORKDIR x/", "/srv/app/x"),
        ("WORKDIR ..", "/srv"),
        ("WORKDIR $D", "/srv/app/dir"),
        ("WORKDIR /", "/"),
        ("WORKDIR /process", "/process"),
        ("WORKDIR /proc/../ok", "/ok"),
    ],
)
def test_workdir(text: str, path: str, steps: Translate) -> None:
    (step,) = steps(text, base=BASE)
    assert (step.op, step.history) == (DirectoryOp(path, "daemon"), f"WORKDIR {path}")
    assert step.state.config.working_dir == path


def test_workdirs_build_on_one_another(steps: Translate) -> None:
    assert steps("WORKDIR a\nWORKDIR b\nWORKDIR ../c")[-1].history == "WORKDIR /a/c"


@pytest.mark.parametrize("path", ["/proc", "/proc/self", "/sys/", "/dev/shm", "/x/../dev"])
def test_workdir_of_the_container_is_refused(path: str, steps: Translate) -> None:
    with pytest.raises(DockerfileError, match="is not allowed"):
        steps(f"WORKDIR {path}")


def op(sources: tuple[str, ...], destination: str, **fields: Any) -> FileOp:
    return FileOp(sources, destination, **fields)


@pytest.mark.parametrize(
    ("text", "expected", "history"),
    [
        ("COPY a b", op(("a",), "/srv/app/b"), "COPY a /srv/app/b # orca"),
        ("COPY a b c/", op(("a", "b"), "/srv/app/c/"), "COPY a b /srv/app/c/ # orca"),
        ('COPY ["a b", "/c d"]', op(("a b",), "/c d"), "COPY a b /c d # orca"),
        ("COPY $D/*.txt /$D", op(("dir/*.txt",), "/dir"), "COPY dir/*.txt /dir # orca"),
        ("COPY --chown=$D:5 --chmod=0755 a /", op(("a",), "/", chown="dir:5", chmod=0o755),
         "COPY --chown=dir:5 --chmod=0755 a / # orca"),
        ("COPY --chmod=4755 a /", op(("a",), "/", chmod=0o4755), "COPY --chmod=4755 a / # orca"),
        ("COPY --from=Stage a .", op(("a",), "/srv/app/", from_="Stage"), "COPY --from=Stage a /srv/app/ # orca"),
        ("ADD a.tar /x/", op(("a.tar",), "/x/", unpack=True), "ADD a.tar /x/ # orca"),
        ("ADD --chown=1 --chmod=600 a /x", op(("a",), "/x", unpack=True, chown="1", chmod=0o600),
         "ADD --chown=1 --chmod=600 a /x # orca"),
    ],
)  # fmt: skip
def test_copy_and_add(text: str, expected: FileOp, history: str, steps: Translate) -> None:
    (step,) = steps(text, base=BASE)
    assert step.op == expected
    assert step.history == history
    assert step.state.config == BASE  # nothing of the config changes


def test_heredocs_expand_unless_quoted(steps: Translate) -> None:
    text = "COPY <<one <<'two' x /d/\n$D \\$D '$D'\none\n$D\ntwo"
    (step,) = steps(text, base=BASE)
    assert isinstance(step.op, FileOp)
    assert [(doc.name, doc.body) for doc in step.op.contents] == [("one", "dir $D 'dir'\n"), ("two", "$D\n")]
    assert step.op.sources == ("x",)
    assert step.history == "COPY x <<one <<two /d/ # orca"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("COPY --link a /", "COPY --link"),
        ("COPY --parents a /", "COPY --parents"),
        ("COPY --exclude=*.o a /", "COPY --exclude"),
        ("COPY --chmod=u+x a /", "the symbolic mode --chmod=u\\+x"),
        ("ADD --link a /", "ADD --link"),
        ("ADD --exclude=x a /", "ADD --exclude"),
        ("ADD --checksum=sha256:" + "0" * 64 + " https://example.org/a /", "ADD --checksum"),
        ("ADD --keep-git-dir=true a /", "ADD --keep-git-dir"),
        ("ADD --unpack=true a /", "ADD --unpack"),
        ("ADD https://example.org/a?token=secret /", "ADD from https://example.org/a is"),
        ("ADD HTTP://example.org/a /", "ADD from HTTP://example.org/a"),
        ("ADD git@example.org:a/b.git /", "ADD from git@example.org"),
        ("ADD $U /", "ADD from https://example.org/x"),
        ("COPY --link --parents a /", "COPY --link"),
        ("RUN --device=x true", "RUN --device"),
        ("RUN --security=insecure x", "RUN --security=insecure"),
    ],
)
def test_what_is_not_there_yet_says_so(text: str, what: str, steps: Translate) -> None:
    with pytest.raises(NotYet, match=what) as caught:
        steps(text, base=ImageConfig(env=(("U", "https://example.org/x"),)))
    assert caught.value.hint
    at = caught.value.location
    assert at is not None and (at.line, at.lines) == (2, (text,))


def test_flags_that_are_off_are_no_flags(steps: Translate) -> None:
    assert steps("COPY --link=false --parents=false a /b")[0].op == op(("a",), "/b")
