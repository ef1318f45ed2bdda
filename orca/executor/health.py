"""HEALTHCHECK: a command run in a container again and again, and what that says of it.

The rules and the words are Docker's: `starting` until the first success or too many failures, then
`healthy` or `unhealthy`; failures during the start period do not count.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from orca.errors import OrcaError
from orca.executor.logs import rfc3339
from orca.executor.stopping import read_pid, send
from orca.store import files
from orca.tools import runc
from orca.tools.command import Runner, pipe

NANOSECONDS = 1_000_000_000
SHELL = ("/bin/sh", "-c")
OUTPUT = 4096
"""Bytes of a check's output that are kept."""
RESULTS = 5
"""Checks that are remembered."""


@dataclass(frozen=True)
class Check:
    """A health check. Times are seconds."""

    argv: tuple[str, ...]
    interval: float = 30.0
    timeout: float = 30.0
    start_period: float = 0.0
    start_interval: float = 5.0
    retries: int = 3


def check_of(value: Mapping[str, Any] | None, shell: Sequence[str] | None) -> Check | None:
    """An image's Healthcheck, whose times are nanoseconds and 0 where the default holds; None for no check."""
    test = (value or {}).get("Test")
    if value is None or not isinstance(test, list) or not test or not all(isinstance(word, str) for word in test):
        return None
    kind, *words = test
    if kind == "NONE" or not words:
        return None
    argv = (*(shell or SHELL), " ".join(words)) if kind == "CMD-SHELL" else tuple(words)

    def time_of(name: str, default: float) -> float:
        return _number(value.get(name)) / NANOSECONDS or default

    usual = Check(argv)
    return Check(
        argv,
        time_of("Interval", usual.interval),
        time_of("Timeout", usual.timeout),
        time_of("StartPeriod", usual.start_period),
        time_of("StartInterval", usual.start_interval),
        int(_number(value.get("Retries"))) or usual.retries,
    )


def _number(value: object) -> float:
    """What an image says, if it is a number above 0; else 0."""
    return float(max(0, value)) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


@dataclass(frozen=True)
class Health:
    """What the checks so far say. `results` are those that are remembered, the last one at the end."""

    status: str = "starting"
    streak: int = 0
    results: tuple[Mapping[str, Any], ...] = ()

    def after(self, result: Mapping[str, Any], check: Check, age: float) -> Health:
        """With one more result, `age` seconds after the container's start."""
        results = (*self.results, result)[-RESULTS:]
        if result["ExitCode"] == 0:
            return Health("healthy", 0, results)
        if self.status == "starting" and age < check.start_period:
            return Health(self.status, 0, results)
        streak = self.streak + 1
        return Health("unhealthy" if streak >= check.retries else self.status, streak, results)

    def to_json(self) -> dict[str, Any]:
        return {"Status": self.status, "FailingStreak": self.streak, "Log": list(self.results)}


class Monitor:
    """Runs a check on a thread of its own until it is told to stop; each result goes to `write`."""

    def __init__(self, check: Check, probe: Callable[[Check], tuple[int, str]], write: Callable[[Health], None]):
        self._check = check
        self._probe = probe
        self._write = write
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, name="health", daemon=True)

    def __enter__(self) -> Monitor:
        self._write(Health())
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()

    def _work(self) -> None:
        check, health, begun = self._check, Health(), time.monotonic()
        while not self._done.wait(self._pause(health, time.monotonic() - begun)):
            start = time.time_ns()
            with contextlib.suppress(OrcaError, OSError):
                code, output = self._probe(check)
                if self._done.is_set():
                    return
                result = {"Start": rfc3339(start), "End": rfc3339(time.time_ns()), "ExitCode": code, "Output": output}
                health = health.after(result, check, time.monotonic() - begun)
                self._write(health)

    def _pause(self, health: Health, age: float) -> float:
        """Until the next check: shorter while the container starts."""
        starting = health.status == "starting" and age < self._check.start_period
        return min(self._check.start_interval, self._check.interval) if starting else self._check.interval


@dataclass(frozen=True)
class Probe:
    """How a check is run: runc's state and name of the container, the process whose command is replaced."""

    runner: Runner
    state: Path
    name: str
    process: Mapping[str, Any]
    scratch: Path

    def __call__(self, check: Check) -> tuple[int, str]:
        """The exit code and the beginning of the output; -1 when it took too long."""
        place = self.scratch / f"health-{os.urandom(4).hex()}"
        pid_file = place.with_suffix(".pid")
        place.write_text(json.dumps({**self.process, "args": list(check.argv), "terminal": False}))
        command = runc.exec_(self.state, self.name, place, place.with_suffix(".log"), pid_file=pid_file)
        late = threading.Event()
        try:
            with pipe() as (read, write), self.runner.running(command, stdout=write, stderr=write) as process:
                write.close()

                def stop() -> None:
                    late.set()
                    if (pid := read_pid(pid_file)) is not None:
                        send(pid, signal.SIGKILL)
                    process.kill()

                timer = threading.Timer(check.timeout, stop)
                timer.daemon = True
                timer.start()
                output = _beginning(read, late)
                code = process.wait()
                timer.cancel()
            if late.is_set():
                return -1, f"the health check took longer than {check.timeout:g} s"
            return code, output
        finally:
            for file in (place, pid_file, place.with_suffix(".log")):
                file.unlink(missing_ok=True)


def _beginning(stream: IO[bytes], late: threading.Event) -> str:
    """The beginning of what a stream says, read to its end, or until it is late: a child may hold it open for ever."""
    import select

    said, poll = b"", select.poll()
    poll.register(stream, select.POLLIN)
    while not late.is_set():
        if poll.poll(200):
            data = stream.read(64 * 1024)
            if not data:
                break
            said = (said + data)[:OUTPUT]
    return said.decode("utf-8", "replace")


def writer(path: Path) -> Callable[[Health], None]:
    """What writes each result to a file."""
    return lambda health: files.write_json(path, health.to_json(), durable=False)
