"""A user namespace with a binfmt_misc of its own (Linux 6.7), where a test may register what it likes.

Run as a program: `binfmt.py RULE COMMAND...` runs the command, as root and with every id, where RULE is registered.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

PLACE = "/proc/sys/fs/binfmt_misc"
NEWUSER, NEWNS, REC_PRIVATE = 0x10000000, 0x20000, 0x44000
IMPOSSIBLE = 77

# What QEMU's registration for aarch64 matches.
_MAGIC = r"\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"


def arm64_rule(interpreter: str, flags: str = "F") -> str:
    """What makes `interpreter` carry out the programs of arm64."""
    return f":arm64-of-a-test:M::{_MAGIC}:{_MASK}:{interpreter}:{flags}"


def command(rule: str, *argv: str) -> list[str]:
    """`argv` where `rule` is registered."""
    return [sys.executable, "-P", __file__, rule, *argv]


def _child(rule: str, argv: list[str], ready: int, mapped: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    possible = libc.unshare(NEWUSER | NEWNS) == 0
    os.write(ready, b"1")
    os.read(mapped, 1)
    possible = possible and libc.mount(b"none", b"/", None, REC_PRIVATE, None) == 0
    if possible and libc.mount(b"none", PLACE.encode(), b"binfmt_misc", 0, None) == 0:
        Path(PLACE, "register").write_text(rule)
        os.execvp(argv[0], argv)
    os._exit(IMPOSSIBLE)


def main() -> None:
    """See above; ends with IMPOSSIBLE where the kernel has no such namespaces."""
    (ready_r, ready_w), (mapped_r, mapped_w) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        _child(sys.argv[1], sys.argv[2:], ready_w, mapped_r)
    os.read(ready_r, 1)
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{child}/{name}").write_text("0 0 4294967295")
    os.write(mapped_w, b"1")
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255)


if __name__ == "__main__":
    main()
