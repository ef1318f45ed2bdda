"""The log of a detached container: what it printed, with times, as the Kubernetes runtimes write it.

2026-01-31T12:00:00.000000000Z stdout F a line
2026-01-31T12:00:01.000000000Z stderr P the beginning of one that has not ended yet
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

LIMIT = 32 << 20
"""Bytes of `log`; then it becomes `log.1`, in the place of an older one: who prints for ever fills no disk."""
PERIOD = 0.1


@dataclass(frozen=True)
class Line:
    """A piece of output. `whole` says that a newline followed. `time` is seconds since 1970, `stamp` as in the log."""

    time: float
    stamp: str
    stream: str
    data: bytes
    whole: bool


class LogWriter:
    """Appends chunks of output to a log."""

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        self._path = path
        self._limit = limit
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115  # closed by close()
        self._size = self._file.tell()

    def take(self, data: bytes, stream: str) -> None:
        """Write a chunk; `stream` is stdout or stderr."""
        stamp = f"{rfc3339(time.time_ns())} {stream} ".encode()
        *lines, rest = data.split(b"\n")
        text = b"".join(stamp + b"F " + line + b"\n" for line in lines)
        if rest:
            text += stamp + b"P " + rest + b"\n"
        if self._size and self._size + len(text) > self._limit:
            self._turn()
        self._size += len(text)
        with contextlib.suppress(OSError):  # a full disk ends the log, not the container
            self._file.write(text)

    def _turn(self) -> None:
        os.rename(self._path, self._path.with_suffix(".1"))
        self._file.close()
        self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115
        self._size = 0

    def close(self) -> None:
        self._file.close()


def rfc3339(nanoseconds: int) -> str:
    """A time in UTC to the nanosecond."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


def parse(line: bytes) -> Line | None:
    """A line of a log without its newline; None for what is none."""
    words = line.split(b" ", 3)
    if len(words) != 4 or words[2] not in (b"F", b"P"):
        return None
    stamp = words[0].decode("ascii", "replace")
    return Line(seconds_of(stamp) or 0.0, stamp, words[1].decode("ascii", "replace"), words[3], words[2] == b"F")


def seconds_of(stamp: str) -> float | None:
    """A time of RFC 3339 in seconds since 1970; one without a zone is local. None for what is none."""
    from datetime import datetime

    try:
        text, digits = stamp, ""
        if "." in stamp:  # Python reads six digits of a fraction
            head, _, tail = stamp.partition(".")
            digits = "".join(char for char in tail if char.isdigit())[:6]
            zone = tail.lstrip("0123456789")
            text = f"{head}.{digits.ljust(6, '0')}{zone}"
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None


def read(directory: Path, *, tail: int | None = None, alive: Callable[[], bool] | None = None) -> Iterator[Line]:
    """The lines of a container's log; with `tail`, the last so many.

    With `alive`, go on with what comes until that says no.
    """
    reader = _Reader(directory)
    yield from _last(reader.take(), tail)
    while alive is not None:
        there = alive()
        lines = list(reader.take())
        yield from lines
        if not there and not lines:
            return
        if not lines:
            time.sleep(PERIOD)


def _last(lines: Iterator[Line], tail: int | None) -> Iterator[Line]:
    """The last `tail` lines; pieces of one line count once."""
    if tail is None:
        yield from lines
        return
    kept: deque[list[Line]] = deque(maxlen=tail)
    begun: dict[str, list[Line]] = {}
    for line in lines:
        begun.setdefault(line.stream, []).append(line)
        if line.whole:
            kept.append(begun.pop(line.stream))
    kept.extend(begun.values())
    for pieces in kept:
        yield from pieces


class _Reader:
    """Reads what is there so far; a log that is turned over meanwhile is read on in the next one."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "log"
        self._files: list[IO[bytes]] = []
        for path in (self._path.with_suffix(".1"), self._path):
            with contextlib.suppress(FileNotFoundError):
                self._files.append(open(path, "rb"))  # noqa: SIM115  # read for as long as this is

    def take(self) -> Iterator[Line]:
        while self._files:
            file = self._files[0]
            while (text := file.readline()).endswith(b"\n"):
                if (line := parse(text[:-1])) is not None:
                    yield line
            if len(self._files) == 1:
                file.seek(-len(text), os.SEEK_CUR)
                if not self._turned(file):
                    return
                self._files.append(open(self._path, "rb"))  # noqa: SIM115
            self._files.pop(0).close()

    def _turned(self, file: IO[bytes]) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return not os.path.samestat(os.fstat(file.fileno()), os.stat(self._path))
        return False
