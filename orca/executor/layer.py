"""From an overlay's upper directory to a layer: whiteouts, tar, umoci.

See the image-layer chapter of the OCI image spec for whiteouts.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orca.errors import ImageError
from orca.oci.image import Descriptor
from orca.store import files
from orca.store.layout import Layout
from orca.tools import tar, umoci
from orca.tools.command import Runner

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
_FUSE_OPAQUE = ".wh..opq"  # fuse-overlayfs' own name for it, which it may write beside the other
_OPAQUE_MARKS = ("user.overlay.opaque", "trusted.overlay.opaque", "user.fuseoverlayfs.opaque")


@dataclass(frozen=True)
class Change:
    """One path of a layer, relative to the root; `marker` says that it is a whiteout's name."""

    path: str
    marker: bool = False


def changes(upper: Path, *, named_whiteouts: bool = False) -> Iterator[Change]:
    """What an upper directory changes, sorted, each directory before its content.

    `named_whiteouts` says that whoever wrote it keeps whiteouts as files, named as in a layer.

    Raises ImageError for a file whose name a layer cannot hold. Sockets are left out: tar has no
    entry for them.
    """
    pending: list[tuple[str, str]] = [("", str(upper))]
    while pending:
        path, full = pending.pop()
        if path:
            yield Change(path)
            if not named_whiteouts and _is_opaque(full):
                yield Change(f"{path}/{OPAQUE}", marker=True)
        below: list[tuple[str, str]] = []
        with os.scandir(full) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
        if named_whiteouts and not {OPAQUE, _FUSE_OPAQUE}.isdisjoint(entry.name for entry in entries):
            yield Change(f"{path}/{OPAQUE}".lstrip("/"), marker=True)
            entries = [entry for entry in entries if entry.name not in (OPAQUE, _FUSE_OPAQUE)]
        for entry in entries:
            where = f"{path}/{entry.name}" if path else entry.name
            if entry.name.startswith(WHITEOUT) and named_whiteouts:
                yield Change(where, marker=True)
                continue
            if entry.name.startswith(WHITEOUT):
                raise ImageError(
                    f"/{where} cannot be in a layer: names that begin with .wh. mean whiteouts",
                    hint="let the step remove or rename it",
                )
            if entry.is_dir(follow_symlinks=False):
                below.append((where, entry.path))
                continue
            if entry.is_file(follow_symlinks=False) or entry.is_symlink():
                yield Change(where)
                continue
            yield from _special(entry, path, where)
        pending.extend(reversed(below))


def _special(entry: os.DirEntry[str], directory: str, where: str) -> Iterator[Change]:
    found = entry.stat(follow_symlinks=False)
    if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
        yield Change(f"{directory}/{WHITEOUT}{entry.name}".lstrip("/"), marker=True)
    elif not stat.S_ISSOCK(found.st_mode):
        yield Change(where)


def _is_opaque(directory: str) -> bool:
    for name in _OPAQUE_MARKS:
        with contextlib.suppress(OSError):
            if os.getxattr(directory, name, follow_symlinks=False) in (b"y", b"1"):
                return True
    return False


def write_listing(upper: Path, scratch: Path, *, root: bool, named_whiteouts: bool = False) -> Path:
    """The list that tar reads for `upper`; whiteout markers are made below `scratch`.

    `root` adds the root directory itself, whose mode or owner changed.
    """
    markers, listing, place = scratch / "markers", scratch / "listing", False
    words = ["."] if root else []
    for change in changes(upper, named_whiteouts=named_whiteouts):
        if change.marker != place:
            place = change.marker
            words.append(f"-C{markers if place else upper}")
        if change.marker:
            marker = markers / change.path
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch(0o600)
            os.utime(marker, (0, 0))
        # A name that begins with - would be an option to tar.
        words.append(f"./{change.path}" if change.path.startswith("-") else change.path)
    listing.write_bytes(b"".join(os.fsencode(word) + b"\0" for word in words))
    return listing


def is_empty(upper: Path) -> bool:
    """Did nothing change?"""
    with os.scandir(upper) as entries:
        return next(entries, None) is None


def commit(
    upper: Path,
    scratch: Path,
    layout: Layout,
    entry: umoci.Entry,
    runner: Runner,
    *,
    root: bool = False,
    named_whiteouts: bool = False,
    clamp: int | None = None,
    exact: bool = False,
    step: int | None = None,
) -> Descriptor:
    """Make the layer and add it to the image `step` of `layout`; returns the layer's descriptor."""
    scratch.mkdir()
    try:
        listing = write_listing(upper, scratch, root=root, named_whiteouts=named_whiteouts)
        runner.pipeline(
            tar.create(upper, listing, clamp=clamp, exact=exact), umoci.add_layer(layout.path, entry), step=step
        )
    finally:
        files.remove_tree(scratch)
    return layout.image(layout.index()[umoci.TAG]).manifest.layers[-1]
