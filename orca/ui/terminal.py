"""The stream that a view writes to: what it can show, how wide it is, and lines that never raise."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import TextIO

Span = tuple[str, str]
"""Text and its style: words as in `STYLES`, joined by spaces ("bold red"), or ""."""

Line = tuple[Span, ...]
"""One line of a screen."""

STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}

# What orca draws with, and one column of ASCII for each, for a stream that cannot show it.
_ASCII = str.maketrans(
    {"✔": "+", "✘": "x", "○": "o", "│": "|", "━": "=", "╸": "=", "─": "-", "·": "-", "…": "~", "↓": ">", "→": ">"}
    | dict.fromkeys("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "*")
)


def styled(text: str, style: str, *, color: bool = True) -> str:
    """`text` in `style` by SGR sequences; unchanged without `color` or style."""
    if not color or not style or not text:
        return text
    codes = ";".join(STYLES[word] for word in style.split())
    return f"\x1b[{codes}m{text}\x1b[0m"


def spelled(line: Iterable[Span], *, color: bool) -> str:
    """A `Line` as text."""
    return "".join(styled(text, style, color=color) for text, style in line)


class Terminal:
    """A text stream as views use it.

    Writes go out at once. When the reader has gone (closed pipe, vanished terminal) writes do
    nothing: a build does not fail because nobody watches. Text that came from bytes which were not
    UTF-8 (surrogate escapes) leaves as those bytes. It is also a file for rich to write to.
    """

    def __init__(self, stream: TextIO | None = None, environ: Mapping[str, str] = os.environ) -> None:
        self._stream: TextIO | None = sys.stderr if stream is None else stream
        self._environ = environ
        self.encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self.unicode = _can_encode("✔…│━⠋", self.encoding)
        self.tty = self.isatty()
        self.dumb = environ.get("TERM", "") == "dumb"
        self.color = self._wants_color()

    def _wants_color(self) -> bool:
        """NO_COLOR (any value but "") says no; FORCE_COLOR and CLICOLOR_FORCE (but "0") say yes."""
        if self._environ.get("NO_COLOR"):
            return False
        if any(self._environ.get(name, "0") not in ("", "0") for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
            return True
        return self.tty and not self.dumb

    def isatty(self) -> bool:
        """Whether the stream is a terminal; a closed or missing one is not."""
        try:
            return bool(self._stream and self._stream.isatty())
        except ValueError:
            return False

    def fileno(self) -> int:
        """The stream's file descriptor; OSError if it has none."""
        if self._stream is None:
            raise OSError("the stream is gone")
        return self._stream.fileno()

    def size(self) -> tuple[int, int]:
        """Columns and rows now; 80 by 24, or $COLUMNS by 24, where nobody knows."""
        try:
            columns, rows = os.get_terminal_size(self.fileno())
        except (OSError, ValueError, AttributeError):
            columns = rows = 0
        return columns or _number(self._environ.get("COLUMNS"), 80), rows or 24

    @property
    def width(self) -> int:
        """Columns now."""
        return self.size()[0]

    def line(self, text: str) -> None:
        """Write `text` and a newline at once."""
        self.write(text + "\n")

    def write(self, text: str) -> int:
        """Write `text` at once, as it is; returns its length."""
        if not self.unicode:
            text = text.translate(_ASCII)
        try:
            self._put(text)
        except (OSError, ValueError):
            self._stream = None  # nobody reads any more
        return len(text)

    def _put(self, text: str) -> None:
        if self._stream is None:
            return
        buffer = getattr(self._stream, "buffer", None)
        self._stream.flush()
        if buffer is None:
            self._stream.write(text)
        else:
            buffer.write(_encode(text, self.encoding))
            buffer.flush()

    def flush(self) -> None:
        """Nothing to do: writes go out at once."""


def _encode(text: str, encoding: str) -> bytes:
    try:
        return text.encode(encoding, "surrogateescape")
    except UnicodeEncodeError:
        return text.encode(encoding, "backslashreplace")


def _can_encode(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and int(text) else default
