"""The directories of RUN --mount=type=cache."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orca.executor.mounts import cache_directory
from orca.store import caches, files
from orca.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def make(store: Store, name: str, *copies: str, used: float = 1000) -> Path:
    """A cache with these directories, 5 bytes in each."""
    path = cache_directory(store.root, name)
    path.mkdir()
    (path / "id").write_text(name)
    os.utime(path / "id", (used, used))
    for copy in copies:
        (path / copy).mkdir()
        (path / copy / "file").write_text("12345")
        (path / f"{copy}.lock").touch()
    return path


def test_find(store: Store) -> None:
    make(store, "b", "fs", used=2000)
    make(store, "a", "fs", "fs1")
    make(store, "empty")
    (store.root / "cache/stat-x.json").write_text("")
    assert [(c.id, c.size, c.used, c.in_use) for c in caches.find(store)] == [
        ("a", 10, 1000, False), ("b", 5, 2000, False),
    ]  # fmt: skip


def test_one_without_an_id(store: Store) -> None:
    (make(store, "a", "fs") / "id").unlink()
    (found,) = caches.find(store)
    assert (found.id, found.size) == ("", 5)


@pytest.mark.parametrize("shared", [True, False])
def test_what_is_held_stays(store: Store, shared: bool) -> None:
    path = make(store, "a", "fs", "fs1")
    other = make(store, "b", "fs")
    with files.lock(path / "fs1.lock", shared=shared):
        found = caches.find(store)
        assert [cache.in_use for cache in found] == [True, False]
        assert [cache.id for cache in caches.remove(store, found)] == ["b"]
    assert (path / "fs/file").exists()
    assert not other.exists()
    assert [cache.id for cache in caches.remove(store, caches.find(store))] == ["a"]
    assert not path.exists()
    assert list((store.root / "work").iterdir()) == []


def test_locks_stay_while_anybody_uses_the_store(store: Store) -> None:
    path = make(store, "a", "fs")
    with store.in_use():
        assert len(caches.remove(store, caches.find(store))) == 1
    assert sorted(each.name for each in path.iterdir()) == ["fs.lock", "id"]
    assert caches.find(store) == []
    caches.remove(store, [])  # nobody uses it now
    assert not path.exists()


def test_a_link_is_not_followed(store: Store, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("stays")
    path = make(store, "a", "fs")
    (path / "fs/link").symlink_to(tmp_path / "outside")
    (path / "fs1").symlink_to(tmp_path / "outside")
    assert len(caches.remove(store, caches.find(store))) == 1
    assert (tmp_path / "outside/file").read_text() == "stays"
