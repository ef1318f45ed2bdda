"""What a COPY from the context consisted of, kept beside the step cache so that a miss can name the file.

A listing has the digest of what it lists as its name (`sources.tree.digest_items`), so it is written once. It holds
paths, kinds, modes and the beginnings of digests: no content, and no times.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from orca.sources.tree import LINK, Item
from orca.store import files

Facts = tuple[str, str, str]
"""Kind, mode (octal), and the beginning of the digest of what is in it."""

LIMIT = 1 << 28  # bytes of a listing that are read
_DIGEST = re.compile(r"[0-9a-f]{64}")


def path_of(store: Path, digest: str) -> Path:
    """Where the listing is kept; `digest` is 64 hexadecimal digits."""
    return store / "cache" / f"list-{digest}"


def facts(items: Iterable[Item]) -> dict[str, Facts]:
    """Everything that is listed, by its path in the context."""
    return dict(_entries(items))


def _entries(items: Iterable[Item]) -> Iterator[tuple[str, Facts]]:
    for item in items:
        for entry in item.entries:
            path = f"{item.path}/{entry.path}".strip("/") if entry.path else item.path
            digest = entry.digest
            if entry.kind == LINK:
                digest = hashlib.sha256(digest.encode("utf-8", "surrogateescape")).hexdigest()
            yield path, (entry.kind, f"{entry.mode:o}", digest[:24])


def keep(store: Path, digest: str, items: Iterable[Item]) -> None:
    """Write the listing unless it is there. Raises StoreError."""
    path = path_of(store, digest)
    if not _DIGEST.fullmatch(digest) or path.exists():
        return
    import zlib  # only a miss needs it

    text = "".join("\0".join((name, *found)) + "\0\n" for name, found in _entries(items))
    files.write_atomically(path, zlib.compress(text.encode("utf-8", "surrogateescape"), 1), durable=False)


def read(store: Path, digest: str) -> dict[str, Facts] | None:
    """The listing of that digest; None when there is none that can be read."""
    if not _DIGEST.fullmatch(digest):
        return None
    import zlib

    try:
        data = path_of(store, digest).read_bytes()
        unpacked = zlib.decompressobj().decompress(data, LIMIT).decode("utf-8", "surrogateescape")
    except (OSError, zlib.error):
        return None
    found: dict[str, Facts] = {}
    for line in unpacked.split("\0\n"):
        fields = line.split("\0")
        if len(fields) == 4:
            found[fields[0]] = (fields[1], fields[2], fields[3])
    return found


def changes(old: Mapping[str, Facts], new: Mapping[str, Facts]) -> Iterator[tuple[str, str]]:
    """The paths that differ, in order, and how: added, removed, type, mode, content."""
    for path in sorted(old.keys() | new.keys()):
        if path not in old:
            yield path, "added"
        elif path not in new:
            yield path, "removed"
        elif old[path] != new[path]:
            before, after = old[path], new[path]
            yield path, "type" if before[0] != after[0] else "content" if before[2] != after[2] else "mode"
