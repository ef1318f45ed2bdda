"""What is mounted into a container: directories of this machine, tmpfs, and the volumes that its image names.

An image's volume is a directory of the container's own, filled with what the image has there the first
time the container starts, and gone with the container.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orca.dockerfile.mounts import Mount
from orca.errors import ImageError
from orca.executor import copier, mounts, overlay
from orca.executor.bundle import FORBIDDEN, Located
from orca.executor.copier import Ownership, Target
from orca.executor.mounts import MountPoint, Prepared
from orca.oci import runtime
from orca.sources.tree import Tree
from orca.store import files
from orca.tools import kernel

if TYPE_CHECKING:
    from orca.executor.container import Request
    from orca.executor.rootfs import RootFs


def prepare(
    request: Request, named: Sequence[str], rootfs: RootFs, place: Path, scratch: Path, stack: contextlib.ExitStack
) -> tuple[Prepared, list[Located]]:
    """Make all mounts of a container ready, and say where in its file system they go.

    `named` are the volumes that the image names; those of the container are kept in `place`. Raises OrcaError.
    """
    result = Prepared()
    for number, volume in enumerate(request.volumes):
        mounts.add_volume(volume, rootfs.shop, scratch / f"volume{number}", result, stack)
    for target, options in request.tmpfs:
        result.mounts.append(runtime.Mount("tmpfs", target, ("nosuid", "nodev", *options), kind="tmpfs"))
        result.points.append(MountPoint(target, directory=True, mode=0o1777))
    covered = {posixpath.normpath(point.path) for point in result.points}
    for target in dict.fromkeys(map(normal, (*named, *request.anonymous))):
        if target not in covered:
            source = _own(target, rootfs, place)
            mounts.add(result, Mount("bind", target), source, directory=True, read_only=False)
    _outermost_first(result)
    return result, mounts.place(result, rootfs)


def normal(target: str) -> str:
    """A volume's target as an absolute path. Raises ImageError for what no volume can cover."""
    path = posixpath.normpath("/" + target.lstrip("/"))
    if path == "/" or FORBIDDEN.match(path) or "\0" in target:
        raise ImageError(f"the volume {target[:80]!r} cannot be mounted there", hint="choose another directory")
    return path


def _outermost_first(result: Prepared) -> None:
    """A mount below another one must come after it, or it would be covered."""
    pairs = sorted(zip(result.points, result.mounts, strict=True), key=lambda pair: pair[0].path.count("/"))
    result.points = [point for point, _ in pairs]
    result.mounts = [mount for _, mount in pairs]


def _own(target: str, rootfs: RootFs, place: Path) -> Path:
    """The directory of a volume, filled from the image if it is new."""
    path = place / hashlib.sha256(target.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    if not path.is_dir():
        place.mkdir(mode=0o700, exist_ok=True)
        part = path.with_suffix(".part")
        files.remove_tree(part)
        part.mkdir(mode=0o755)
        _fill(part, target, rootfs)
        os.rename(part, path)
    return path


def _fill(part: Path, target: str, rootfs: RootFs) -> None:
    with rootfs.readable() as root, kernel.directory(root) as inside, kernel.directory(part) as fd:
        found = mounts.locate(inside, MountPoint(target, directory=True))
        normal(found.path)  # a link of the image may lead anywhere in it
        if found.missing:
            return
        with Tree(root, owners=True) as tree:
            copier.copy([tree.find_one(found.path)], tree, Target(fd, Ownership(None)), "/")
        overlay.copy_attributes(found.existing[-1][1], part)
