"""Containers' directories in the store: names, locks, what is believed of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orca.errors import StoreError
from orca.store import containers, gc
from orca.store.containers import State
from orca.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def test_names_are_unique_and_ids_may_be_short(store: Store) -> None:
    one = containers.make(store, "one", "image", kept=True, detached=True)
    other = containers.make(store, None, "image", kept=True, detached=True)
    assert other.entry.config.name == other.entry.id[:12]
    with pytest.raises(StoreError, match="is called one already"):
        containers.make(store, "one", "image", kept=True, detached=True)
    assert len(containers.listing(store)) == 2
    for text in ("one", one.entry.id, one.entry.id[:9]):
        assert containers.find(store, text).id == one.entry.id
    for text in ("on", "", "../x", "zz"):
        with pytest.raises(StoreError, match="no container"):
            containers.find(store, text)


def test_several_with_one_beginning(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = iter((b"\xab" * 32, b"\xab" * 31 + b"\x00"))
    monkeypatch.setattr(os, "urandom", lambda count: next(ids) if count == 32 else b"x" * count)
    for _ in range(2):
        containers.make(store, None, "image", kept=True, detached=True)
    with pytest.raises(StoreError, match="the beginning of 2 ids"):
        containers.find(store, "abab")


def test_a_state_is_believed_while_the_lock_is_held(store: Store) -> None:
    held = containers.make(store, "one", "image", kept=True, detached=True)
    entry = held.entry
    assert (entry.status(), entry.alive()) == ("created", True)
    held.say(State("running", pid=1))
    assert entry.status() == "running"
    assert not entry.wait(0)
    with pytest.raises(StoreError, match="running already"):
        containers.hold(store, entry)
    os.close(held.fd)
    assert (entry.status(), entry.alive(), entry.wait(0)) == ("dead", False, True)
    assert entry.exit_code() is None
    again = containers.hold(store, entry)
    again.say(State("exited", exit_code=3))
    again.ended(3)
    os.close(again.fd)
    assert (entry.status(), entry.exit_code()) == ("exited", 3)


def test_what_is_damaged_is_no_container(store: Store) -> None:
    held = containers.make(store, "one", "image", kept=True, detached=True)
    path = held.entry.path
    (path / "state.json").write_text('{"status": "running", "surprise": 1}')
    assert held.entry.state() == State()
    for text in ("", "[]", "{}", '{"name": "one"}', "null"):
        (path / "config.json").write_text(text)
        assert containers.listing(store) == []
    (containers.place(store) / "not-an-id").mkdir()
    assert containers.listing(store) == []


def test_sweep(store: Store) -> None:
    kept = containers.make(store, "kept", "image", kept=True, detached=True)
    kept.configure(manifest="sha256:" + "a" * 64)
    (kept.entry.path / "scratch").mkdir()
    thrown = containers.make(store, "thrown", "image", kept=False, detached=True)
    unfinished = containers.make(store, "unfinished", "image", kept=True, detached=True)
    runs = containers.make(store, "runs", "image", kept=False, detached=True)
    for held in (kept, thrown, unfinished):
        os.close(held.fd)
    containers.sweep(store)
    assert {entry.config.name for entry in containers.listing(store)} == {"kept", "runs"}
    assert not (kept.entry.path / "scratch").exists()
    os.close(runs.fd)


def test_the_collector_spares_snapshots(store: Store) -> None:
    for name in ("needed", "garbage"):
        (store.root / "snapshots" / name / "fs").mkdir(parents=True)
    held = containers.make(store, "one", "image", kept=True, detached=True)
    held.configure(manifest="sha256:" + "a" * 64, snapshots=("needed",))
    os.close(held.fd)
    for everything in (False, True):
        found = {item.path.name for item in gc.find(store, everything=everything).items if item.kind == "snapshots"}
        assert found == {"garbage"}


def test_releasing_a_lock_that_was_inherited(store: Store) -> None:
    with store.in_use() as release:
        child = os.fork()
        if child == 0:
            release()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        with store.alone():
            pass
