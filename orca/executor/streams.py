"""A container's standard streams: the caller's own, or pipes and a terminal of ours whose output is logged."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from orca.executor.logs import LogWriter
from orca.tools.command import drain, pipe

if TYPE_CHECKING:
    from orca.executor.container import Request
    from orca.store.containers import Entry

Stream = IO[bytes] | None


@dataclass
class Attached:
    """The three streams for runc; `begin` is called once it has them, to read what comes."""

    stdin: Stream
    stdout: Stream
    stderr: Stream
    begin: Callable[[], None] = field(default=lambda: None)

    def given(self) -> dict[str, Any]:
        return {"stdin": self.stdin, "stdout": self.stdout, "stderr": self.stderr}


@contextlib.contextmanager
def attached(request: Request, entry: Entry) -> Iterator[Attached]:
    """The streams of a container. When the block is left, everything it printed has been taken."""
    if not entry.config.detached and (not request.terminal or (request.stdin and os.isatty(0))):
        with settings_kept(request.terminal):
            yield Attached(own(0) if request.stdin else None, own(1), own(2))
        return
    with contextlib.ExitStack() as stack:
        if entry.config.detached:
            log = LogWriter(entry.path / "log")
            stack.callback(log.close)
            take = log.take
        else:
            take = _print
        yield stack.enter_context(_terminal(take) if request.terminal else _pipes(take, stdin=request.stdin))


def own(fd: int) -> Stream:
    """A standard stream of our own; None for one that is closed."""
    try:
        return open(fd, "wb" if fd else "rb", buffering=0, closefd=False)
    except OSError:
        return None


def _print(data: bytes, stream: str) -> None:
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(1, data) :]


@contextlib.contextmanager
def settings_kept(terminal: bool) -> Iterator[None]:
    """Leave the terminal's settings as they were, whatever runc's end was."""
    if not terminal:
        yield
        return
    from orca.executor.aftermath import terminal_kept

    with terminal_kept():
        yield


@contextlib.contextmanager
def _pipes(take: Callable[[bytes, str], None], *, stdin: bool) -> Iterator[Attached]:
    """Pipes whose output `take` gets. With `stdin` the input is one, too, that nobody writes to."""
    with contextlib.ExitStack() as stack:
        (out_r, out_w), (err_r, err_w) = (stack.enter_context(pipe()) for _ in range(2))
        empty = stack.enter_context(pipe())[0] if stdin else None
        thread = threading.Thread(target=drain, args=({out_r: "stdout", err_r: "stderr"}, take), daemon=True)

        def begin() -> None:
            out_w.close()
            err_w.close()
            thread.start()

        yield Attached(empty, out_w, err_w, begin)
        if thread.ident is not None:
            thread.join()


@contextlib.contextmanager
def _terminal(take: Callable[[bytes, str], None]) -> Iterator[Attached]:
    """A terminal of ours, on which nobody types, and whose output `take` gets."""
    master, slave = os.openpty()
    os.set_inheritable(master, False)
    with contextlib.ExitStack() as stack:
        read = stack.enter_context(open(master, "rb", buffering=0))
        given = stack.enter_context(open(slave, "r+b", buffering=0))

        def work() -> None:
            # Its end is an error (EIO): nobody has the other side open any more.
            with contextlib.suppress(OSError):
                while data := read.read(64 * 1024):
                    take(data, "stdout")

        thread = threading.Thread(target=work, name="terminal", daemon=True)

        def begin() -> None:
            given.close()
            thread.start()

        yield Attached(given, given, given, begin)
        if thread.ident is not None:
            thread.join()
