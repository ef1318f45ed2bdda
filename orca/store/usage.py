"""What the store takes on the disk, and what `orca prune` would free of it.

What prune frees is asked of `gc.find`, which prune itself asks: the numbers cannot differ. Sizes are those of files,
each inode once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orca.errors import OrcaError
from orca.store import caches, gc
from orca.store.layout import Image
from orca.store.store import Store, base_snapshot

KINDS = (
    "images", "step cache", "unused", "snapshots", "cache mounts", "downloads", "build records", "other caches",
    "scratch",
)  # fmt: skip


@dataclass(frozen=True)
class Use:
    """One kind: how many things, their bytes, and how many bytes prune, and prune --all, would free of it."""

    kind: str
    count: int
    size: int
    prune: int
    prune_all: int


@dataclass(frozen=True)
class ImageUse:
    """A named image: bytes of its blobs, those that no other named image has, its unpacked snapshot."""

    names: tuple[str, ...]
    digest: str
    size: int
    unique: int
    snapshot: int


@dataclass(frozen=True)
class Usage:
    """`kinds` in the order of KINDS, then what else there is below the store by its name."""

    kinds: tuple[Use, ...]
    images: tuple[ImageUse, ...]
    mounts: tuple[caches.Cache, ...]


def of(store: Store) -> Usage:
    """All of it. Raises StoreError when the index cannot be read.

    Snapshots belong to subordinate ids: an ordinary user asks inside the sandbox.
    """
    reach = gc.Reach(store.images)
    named = {found.digest: reach.below(found.digest) for found in store.tags().values()}
    ours = {digest.removeprefix("sha256:") for needed in named.values() for digest in needed}
    now, everything = gc.find(store), gc.find(store, everything=True)
    unused = {item.path.name for item in now.items if item.kind == "blobs"}
    counts: dict[str, list[int]] = {kind: [0, 0, 0, 0] for kind in KINDS}
    for path in _things(store):
        found = counts.setdefault(kind_of(store, path, ours, unused), [0, 0, 0, 0])
        found[0] += 1
        found[1] += gc.size(path)
    for place, garbage in ((2, now), (3, everything)):
        for item in garbage.items:
            counts.setdefault(kind_of(store, item.path, ours, unused), [0, 0, 0, 0])[place] += item.size
    uses = (Use(kind, *numbers) for kind, numbers in counts.items() if numbers[0] or any(numbers))
    return Usage(tuple(uses), tuple(_images(store, named)), tuple(caches.find(store)))


def _things(store: Store) -> Iterator[Path]:
    """What is counted, each once: blobs, snapshots, records, caches; else what is at the top of the store."""
    yield from _entries(store.images.blobs)
    for name in ("snapshots", "chains", "builds", "work"):
        yield from _entries(store.root / name)
    for directory in _entries(store.root / "steps"):
        yield from _entries(directory)
    for path in _entries(store.root / "cache"):
        yield from _entries(path) if path.name == "downloads" else (path,)
    yield from (store.root / "mounts").glob("*/upper")  # what is mounted beside it is a snapshot
    counted = {"images", "snapshots", "chains", "builds", "work", "steps", "cache", "locks", "mounts"}
    yield from (path for path in _entries(store.root) if path.name not in counted and gc.size(path))


def _entries(directory: Path) -> list[Path]:
    try:
        return [directory / name for name in sorted(os.listdir(directory))]
    except (FileNotFoundError, NotADirectoryError):
        return []


def kind_of(store: Store, path: Path, ours: set[str], unused: set[str]) -> str:
    """The kind of something in the store; `ours` are the blobs of images with a name, `unused` those of nobody."""
    parts = path.relative_to(store.root).parts
    if parts[0] == "images":
        return "images" if path.name in ours else "unused" if path.name in unused else "step cache"
    if parts[0] == "cache":
        name = parts[1] if len(parts) > 1 else ""
        return "cache mounts" if name.startswith("mount-") else "downloads" if name == "downloads" else "other caches"
    kinds = {"steps": "step cache", "snapshots": "snapshots", "chains": "build records", "builds": "build records"}
    return {**kinds, "work": "scratch"}.get(parts[0], parts[0])


def _images(store: Store, named: dict[str, frozenset[str]]) -> Iterator[ImageUse]:
    names: dict[str, list[str]] = {}
    for name, found in store.tags().items():
        names.setdefault(found.digest, []).append(name)
    times: dict[str, int] = {}
    for needed in named.values():
        for digest in needed:
            times[digest] = times.get(digest, 0) + 1
    for digest, needed in named.items():
        sizes = {each: gc.size(store.images.blob_path(each)) for each in needed}
        unique = sum(size for each, size in sizes.items() if times[each] == 1)
        snapshots = {base_snapshot(found.config.diff_ids) for found in _read(store, digest)}
        unpacked = sum(gc.size(store.root / "snapshots" / name) for name in snapshots)
        yield ImageUse(tuple(sorted(names[digest])), digest, sum(sizes.values()), unique, unpacked)


def _read(store: Store, digest: str) -> tuple[Image, ...]:
    try:
        descriptor = next(found for found in store.tags().values() if found.digest == digest)
        return tuple(store.images.all_images(descriptor))
    except OrcaError:  # told where it is listed
        return ()
