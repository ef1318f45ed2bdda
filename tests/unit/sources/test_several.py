"""All tags of a repository: which are believed. With a skopeo that says what it is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.fake_tools import FakeTools
from support.stores import Maker

from orca.errors import OrcaError, UsageError
from orca.events import Event, Warned
from orca.sources import several
from orca.sources.access import Access
from orca.sources.images import Puller
from orca.tools.command import Runner


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def puller(tmp_path: Path, fake_tools: FakeTools, monkeypatch: pytest.MonkeyPatch, events: list[Event]) -> Puller:
    conf = tmp_path / "registries.conf"
    conf.write_text('unqualified-search-registries = ["one.example", "two.example"]')
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(conf))
    return Puller(Maker.at(tmp_path / "store").store, Runner(events.append), tmp_path, Access())


def test_in_order_and_only_tags(puller: Puller, fake_tools: FakeTools, events: list[Event]) -> None:
    bad = ["-v", "a b", "\x1b[2J", "", "x:y", "a@sha256:0", 7, None, "t" * 129]
    fake_tools.answer("skopeo", "list-tags", stdout=json.dumps({"Tags": ["b", *bad, "a", "_X.y-1"]}))
    name, found = several.tags(puller, "one.example/app")
    assert (str(name), found) == ("one.example/app", ["_X.y-1", "a", "b"])
    assert [event.message for event in events if isinstance(event, Warned)] == [
        f"one.example/app: the registry lists {len(bad)} that are no tags; they are left out"
    ]


def test_the_first_registry_that_has_it(puller: Puller, fake_tools: FakeTools) -> None:
    fake_tools.answer("skopeo", "docker://one.example/app", code=1, stderr="manifest unknown")
    fake_tools.answer("skopeo", "docker://two.example/app", stdout='{"Tags": ["a"]}')
    assert str(several.tags(puller, "app")[0]) == "two.example/app"


@pytest.mark.parametrize("said", ["[" * 50_000, "", "<html>"])
def test_nonsense(puller: Puller, fake_tools: FakeTools, said: str) -> None:
    fake_tools.answer("skopeo", "list-tags", stdout=said)
    with pytest.raises(OrcaError, match="not JSON"):
        several.tags(puller, "one.example/app")


@pytest.mark.parametrize(
    ("text", "message"),
    [("a.example/app:1", "names one image"), (f"app@sha256:{'0' * 64}", "names one image"),
     ("localhost/app", "of this machine only"), ("-v", "bad image name")],
)  # fmt: skip
def test_what_is_no_repository(puller: Puller, fake_tools: FakeTools, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        several.tags(puller, text)
    assert fake_tools.calls == []
