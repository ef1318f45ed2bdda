"""Processes of the tests: run one and see both its outputs, start one that cannot outlive us."""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
) -> Result:
    """Run `argv` to its end. Its standard input is `stdin`, never a terminal. Raise `Failed` if `check`."""
    args = tuple(os.fspath(a) for a in argv)
    data = stdin.encode() if isinstance(stdin, str) else stdin
    try:
        done = subprocess.run(args, input=data, capture_output=True, env=env, cwd=cwd, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as e:
        said = b"".join(s for s in (e.stdout, e.stderr) if s).decode(errors="replace")
        raise Failed(f"$ {shlex.join(args)}\n-> still running after {timeout} s\n{said}") from None
    result = Result(args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
    if check and result.returncode:
        raise Failed(str(result))
    return result


def die_with_parent() -> None:
    """For `preexec_fn`: the child gets SIGKILL when the thread that started it ends, whatever ends it."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start(argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a server that writes to `log` and dies with us."""
    with log.open("ab") as out:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, preexec_fn=die_with_parent
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
