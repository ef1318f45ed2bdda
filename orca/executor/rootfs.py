"""The root file system of a stage: a stack of snapshots, made only when somebody needs it."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orca.errors import ImageError, RunFailed, StoreError, ToolError
from orca.executor import bundle, overlay
from orca.executor.cgroups import Claim
from orca.executor.checkout import checkout
from orca.executor.overlay import Mounted, Mounter
from orca.store import files
from orca.store.layout import Image, Layout
from orca.store.ostree import OstreeStore
from orca.store.store import Store, base_snapshot
from orca.tools import bounds, kernel, umoci
from orca.tools.command import Process, Runner

# Begins the names of snapshots that fuse-overlayfs wrote: to the kernel's overlay its whiteouts are files.
FUSE = "w"
# Begins the names of snapshots whose root directory says nothing of the image's: COPY --link makes them alone.
LOOSE = "l"
OVERLAY_MARKS = ("user.overlay.", "user.fuseoverlayfs.")


class Workshop:
    """What all stages of a build share: the store, the runner, the mounter, a scratch directory.

    `scratch` is on the store's file system, `volatile` a tmpfs that only the sandbox sees.
    """

    def __init__(self, store: Store, runner: Runner, mounter: Mounter, scratch: Path, volatile: Path) -> None:
        self.store = store
        self.runner = runner
        self.mounter = mounter
        self.scratch = scratch
        self.volatile = volatile
        # Held while paths of snapshots are resolved or changed: a commit moves them into the store.
        self.moving = threading.Lock()
        self.claim: Claim | None = None
        # For --on-error=shell: what clears the terminal and tells the error, and who has the terminal then.
        self.before_shell: Callable[[RunFailed], None] = lambda error: None
        self.terminal_holder = 0
        self.terminal_taken = False
        self.terminal_lock = threading.Lock()

    def usable(self, names: Sequence[str]) -> bool:
        """Are all these snapshots there, and of a kind that this build's overlays can have below them?"""
        foreign = not self.mounter.fuse and any(name.startswith(FUSE) for name in names)
        return not foreign and self.store.has_snapshots(tuple(names))

    def directory(self, kind: str) -> Path:
        """A new directory below the scratch directory."""
        path = self.scratch / f"{kind}-{os.urandom(4).hex()}"
        path.mkdir(mode=0o700)
        return path

    def volatile_directory(self, kind: str) -> Path:
        path = self.volatile / f"{kind}-{os.urandom(4).hex()}"
        path.mkdir(mode=0o700)
        return path

    def layout(self) -> Layout:
        """A private layout that shares the store's blobs."""
        return Layout(self.scratch / f"layout-{os.urandom(4).hex()}").create(blobs=self.store.images.path / "blobs")

    def unpacked(self, image: Image) -> str | None:
        """The snapshot that holds the whole file system of `image`, if it is there."""
        name = base_snapshot(image.config.diff_ids)
        return name if self.store.snapshot(name).is_dir() else None

    def unpack(self, image: Image, step: int | None) -> str:
        """The snapshot that holds the whole file system of `image`; unpacked at most once per set of layers."""
        name = base_snapshot(image.config.diff_ids)
        with self.store.lock(f"unpack-{name}", self.runner.check):
            if not self.store.snapshot(name).is_dir():
                self._unpack(image, name, step)
        return name

    def _unpack(self, image: Image, name: str, step: int | None) -> None:
        place = self.directory("unpack")
        try:
            if isinstance(self.store, OstreeStore):
                checkout(image, place / "fs", self.store, self.runner, step, copy=False)
            else:
                unpack_layers(image, place / "fs", self.layout(), self.runner, step)
        except BaseException:
            files.remove_tree(place)
            raise
        os.rename(place, self.store.snapshot(name).parent)


@contextlib.contextmanager
def workshop(store: Store, runner: Runner, place: Path | None = None) -> Iterator[Workshop]:
    """A scratch directory of the store (or `place`) with a tmpfs in it and a mounter; all gone at the end.

    Bundles, mount points and runc's state lie on the tmpfs: in memory, seen by nobody outside the sandbox.
    """
    store.sweep()
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(store.scratch() if place is None else _made(place))
        volatile = scratch / "volatile"
        volatile.mkdir()
        kernel.mount("tmpfs", volatile, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755")
        stack.callback(kernel.detach, volatile)
        mounter = stack.enter_context(Mounter(store.root / "snapshots", runner))
        yield Workshop(store, runner, mounter, scratch, volatile)


@contextlib.contextmanager
def _made(place: Path) -> Iterator[Path]:
    files.remove_tree(place)  # of somebody who was killed
    place.mkdir(mode=0o700)
    try:
        yield place
    finally:
        files.remove_tree(place)


def unpack_layers(image: Image, root: Path, layout: Layout, runner: Runner, step: int | None) -> None:
    """The whole file system of `image` into `root`, which must not exist. `layout` is a private one that has its blobs.

    Raises ImageError, StoreError; `root` is then of no use.
    """
    if len(image.config.diff_ids) != len(image.manifest.layers):
        raise ImageError("the image's config does not have one diff id for each layer")
    if not image.config.diff_ids:
        root.mkdir(mode=0o755)  # FROM scratch: umoci would make the same
        return
    layout.write_index({umoci.TAG: layout.oci(image).descriptor})
    for layer in image.manifest.layers:
        if not layout.has(layer):  # umoci waits for a FIFO, and follows a link
            raise ImageError(f"layer {layer.digest} is missing or has the wrong size", hint="orca pull gets it again")
    most, before = bounds.limit(image.manifest.size), bounds.inodes(root.parent)

    def excess(process: Process) -> bool:
        # Others make files there too: only a number that is far too large says something.
        return bounds.written(process.pid) + (bounds.inodes(root.parent) - before) * bounds.ENTRY > most

    try:
        done = bounds.run(runner, umoci.unpack(layout.path, umoci.TAG, root), excess, step=step)
    except ToolError as error:
        raise unpack_error(error) from error
    if not done or clean(root) > most:
        raise bounds.exceeded("the image", most)


def unpack_error(error: ToolError) -> Exception:
    """What umoci's complaint means for a user."""
    if "no space left" in error.stderr:
        hint = "orca prune frees what no image needs; ORCA_ROOT puts the store elsewhere"
        return StoreError("no space left on the device while unpacking the image", hint=hint)
    last = (error.stderr.splitlines()[-1:] or ["no message"])[0].strip()
    # The cause stands at the end, behind names that an image has chosen.
    shown = last if len(last) <= 400 else f"{last[:160]} … {last[-240:]}"
    return ImageError(f"the image cannot be unpacked: {shown}")


def clean(root: Path) -> int:
    """Take overlay's attributes off a tree: planted in a layer, they would hide files of other layers.

    Returns what the tree weighs (see `bounds`). Raises ImageError when `root` itself is no directory.
    """
    if not stat.S_ISDIR(root.lstat().st_mode):
        raise ImageError("the image's root is not a directory")
    size, pending = 0, [os.fspath(root)]
    _strip(pending[0])
    while pending:
        with os.scandir(pending.pop()) as listing:
            for entry in listing:
                if not entry.is_symlink():  # which has no user.* attributes
                    _strip(entry.path)
                size += bounds.ENTRY
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    size += entry.stat(follow_symlinks=False).st_size
    return size


def _strip(path: str) -> None:
    for attribute in os.listxattr(path, follow_symlinks=False):
        if attribute.startswith(OVERLAY_MARKS):
            os.removexattr(path, attribute, follow_symlinks=False)


@dataclass(frozen=True)
class Upper:
    """An upper directory that is not in the store yet: a snapshot to be."""

    place: Path  # holds fs/ and work/
    name: str  # its name once it is in snapshots/
    named_whiteouts: bool = False  # as overlay.Mounted has it

    @property
    def rootless(self) -> bool:
        """Is its root directory nobody's?"""
        return self.name.startswith(LOOSE)

    @property
    def fs(self) -> Path:
        return self.place / "fs"


class RootFs:
    """A stack of snapshots, uppermost first. Immutable but for uppers that move into the store."""

    def __init__(self, shop: Workshop, names: Sequence[str], pending: dict[str, Upper] | None = None) -> None:
        self.shop = shop
        self.names = tuple(names)
        self._pending = pending if pending is not None else {}

    def with_upper(self, upper: Upper) -> RootFs:
        """The stack with one more on top."""
        self._pending[upper.name] = upper
        return RootFs(self.shop, (upper.name, *self.names), self._pending)

    def with_snapshot(self, name: str) -> RootFs:
        """The stack with one more on top, which is in the store."""
        return RootFs(self.shop, (name, *self.names), self._pending)

    def keep(self, upper: Upper) -> None:
        """Move a finished upper directory into the store."""
        with self.shop.moving:
            os.rename(upper.place, self.shop.store.root / "snapshots" / upper.name)
            self._pending.pop(upper.name, None)

    def fits(self) -> bool:
        """May another step be mounted on this stack?"""
        with self.shop.moving:
            return overlay.fits(self.shop.mounter.directory, self.lowers())

    def lowers(self) -> list[Path]:
        """The directories, uppermost first. Ask with `shop.moving` held if a commit may be under way."""
        return [
            self._pending[name].fs if name in self._pending else self.shop.store.snapshot(name) for name in self.names
        ]

    def _root_of(self, lowers: Sequence[Path]) -> Path:
        """The directory of the stack that has the attributes of the image's root."""
        named = zip(self.names, lowers, strict=True)
        return next((lower for name, lower in named if not name.startswith(LOOSE)), lowers[-1])

    @contextlib.contextmanager
    def writable(
        self,
        step: int | None,
        *,
        stub: bool = False,
        points: Sequence[bundle.Located] = (),
        names: Sequence[str] = bundle.STUB_FILES,
        place: Path | None = None,
    ) -> Iterator[tuple[Mounted, Upper]]:
        """Mount the stack with a new upper directory; with `stub`, a container's mount points lie between.

        `names` are the files of /etc that are the container's, not the layer's. With `place`, the upper directory
        is there, stays there, and may be one of before.
        """
        upper = Upper(place or self.shop.directory("step"), os.urandom(6).hex())
        new = not upper.fs.is_dir()
        if new:
            upper.fs.mkdir(mode=0o755)
        # A volatile mount leaves a mark here that forbids the next one.
        files.remove_tree(upper.place / "work")
        (upper.place / "work").mkdir()
        merged = self.shop.volatile_directory("root")
        try:
            with contextlib.ExitStack() as stack:
                with self.shop.moving:
                    lowers = self.lowers()
                    if new:
                        overlay.copy_attributes(self._root_of(lowers).stat(), upper.fs)
                    if stub:
                        place = self.shop.volatile_directory("stub") / "fs"
                        lowers = [bundle.make_stub(place, lowers, points, names), *lowers]
                    mounting = self.shop.mounter.overlay(lowers, upper.fs, upper.place / "work", merged, step)
                    mounted = stack.enter_context(mounting)
                if mounted.named_whiteouts:
                    upper = replace(upper, name=f"{FUSE}{upper.name}", named_whiteouts=True)
                yield mounted, upper
        except BaseException:
            if place is None:
                files.remove_tree(upper.place)
            raise

    @contextlib.contextmanager
    def readable(self) -> Iterator[Path]:
        """The stack as one directory to read from."""
        if len(self.names) == 1:
            with self.shop.moving:
                lowers = self.lowers()
            yield lowers[0]
            return
        with self.writable(None) as (mounted, upper):
            yield mounted.root
        files.remove_tree(upper.place)


def same_directory(before: os.stat_result, now: os.stat_result) -> bool:
    """Have mode and owner of a directory stayed as they were?"""
    return (before.st_mode, before.st_uid, before.st_gid) == (now.st_mode, now.st_uid, now.st_gid)
