"""Scripted builds in the store: what is kept, read back, undone and written as a Dockerfile."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.stores import Maker

from orca.errors import StoreError, UsageError
from orca.store import gc, sessions
from orca.store.sessions import Done, Session


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker.at(tmp_path / "store")


def session(maker: Maker, name: str, *texts: str, trigger: int = 99) -> Session:
    """A session whose steps have images of their own; the step with the number `trigger` is its base's."""
    steps = tuple(
        Done(text, f"{number:064x}", maker.image(name, text).descriptor, {"config": {}}, own=number != trigger)
        for number, text in enumerate(texts)
    )
    return Session(name, "linux/amd64", 1.0, 1, steps)


def test_what_is_put_is_found(maker: Maker) -> None:
    made = session(maker, "web", "FROM base", "ARG V")
    made = replace(made, steps=(made.steps[0], replace(made.steps[1], args=("V",), context="/c", cached=True)))
    with sessions.locked(maker.store, "web"):
        sessions.put(maker.store, made)
    assert sessions.get(maker.store, "web") == made
    assert sessions.names(maker.store) == ["web"] and made.base == "base"
    assert sessions.remove(maker.store, "web") and not sessions.remove(maker.store, "web")
    assert sessions.find(maker.store, "web") is None


@pytest.mark.parametrize("name", ["", "Web", "../images", "1web", "a/b", "a" * 64, "-x", "a\nb"])
def test_bad_names(name: str, maker: Maker) -> None:
    assert not sessions.is_name(name) and sessions.find(maker.store, name) is None
    with pytest.raises(StoreError, match="no scripted build"), sessions.locked(maker.store, name):
        pass


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"version": 2}', "null"])
def test_damaged_files(damage: str, maker: Maker) -> None:
    (maker.store.root / "sessions/web").write_text(damage)
    with pytest.raises(StoreError, match="web is damaged"):
        sessions.get(maker.store, "web")


def test_another_version_is_not_read(maker: Maker) -> None:
    value = session(maker, "web", "FROM base").to_json()
    (maker.store.root / "sessions/web").write_text(json.dumps({**value, "version": sessions.VERSION + 1}))
    with pytest.raises(StoreError, match="another version's"):
        sessions.get(maker.store, "web")


def test_near_names(maker: Maker) -> None:
    sessions.put(maker.store, session(maker, "website", "FROM base"))
    with pytest.raises(StoreError) as caught:
        sessions.get(maker.store, "websit")
    assert caught.value.hint == "did you mean website?"


def test_undoing_stops_at_the_triggers_of_the_base(maker: Maker) -> None:
    made = session(maker, "web", "FROM base", "RUN trigger", "RUN a", "RUN b", trigger=1)
    assert [step.text for step in made.without(2).steps] == ["FROM base", "RUN trigger"]
    for count in (0, -1, 3):
        with pytest.raises(UsageError, match="has not"):
            made.without(count)


def test_dockerfiles(maker: Maker) -> None:
    tools = session(maker, "tools", "FROM base", "RUN a")
    later = session(maker, "tools", "FROM base", "RUN a", "RUN b")
    reads = ({}, {"tools": tools.definition()}, {"TOOLS": later.definition()}, {"tools": tools.definition()})
    texts = ("FROM base", "COPY --from=tools /x /tools", "RUN --mount=from=TOOLS,target=/t <<X\nfrom=TOOLS\nX",
             "COPY --from=tools /y /y")  # fmt: skip
    made = session(maker, "web", *texts)
    made = replace(made, steps=tuple(replace(step, reads=read) for step, read in zip(made.steps, reads, strict=True)))
    assert (
        sessions.dockerfile(made)
        == """\
FROM base AS tools
RUN a

FROM base AS tools_
RUN a
RUN b

FROM base
COPY --from=tools /x /tools
RUN --mount=from=tools_,target=/t <<X
from=TOOLS
X
COPY --from=tools /y /y
"""
    )


def test_the_collector_keeps_what_a_session_stands_on(maker: Maker) -> None:
    made = session(maker, "web", "FROM base", "RUN a")
    sessions.put(maker.store, made)
    gc.delete(maker.store, gc.find(maker.store, everything=True))
    assert all(maker.store.complete(step.manifest) for step in sessions.get(maker.store, "web").steps)
    sessions.remove(maker.store, "web")
    kinds = {item.kind for item in gc.find(maker.store).items}
    assert kinds == {"blobs"}
    (maker.store.root / "sessions/web").write_text("{}")
    with pytest.raises(StoreError, match="damaged"):
        gc.find(maker.store)
