"""`orca mount`: an image's root file system where other programs can look at it.

Root may leave a mount behind: `mounts/ID/root` in the store, which `umount` ends. Everybody can run a command that
sees one: it is made inside the sandbox and gone with it.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from orca.errors import OrcaError, StoreError
from orca.executor.rootfs import RootFs, Workshop, workshop
from orca.executor.streams import own
from orca.store import files
from orca.store.layout import Image
from orca.store.store import Store, base_snapshot
from orca.tools import kernel
from orca.tools.command import Command, Runner

VARIABLE = "ORCA_MOUNT"
_WORD = f"${VARIABLE}"
_ID = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True)
class Mount:
    """A mount that `leave` made. `image` is what it was called, `mounted` whether it still is."""

    id: str
    path: Path
    image: str
    digest: str
    writable: bool
    mounted: bool


def mount_points() -> set[str]:
    """Where something is mounted, as this process sees it."""
    lines = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    return {re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), line.split()[4]) for line in lines}


def find(store: Store) -> list[Mount]:
    """All of them, also those that a restart of the machine has ended."""
    points, found = mount_points(), []
    for path in sorted((store.root / "mounts").glob("*/info.json")):
        value = files.read_json(path)
        if isinstance(value, dict) and _ID.fullmatch(path.parent.name):
            root = path.parent / "root"
            there = os.path.realpath(root) in points
            words = str(value.get("image", "")), str(value.get("digest", ""))
            found.append(Mount(path.parent.name, root, *words, bool(value.get("writable")), there))
    return found


def unpack(image: Image, store: Store, runner: Runner) -> None:
    """See to it that the image's snapshot is there. For the inside of the sandbox."""
    with workshop(store, runner) as shop:
        shop.unpack(image, None)


def leave(image: Image, called: str, store: Store, *, writable: bool) -> Path:
    """Mount the image's snapshot, which is there. For root, outside the sandbox. Raises OrcaError."""
    snapshot = store.snapshot(base_snapshot(image.config.diff_ids))
    files.own_directory(store.root / "mounts")
    place = store.root / "mounts" / os.urandom(4).hex()
    for name in ("", "root", "upper", "work"):
        (place / name).mkdir(mode=0o700)
    value = {"image": called, "digest": image.descriptor.digest, "snapshot": snapshot.parent.name, "writable": writable}
    files.write_json(place / "info.json", value)
    try:
        if writable:
            _overlay(snapshot, place)
        else:
            read_only(snapshot, place / "root")
    except OSError as error:
        _forget(place)
        raise OrcaError(
            f"cannot mount {called}: {error.strerror}", hint="orca mount IMAGE -- COMMAND needs no rights"
        ) from error
    return place / "root"


def _overlay(snapshot: Path, place: Path) -> None:
    names = [str(snapshot), str(place / "upper"), str(place / "work")]
    if any(char in name for name in names for char in ":,\\"):
        raise StoreError(f"{place}: a path with : or , in it cannot be mounted writable")
    found = snapshot.stat()
    os.chown(place / "upper", found.st_uid, found.st_gid)
    os.chmod(place / "upper", found.st_mode & 0o7777)
    options = f"lowerdir={names[0]},upperdir={names[1]},workdir={names[2]},userxattr"
    kernel.mount("overlay", place / "root", "overlay", kernel.MS_NOSUID | kernel.MS_NODEV, options)


def read_only(source: Path, target: Path) -> None:
    """Mount a directory at another place, where nothing of it can be changed or used to become somebody else."""
    flags = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount(str(source), target, None, kernel.MS_BIND)
    try:
        kernel.mount("none", target, None, kernel.MS_REMOUNT | kernel.MS_BIND | flags)
    except OSError:
        kernel.detach(target)
        raise


def end(store: Store, found: Mount, *, force: bool) -> None:
    """Unmount it. Raises StoreError when it is in use; with `force` it goes when its last user has gone."""
    if found.mounted:
        try:
            kernel.umount(found.path, kernel.MNT_DETACH if force else 0)
        except OSError as error:
            hint = "leave the directory and close its files, or orca umount --force"
            raise StoreError(f"{found.path} cannot be unmounted: {error.strerror}", hint=hint) from error
    if os.path.realpath(found.path) in mount_points():
        raise StoreError(f"{found.path} is mounted more than once", hint="run orca umount again")
    _forget(found.path.parent)


def _forget(place: Path) -> None:
    # What lies below the mount point is never deleted: rmdir takes an empty directory only.
    with contextlib.suppress(FileNotFoundError):
        (place / "root").rmdir()
    files.remove_tree(place)


def run(image: Image, argv: Sequence[str], store: Store, runner: Runner, *, writable: bool) -> int:
    """Run a command that finds the image's files at $ORCA_MOUNT, inside the sandbox; returns its exit code."""
    with workshop(store, runner) as shop, _mounted(image, shop, writable=writable) as root:
        words = (str(root) + word.removeprefix(_WORD) if _named(word) else word for word in argv)
        command = Command(tuple(words), "look at the image's files", ((VARIABLE, str(root)),))
        with runner.running(command, stdin=own(0), stdout=own(1), stderr=own(2)) as process:
            return process.wait()


def _named(word: str) -> bool:
    return word == _WORD or word.startswith(f"{_WORD}/")


@contextlib.contextmanager
def _mounted(image: Image, shop: Workshop, *, writable: bool) -> Iterator[Path]:
    rootfs = RootFs(shop, (shop.unpack(image, None),))
    if writable:
        with rootfs.writable(None) as (mounted, upper):
            yield mounted.root
        files.remove_tree(upper.place)
        return
    target = shop.volatile_directory("root")
    read_only(rootfs.lowers()[0], target)
    try:
        yield target
    finally:
        kernel.detach(target)
