"""Files that survive anything: atomic writes, locks, directories that are ours alone."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from orca.errors import StoreError

_FULL = (errno.ENOSPC, errno.EDQUOT)
DEEPEST = 64
"""Levels of a tree that `remove_tree` goes down at once."""
LARGEST_JSON = 256 << 20
"""Bytes: far beyond any index or record, and still fits in memory."""


def explain(error: OSError, doing: str) -> StoreError:
    """The error that a user understands for `error`, met while `doing` something."""
    if error.errno in _FULL:
        return StoreError(
            f"no space left on the device while {doing}",
            hint="orca prune frees what no image needs; ORCA_ROOT puts the store elsewhere",
        )
    where = f" ({error.filename})" if error.filename else ""
    return StoreError(f"{error.strerror or error} while {doing}{where}")


def write_atomically(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace `path` by `data` in one step: readers see all of the old or all of the new.

    `durable` waits until the disk has it; caches that can be made again do without. Raises StoreError.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        try:
            with open(fd, "wb") as file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(fd)
            os.rename(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise explain(error, f"writing {path.name}") from error


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """`write_atomically` with JSON."""
    write_atomically(path, json.dumps(value, separators=(",", ":")).encode("utf-8", "surrogateescape"), durable=durable)


def read_json(path: Path) -> Any:
    """The JSON in `path`, or None when there is no such file or it is damaged.

    It may be in somebody else's directory: raises StoreError for a FIFO, a device, a file of any size.
    """
    try:
        return json.loads(_read_regular(path, LARGEST_JSON))
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return None
    except OSError as error:
        raise explain(error, f"reading {path.name}") from error


def _read_regular(path: Path, most: int) -> bytes:
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise StoreError(f"{path} is not a regular file")
        if found.st_size > most:
            raise StoreError(f"{path} has more than {most} bytes")
        return file.read(most)  # one that grows meanwhile is damaged JSON


def own_directory(path: Path) -> None:
    """Make `path` a directory of ours with mode 0700. Raises StoreError if it is somebody else's or a link."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise explain(error, f"making {path}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise StoreError(f"{path} is not a directory", hint="set ORCA_ROOT to a directory of your own")
    if found.st_uid != os.geteuid():
        raise StoreError(f"{path} belongs to user {found.st_uid}", hint="set ORCA_ROOT to a directory of your own")
    if found.st_mode & 0o022:
        raise StoreError(f"{path} can be written by others", hint=f"chmod go-w {path}")


def close_directory(path: Path) -> None:
    """See to it that nobody but us can go into `path`: set-uid files of images are below it.

    Raises StoreError if it is a link or somebody else's.
    """
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise StoreError(f"{path} is not a directory of ours", hint="set ORCA_ROOT to a directory of your own")
    if found.st_mode & 0o077:
        path.chmod(0o700)


@contextlib.contextmanager
def lock(
    path: Path, *, shared: bool = False, wait: bool = True, patience: Callable[[], None] | None = None
) -> Iterator[bool]:
    """Hold the lock file `path`; yields whether it was got (always, when `wait`).

    `patience` is called again and again while waiting, and ends it by raising: a thread that waits in the kernel
    hears of no Ctrl-C. Where nothing can be written there may be no lock file: then nobody else has it either.
    """
    fd = _open_lock(path)
    if fd is None:
        yield True
        return
    try:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            if wait and patience is not None:
                _wait_for(fd, kind, patience)
            else:
                fcntl.flock(fd, kind if wait else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def _open_lock(path: Path) -> int | None:
    """A descriptor of a lock file, made if need be; None where there is none and none can be made."""
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, os.O_RDONLY | flags)
    return None


@contextlib.contextmanager
def released(path: Path) -> Iterator[Callable[[], None]]:
    """Hold the lock file `path` with others, until the block ends or what is yielded is called."""
    fd = _open_lock(path)
    if fd is None:
        yield lambda: None
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        yield lambda: fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)


def _wait_for(fd: int, kind: int, patience: Callable[[], None]) -> None:
    while True:
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            patience()
            time.sleep(0.02)


def remove_tree(path: Path) -> None:
    """Remove a tree, whatever modes its directories have and however deep it is; a missing one is fine."""
    with contextlib.suppress(FileNotFoundError):
        if path.is_symlink() or not path.is_dir():
            path.unlink()
            return
        fd = _own_directory_at(None, str(path))
        try:
            while _empty(fd, fd, 0):
                pass
        finally:
            os.close(fd)
        path.rmdir()


def _empty(fd: int, top: int, depth: int) -> bool:
    """Remove everything in the directory `fd`, never following a link.

    A RUN can nest directories deeper than descriptors or Python's stack reach: what is DEEPEST levels
    down is moved up into `top` instead. Returns whether anything was.
    """
    moved = False
    with os.scandir(fd) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        if not is_directory:
            os.unlink(name, dir_fd=fd)
            continue
        inner = _own_directory_at(fd, name)
        try:
            if depth == DEEPEST:
                os.rename(name, f".{os.urandom(8).hex()}", src_dir_fd=fd, dst_dir_fd=top)
                moved = True
                continue
            moved |= _empty(inner, top, depth + 1)
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=fd)
    return moved


def _own_directory_at(parent: int | None, name: str) -> int:
    """Open a directory that is to be emptied; an ordinary user's is made writable first."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, dir_fd=parent)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=parent)
        fd = os.open(name, flags, dir_fd=parent)
    if os.geteuid():
        os.fchmod(fd, 0o700)
    return fd
