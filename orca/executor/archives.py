"""ADD's local archives: recognised by content, unpacked into a root that nobody trusts.

Python's own tarfile reads them, so nothing of the image is ever executed. Names are taken relative
to the destination; links that entries are written through stay inside the root.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
import tarfile
from collections.abc import Iterator
from typing import IO, Self

from orca.dockerfile import modes
from orca.executor.copier import CopyError, Target
from orca.sources.packed import COMPRESSED, ZSTD
from orca.sources.tree import Item, Tree
from orca.tools import bounds, kernel
from orca.tools.command import Command, Runner

_USTAR = slice(257, 262)
_EXTENSIONS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
EXTENSION_LIMIT = 1 << 20


class BoundedHeader(tarfile.TarInfo):
    """A header whose extension, which tarfile reads into memory, has a size that fits there."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        found = super().frombuf(buf, encoding, errors)
        if found.type in _EXTENSIONS and not 0 <= found.size <= EXTENSION_LIMIT:
            raise tarfile.ReadError(f"an extended header of {found.size} bytes")
        return found


def _open(source: Tree, item: Item) -> IO[bytes]:
    """The archive, which must still be the file that was found. Raises CopyError."""
    fd = kernel.open_in_root(source.fd, item.path, os.O_RDONLY | os.O_NONBLOCK)
    found, entry = os.fstat(fd), item.entries[0]
    if not stat.S_ISREG(found.st_mode) or (found.st_size, found.st_mtime_ns) != (entry.size, entry.mtime_ns):
        os.close(fd)
        raise CopyError(f"{item.name} changed while it was copied")
    return open(fd, "rb")


def is_archive(source: Tree, item: Item) -> bool:
    """Is the file a tar archive, plain or compressed?"""
    if item.is_directory or item.entries[0].kind != "file":
        return False
    with _open(source, item) as file:
        head = file.read(512)
        if head[_USTAR] == b"ustar":
            return True
        if head.startswith(ZSTD):
            return True
        if not head.startswith(COMPRESSED):
            return False
        file.seek(0)
        try:
            with tarfile.open(fileobj=file, mode="r|*", tarinfo=BoundedHeader):
                return True
        except (tarfile.TarError, OSError, EOFError, ValueError, RecursionError):
            return False


def unpack(source: Tree, item: Item, target: Target, destination: str, runner: Runner, *, chown: bool) -> None:
    """Unpack the archive into the directory `destination`; owners are the archive's unless `chown`.

    Raises CopyError for a damaged archive, ImageError for one that unpacks to too much.
    """
    with _open(source, item) as file:
        unpack_file(file, item.name, target, destination, runner, chown=chown)


def unpack_file(file: IO[bytes], name: str, target: Target, destination: str, runner: Runner, *, chown: bool) -> None:
    """The same for a file that is open at its beginning; `name` is for errors."""
    os.close(target.open_directory(destination.strip("/")))
    most = bounds.limit(os.fstat(file.fileno()).st_size)
    size = 0
    try:
        with (
            _stream(file, name, runner, most) as plain,
            tarfile.open(fileobj=plain, mode="r|*", tarinfo=BoundedHeader) as archive,
        ):
            directories: list[tuple[str, tarfile.TarInfo]] = []
            for member in archive:
                size += bounds.ENTRY + max(member.size, 0)
                if size > most:
                    raise bounds.exceeded(name, most)
                _member(archive, member, target, destination, directories, chown=chown)
            for place, member in reversed(directories):
                _finish_directory(target, place, member, chown=chown)
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        # Numbers too large for the system, extended headers without end: nobody's tar writes such.
        raise CopyError(f"{name} is a damaged archive: {error}") from error


@contextlib.contextmanager
def _stream(file: IO[bytes], name: str, runner: Runner, most: int) -> Iterator[IO[bytes]]:
    """The archive as tarfile can read it: zstd is not in Python's library yet. At most `most` bytes."""
    zstd = file.read(4) == ZSTD
    file.seek(0)
    if not zstd:
        yield file
        return
    import tempfile

    os.lseek(file.fileno(), 0, os.SEEK_SET)  # what was read ahead is in our buffer, not in the program's
    with tempfile.TemporaryFile() as plain:

        def keep(data: bytes, stream: str) -> None:
            if stream == "stdout" and plain.write(data) and plain.tell() > most:
                raise bounds.exceeded(name, most)

        runner.run(Command(("zstd", "-dc"), "unpack the archive"), stdin=file, on_output=keep)
        plain.seek(0)
        yield plain


def _clean(name: str) -> str:
    """A member's name below the destination: no root, no way up."""
    return posixpath.normpath("/" + name).lstrip("/")


def _member(
    archive: tarfile.TarFile,
    member: tarfile.TarInfo,
    target: Target,
    destination: str,
    directories: list[tuple[str, tarfile.TarInfo]],
    *,
    chown: bool,
) -> None:
    name = _clean(member.name)
    place = posixpath.join(destination, name) if name else destination
    if member.isdir():
        os.close(target.open_directory(place.strip("/")))
        directories.append((place, member))
        return
    parent = target.open_directory(posixpath.dirname(place.strip("/")))
    last = posixpath.basename(place.strip("/"))
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(last, dir_fd=parent)
        if member.isreg():
            _file(archive, member, parent, last)
        elif member.issym():
            os.symlink(member.linkname, last, dir_fd=parent)
        elif member.islnk():
            _hard_link(member, target, destination, parent, last)
            return
        else:
            raise CopyError(f"{member.name} in the archive is a device or a FIFO, which is not unpacked")
        _finish(member, parent, last, target, chown=chown)
    except IsADirectoryError as error:
        raise CopyError(f"{member.name} in the archive would replace a directory") from error
    finally:
        os.close(parent)


def _file(archive: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    content = archive.extractfile(member)
    with open(os.open(name, flags, 0o600, dir_fd=parent), "wb") as file:
        while content is not None and (data := content.read(1 << 20)):
            file.write(data)


def _hard_link(member: tarfile.TarInfo, target: Target, destination: str, parent: int, name: str) -> None:
    """A hard link to an entry of the archive: found below the destination, never through a last link."""
    path = posixpath.join(destination, _clean(member.linkname)).strip("/")
    directory = target.open_directory(posixpath.dirname(path), make=False)
    try:
        os.link(posixpath.basename(path), name, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
    except OSError as error:
        raise CopyError(f"{member.name} in the archive links to {member.linkname}, which is not there") from error
    finally:
        os.close(directory)


def _owner(member: tarfile.TarInfo, target: Target, *, chown: bool) -> tuple[int, int]:
    return (target.ownership.owner or (0, 0)) if chown else (member.uid, member.gid)


def _finish(member: tarfile.TarInfo, parent: int, name: str, target: Target, *, chown: bool) -> None:
    os.chown(name, *_owner(member, target, chown=chown), dir_fd=parent, follow_symlinks=False)
    if not member.issym():
        mode = modes.applied(target.ownership.mode, member.mode & 0o7777, directory=False)
        os.chmod(name, mode, dir_fd=parent)
    os.utime(name, (int(member.mtime), int(member.mtime)), dir_fd=parent, follow_symlinks=False)


def _finish_directory(target: Target, place: str, member: tarfile.TarInfo, *, chown: bool) -> None:
    fd = target.open_directory(place.strip("/"), make=False)
    try:
        os.fchown(fd, *_owner(member, target, chown=chown))
        os.fchmod(fd, member.mode & 0o7777)
        os.utime(fd, (int(member.mtime), int(member.mtime)))
    finally:
        os.close(fd)
