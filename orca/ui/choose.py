"""Which view shows the events of a command."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, TextIO

from orca.events import Emit, Event
from orca.ui.terminal import Terminal

Mode = Literal["auto", "tty", "plain", "json", "quiet"]

# Each view's module has `opened(terminal)`. They are imported when chosen: a quick command pays for none.
_MODULES = {
    "tty": "orca.ui.progress",
    "plain": "orca.ui.plain",
    "explain": "orca.ui.explain",
    "json": "orca.ui.jsonview",
    "quiet": "orca.ui.quiet",
}
_BUILDKIT = {"tty": "tty", "plain": "plain", "rawjson": "json", "quiet": "quiet", "none": "quiet"}


def open_view(
    mode: Mode, *, explain: bool = False, stream: TextIO | None = None, environ: Mapping[str, str] = os.environ
) -> AbstractContextManager[Emit]:
    """A context manager whose value takes events, from any thread, one at a time.

    Leaving it, however that happens, leaves the terminal as it was and what was shown on it. It writes to
    `stream` (now's sys.stderr if None). "auto" is what BUILDKIT_PROGRESS says, else "tty" on a
    terminal and "plain" elsewhere; "tty" without a terminal (or on a dumb one) is "plain" too.
    `explain` turns the first two into lines that show each call; json and quiet stay what they are.
    """
    terminal = Terminal(stream, environ)
    module = importlib.import_module(_MODULES[_chosen(mode, explain, terminal, environ)])
    view: AbstractContextManager[Emit] = module.opened(terminal)
    return view


def _chosen(mode: str, explain: bool, terminal: Terminal, environ: Mapping[str, str]) -> str:
    if mode == "auto":
        # BuildKit's variable may hold what only BuildKit knows: then it is as if it were not there.
        mode = _BUILDKIT.get(environ.get("BUILDKIT_PROGRESS", ""), "tty")
    if mode == "tty" and (terminal.dumb or not terminal.tty):
        mode = "plain"
    return "explain" if explain and mode in ("tty", "plain") else mode


@contextmanager
def one_at_a_time(emit: Emit) -> Iterator[Emit]:
    """Events come from many threads; views take one at a time, and none after they are closed."""
    import threading

    lock = threading.Lock()
    closed = False

    def locked(event: Event) -> None:
        with lock:
            if not closed:
                emit(event)

    try:
        yield locked
    finally:
        with lock:
            closed = True
