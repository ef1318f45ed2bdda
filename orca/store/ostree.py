"""Images whose layers are in an OSTree repository, beside the ordinary ones.

Below `ostree/` in the store:
    repo/        the repository: a branch for each layer and for each image (see tools.ostree)
    images/      an OCI layout with an index, manifests and configs, but no layers: what is listed without ostree
    layers/      for each layer's digest: its diff id and its size, so that nobody fetches it again
    checkouts/   NAME/fs: whole root file systems, hard links into the repository

The index says which images are there: a branch without an entry in it is garbage, an entry always has its layers.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from orca.errors import ImageError, OrcaError, StoreError
from orca.oci.image import Descriptor, check_digest
from orca.store import containers, files
from orca.store.layout import Image, Layout
from orca.store.store import StepRecord, Store, base_snapshot
from orca.tools import ostree

DIRECTORIES = ("images", "layers", "checkouts")


class BranchLayout(Layout):
    """An OCI layout whose layers are branches of `repo`."""

    def __init__(self, path: Path, repo: Path) -> None:
        super().__init__(path)
        self.repo = repo

    def has_layer(self, diff_id: str) -> bool:
        """Is the layer in the repository?"""
        return (self.repo / "refs/heads" / ostree.layer_branch(diff_id)).is_file()

    def verify(self, found: Image, *, layers: bool = True) -> None:
        """Is every layer in the repository? (`ostree fsck` reads them all.) Raises ImageError."""
        if len(found.config.diff_ids) != len(found.manifest.layers):
            raise ImageError("the image's config does not have one diff id for each layer")
        for diff_id in found.config.diff_ids:
            if not self.has_layer(diff_id):
                raise ImageError(f"layer {diff_id} is not in the OSTree repository", hint="orca pull gets it again")


class OstreeStore(Store):
    """The store at `root`, for images in OSTree storage: names, manifests and root file systems are theirs."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.place = root / "ostree"
        self.repo = self.place / "repo"
        self.branches = BranchLayout(self.place / "images", self.repo)
        self.images = self.branches

    @classmethod
    def open(cls, root: Path | None = None) -> OstreeStore:
        """Open or make it. Raises StoreError when it is not ours alone to write."""
        store = cls(Store.open(root).root)
        files.own_directory(store.place)
        files.close_directory(store.place)  # the files in the repository have the images' owners and modes
        try:
            for name in DIRECTORIES:
                (store.place / name).mkdir(mode=0o700, exist_ok=True)
            if not (store.branches.path / "oci-layout").is_file():
                with store.lock("ostree"):
                    if not (store.branches.path / "oci-layout").is_file():
                        store.branches.create()
        except OSError as error:
            raise files.explain(error, f"making the store {store.place}") from error
        return store

    def snapshot(self, name: str) -> Path:
        return self.place / "checkouts" / super().snapshot(name).parent.name / "fs"

    def steps(self) -> Iterator[StepRecord]:
        """None: no build makes what is here."""
        return iter(())

    # -- layers that were imported

    def _layer_file(self, digest: str) -> Path:
        return self.place / "layers" / check_digest(digest).removeprefix("sha256:")

    def remember(self, layer: Descriptor, diff_id: str) -> None:
        """The layer of this digest has been imported."""
        files.write_json(self._layer_file(layer.digest), {"diffId": diff_id, "size": layer.size})

    def imported_as(self, digest: str) -> str | None:
        """The diff id of the layer, if it is in the repository."""
        value = files.read_json(self._layer_file(digest))
        with contextlib.suppress(ImageError, TypeError, KeyError):
            return value["diffId"] if self.branches.has_layer(value["diffId"]) else None
        return None

    def imported(self) -> dict[str, tuple[str, int]]:
        """Every layer that is in the repository, by its digest: diff id and size."""
        result = {}
        for entry in os.scandir(self.place / "layers"):
            with contextlib.suppress(ImageError, TypeError, KeyError):
                value = files.read_json(Path(entry.path))
                digest, diff_id, size = check_digest(f"sha256:{entry.name}"), value["diffId"], int(value["size"])
                if self.branches.has_layer(diff_id):
                    result[digest] = (diff_id, size)
        return result


@dataclass(frozen=True)
class Garbage:
    """What no image in OSTree storage needs: branches, and files and directories to be deleted."""

    branches: tuple[str, ...]
    paths: tuple[Path, ...]


def find_garbage(store: OstreeStore) -> Garbage:
    """What no name needs. Raises OrcaError for an image that cannot be read: nobody knows what it needs."""
    branches, blobs, checkouts = set(), set(), set()
    for name, descriptor in store.tags().items():
        branches.add(ostree.image_branch(name))
        for found in _readable(store, name, descriptor):
            blobs |= {descriptor.digest, found.descriptor.digest, found.manifest.config.digest}
            branches |= {ostree.layer_branch(diff_id) for diff_id in found.config.diff_ids}
            checkouts.add(base_snapshot(found.config.diff_ids))
    for entry in containers.listing(store, "ostree"):
        for found in _of_container(store, entry):
            blobs |= {found.descriptor.digest, found.manifest.config.digest}
            branches |= {ostree.layer_branch(diff_id) for diff_id in found.config.diff_ids}
            checkouts |= {*entry.config.snapshots}
    heads = store.repo / "refs/heads" / ostree.PREFIX
    gone = sorted(branch for branch in _branches(heads) if branch not in branches)
    layers = [
        Path(entry.path)
        for entry in os.scandir(store.place / "layers")
        if not _needed_layer(Path(entry.path), branches)
    ]
    paths = [
        *layers,
        *(path for path in store.branches.blobs.iterdir() if f"sha256:{path.name}" not in blobs),
        *(path for path in (store.place / "checkouts").iterdir() if path.name not in checkouts),
    ]
    return Garbage(tuple(gone), tuple(sorted(paths)))


def _readable(store: OstreeStore, name: str, descriptor: Descriptor) -> Iterable[Image]:
    try:
        return store.branches.all_images(descriptor)
    except OrcaError as error:
        hint = f"nothing was deleted; orca rm --storage=ostree {name} takes it off"
        raise StoreError(f"{name} cannot be read: {error.message}", hint=hint) from error


def _branches(heads: Path) -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(heads):
            yield f"{ostree.PREFIX}/{entry.name}"


def _of_container(store: OstreeStore, entry: containers.Entry) -> Iterator[Image]:
    """The image of a container, which runs or may be started again."""
    if entry.config.manifest and (found := store.lookup(entry.config.manifest)) is not None:
        yield from _readable(store, entry.config.image, found[1])


def _needed_layer(path: Path, branches: set[str]) -> bool:
    value = files.read_json(path)
    with contextlib.suppress(ImageError, TypeError, KeyError):
        return ostree.layer_branch(value["diffId"]) in branches
    return False


@dataclass(frozen=True)
class Usage:
    """Bytes on the disk. `separate` is what the images' trees would need if each had its own files; what the
    repository and all checkouts really need together is `bytes`.
    """

    images: int
    layers: int
    checkouts: int
    bytes: int
    separate: int

    def to_json(self) -> dict[str, int]:
        return dict(vars(self))


def usage(store: OstreeStore) -> Usage:
    """What OSTree storage needs of the disk. As root of the sandbox, where an ordinary user may look everywhere."""
    seen: set[tuple[int, int]] = set()
    repository, _ = _weigh(store.repo, seen)
    rest, separate, checkouts = 0, 0, 0
    for name in DIRECTORIES:
        for entry in os.scandir(store.place / name):
            new, whole = _weigh(Path(entry.path), seen)
            rest += new
            if name == "checkouts":
                checkouts, separate = checkouts + 1, separate + whole
    layers = sum(1 for _ in os.scandir(store.place / "layers"))
    return Usage(len(store.tags()), layers, checkouts, repository + rest, separate)


def _weigh(top: Path, seen: set[tuple[int, int]]) -> tuple[int, int]:
    """Bytes that a tree occupies: of files not in `seen`, which is added to, and of all its own."""
    new, whole, own, waiting = 0, 0, set(), [os.fspath(top)]
    while waiting:
        current = waiting.pop()
        with contextlib.suppress(OSError):
            found = os.lstat(current)
            if stat.S_ISDIR(found.st_mode):
                waiting += [entry.path for entry in os.scandir(current)]
            identity, size = (found.st_dev, found.st_ino), found.st_blocks * 512
            whole += 0 if identity in own else size
            new += 0 if identity in seen else size
            own.add(identity)
            seen.add(identity)
    return new, whole
