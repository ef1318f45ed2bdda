"""Processes of the tests: run one and see both its outputs, start one that cannot outlive us."""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Result:
    """How a process ended. `out` is its standard output without the newline at the end."""

    args: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    @property
    def out(self) -> str:
        return self.stdout.rstrip("\n")

    def __str__(self) -> str:
        return f"$ {shlex.join(self.args)}\n-> exit {self.returncode}\n{self.stdout}{self.stderr}"


class Failed(AssertionError):
    """A process that had to succeed did not; the message shows all it said."""


def run(
    *argv: str | os.PathLike[str],
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    stdin: str | bytes = b"",
    check: bool = True,
    timeout: float = 180,
    ids: tuple[int, int] | None = None,
) -> Result:
    """Run `argv` to its end. Its standard input is `stdin`, never a terminal. Raise `Failed` if `check`.

    `ids`: the user and group that it runs as, with no other groups.
    """
    args = tuple(os.fspath(a) for a in argv)
    data = stdin.encode() if isinstance(stdin, str) else stdin
    try:
        done = subprocess.run(
            args, input=data, capture_output=True, env=env, cwd=cwd, timeout=timeout, check=False, **_as(ids)
        )
    except subprocess.TimeoutExpired as e:
        said = b"".join(s for s in (e.stdout, e.stderr) if s).decode(errors="replace")
        raise Failed(f"$ {shlex.join(args)}\n-> still running after {timeout} s\n{said}") from None
    result = Result(args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
    if check and result.returncode:
        raise Failed(str(result))
    return result


def _as(ids: tuple[int, int] | None) -> dict[str, Any]:
    """`ids` as `subprocess` wants to be told."""
    return {"user": ids[0], "group": ids[1], "extra_groups": [], "umask": 0o022} if ids else {}


def die_with_parent() -> None:
    """For `preexec_fn`: the child gets SIGKILL when the thread that started it ends, whatever ends it."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start(
    argv: Sequence[str | os.PathLike[str]],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    ids: tuple[int, int] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process that writes all it says to `log` and dies with us."""
    with log.open("ab") as out:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=env,
            cwd=cwd,
            preexec_fn=die_with_parent,
            **_as(ids),
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that `start` started: asked first, then not asked."""
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listened on a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def fetch(url: str) -> str:
    """A page of a server on this machine, as soon as it answers."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 20
    while True:
        try:
            with direct.open(url, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
