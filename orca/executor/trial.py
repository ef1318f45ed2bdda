"""Does it work here? Small things tried for real: a sandbox, an overlay, a whole build.

Each trial runs in a child process, because a process that has entered the sandbox stays there.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform as machine
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orca.dockerfile import parser
from orca.errors import OrcaError
from orca.executor import sandbox
from orca.executor.build import Build
from orca.executor.options import Naming, Options
from orca.executor.rootfs import workshop
from orca.store.store import Store
from orca.tools import kernel
from orca.tools.command import Runner

BASE = "localhost/trial:base"
PROBE = "busybox-probe"
"""The trial's program; busybox takes its command from the first argument under no other name than its own."""
MADE = "/made"
"""The directory that the trial's RUN makes."""


class Failed(OrcaError):
    """A trial failed."""


def in_sandbox(work: Callable[[Runner], dict[str, Any]]) -> dict[str, Any]:
    """What `work` returns (as JSON) in a sandbox of its own. Raises Failed with its message and hint."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        _answer(write, work)
    os.close(write)
    with open(read, "rb") as answer:
        data = answer.read()
    os.waitpid(child, 0)
    found: dict[str, Any] = json.loads(data or b'{"error": "the sandbox ended without an answer"}')
    if "error" in found:
        raise Failed(found["error"], hint=found.get("hint"))
    return found


def _answer(write: int, work: Callable[[Runner], dict[str, Any]]) -> None:
    """The child's whole life. The outer half of the sandbox ends in `enter`, without a word."""
    try:
        runner = Runner()
        sandbox.enter(runner)
        value = work(runner)
    except OrcaError as error:
        value = {"error": _words(error), "hint": error.hint}
    except (OSError, ImportError, KeyboardInterrupt) as error:
        value = {"error": str(error) or type(error).__name__}
    os.write(write, json.dumps(value).encode())
    os._exit(0)


def _words(error: OrcaError) -> str:
    said = str(getattr(error, "stderr", "")).strip().splitlines()
    tail = list(getattr(error, "tail", ()))
    return ": ".join([error.message, *(said[-1:] or tail[-1:])])


def overlay(directory: Path) -> dict[str, Any]:
    """Mount an overlay in a sandbox, with its layers in `directory`. Raises Failed."""

    def work(runner: Runner) -> dict[str, Any]:
        places = {name: directory / name for name in ("lower", "upper", "work", "root")}
        for place in places.values():
            place.mkdir()
        options = ",".join(f"{name}dir={places[name]}" for name in ("lower", "upper", "work"))
        try:
            kernel.mount("overlay", places["root"], "overlay", 0, f"{options},userxattr")
        except OSError as error:
            return {"overlay": error.strerror}
        (places["root"] / "file").touch()
        kernel.umount(places["root"])
        return {"overlay": None}

    return in_sandbox(work)


def build(directory: Path) -> float:
    """Build an image in a new store, unpack it, RUN a program in it, commit what that did; the seconds it took.

    Raises Failed. Nothing of it is anywhere but in `directory`.
    """
    begun = time.monotonic()
    context = directory / "context"
    context.mkdir()
    (context / PROBE).write_bytes(program(machine.machine()))
    (context / PROBE).chmod(0o755)

    def work(runner: Runner) -> dict[str, Any]:
        store = Store.open(directory / "store")
        _build(f"FROM scratch\nCOPY {PROBE} /\n", context, (BASE,), store, runner)
        run = f'FROM {BASE}\nRUN ["/{PROBE}", "mkdir", "{MADE}"]\n'
        layers = _build(run, context, (), store, runner)
        if layers != 2:
            raise Failed(f"the image has {layers} layers instead of 2")
        return {}

    in_sandbox(work)
    return time.monotonic() - begun


def _build(text: str, context: Path, tags: tuple[str, ...], store: Store, runner: Runner) -> int:
    options = Options(parser.parse(text.encode(), "trial"), context, naming=Naming(tags=tags))
    with workshop(store, runner) as shop:
        return len(Build(options, store).run(shop).image.manifest.layers)


def program(architecture: str) -> bytes:
    """A static program that makes the directory /made: our own, or busybox where we cannot write one.

    Raises Failed.
    """
    if architecture in _CODE:
        return elf(*_CODE[architecture])
    found = shutil.which("busybox", path="/bin:/usr/bin")
    with contextlib.suppress(OSError):
        data = Path(found or "").read_bytes()
        if b"/ld-" not in data[:4096] and b"/ld6" not in data[:4096]:
            return data
    raise Failed("there is no static program to try", hint="install a static busybox (busybox-static)")


_PATH = MADE.encode() + b"\0"

# Machine number of ELF, and code that ends with exit(0 or the error of mkdir); the path follows the code.
_CODE: dict[str, tuple[int, bytes]] = {
    "x86_64": (
        62,
        bytes.fromhex(
            "b853000000"  # mov eax, 83      mkdir(
            "488d3d12000000"  # lea rdi, [path]    path,
            "beed010000"  # mov esi, 0755      0755)
            "0f05"  # syscall
            "89c7"  # mov edi, eax
            "f7df"  # neg edi
            "b83c000000"  # mov eax, 60      exit(error)
            "0f05"  # syscall
        ),
    ),
    "aarch64": (
        183,
        struct.pack(
            "<8I",
            0x92800C60,  # mov x0, #-100      mkdirat(AT_FDCWD,
            0x100000E1,  # adr x1, path         path,
            0xD2803DA2,  # mov x2, #0755        0755)
            0xD2800448,  # mov x8, #34
            0xD4000001,  # svc #0
            0xCB0003E0,  # neg x0, x0
            0xD2800BA8,  # mov x8, #93        exit(error)
            0xD4000001,  # svc #0
        ),
    ),
}


def elf(number: int, code: bytes) -> bytes:
    """An ELF file (64 bit, little-endian) of one segment: `code`, then the path that it uses."""
    base, offset = 0x400000, 64 + 56
    size = offset + len(code) + len(_PATH)
    identity = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    header = identity + struct.pack("<HHIQQQIHHHHHH", 2, number, 1, base + offset, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x10000)
    return header + segment + code + _PATH
