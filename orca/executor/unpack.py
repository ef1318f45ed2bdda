"""An image's root file system in a directory of the user's, alone or as a bundle that runc starts.

For the inside of the sandbox. Everything is made in a hidden directory beside the target and moved
there when it is whole: a target that exists is complete, however orca ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orca.errors import ImageError, OrcaError, UsageError
from orca.executor import bundle, users
from orca.executor.checkout import checkout
from orca.executor.container import Request, describe
from orca.executor.copier import Target
from orca.executor.rootfs import unpack_layers
from orca.oci import platform, runtime
from orca.oci.image import ImageConfig
from orca.store import files
from orca.store.layout import Image, Layout
from orca.store.ostree import OstreeStore
from orca.store.store import Store
from orca.tools.command import Runner

ROOTFS = "rootfs"
_MARK = ".orca-"
_NAMESPACES = ("pid", "ipc", "uts", "mount", "network")


def check_target(target: Path) -> None:
    """Is `target` missing, or an empty directory? Raises UsageError when not."""
    if not target.parent.is_dir():
        raise UsageError(f"{target.parent} is not a directory", hint=f"mkdir -p {target.parent}")
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise UsageError(f"{target} is there already and not a directory", hint="name a new directory")
    if any(os.scandir(target)):
        raise UsageError(f"{target} is not empty", hint="name a new directory, or empty this one first")


def unpack(image: Image, target: Path, store: Store, runner: Runner) -> None:
    """The root file system of `image` as the directory `target`. Raises OrcaError."""
    with _staged(target) as new:
        _layers(image, new, store, runner)


def unpack_bundle(image: Image, target: Path, store: Store, runner: Runner, *, terminal: bool = False) -> list[str]:
    """The same as `target`/rootfs, with a config.json; returns the command that it runs. Raises OrcaError."""
    with _staged(target) as new:
        new.mkdir(mode=0o700)
        _layers(image, new / ROOTFS, store, runner)
        config = bundle_config(image.config, new / ROOTFS, terminal=terminal)
        (new / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return list(config["process"]["args"])


def _layers(image: Image, root: Path, store: Store, runner: Runner) -> None:
    if isinstance(store, OstreeStore):
        # Copies: who writes into a hard link writes into the repository.
        checkout(image, root, store, runner, None, copy=True)
        return
    with store.scratch() as scratch:
        layout = Layout(scratch / "layout").create(blobs=store.images.path / "blobs")
        unpack_layers(image, root, layout, runner, None)


@contextlib.contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """A path beside `target` for something new, which becomes `target` when the block ends well."""
    try:
        with _hidden_directory(target) as place:
            yield place / "new"
            os.rename(place / "new", target)
    except OSError as error:
        raise files.explain(error, f"unpacking to {target}") from error


@contextlib.contextmanager
def _hidden_directory(target: Path) -> Iterator[Path]:
    """A new directory beside `target`, held by flock and removed at the end.

    Those of processes that were killed are removed first.
    """
    prefix = f".{target.name[:200]}{_MARK}"
    for entry in list(os.scandir(target.parent)):
        if entry.name.startswith(prefix) and entry.is_dir(follow_symlinks=False):
            _sweep(Path(entry.path))
    place = target.parent / f"{prefix}{secrets.token_hex(4)}"
    place.mkdir(mode=0o700)
    with _held(place):
        try:
            yield place
        finally:
            files.remove_tree(place)


def _sweep(place: Path) -> None:
    """Remove a directory that nobody holds. Other people's are left alone."""
    if place.lstat().st_uid == os.geteuid():
        with contextlib.suppress(OSError), _held(place):
            files.remove_tree(place)


@contextlib.contextmanager
def _held(place: Path) -> Iterator[None]:
    """Hold the lock of a directory. Raises BlockingIOError when somebody else does."""
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def bundle_config(config: ImageConfig, root: Path, *, terminal: bool = False) -> dict[str, Any]:
    """The config.json for a bundle with the tree `root`. Names are looked up in that tree only. Raises ImageError."""
    _check_mount_points(root)
    command = () if config.entrypoint or config.cmd else ("/bin/sh",)
    container = describe(Request("the image", command), config)
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        who = users.identity(fd, container.user)
        directory = bundle.working_directory(
            fd, container.directory, lambda path: os.close(Target(fd).open_directory(path))
        )
    finally:
        os.close(fd)
    environment = {"HOME": who.home, **container.environment, **({"TERM": "xterm"} if terminal else {})}
    process = runtime.Process(container.argv, environment, directory, who.uid, who.gid, who.groups, terminal)
    value = runtime.config(
        process,
        ROOTFS,
        hostname=container.hostname,
        architecture=platform.host().architecture,
        # A network namespace that runc makes has no path; what stands here is replaced below.
        netns="/proc/self/ns/net",
    )
    value["linux"]["namespaces"] = [{"type": kind} for kind in _NAMESPACES]
    _set_ids(value)
    return value


def _check_mount_points(root: Path) -> None:
    """runc follows links in the image at these places and would mount elsewhere (CVE-2026-41579)."""
    for name in bundle.STUB_DIRECTORIES:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISDIR((root / name).lstat().st_mode):
                raise ImageError(
                    f"/{name} in the image is not a directory, which makes a bundle of it unsafe",
                    hint="unpack it without --bundle",
                )


def _set_ids(config: dict[str, Any]) -> None:
    """For an ordinary user's bundle the user namespace that we are in ourselves; for root's, no devices.

    The kernel keeps what has its own user namespace from devices anyway, and an ordinary user's runc
    refuses supplementary groups.
    """
    linux = config["linux"]
    mapped = {name: id_map(Path("/proc/self", name).read_text()) for name in ("uid_map", "gid_map")}
    if all(entry["containerID"] == entry["hostID"] for entries in mapped.values() for entry in entries):
        linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
        return
    linux["namespaces"].append({"type": "user"})
    linux["uidMappings"], linux["gidMappings"] = mapped["uid_map"], mapped["gid_map"]
    config["process"]["user"]["additionalGids"] = []


def id_map(text: str) -> list[dict[str, int]]:
    """A uid_map or gid_map of proc(5) in the words of the runtime spec."""
    lines = [[int(word) for word in line.split()] for line in text.splitlines()]
    if any(len(line) != 3 for line in lines):
        raise OrcaError("the sandbox has an id map that cannot be read")
    return [{"containerID": inside, "hostID": outside, "size": size} for inside, outside, size in lines]
