"""Which digest a file had when it last looked like this: a stat instead of a read.

A file is known by its path, inode, size, mtime and ctime. One that changed so recently that the
clock cannot tell a second change from the first is not remembered.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

from orca.errors import StoreError
from orca.store import files

# Coarser than any file system's clock tick that a local build context lives on.
SETTLED_NS = 50_000_000

Facts = tuple[int, int, int, int]


class StatCache:
    """Digests of the files below one directory; `save` writes it back if anything changed."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        value = files.read_json(path) if path else None
        self._known: dict[str, Any] = value if isinstance(value, dict) else {}
        self._fresh: dict[str, list[Any]] = {}
        self._begun = time.time_ns()

    @classmethod
    def for_directory(cls, caches: Path, directory: Path) -> StatCache:
        """The cache of `directory` below `caches`."""
        name = hashlib.sha256(str(directory).encode("utf-8", "surrogateescape")).hexdigest()[:32]
        return cls(caches / f"stat-{name}.json")

    def get(self, name: str, facts: Facts) -> str | None:
        """The digest of the file `name`, if it still has these facts."""
        found = self._known.get(name)
        known = isinstance(found, list) and len(found) == 5 and tuple(found[:4]) == facts
        return str(found[4]) if found is not None and known else None

    def put(self, name: str, facts: Facts, digest: str) -> None:
        """Remember a digest, unless the file changed just now."""
        if max(facts[2], facts[3]) < self._begun - SETTLED_NS:
            self._fresh[name] = [*facts, digest]

    def save(self) -> None:
        """Write what is new; failing to is no failure of the build."""
        if self._path is None or not self._fresh:
            return
        try:
            files.write_json(self._path, {**self._known, **self._fresh}, durable=False)
        except StoreError:
            return
        self._fresh = {}
