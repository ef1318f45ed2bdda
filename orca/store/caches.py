"""The directories of RUN --mount=type=cache: what there is, and how it goes.

`cache/mount-HASH/` has the file `id`, whose time is that of the last use, and one or more directories `fs`, `fs1` …
(`sharing=private` takes another one while the first is taken), each with a lock that a RUN holds while it uses it.
A lock that somebody may wait for is never deleted: it goes only when nobody uses the store.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orca.store import files, gc
from orca.store.store import Store

_COPY = re.compile(r"fs[0-9]{0,3}")
_ID_LIMIT = 8192


@dataclass(frozen=True)
class Cache:
    """One cache: `size` in bytes, `used` in seconds since 1970."""

    path: Path
    id: str
    size: int
    used: float
    in_use: bool


def find(store: Store) -> list[Cache]:
    """All caches that have a directory, by their ids."""
    found = []
    for path in (store.root / "cache").glob("mount-*"):
        copies = _copies(path)
        if copies:
            size = sum(gc.size(copy) for copy in copies)
            found.append(Cache(path, _id(path), size, _used(path), not _free(path)))
    return sorted(found, key=lambda cache: cache.id)


def remove(store: Store, caches: list[Cache]) -> list[Cache]:
    """Delete those that no RUN holds; returns them. Raises StoreError.

    Safe beside running builds: who comes next finds the cache empty.
    """
    with store.perhaps_alone() as alone, store.scratch() as place:
        gone = [cache for cache in caches if _remove(cache, place)]
        if alone:
            for path in (store.root / "cache").glob("mount-*"):
                if not _copies(path):
                    files.remove_tree(path)
    return gone


def _remove(cache: Cache, place: Path) -> bool:
    """Move its directories away to where they are deleted, unless one is held."""
    with _held(cache.path) as held:
        if held:
            for copy in _copies(cache.path):
                os.rename(copy, place / f"{cache.path.name}.{copy.name}")
        return held


def _copies(path: Path) -> list[Path]:
    with contextlib.suppress(FileNotFoundError), os.scandir(path) as entries:
        names = [each.name for each in entries if _COPY.fullmatch(each.name) and each.is_dir(follow_symlinks=False)]
        return [path / name for name in sorted(names)]
    return []


def _free(path: Path) -> bool:
    with _held(path) as held:
        return held


@contextlib.contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Hold all directories of a cache, without waiting; yields whether that was possible."""
    with contextlib.ExitStack() as stack:
        copies = [f"{copy.name}.lock" for copy in _copies(path)]
        yield all(stack.enter_context(files.lock(path / name, wait=False)) for name in copies)


def _id(path: Path) -> str:
    with contextlib.suppress(OSError), (path / "id").open("rb") as file:
        return file.read(_ID_LIMIT).decode("utf-8", "surrogateescape")
    return ""


def _used(path: Path) -> float:
    for place in (path / "id", path):
        with contextlib.suppress(OSError):
            return place.stat().st_mtime
    return 0.0
