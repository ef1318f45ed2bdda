"""Limits for what others say and send: a small file that becomes a huge one fills the disk."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from orca.errors import ImageError, UsageError
from orca.tools.command import STDERR_KEPT, Command, Process, Runner, drain, failure, pipe, terminal

VARIABLE = "ORCA_MAX_UNPACK"
FLOOR = 1 << 30
RATIO = 64
"""Real layers shrink to a third or a tenth; gzip can shrink zeros to a thousandth."""
ENTRY = 512
"""What an entry without content counts, as in a tar: inodes are to be had in bombs too."""
PERIOD = 0.05
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def limit(packed: int) -> int:
    """The bytes that `packed` bytes may become: what ORCA_MAX_UNPACK says, else 64 times as many or 1 GiB.

    Raises UsageError.
    """
    text = os.environ.get(VARIABLE, "")
    if not text:
        return max(FLOOR, RATIO * packed)
    found = size_of(text)
    if found is None:
        raise UsageError(f"{VARIABLE} is not a size: {text[:40]!r}", hint=f"write {VARIABLE}=20G, for example")
    return found


def size_of(text: str) -> int | None:
    """Bytes, written with K, M, G or T behind the number; None when it is no size."""
    match = re.fullmatch(r"([0-9]{1,18})([KMGT]?)", text.upper())
    return int(match[1]) * _UNITS[match[2]] if match else None


def exceeded(what: str, most: int) -> ImageError:
    """The error for something that unpacks to more than `most` bytes."""
    size, unit = most, ""
    for word in ("KiB", "MiB", "GiB"):
        if size >= 1024:
            size, unit = size // 1024, f" {word}"
    hint = f"if it is to be trusted, {VARIABLE}=SIZE allows more (a number with K, M, G or T)"
    return ImageError(f"{what} unpacks to more than {size}{unit or ' bytes'}", hint=hint)


def written(pid: int) -> int:
    """Bytes that a process has written so far; 0 when the kernel does not tell."""
    return _counter(pid, "wchar:")


def read(pid: int) -> int:
    """Bytes that a process has read so far; 0 when the kernel does not tell."""
    return _counter(pid, "rchar:")


def _counter(pid: int, name: str) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/io").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    return 0


def inodes(place: Path) -> int:
    """Inodes in use on the file system of `place`; 0 when it is gone, as it is after a failure."""
    with contextlib.suppress(OSError):
        found = os.statvfs(place)
        return found.f_files - found.f_ffree
    return 0


@contextlib.contextmanager
def _watching(process: Process, excess: Callable[[Process], bool]) -> Iterator[threading.Event]:
    """Within, the process is killed as soon as `excess` says so; the event tells whether it was."""
    over, done = threading.Event(), threading.Event()

    def look() -> None:
        while not done.wait(PERIOD):
            if excess(process):
                over.set()
                process.kill()
                return

    thread = threading.Thread(target=look, name="bounds", daemon=True)
    thread.start()
    try:
        yield over
    finally:
        done.set()
        thread.join()


def run(
    runner: Runner,
    command: Command,
    excess: Callable[[Process], bool],
    *,
    step: int | None,
    shown: Callable[[bytes], None] | None = None,
) -> bool:
    """Run a command to its end; `excess` is asked again and again whether it is too much already.

    With `shown`, its standard output is a terminal if there can be one, and what it writes there goes to `shown`.
    Returns False when it was, and the command was killed for it. Raises ToolError.
    """
    said = bytearray()
    with contextlib.ExitStack() as stack:
        said_r, said_w = stack.enter_context(pipe())
        streams, screen = {said_r: "stderr"}, None
        if shown is not None:
            with contextlib.suppress(OSError):  # no terminals are left, or /dev/pts is not there
                ours, screen = stack.enter_context(terminal())
                streams[ours] = "stdout"
        process = stack.enter_context(runner.running(command, step=step, stdout=screen, stderr=said_w))
        said_w.close()
        if screen is not None:
            screen.close()

        def take(data: bytes, stream: str) -> None:
            if stream == "stderr":
                said.extend(data[: STDERR_KEPT - len(said)])
            elif shown is not None:
                shown(data)

        with _watching(process, excess) as over:
            drain(streams, take)
            code = process.wait()
    if code and not over.is_set():
        raise failure(command, code, said.decode("utf-8", "replace"))
    return not over.is_set()
