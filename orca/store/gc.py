"""What the store holds and nothing needs: found without touching it, then deleted.

Needed is what can be reached from the index (through indexes to manifests, from them to configs and
layers) and from the step cache. Manifests are read leniently here: what one may possibly refer to
is kept. The caller holds `Store.alone()` from finding to the end of deleting.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca.errors import ImageError, OrcaError, StoreError
from orca.oci import image
from orca.store import containers, files, sessions
from orca.store.layout import Layout
from orca.store.store import StepRecord, Store, base_snapshot

KINDS = ("blobs", "snapshots", "steps", "chains", "scratch", "stat-caches", "downloads", "listings", "builds")


@dataclass(frozen=True)
class Item:
    """A file or directory that nothing needs; `kind` is one of KINDS, `size` counts bytes."""

    kind: str
    path: Path
    size: int


@dataclass(frozen=True)
class Garbage:
    """What can go; digests of manifests that are named but cannot be read; how many cached steps stay."""

    items: tuple[Item, ...]
    damaged: tuple[str, ...]
    steps_kept: int = 0

    @property
    def size(self) -> int:
        """Bytes that deleting it frees."""
        return sum(item.size for item in self.items)


class Reach:
    """Follows manifests to everything they refer to. Each is read once."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._seen: dict[str, frozenset[str]] = {}
        self.damaged: list[str] = []

    def below(self, digest: str) -> frozenset[str]:
        """`digest` itself and all that can be reached from the manifest or index that it is."""
        if digest not in self._seen:
            self._seen[digest] = self._walk(digest)
        return self._seen[digest]

    def _walk(self, digest: str) -> frozenset[str]:
        needed: set[str] = set()
        waiting = [digest]
        while waiting:
            current = waiting.pop()
            if current in needed:
                continue
            needed.add(current)
            leaves, manifests = _references(self._read(current))
            needed |= leaves - manifests
            waiting += manifests
        return frozenset(needed)

    def whole(self, digest: str) -> bool:
        """Is everything there that `digest` needs?"""
        needed = self.below(digest)
        return digest not in self.damaged and all(self._layout.blob_path(each).is_file() for each in needed)

    def _read(self, digest: str) -> Mapping[str, Any]:
        try:
            fd = os.open(self._layout.blob_path(digest), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(fd, "rb") as file:
                if stat.S_ISREG(os.fstat(fd).st_mode):
                    return image.load_object(file.read(image.JSON_LIMIT + 1), "a manifest")
        except (OSError, ImageError):
            pass
        if digest not in self.damaged:
            self.damaged.append(digest)
        return {}


def _references(manifest: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """The digests of blobs, and of further manifests, that a manifest or an index names."""
    leaves = [manifest.get("config"), *_list(manifest.get("layers")), *_list(manifest.get("blobs"))]
    return set(_digests(leaves)), set(_digests([*_list(manifest.get("manifests")), manifest.get("subject")]))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _digests(descriptors: Iterable[Any]) -> Iterator[str]:
    for descriptor in descriptors:
        if isinstance(descriptor, dict):
            with contextlib.suppress(ImageError):
                yield image.check_digest(descriptor.get("digest"))


def find(store: Store, *, everything: bool = False) -> Garbage:
    """What nothing needs. With `everything`, the step cache, its snapshots, stat caches and build records too.

    Raises StoreError when the index cannot be read: then nobody knows what is needed.
    """
    reach = Reach(store.images)
    roots = set(_digests(_index(store.images)))
    needed = {digest for root in roots for digest in reach.below(root)}
    damaged = tuple(reach.damaged)
    kept, items = ([], list(_every_step(store))) if everything else _sort_steps(store, reach)
    for digest in _of_sessions(store):
        needed |= reach.below(digest)
    for record in kept:
        needed |= reach.below(record.manifest.digest) | ({record.layer.digest} if record.layer else set())
    snapshots = set() if everything else {*_snapshots_of(store, kept), *_bases(store)}
    for entry in containers.listing(store, "oci"):
        snapshots |= {*entry.config.snapshots}
        needed |= {digest for root in _of_container(entry) for digest in reach.below(root)}
    snapshots |= _mounted(store)
    items += _blobs(store.images, needed)
    items += _trees("chains", store.root / "chains", {digest.removeprefix("sha256:") for digest in needed})
    items += _trees("snapshots", store.root / "snapshots", snapshots)
    items += _trees("scratch", store.root / "work", _at_work(store))
    listed = {digest for record in kept for digest in _listed(record)}
    items += [
        Item("listings", path, size(path))
        for path in (store.root / "cache").glob("list-*")
        if path.name.removeprefix("list-") not in listed
    ]
    if everything:
        items += [Item("stat-caches", path, size(path)) for path in (store.root / "cache").glob("stat-*.json")]
        memories = [*(store.root / "cache").glob("toc-*"), *(store.root / "cache").glob("facts.json")]
        items += [Item("listings", path, size(path)) for path in memories]
        items += [Item("downloads", path, size(path)) for path in (store.root / "cache/downloads").glob("*")]
        items += _trees("builds", store.root / "builds", set())
    return Garbage(tuple(items), damaged, len(kept))


def _at_work(store: Store) -> set[str]:
    """The scratch directories, and their locks, of those who are at work; nobody is when the store is ours alone."""
    found = set()
    for path in (store.root / "work").glob("*.lock"):
        with contextlib.suppress(FileNotFoundError), files.lock(path, wait=False) as free:
            found |= set() if free else {path.name, path.stem}
    return found


def _index(layout: Layout) -> list[Any]:
    """The entries of index.json, those without a name too."""
    value = files.read_json(layout.path / "index.json")
    if not isinstance(value, dict) or not isinstance(value.get("manifests"), list | None):
        raise StoreError(
            f"{layout.path / 'index.json'} is missing or damaged, so nobody knows what is needed",
            hint="nothing was deleted; put the file back",
        )
    return _list(value.get("manifests"))


def _every_step(store: Store) -> Iterator[Item]:
    for path in (store.root / "steps").glob("*/*"):
        yield Item("steps", path, size(path))


def _sort_steps(store: Store, reach: Reach) -> tuple[list[StepRecord], list[Item]]:
    """The records that a build can still use, and the others."""
    kept, orphaned = [], []
    for item in _every_step(store):
        record = None
        with contextlib.suppress(StoreError):
            record = store.step(item.path.name)
        if record is not None and item.path.parent.name == record.key[:2] and reach.whole(record.manifest.digest):
            kept.append(record)
        else:
            orphaned.append(item)
    return kept, orphaned


def _mounted(store: Store) -> set[str]:
    """The snapshots below what `orca mount` has left, until `orca umount` ends it."""
    values = [files.read_json(path) for path in (store.root / "mounts").glob("*/info.json")]
    return {str(value.get("snapshot")) for value in values if isinstance(value, dict)}


def _of_sessions(store: Store) -> Iterator[str]:
    """The images that scripted builds stand on. Raises StoreError when nobody knows what one needs."""
    for name in sessions.names(store):
        if (session := sessions.find(store, name)) is not None:
            yield from (step.manifest.digest for step in session.steps)


def _of_container(entry: containers.Entry) -> list[str]:
    """The image of a container, which runs or may be started again."""
    with contextlib.suppress(ImageError):
        return [image.check_digest(entry.config.manifest)]
    return []


def _listed(record: StepRecord) -> Iterator[str]:
    """The digests of the context's files that a step was made of: their listings explain a miss."""
    found = [record.ingredients.get("files"), *_list(record.ingredients.get("sources"))]
    yield from (digest for digest in found if isinstance(digest, str))


def _snapshots_of(store: Store, records: Iterable[StepRecord]) -> Iterator[str]:
    """The snapshots that records need. A stack with a part missing is of no use to anybody."""
    for record in records:
        with contextlib.suppress(StoreError):
            if store.has_snapshots(record.snapshots):
                yield from record.snapshots


def _bases(store: Store) -> Iterator[str]:
    """The snapshots of images that have a name: what they were unpacked to."""
    for descriptor in store.tags().values():
        with contextlib.suppress(OrcaError):
            for found in store.images.all_images(descriptor):
                yield base_snapshot(found.config.diff_ids)


def _blobs(layout: Layout, needed: set[str]) -> Iterator[Item]:
    with os.scandir(layout.blobs) as entries:
        for entry in entries:
            if f"sha256:{entry.name}" not in needed:
                yield Item("blobs", Path(entry.path), size(Path(entry.path)))


def _trees(kind: str, directory: Path, needed: set[str]) -> Iterator[Item]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name not in needed:
                yield Item(kind, Path(entry.path), size(Path(entry.path)))


def size(path: Path) -> int:
    """Bytes of all files in a tree, each inode once. What cannot be looked at does not count."""
    total, inodes, waiting = 0, set(), [os.fspath(path)]
    while waiting:
        current = waiting.pop()
        with contextlib.suppress(OSError):
            found = os.lstat(current)
            if stat.S_ISDIR(found.st_mode):
                with os.scandir(current) as entries:
                    waiting += [entry.path for entry in entries]
            elif (found.st_dev, found.st_ino) not in inodes:
                inodes.add((found.st_dev, found.st_ino))
                total += found.st_size
    return total


def delete(store: Store, garbage: Garbage) -> None:
    """Delete it, in an order in which being killed leaves nothing that refers to what is gone.

    A snapshot goes to the scratch directory first: a half-deleted one must not be found under its name.
    """
    of_kind = {kind: [item.path for item in garbage.items if item.kind == kind] for kind in KINDS}
    try:
        for kind in ("steps", "chains", "stat-caches", "downloads", "listings"):
            for path in of_kind[kind]:
                files.remove_tree(path)
        with store.scratch() as place:
            for path in of_kind["snapshots"]:
                os.rename(path, place / path.name)
        for path in (*of_kind["blobs"], *of_kind["scratch"], *of_kind["builds"]):
            files.remove_tree(path)
    except OSError as error:
        raise files.explain(error, "pruning") from error
