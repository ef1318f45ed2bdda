"""orca logs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

from orca.cli.options import Parser
from orca.dockerfile import durations
from orca.errors import OrcaError, UsageError
from orca.executor import logs
from orca.executor.logs import Line
from orca.store import containers
from orca.store.store import Store
from orca.ui.escape import strip_controls

EXAMPLES = """\
  orca logs web                 what the container has printed
  orca logs -f --tail 10 web    the last ten lines, and what comes until it ends
  orca logs --since 5m -t web   the last five minutes, with times

What it printed on standard error comes on standard error. On a terminal control sequences are left
out; a pipe gets every byte. A container keeps the last 32 to 64 MB of its output."""


def make_parser() -> Parser:
    """The options of `orca logs`."""
    parser = Parser("logs", "Print what a detached container has printed.", EXAMPLES)
    add = parser.add_argument
    add("container", metavar="CONTAINER", help="a name, an id or its beginning")
    add("-f", "--follow", action="store_true", help="go on with what comes, until the container ends")
    add("-n", "--tail", metavar="N", help="only the last N lines (all: every one)")
    add("--since", metavar="TIME", help="only what came since: 10m, 2026-01-31T12:00:00Z, or seconds since 1970")
    add("--until", metavar="TIME", help="only what came before")
    add("-t", "--timestamps", action="store_true", help="begin each line with its time")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Print."""
    given = make_parser().parse(arguments)
    since, until = moment(given.since, "--since"), moment(given.until, "--until")
    tail = None if given.tail in (None, "all") else number(given.tail)
    entry = containers.find(Store.open(), given.container)
    if not entry.config.detached:
        raise OrcaError(f"{entry.config.name} runs in the foreground: its output went there and is not kept")
    printer = Printer(timestamps=given.timestamps)
    try:
        for line in logs.read(entry.path, tail=tail, alive=entry.alive if given.follow else None):
            if (since is None or line.time >= since) and (until is None or line.time < until):
                printer.show(line)
            elif until is not None and line.time >= until:
                break
    except KeyboardInterrupt:
        return 130
    return 0


class Printer:
    """Prints lines on the streams that they came on."""

    def __init__(self, *, timestamps: bool) -> None:
        self._timestamps = timestamps
        self._begun = {"stdout": False, "stderr": False}
        self._plain = {"stdout": os.isatty(1), "stderr": os.isatty(2)}

    def show(self, line: Line) -> None:
        stream = line.stream if line.stream in self._begun else "stdout"
        stamp = f"{line.stamp} ".encode() if self._timestamps and not self._begun[stream] else b""
        data = strip_controls(line.data.decode("utf-8", "replace")).encode() if self._plain[stream] else line.data
        self._begun[stream] = not line.whole
        output = sys.stdout.buffer if stream == "stdout" else sys.stderr.buffer
        output.write(stamp + data + (b"\n" if line.whole else b""))
        output.flush()


def number(text: str) -> int:
    """--tail. Raises UsageError."""
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise UsageError(f"--tail {text[:40]!r} is no number")
    return int(text)


def moment(text: str | None, option: str) -> float | None:
    """A time, or how long ago, in seconds since 1970. Raises UsageError."""
    if text is None:
        return None
    try:
        return time.time() - durations.parse_duration(text) / 1_000_000_000
    except ValueError:
        pass
    found = float(text) if text.replace(".", "", 1).isdecimal() else logs.seconds_of(text)
    if found is None:
        raise UsageError(f"{option} {text[:40]!r} is no time", hint="write 10m, or 2026-01-31T12:00:00Z")
    return found
