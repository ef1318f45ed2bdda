"""Programs of other architectures: does the kernel run them, by itself or through an emulator (binfmt_misc)?

What is registered can be looked up only where binfmt_misc is mounted, and says little about whether it works
in a container. So a program is tried: the smallest there is, of each architecture, which ends with code 0.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orca.tools.command import Command

BINFMT = Path("/proc/sys/fs/binfmt_misc")
PROGRAM = "true"
_BASE = 0x400000


@dataclass(frozen=True)
class Machine:
    """An architecture as ELF has it: bits, byte order, e_machine, e_flags, the code of exit(0), QEMU's name of it."""

    bits: int
    order: str
    number: int
    flags: int
    code: bytes
    qemu: str


def _words(order: str, *values: int) -> bytes:
    return struct.pack(f"{order}{len(values)}I", *values)


MACHINES = {
    "amd64":    Machine(64, "<", 62, 0, bytes.fromhex("b83c00000031ff0f05"), "x86_64"),
    "386":      Machine(32, "<", 3, 0, bytes.fromhex("b80100000031dbcd80"), "i386"),
    "arm64":    Machine(64, "<", 183, 0, _words("<", 0xD2800000, 0xD2800BA8, 0xD4000001), "aarch64"),
    "arm":      Machine(32, "<", 40, 0x05000000, _words("<", 0xE3A00000, 0xE3A07001, 0xEF000000), "arm"),
    "riscv64":  Machine(64, "<", 243, 0, _words("<", 0x00000513, 0x05D00893, 0x00000073), "riscv64"),
    "ppc64le":  Machine(64, "<", 21, 2, _words("<", 0x38600000, 0x38000001, 0x44000002), "ppc64le"),
    "s390x":    Machine(64, ">", 22, 0, bytes.fromhex("a7290000" "0a01"), "s390x"),
    "mips64le": Machine(64, "<", 8, 0x80000007, _words("<", 0x00002025, 0x240213C2, 0x0000000C), "mips64el"),
    "loong64":  Machine(64, "<", 258, 0x43, _words("<", 0x00150004, 0x0381740B, 0x002B0000), "loongarch64"),
}  # fmt: skip


def program(architecture: str) -> bytes | None:
    """A whole ELF program that only ends, with code 0; None for an architecture that is not in MACHINES."""
    machine = MACHINES.get(architecture)
    if machine is None:
        return None
    order, wide = machine.order, machine.bits == 64
    head, entry = (64, 56) if wide else (52, 32)
    start, size = head + entry, head + entry + len(machine.code)
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    word = "Q" if wide else "I"
    header = ident + struct.pack(
        f"{order}HHI{word}{word}{word}IHHHHHH",
        2, machine.number, 1, _BASE + start, head, 0, machine.flags, head, entry, 1, 0, 0, 0,
    )  # fmt: skip
    if wide:
        load = struct.pack(f"{order}IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x10000)
    else:
        load = struct.pack(f"{order}IIIIIIII", 1, 0, _BASE, _BASE, size, size, 5, 0x10000)
    return header + load + machine.code


def trial(architecture: str, root: Path) -> Command | None:
    """A command that ends with 0 if such programs run in a container; None when it cannot be tried.

    `root` is an empty directory that becomes the program's root: an emulator that the kernel would have to look
    for there (registered without the flag F) is not found, as it would not be in a container.
    """
    data = program(architecture)
    if data is None:
        return None
    path = root / PROGRAM
    path.write_bytes(data)
    path.chmod(0o755)
    return Command(("chroot", str(root), f"/{PROGRAM}"), f"does this machine run programs for {architecture}?")


def registered(architecture: str, directory: Path = BINFMT) -> Sequence[str]:
    """The flags of each enabled emulator that is registered for an architecture, as far as that can be seen here."""
    machine = MACHINES.get(architecture)
    found = []
    for path in sorted(directory.glob("*")) if machine else ():
        try:
            lines = path.read_text("utf-8", "replace").splitlines() if path.name not in ("register", "status") else []
        except OSError:
            continue
        values = {name.rstrip(":"): rest for name, _, rest in (line.partition(" ") for line in lines)}
        if "enabled" in values and machine and _is_for(machine, values.get("magic", "")):
            found.append(values.get("flags", ""))
    return found


def _is_for(machine: Machine, magic: str) -> bool:
    """Is the magic of a registration (hexadecimal) that of the machine's programs?"""
    try:
        start = bytes.fromhex(magic)
    except ValueError:
        return False
    ident = bytes([2 if machine.bits == 64 else 1, 1 if machine.order == "<" else 2])
    return start[4:6] == ident and start[18:20] == struct.pack(f"{machine.order}H", machine.number)


def seccomp_architecture(architecture: str, host: str) -> str:
    """The architecture whose system calls a program makes: an emulator makes the host's."""
    return architecture if (host, architecture) in (("amd64", "386"), ("arm64", "arm")) else host


def machine_name(architecture: str) -> str:
    """How QEMU calls the architecture."""
    return MACHINES[architecture].qemu if architecture in MACHINES else os.fspath(architecture)
