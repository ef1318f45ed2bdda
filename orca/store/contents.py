"""What a layer holds against what was unpacked from it: diff ids and snapshots, file by file.

Overlays are mounted volatile, so a power cut may leave a snapshot with files that are short or full of zeros. Only
regular files, links and directories are compared; nothing outside the snapshot is opened, whatever its links say.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import stat
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from orca.store.layout import CHUNK
from orca.tools import kernel

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_GZIP = b"\x1f\x8b"
DAMAGED = (OSError, EOFError, zlib.error, tarfile.TarError)
"""What reading a layer that is no archive raises."""


@contextlib.contextmanager
def opened(blob: Path) -> Iterator[IO[bytes] | None]:
    """A layer's tar archive, uncompressed; None when it is compressed in a way that Python cannot read."""
    with blob.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        if start[:2] == _GZIP:
            with gzip.open(file) as stream:
                yield stream  # type: ignore[misc]
        else:
            yield None if start == b"\x28\xb5\x2f\xfd" else file


def diff_id(blob: Path) -> str | None:
    """The digest of a layer when it is not compressed; None when that cannot be told. Raises one of DAMAGED."""
    with opened(blob) as stream:
        if stream is None:
            return None
        found = hashlib.sha256()
        while data := stream.read(CHUNK):
            found.update(data)
        return f"sha256:{found.hexdigest()}"


def differs(root: Path, blobs: Iterable[Path]) -> str | None:
    """The first path at which the tree `root` is not what the layers `blobs` (lowest first) hold, and how.

    None when there is no such path. Raises one of DAMAGED when a layer cannot be read.
    """
    seen = _Seen()
    with kernel.directory(root) as fd:
        for blob in reversed(list(blobs)):
            with opened(blob) as stream:
                if stream is None:
                    return None
                problem = _compare(fd, stream, seen)
            if problem is not None:
                return problem
    return None


class _Seen:
    """What upper layers have decided, so that lower ones are not asked: whole paths, and all below some directories."""

    def __init__(self) -> None:
        self.paths: set[str] = set()
        self.trees: set[str] = set()

    def decided(self, path: str) -> bool:
        if path in self.paths:
            return True
        while path:
            if path in self.trees:
                return True
            path = path.rpartition("/")[0]
        return "" in self.trees


def _compare(root: int, stream: IO[bytes], seen: _Seen) -> str | None:
    paths: set[str] = set()
    trees: set[str] = set()
    last: dict[str, str | None] = {}
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            path = os.path.normpath(f"/{member.name}").strip("/")
            directory, _, name = path.rpartition("/")
            if name == _OPAQUE:
                trees.add(directory)
            elif name.startswith(_WHITEOUT):
                trees.add(f"{directory}/{name.removeprefix(_WHITEOUT)}".lstrip("/"))
            elif not seen.decided(path):
                paths.add(path)
                # An archive may hold a path twice: the last one counts.
                last[path] = _problem(root, path, member, tar)
    seen.paths |= paths
    seen.trees |= trees | {path for path in paths if path and not _is_directory(root, path)}
    return next((f"{path}: {problem}" for path, problem in last.items() if problem), None)


def _is_directory(root: int, path: str) -> bool:
    with contextlib.suppress(OSError):
        fd = kernel.open_in_root(root, path, os.O_PATH | os.O_NOFOLLOW)
        try:
            return stat.S_ISDIR(os.fstat(fd).st_mode)
        finally:
            os.close(fd)
    return False


def _problem(root: int, path: str, member: tarfile.TarInfo, tar: tarfile.TarFile) -> str | None:
    """How the file at `path` differs from the archive's."""
    if not (member.isreg() or member.issym() or member.isdir() or member.islnk()):
        return None
    try:
        fd = kernel.open_in_root(root, path or ".", os.O_PATH | os.O_NOFOLLOW)
    except OSError as error:
        return error.strerror or str(error)
    try:
        found = os.fstat(fd)
        kind = stat.S_IFMT(found.st_mode)
        if member.isdir():
            return None if kind == stat.S_IFDIR else "is no directory"
        if member.issym():
            same = kind == stat.S_IFLNK and os.readlink("", dir_fd=fd) == member.linkname
            return None if same else "is another link"
        if member.islnk():
            return None if kind in (stat.S_IFREG, stat.S_IFLNK) else "is no file"
        if kind != stat.S_IFREG:
            return "is no file"
        if found.st_size != member.size:
            return f"has {found.st_size} bytes instead of {member.size}"
        return _content(fd, member, tar)
    finally:
        os.close(fd)


def _content(fd: int, member: tarfile.TarInfo, tar: tarfile.TarFile) -> str | None:
    archived = tar.extractfile(member)
    assert archived is not None
    try:
        # The descriptor is that of a regular file: opening it anew cannot wait, nor lead elsewhere.
        with open(f"/proc/self/fd/{fd}", "rb") as file:
            while data := archived.read(CHUNK):
                if file.read(len(data)) != data:
                    return "has another content"
    except PermissionError:
        return None
    return None
