"""Writes into a root file system that nobody trusts: COPY's files, WORKDIR's directories.

Everything goes through directory descriptors. The way to the destination is resolved with the root
as the root of every link (openat2); below it nothing is followed. Nothing of the tree is executed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from orca.dockerfile import modes
from orca.dockerfile.modes import Mode
from orca.errors import OrcaError
from orca.sources.tree import DIRECTORY, FILE, Entry, Item, Tree, attributes
from orca.tools import kernel

LINKS_LIMIT = 40
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SECOND = 1_000_000_000
_CHUNK = 1 << 20


class CopyError(OrcaError):
    """A copy that cannot be made: kinds that do not fit, a source that changed meanwhile."""


@dataclass(frozen=True)
class Ownership:
    """`owner` None keeps the sources' own; `mode` None keeps theirs; `clamp` is SOURCE_DATE_EPOCH.

    With `level`, every time is that, not only a later one: times in a build context are a checkout's accident.
    """

    owner: tuple[int, int] | None = (0, 0)
    mode: Mode | None = None
    clamp: int | None = None
    level: bool = False

    def seconds_of(self, entry: Entry) -> int:
        """The modification time that the copy gets."""
        own = entry.mtime_ns // _SECOND
        return own if self.clamp is None else self.clamp if self.level else min(own, self.clamp)

    def owner_of(self, entry: Entry) -> tuple[int, int]:
        return self.owner or (entry.uid, entry.gid)

    def mode_of(self, entry: Entry) -> int:
        return modes.applied(self.mode, entry.mode, directory=entry.kind == DIRECTORY)


@dataclass
class Target:
    """A root file system to write into, open at `fd`; `made` collects the parents made on the way."""

    fd: int
    ownership: Ownership = field(default_factory=Ownership)
    links: dict[tuple[int, int], tuple[str, str]] = field(default_factory=dict)

    def path_of(self, fd: int) -> str:
        """The path, from the root, of what is open at `fd` in it."""
        base = os.readlink(f"/proc/self/fd/{self.fd}")
        return "/" + os.readlink(f"/proc/self/fd/{fd}").removeprefix(base).lstrip("/")

    def is_directory(self, path: str) -> bool:
        """Is there a directory at `path`, links followed within the root?"""
        with contextlib.suppress(OSError):
            os.close(kernel.open_in_root(self.fd, path, os.O_PATH | os.O_DIRECTORY))
            return True
        return False

    def open_directory(self, path: str, *, make: bool = True, links: int = LINKS_LIMIT) -> int:
        """A descriptor of the directory `path`; missing parts are made 0755 with the target's owner.

        Raises CopyError where something else is in the way, and where links go round in circles: at most
        `links` that lead to nothing are followed, one after the other.
        """
        parts = [part for part in path.split("/") if part not in ("", ".")]
        for depth in range(len(parts) + 1):
            below = "/".join(parts[: len(parts) - depth]) or "."
            fd = self._existing(below, make=make, links=links)
            if fd is not None:
                return self._make_below(fd, parts[len(parts) - depth :])
        raise CopyError(f"/{path} cannot be made in the image")

    def _existing(self, path: str, *, make: bool, links: int) -> int | None:
        """The directory `path` if it is there; with `make`, a link that leads to nothing is made to lead to one."""
        for attempt in (1, 2):
            try:
                return kernel.open_in_root(self.fd, path, os.O_RDONLY | os.O_DIRECTORY)
            except OSError as error:
                if error.errno != errno.ENOENT or not make:
                    raise CopyError(f"/{path} in the image: {_in_the_way(error)}") from error
            if attempt == 2 or not self._follow_dangling(path, links):
                break
        return None

    def _follow_dangling(self, path: str, links: int) -> bool:
        """A link whose target is missing: make the target, inside the root, so that the link leads somewhere.

        False when `path` is no such link.
        """
        if not links:
            raise CopyError(f"/{path} in the image: too many symbolic links")
        try:
            fd = kernel.open_in_root(self.fd, path, os.O_PATH | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            if not stat.S_ISLNK(os.fstat(fd).st_mode):
                return False
            target = os.readlink("", dir_fd=fd)
            link = self.path_of(fd)  # where it really is, for a target that begins with `..`
        finally:
            os.close(fd)
        place = posixpath.normpath(posixpath.join(posixpath.dirname(link), target))
        os.close(self.open_directory(place, links=links - 1))
        return True

    def _make_below(self, fd: int, names: Sequence[str]) -> int:
        """Make directories one in the other below `fd`, which is closed; returns the last one's descriptor."""
        owner = self.ownership.owner or (0, 0)
        for name in names:
            try:
                os.mkdir(name, 0o755, dir_fd=fd)
                inner = os.open(name, _DIRECTORY, dir_fd=fd)
                os.fchown(inner, *owner)
                os.fchmod(inner, 0o755)
            except FileExistsError:
                inner = os.open(name, _DIRECTORY, dir_fd=fd)
            finally:
                os.close(fd)
            fd = inner
        return fd


def _in_the_way(error: OSError) -> str:
    if error.errno == errno.ENOTDIR:
        return "something that is not a directory is in the way"
    return error.strerror or str(error)


def copy(items: Sequence[Item], source: Tree, target: Target, destination: str) -> int:
    """Carry out a COPY: every item to `destination` (absolute; a final slash means a directory).

    A directory's contents go into the destination. Returns the number of entries written. Raises
    CopyError, OSError.
    """
    into = destination.endswith("/") or target.is_directory(destination.lstrip("/") or ".")
    count = 0
    for item in items:
        if item.is_directory:
            count += _copy_directory(item, source, target, destination)
            continue
        # The name that was asked for, which may be a link's: `file/` and `./file` mean `file`.
        name = posixpath.basename(posixpath.normpath("/" + item.name))
        place = posixpath.join(destination, name) if into else destination
        parent, name = _resolve_last(target, place)
        try:
            with _parent_in(source, item.path) as (directory, last):
                _Copier(source, target).entry(item.entries[0], directory, last, parent, name)
        finally:
            os.close(parent)
        count += 1
    return count


def _resolve_last(target: Target, place: str) -> tuple[int, str]:
    """The directory (a descriptor) and the name to write `place` at: links at the end are written through."""
    path = place.strip("/")
    for _ in range(LINKS_LIMIT):
        parent = target.open_directory(posixpath.dirname(path))
        name = posixpath.basename(path)
        try:
            link = os.readlink(name, dir_fd=parent)
        except OSError:
            return parent, name
        os.close(parent)
        path = posixpath.normpath("/" + posixpath.join(posixpath.dirname(path), link)).lstrip("/")
        if not path:
            break
    raise CopyError(f"{place} in the image: too many symbolic links")


@contextlib.contextmanager
def _parent_in(source: Tree, path: str) -> Iterator[tuple[int, str]]:
    """The directory of `path` in the source and its last name."""
    parent, name = posixpath.split(path)
    fd = kernel.open_in_root(source.fd, parent or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd, name
    finally:
        os.close(fd)


def _copy_directory(item: Item, source: Tree, target: Target, destination: str) -> int:
    """The content of a directory. The destination is made as any parent is: 0755, not with the source's mode."""
    path = destination.strip("/")
    if not target.is_directory(path or ".") and _occupied(target, path):
        raise CopyError(f"cannot copy the directory {item.name} over {destination}, which is no directory")
    into = target.open_directory(path)
    try:
        origin = kernel.open_in_root(source.fd, item.path or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            copier = _Copier(source, target)
            count = copier.tree(item.entries[1:], origin, into)
            return count + 1
        finally:
            os.close(origin)
    finally:
        os.close(into)


def _occupied(target: Target, path: str) -> bool:
    with contextlib.suppress(OSError):
        os.close(kernel.open_in_root(target.fd, path, os.O_PATH))
        return True
    return False


class _Copier:
    """Copies entries between directory descriptors."""

    def __init__(self, source: Tree, target: Target) -> None:
        self.source = source
        self.target = target
        self.ownership = target.ownership

    def tree(self, entries: Sequence[Entry], origin: int, into: int) -> int:
        """All `entries` (depth first, each directory before its content) from `origin` to `into`."""
        # The directories on the way down to the current entry: path, source, target, entry.
        stack: list[tuple[str, int, int, Entry | None]] = [("", origin, into, None)]
        try:
            for entry in entries:
                parent, name = posixpath.split(entry.path)
                while stack[-1][0] != parent:
                    self._leave(stack.pop())
                _, directory, place, _ = stack[-1]
                if entry.kind == DIRECTORY:
                    stack.append((entry.path, *self._enter(entry, name, directory, place), entry))
                else:
                    self.entry(entry, directory, name, place, name)
            while len(stack) > 1:
                self._leave(stack.pop())
        finally:
            for _, directory, place, _ in stack[1:]:
                os.close(directory)
                os.close(place)
        return len(entries)

    def _enter(self, entry: Entry, name: str, directory: int, place: int) -> tuple[int, int]:
        try:
            os.mkdir(name, 0o700, dir_fd=place)
        except FileExistsError as error:
            if not stat.S_ISDIR(os.stat(name, dir_fd=place, follow_symlinks=False).st_mode):
                raise CopyError(
                    f"cannot copy the directory {entry.path} over something that is no directory"
                ) from error
        inner = os.open(name, _DIRECTORY, dir_fd=place)
        try:
            return os.open(name, _DIRECTORY, dir_fd=directory), inner
        except OSError as error:
            os.close(inner)
            raise self._changed(entry) from error

    def _leave(self, level: tuple[str, int, int, Entry | None]) -> None:
        _, directory, place, entry = level
        try:
            if entry is not None:
                self.finish_directory(place, entry)
        finally:
            os.close(directory)
            os.close(place)

    def finish_directory(self, fd: int, entry: Entry) -> None:
        """Owner, mode and time of a directory, once nothing more is written into it."""
        os.fchown(fd, *self.ownership.owner_of(entry))
        os.fchmod(fd, self.ownership.mode_of(entry))
        self._set_time(fd, entry)

    def _set_time(self, fd: int, entry: Entry) -> None:
        seconds = self.ownership.seconds_of(entry)
        os.utime(fd, ns=(seconds * _SECOND, seconds * _SECOND))

    def entry(self, entry: Entry, directory: int, name: str, place: int, new_name: str) -> None:
        """One file or link: `name` in `directory` becomes `new_name` in `place`, replacing a file there."""
        if entry.kind != FILE:
            self._make_room(place, new_name, entry)
            os.symlink(entry.digest, new_name, dir_fd=place)
            os.chown(new_name, *self.ownership.owner_of(entry), dir_fd=place, follow_symlinks=False)
            seconds = self.ownership.seconds_of(entry) * _SECOND
            os.utime(new_name, ns=(seconds, seconds), dir_fd=place, follow_symlinks=False)
            return
        if entry.identity is not None and self._linked(entry, place, new_name):
            return
        self._file(entry, directory, name, place, new_name)

    def _linked(self, entry: Entry, place: int, new_name: str) -> bool:
        """Make a hard link if this file was copied before under another name."""
        assert entry.identity is not None
        first = self.target.links.get(entry.identity)
        if first is None:
            # By name: of files with several names there may be more than a process may have descriptors.
            self.target.links[entry.identity] = (self.target.path_of(place), new_name)
            return False
        directory = kernel.open_in_root(self.target.fd, first[0], os.O_PATH | os.O_DIRECTORY)
        try:
            self._make_room(place, new_name, entry)
            os.link(first[1], new_name, src_dir_fd=directory, dst_dir_fd=place, follow_symlinks=False)
        finally:
            os.close(directory)
        return True

    def _file(self, entry: Entry, directory: int, name: str, place: int, new_name: str) -> None:
        try:
            origin = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        except OSError as error:
            raise self._changed(entry) from error
        try:
            found = os.fstat(origin)
            if (found.st_size, found.st_mtime_ns) != (entry.size, entry.mtime_ns) or not stat.S_ISREG(found.st_mode):
                raise self._changed(entry)
            try:
                copy_ = os.open(new_name, _NEW_FILE, 0o600, dir_fd=place)
            except FileExistsError:
                self._make_room(place, new_name, entry)
                copy_ = os.open(new_name, _NEW_FILE, 0o600, dir_fd=place)
            try:
                self._fill(entry, origin, copy_)
            finally:
                os.close(copy_)
        finally:
            os.close(origin)

    def _fill(self, entry: Entry, origin: int, copy_: int) -> None:
        left = entry.size
        while left:
            done = _transfer(origin, copy_, left)
            if not done:
                raise self._changed(entry)
            left -= done
        owner, found = self.ownership.owner_of(entry), os.fstat(copy_)
        if owner != (found.st_uid, found.st_gid):  # a set-group-id directory gives its group to what is made in it
            os.fchown(copy_, *owner)
        for attribute, value in attributes(origin, owners=self.source.owners):
            os.setxattr(copy_, attribute, value)
        os.fchmod(copy_, self.ownership.mode_of(entry))
        self._set_time(copy_, entry)

    def _make_room(self, place: int, name: str, entry: Entry) -> None:
        """Remove the file or link `name`; a directory stays and is an error."""
        try:
            os.unlink(name, dir_fd=place)
        except FileNotFoundError:
            return
        except IsADirectoryError as error:
            what = entry.path or "a file"
            raise CopyError(
                f"cannot copy {what} over the directory {name}", hint="end the destination with /"
            ) from error

    def _changed(self, entry: Entry) -> CopyError:
        what = entry.path or "a source"
        return CopyError(
            f"{what} changed while it was copied", hint="build again when nothing writes to the build context"
        )


def _transfer(origin: int, copy_: int, count: int) -> int:
    """Up to `count` bytes; big ones within the kernel, which may share the blocks, where both file systems will."""
    if count > _CHUNK:
        with contextlib.suppress(OSError):
            return os.copy_file_range(origin, copy_, count)
    data = os.read(origin, min(count, _CHUNK))
    view = memoryview(data)
    while view:
        view = view[os.write(copy_, view) :]
    return len(data)


def write_file(target: Target, place: str, data: bytes, mode: int, mtime: int) -> None:
    """A new file with given content (a heredoc of COPY)."""
    parent, name = _resolve_last(target, place)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=parent)
        fd = os.open(name, _NEW_FILE, 0o600, dir_fd=parent)
        with open(fd, "wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            os.fchown(fd, *(target.ownership.owner or (0, 0)))
            os.fchmod(fd, modes.applied(target.ownership.mode, mode, directory=False))
            os.utime(fd, (mtime, mtime))
    except IsADirectoryError as error:
        raise CopyError(f"cannot write a file over the directory {place}") from error
    finally:
        os.close(parent)
