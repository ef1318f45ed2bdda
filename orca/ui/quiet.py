"""The view that shows nothing (`-q`): the image's digest on stdout and errors are all there is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from orca import events
from orca.ui.terminal import Terminal


@contextmanager
def opened(terminal: Terminal) -> Iterator[events.Emit]:
    """The quiet view for as long as the block lasts."""
    yield events.ignore
