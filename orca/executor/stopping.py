"""How a container is asked to end: its stop signal, and SIGKILL when that does not help."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from orca.errors import ImageError
from orca.tools.command import Process

GRACE = 10.0
"""Seconds that a container has to end after its stop signal."""

SAME_KEY = 0.5
"""A terminal's Ctrl-C arrives more than once; signals so close together are one."""

RTMIN, RTMAX = 34, 64  # as C libraries count for programs, and so images


def signal_number(text: str | None) -> int:
    """The number of an image's StopSignal: SIGTERM when it has none. Raises ImageError."""
    word = (text or "SIGTERM").upper()
    name = word.removeprefix("SIG")
    if word.isascii() and word.isdigit() and 0 < int(word) <= RTMAX:
        return int(word)
    for base, number in (("RTMIN", RTMIN), ("RTMAX", RTMAX)):
        offset = name.removeprefix(base) or "+0"
        if name.startswith(base) and offset[0] in "+-" and offset[1:].isdigit() and len(offset) < 4:
            return min(max(number + int(offset), RTMIN), RTMAX)
    if f"SIG{name}" in signal.Signals.__members__:
        return int(signal.Signals[f"SIG{name}"])
    raise ImageError(f"the image has an unknown StopSignal {word[:40]!r}")


class Stopper:
    """While it is entered, a signal asks the container to stop: by its own signal first, then by SIGKILL.

    SIGKILL comes after `grace` seconds, at a second signal, or at once when the first process of the
    container does not listen to its stop signal: the kernel keeps such a signal from pid 1.
    """

    def __init__(self, process: Process, number: int, pid_file: Path, grace: float = GRACE) -> None:
        self._process = process
        self._number = number
        self._pid_file = pid_file
        self._grace = grace
        self._asked = 0.0

    def __enter__(self) -> Stopper:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._ask)
        signal.signal(signal.SIGALRM, self._kill)
        signal.signal(signal.SIGWINCH, self._resized)
        return self

    def __exit__(self, *exc: object) -> None:
        # Whoever stops us now stops the tidying up, which is short: it goes on.
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: None)

    def _ask(self, *_: object) -> None:
        now, first = time.monotonic(), read_pid(self._pid_file)
        if self._asked:
            if now - self._asked > SAME_KEY:
                self._kill()
            return
        self._asked = now
        if not self._grace:
            self._kill()
            return
        signal.setitimer(signal.ITIMER_REAL, self._grace)
        if first is not None and not listens(first, self._number):
            self._kill()
            return
        # runc passes on what it gets as soon as there is somebody to get it.
        send(self._process.pid if first is None else first, self._number)

    def _kill(self, *_: object) -> None:
        first = read_pid(self._pid_file)
        if first is not None:
            send(first, signal.SIGKILL)
        else:
            self._process.kill()

    def _resized(self, *_: object) -> None:
        """Where the container has the terminal, runc looks how large it is now."""
        send(self._process.pid, signal.SIGWINCH)


def read_pid(file: Path) -> int | None:
    """The pid that runc has written into a file; None while it has not."""
    with contextlib.suppress(OSError, ValueError):
        return int(file.read_text())
    return None


def send(pid: int, number: int) -> None:
    """Send a signal to a process that may have gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def listens(pid: int, number: int) -> bool:
    """Does a process catch a signal, or hold it back to fetch it later? True when nobody knows."""
    try:
        lines = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        masks = int(lines["SigCgt"], 16) | int(lines["SigBlk"], 16)
    except (OSError, KeyError, ValueError):
        return True
    return bool(masks >> (number - 1) & 1)
