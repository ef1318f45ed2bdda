"""What a build shows, and how it makes room for the shell of --on-error=shell."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import TextIO

from orca.errors import RunFailed
from orca.events import Emit, Event
from orca.executor.rootfs import Workshop
from orca.ui import Mode, Terminal, open_view, render_error


class Curtain:
    """Shows events until it falls: then the terminal is another's."""

    def __init__(self, show: Emit, close: contextlib.ExitStack) -> None:
        self._show = show
        self._close = close
        self._fallen = False

    def show(self, event: Event) -> None:
        if not self._fallen:
            self._show(event)

    def fall(self, error: RunFailed) -> None:
        """Take the view down and tell the error, for the last time."""
        self._fallen = True
        self._close.close()
        terminal = Terminal(sys.stderr)
        terminal.line(render_error(error, color=terminal.color, width=terminal.width))
        terminal.line("a shell where it failed; what it changes is not kept; exit ends it")
        error.told = True

    def make_room(self, shop: Workshop, on_error: str) -> None:
        """Be told when a shell needs the terminal, and pass on changes of its size."""
        if on_error != "shell":
            return
        shop.before_shell = self.fall

        def resized(number: int, frame: object) -> None:
            if shop.terminal_holder:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(shop.terminal_holder, signal.SIGWINCH)

        signal.signal(signal.SIGWINCH, resized)


@contextlib.contextmanager
def opened(mode: Mode, *, explain: bool, stream: TextIO | None = None) -> Iterator[Curtain]:
    """The view of a build, behind a curtain. `stream` None is standard error."""
    with contextlib.ExitStack() as stack:
        yield Curtain(stack.enter_context(open_view(mode, explain=explain, stream=stream)), stack)
