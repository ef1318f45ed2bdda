"""An image's root file system as one tar archive, or as a directory of the caller's.

The directory is written through descriptors: nothing in it is followed, nothing outside is touched.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
import struct
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from orca.errors import OrcaError
from orca.events import Emit, Warned
from orca.executor import layers
from orca.executor.layers import Content, Merged, Node
from orca.store.layout import CHUNK, Image, Layout
from orca.tools.command import Runner

BLOCK = 512
_XATTR = "SCHILY.xattr."
_OVERLAY = ("user.overlay.", "trusted.overlay.", "user.fuseoverlayfs.")
_LARGEST_ID, _LARGEST_SIZE, _LATEST = 0o7777777, 0o77777777777, 0o77777777777
_TYPES = {tarfile.AREGTYPE: b"0", tarfile.CONTTYPE: b"0", tarfile.GNUTYPE_SPARSE: b"0"}
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def merged(image: Image, layout: Layout, scratch: Path, runner: Runner) -> Merged:
    """The image's whole tree; its layers are unpacked below `scratch`. Raises ImageError."""
    place = scratch / f"layers-{os.urandom(4).hex()}"
    place.mkdir()
    layout.verify(image, layers=False)
    pairs = list(zip(image.manifest.layers, image.config.diff_ids, strict=True))
    return Merged(layers.unpack(pairs, layout, place, runner))


@contextlib.contextmanager
def contents(tree: Merged) -> Iterator[list[tarfile.TarFile]]:
    """The layers' archives, open to read files from."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(tarfile.open(path, "r:", errors="surrogateescape")) for path in tree.paths]


def attributes(info: tarfile.TarInfo) -> dict[str, bytes]:
    """The extended attributes of an entry, without those by which overlay hides files."""
    found = {
        name.removeprefix(_XATTR): value.encode("utf-8", "surrogateescape")
        for name, value in info.pax_headers.items()
        if name.startswith(_XATTR)
    }
    return {name: value for name, value in sorted(found.items()) if not name.startswith(_OVERLAY)}


# -- tar


class Archive:
    """A tar archive that is written to `file`: whole seconds, numeric owners, nothing of this machine."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._file.write(bytes(2 * BLOCK))

    def add(self, path: str, content: Content | None, link: str | None, archives: list[tarfile.TarFile]) -> None:
        """One entry; without `content`, an empty file that marks a whiteout."""
        info = content.info if content is not None else tarfile.TarInfo()
        kind = tarfile.LNKTYPE if link is not None else _TYPES.get(info.type, info.type)
        size = info.size if kind == tarfile.REGTYPE and content is not None else 0
        target = link if link is not None else info.linkname if info.issym() else ""
        name = f"{path}/" if kind == tarfile.DIRTYPE else path
        self._header(name, info, kind, size, target)
        if size and content is not None:
            self._copy(archives[content.layer], info)

    def _copy(self, archive: tarfile.TarFile, info: tarfile.TarInfo) -> None:
        source = archive.extractfile(info)
        left = info.size
        while source is not None and left and (data := source.read(min(CHUNK, left))):
            self._file.write(data)
            left -= len(data)
        if left:
            raise OrcaError(f"a layer ends in the middle of /{info.name}")
        self._file.write(bytes(-info.size % BLOCK))

    def _header(self, name: str, info: tarfile.TarInfo, kind: bytes, size: int, target: str) -> None:
        path, link = os.fsencode(name), os.fsencode(target)
        seconds = int(info.mtime)
        records: dict[str, bytes] = {}
        if len(path) > 100 or not path.isascii():
            records["path"] = path
        if len(link) > 100 or not link.isascii():
            records["linkpath"] = link
        limits = (("uid", info.uid, _LARGEST_ID), ("gid", info.gid, _LARGEST_ID),
                  ("size", size, _LARGEST_SIZE), ("mtime", seconds, _LATEST))  # fmt: skip
        records |= {word: str(value).encode() for word, value, most in limits if not 0 <= value <= most}
        if kind != tarfile.LNKTYPE:
            records |= {f"{_XATTR}{word}": value for word, value in attributes(info).items()}
        if records:
            data = b"".join(_record(word, value) for word, value in records.items())
            self._file.write(_block(b"PaxHeaders/x", tarfile.TarInfo(), tarfile.XHDTYPE, len(data), b"", 0))
            self._file.write(data + bytes(-len(data) % BLOCK))
        self._file.write(_block(path[:100], info, kind, size, link[:100], seconds))


def _record(word: str, value: bytes) -> bytes:
    """One record of a pax header: its own length, in which the digits of that number count."""
    rest = b" " + os.fsencode(word) + b"=" + value + b"\n"
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return str(length).encode() + rest


def _block(name: bytes, info: tarfile.TarInfo, kind: bytes, size: int, link: bytes, seconds: int) -> bytes:
    """A ustar header. What does not fit is in the pax header before it."""

    def octal(value: int, width: int) -> bytes:
        return b"%0*o\0" % (width, value if 0 <= value < 8**width else 0)

    device = (info.devmajor, info.devminor) if kind in (tarfile.CHRTYPE, tarfile.BLKTYPE) else (0, 0)
    fields = (
        name, octal(info.mode & 0o7777, 7), octal(info.uid, 7), octal(info.gid, 7), octal(size, 11), octal(seconds, 11),
        b" " * 8, kind, link, b"ustar\00000", b"", b"", octal(device[0], 7), octal(device[1], 7), b"",
    )  # fmt: skip
    block = struct.pack("100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x", *fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def write_archive(tree: Merged, archive: Archive, prefix: str = "", *, root: bool = False) -> None:
    """Every node of `tree`, below `prefix`; with `root`, the root directory too."""
    with contents(tree) as archives:
        for node in tree.nodes:
            if node.path or root:
                link = node.link if node.link is None else posixpath.join(prefix, node.link)
                archive.add(posixpath.join(prefix, node.path) or ".", node.content, link, archives)


# -- directory


def write_directory(tree: Merged, place: Path, emit: Emit) -> None:
    """Every node of `tree` below the directory `place`, as files of ours. Raises OrcaError, OSError.

    What is there already stays, unless the image has something of the same name. Set-id bits, which would speak
    of another owner, and devices are left out.
    """
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contents(tree) as archives:
            left_out = _Directory(fd, archives).write(tree.nodes)
    finally:
        os.close(fd)
    if left_out:
        some = ", ".join(left_out[:3]) + (" …" if len(left_out) > 3 else "")
        emit(Warned(f"{len(left_out)} devices, FIFOs and sockets of the image are left out: {some}"))


class _Directory:
    """Writes nodes below the directory `fd`."""

    def __init__(self, fd: int, archives: list[tarfile.TarFile]) -> None:
        self.fd = fd
        self.archives = archives
        self._last: tuple[str, int] = ("", os.dup(fd))
        self._inodes: dict[str, tuple[int, int]] = {}

    def write(self, nodes: list[Node]) -> list[str]:
        """Returns the paths that were left out."""
        left_out: list[str] = []
        directories: list[tuple[str, tarfile.TarInfo]] = []
        try:
            for node in nodes:
                if not node.path or node.content is None:
                    continue
                if node.content.info.isdir():
                    self._open(node.path)
                    directories.append((node.path, node.content.info))
                elif not self._entry(node, node.content):
                    left_out.append(f"/{node.path}")
            for path, info in reversed(directories):
                fd = self._open(path)
                os.fchmod(fd, info.mode & 0o1777)
                _set_attributes(fd, attributes(info))
                os.utime(fd, (max(info.mtime, 0) // 1, max(info.mtime, 0) // 1))
        finally:
            os.close(self._last[1])
        return left_out

    def _open(self, path: str) -> int:
        """The directory `path`, made where it is missing. The descriptor is ours until the next call."""
        if self._last[0] != path:
            fd = os.dup(self.fd)
            for name in filter(None, path.split("/")):
                outer, fd = fd, -1
                try:
                    fd = _enter(outer, name, path)
                finally:
                    os.close(outer)
            os.close(self._last[1])
            self._last = (path, fd)
        return self._last[1]

    def _entry(self, node: Node, content: Content) -> bool:
        """One file, link or hard link, put in the place of what has its name. False for what is left out."""
        directory, name = posixpath.split(node.path)
        if node.link is not None:
            if node.link not in self._inodes:
                return False
            return self._link(node.link, node.path)
        info = content.info
        if not (info.isreg() or info.issym()):
            return False
        parent = self._open(directory)
        temporary = f".orca-{os.urandom(6).hex()}"
        try:
            if info.issym():
                os.symlink(info.linkname, temporary, dir_fd=parent)
            else:
                self._fill(content, parent, temporary)
            seconds = max(int(info.mtime), 0)
            os.utime(temporary, (seconds, seconds), dir_fd=parent, follow_symlinks=False)
            found = os.stat(temporary, dir_fd=parent, follow_symlinks=False)
            _replace(parent, temporary, name, node.path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=parent)
            raise
        self._inodes[node.path] = (found.st_dev, found.st_ino)
        return True

    def _fill(self, content: Content, parent: int, name: str) -> None:
        info = content.info
        with open(os.open(name, _NEW_FILE, 0o600, dir_fd=parent), "wb") as file:
            source = self.archives[content.layer].extractfile(info)
            while source is not None and (data := source.read(CHUNK)):
                file.write(data)
            file.flush()
            _set_attributes(file.fileno(), attributes(info))
            os.fchmod(file.fileno(), info.mode & 0o1777)

    def _link(self, first: str, path: str) -> bool:
        """Another name of a file that we have written, if it still is that file."""
        source = os.dup(self._open(posixpath.dirname(first)))
        try:
            old, temporary = posixpath.basename(first), f".orca-{os.urandom(6).hex()}"
            parent = self._open(posixpath.dirname(path))
            os.link(old, temporary, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            found = os.stat(temporary, dir_fd=parent, follow_symlinks=False)
            if (found.st_dev, found.st_ino) != self._inodes[first]:
                os.unlink(temporary, dir_fd=parent)
                raise OrcaError(f"/{first} changed while it was written")
            _replace(parent, temporary, posixpath.basename(path), path)
        finally:
            os.close(source)
        return True


def _enter(outer: int, name: str, path: str) -> int:
    """The directory `name` in `outer`; anything else of that name makes room for it."""
    for _ in range(4):
        try:
            return os.open(name, _DIRECTORY, dir_fd=outer)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=outer)
        except NotADirectoryError:
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                os.unlink(name, dir_fd=outer)
    raise OrcaError(f"/{path} cannot be made: somebody else writes there too")


def _replace(parent: int, temporary: str, name: str, path: str) -> None:
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise OrcaError(
            f"/{path} is a directory with something in it, and not one in the image", hint="remove it first"
        ) from error
    os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)


def _set_attributes(fd: int, found: Mapping[str, bytes]) -> None:
    """Attributes of the user kind; capabilities would speak of another owner, and not every file system has any."""
    for name, value in found.items():
        if name.startswith("user."):
            with contextlib.suppress(OSError):
                os.setxattr(fd, name, value)
