"""Two ways to put lines on a terminal: growing only, and with a part at the bottom that changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from orca.ui import human
from orca.ui.terminal import Line, Terminal, spelled


class Screen(Protocol):
    """Where the live view draws."""

    def show(self, above: Sequence[str], live: Sequence[Line]) -> None:
        """Print `above` for good (finished text), then replace the changing part by `live`."""


class StillScreen:
    """Needs nothing but the terminal: of the changing part only the last line is shown.

    A build that finds everything in the cache ends before there is anything to move, and so never
    pays for rich.
    """

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._drawn = False

    def show(self, above: Sequence[str], live: Sequence[Line]) -> None:
        """See Screen."""
        text = "\r\x1b[K" if self._drawn else ""
        text += "".join(line + "\n" for line in above)
        if live:
            text += spelled(live[-1], color=self._terminal.color)
        self._drawn = bool(live)
        if text:
            self._terminal.write(text)


class MovingScreen:
    """Redraws the changing part in place, by rich. Each frame is one write.

    The cursor is hidden only within a frame and stands below the changing part between frames, so
    that even a killed orca leaves a usable terminal. The size is looked up for each frame; when the
    terminal has become narrower, what it made of the last frame's lines (most terminals wrap them
    anew) is what gets erased.
    """

    def __init__(self, terminal: Terminal) -> None:
        from rich.console import Console

        self._terminal = terminal
        self._last: list[int] = []
        self._console = Console(
            file=terminal,  # type: ignore[arg-type]  # as much of a file as rich needs
            force_terminal=True,
            color_system="standard" if terminal.color else None,
            no_color=not terminal.color,
            highlight=False,
            legacy_windows=False,
        )

    def show(self, above: Sequence[str], live: Sequence[Line]) -> None:
        """See Screen."""
        from rich.console import ConsoleDimensions
        from rich.text import Text

        columns, rows = self._terminal.size()
        self._console.size = ConsoleDimensions(columns, rows)
        with self._console:  # buffers until its end
            self._console.show_cursor(show=False)
            self._erase(columns, rows)
            for text in above:
                self._console.print(Text.from_ansi(text), soft_wrap=True)
            for line in live:
                self._console.print(Text.assemble(*line), no_wrap=True, overflow="crop", crop=True)
            self._console.show_cursor(show=True)
        self._last = [sum(human.cells(text) for text, _ in line) for line in live]

    def _erase(self, columns: int, rows: int) -> None:
        from rich.control import Control
        from rich.segment import ControlType

        taken = sum(max(1, -(-cells // columns)) for cells in self._last)
        upwards = [(ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)] * min(taken, rows - 1)
        self._console.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2), *upwards))
