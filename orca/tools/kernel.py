"""Linux system calls that Python 3.11 does not offer: mount, umount2, unshare, setns, prctl, openat2.

All raise OSError with the errno of the call. Paths go to the kernel as they are.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path

CLONE_FS = 0x200
CLONE_NEWNS = 0x20000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000

MNT_DETACH = 2
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10
_SYS_OPENAT2 = 437  # one number on every architecture that Linux got after 5.0, x86 included

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, *names: str | os.PathLike[str]) -> int:
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno), *(os.fspath(name) for name in names[:1]))
    return result


def mount(source: str, target: str | Path, kind: str | None, flags: int = 0, data: str | None = None) -> None:
    """mount(2)."""
    _checked(
        _libc.mount(
            os.fsencode(source),
            os.fsencode(target),
            kind.encode() if kind else None,
            ctypes.c_ulong(flags),
            os.fsencode(data) if data else None,
        ),
        target,
    )


def umount(target: str | Path, flags: int = MNT_DETACH) -> None:
    """umount2(2)."""
    _checked(_libc.umount2(os.fsencode(target), flags), target)


def detach(target: str | Path) -> None:
    """Unmount `target` if it is mounted: for the end of a lifetime, where nobody is left to be told."""
    with contextlib.suppress(OSError):
        umount(target)


def unshare(flags: int) -> None:
    """unshare(2), for the calling thread."""
    _checked(_libc.unshare(flags))


def setns(fd: int, kind: int) -> None:
    """setns(2), for the calling thread."""
    _checked(_libc.setns(fd, kind))


def die_with_parent(signal: int = 9) -> None:
    """Have the kernel send `signal` to this process when the thread that made it ends.

    The setting is lost when credentials change: call it again after that.
    """
    _checked(_libc.prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0))


def open_in_root(root_fd: int, path: str | bytes, flags: int = os.O_PATH, mode: int = 0) -> int:
    """openat2(2) with `root_fd` as the root directory for every component, `..` and symbolic link.

    Returns a descriptor (close-on-exec). Magic links of /proc are refused (ELOOP).
    """
    name = os.fsencode(path)
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    while True:
        fd = int(_libc.syscall(ctypes.c_long(_SYS_OPENAT2), root_fd, name, how, ctypes.c_size_t(len(how))))
        # EAGAIN: something in the tree was renamed while it was walked; the kernel asks to try again.
        if fd >= 0 or ctypes.get_errno() != 11:
            return _checked(fd, os.fsdecode(name))


@contextlib.contextmanager
def directory(path: Path) -> Iterator[int]:
    """A descriptor of the directory `path` for as long as the block lasts."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def directory_of(fd: int) -> Iterator[int]:
    """The descriptor itself, closed when the block is left."""
    try:
        yield fd
    finally:
        os.close(fd)
