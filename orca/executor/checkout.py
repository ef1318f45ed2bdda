"""An image's root file system out of OSTree's repository: each layer checked out, one put over the other.

`ostree checkout --union --whiteouts` does nearly that, but a directory that is there already keeps its mode and
owner, a file cannot take a directory's place nor a directory a file's, and a layer that names a path through a link
of a layer below makes a directory of it (measured, 2022.7). So ostree checks each layer out by itself, and what
it made is moved from there. For the inside of the sandbox: owners are those of the image.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from orca.errors import ImageError
from orca.executor.branches import IMPLIED, MARK, REAL, RESERVED, Mark
from orca.executor.copier import Target
from orca.executor.layer import OPAQUE, WHITEOUT
from orca.store import files
from orca.store.layout import Image
from orca.store.ostree import OstreeStore
from orca.tools import kernel, ostree
from orca.tools.command import Runner

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SMALL = 1 << 16


def checkout(image: Image, root: Path, store: OstreeStore, runner: Runner, step: int | None, *, copy: bool) -> None:
    """The whole file system of `image` as the new directory `root`: hard links into the repository, or copies.

    The layers are checked out beside `root`, on the same file system. Raises ImageError, ToolError.
    """
    store.branches.verify(image)
    root.mkdir(mode=0o755)
    for diff_id in image.config.diff_ids:
        place = root.with_name(f"{root.name}-layer")
        try:
            runner.run(ostree.checkout(store.repo, diff_id, place, copy=copy), step=step)
            with kernel.directory(place) as layer, kernel.directory(root) as below:
                _Merge(below).layer(layer)
        finally:
            files.remove_tree(place)


@dataclass
class _Merge:
    """Moves one layer after the other into the root that is open at `root`."""

    root: int
    links: list[tuple[str, str]] = field(default_factory=list)
    """Hard links to be made when the layer is there: path and target, both from the root."""

    def layer(self, layer: int) -> None:
        self._directory(layer, self.root, "")
        for path, target in self.links:
            self._link(path, target)

    def _directory(self, source: int, target: int, path: str) -> None:
        """Move what is in the directory `source` into `target`, which is at `path` in the root."""
        names = sorted(os.listdir(source))
        if OPAQUE in names:
            for name in os.listdir(target):
                remove(target, name)
        marks = [(name, _read(source, name)) for name in names if name.startswith(MARK) and not name.endswith(REAL)]
        for name in names:
            if name.startswith(WHITEOUT) and not name.startswith(RESERVED):
                remove(target, name.removeprefix(WHITEOUT))
        for _, mark in marks:
            if mark.kind == "whiteout":
                remove(target, mark.name)
        for name in names:
            if not name.startswith(WHITEOUT):
                self._entry(source, name, target, name, path)
        for name, mark in marks:
            if mark.kind == "name":
                self._entry(source, name + REAL, target, mark.name, path)
            else:
                self._special(mark, target, path)
        if IMPLIED not in names:
            copy_attributes(source, target)
        os.utime(target, ns=(0, 0))  # as every directory that ostree makes

    def _entry(self, source: int, name: str, target: int, new: str, path: str) -> None:
        if not stat.S_ISDIR(os.lstat(name, dir_fd=source).st_mode):
            _make_room(target, new)
            os.rename(name, new, src_dir_fd=source, dst_dir_fd=target)
            return
        with _opened(name, source) as inner:
            where = posixpath.join(path, new)
            implied = _has(inner, IMPLIED)
            if implied and os.lstat(IMPLIED, dir_fd=inner).st_size and not Target(self.root).is_directory(where):
                return  # there is nothing that its whiteouts could hide
            with self._place(target, new, where, implied=implied) as place:
                self._directory(inner, place, where)

    @contextlib.contextmanager
    def _place(self, target: int, name: str, path: str, *, implied: bool) -> Iterator[int]:
        """The directory that one of a layer is put into; a link stands for it if the layer does not speak of it."""
        there = _kind(target, name)
        if there == stat.S_IFLNK and implied:
            with kernel.directory_of(Target(self.root).open_directory(path)) as place:
                yield place
            return
        if there != stat.S_IFDIR:
            if there is not None:
                remove(target, name)
            os.mkdir(name, 0o755, dir_fd=target)
            os.chmod(name, 0o755, dir_fd=target)  # whatever our umask is
        with _opened(name, target) as place:
            yield place

    def _special(self, mark: Mark, target: int, path: str) -> None:
        if mark.kind == "link":
            self.links.append((posixpath.join(path, mark.name), mark.target))
        elif mark.kind in ("fifo", "symlink"):
            _make_room(target, mark.name)
            if mark.kind == "fifo":
                os.mkfifo(mark.name, 0o600, dir_fd=target)
            else:
                os.symlink(mark.target, mark.name, dir_fd=target)
            os.chown(mark.name, mark.uid, mark.gid, dir_fd=target, follow_symlinks=False)
            if mark.kind == "fifo":
                os.chmod(mark.name, mark.mode, dir_fd=target)
            os.utime(mark.name, ns=(0, 0), dir_fd=target, follow_symlinks=False)
        elif mark.kind != "whiteout":
            raise ImageError(f"the OSTree repository holds a mark of an unknown kind {mark.kind[:40]!r}")

    def _link(self, path: str, target: str) -> None:
        """Make `path` another name of `target`. Both are looked up inside the root."""
        (above, name), (beside, old) = posixpath.split(path), posixpath.split(target)
        with self._inside(above, path) as place, self._inside(beside, path) as origin:
            if _kind(origin, old) in (None, stat.S_IFDIR):
                raise ImageError(f"a layer has the hard link /{path}, whose target /{target} is not there")
            if _same(place, name, origin, old):
                return
            _make_room(place, name)
            os.link(old, name, src_dir_fd=origin, dst_dir_fd=place, follow_symlinks=False)
            os.utime(place, ns=(0, 0))

    @contextlib.contextmanager
    def _inside(self, directory: str, path: str) -> Iterator[int]:
        try:
            fd = kernel.open_in_root(self.root, directory or ".", os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise ImageError(f"a layer has the hard link /{path}, which cannot be made: {error.strerror}") from error
        with kernel.directory_of(fd) as place:
            yield place


@contextlib.contextmanager
def _opened(name: str, directory: int) -> Iterator[int]:
    with kernel.directory_of(os.open(name, _DIRECTORY, dir_fd=directory)) as fd:
        yield fd


def _kind(directory: int, name: str) -> int | None:
    """The file type of what is at `name`, no link followed; None when nothing is."""
    try:
        return stat.S_IFMT(os.lstat(name, dir_fd=directory).st_mode)
    except FileNotFoundError:
        return None


def _has(directory: int, name: str) -> bool:
    return _kind(directory, name) is not None


def _same(place: int, name: str, origin: int, old: str) -> bool:
    """Are both one file already?"""
    if _kind(place, name) is None:
        return False
    return os.path.samestat(os.lstat(name, dir_fd=place), os.lstat(old, dir_fd=origin))


def _read(directory: int, name: str) -> Mark:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    with open(fd, "rb") as file:
        return Mark.from_bytes(file.read(_SMALL))


def _make_room(directory: int, name: str) -> None:
    if _has(directory, name):
        remove(directory, name)


def remove(directory: int, name: str) -> None:
    """Remove what is at `name` in an open directory, with all that is below it; nothing there is fine."""
    files.remove_tree(Path(f"/proc/self/fd/{directory}", name))


def copy_attributes(source: int, target: int) -> None:
    """Give a directory owner, mode and extended attributes of another; those that it had are gone."""
    found = os.fstat(source)
    os.fchown(target, found.st_uid, found.st_gid)
    os.fchmod(target, stat.S_IMODE(found.st_mode))
    wanted = {name: os.getxattr(source, name) for name in os.listxattr(source)}
    for name in os.listxattr(target):
        if name not in wanted and name.startswith(("user.", "security.capability")):
            os.removexattr(target, name)
    for name, value in wanted.items():
        if name.startswith("user."):
            os.setxattr(target, name, value)
