"""From source lines to logical lines: continuations joined, comments dropped, every character traceable."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from .instructions import Span
from .text import SPACE, Source


@dataclass(frozen=True)
class LogicalLine:
    """What one instruction says, on one line.

    `origins` are (offset in `text`, line, characters before it in that line), one for each source line in it.
    `blank` is the first empty line inside it, which BuildKit warns about.
    """

    text: str
    span: Span
    origins: tuple[tuple[int, int, int], ...]
    blank: int | None = None

    def position(self, at: int) -> tuple[int, int]:
        """Line and column, both counted from 1, of the character at offset `at`."""
        offset, line, skipped = self.origins[max(0, bisect_right(self.origins, (at, 1 << 62, 0)) - 1)]
        return line, at - offset + skipped + 1


@dataclass
class Reader:
    """A cursor over the lines of `source`; `next` is the index of the line to read next."""

    source: Source
    escape: str
    next: int = 0

    def at_end(self) -> bool:
        return self.next >= len(self.source.lines)

    def skip_gap(self) -> Span | None:
        """Pass blank lines and comments; their span, or None when there are none."""
        first = self.next
        while not self.at_end() and is_gap(self.source.lines[self.next]):
            self.next += 1
        return Span(first + 1, self.next) if self.next > first else None

    def logical_line(self) -> LogicalLine:
        """Read one logical line. Must stand on a line that is neither blank nor a comment."""
        first = self.next
        line = self.source.lines[first].lstrip(SPACE)
        skipped = len(self.source.lines[first]) - len(line)
        parts: list[str] = []
        origins: list[tuple[int, int, int]] = []
        blank: int | None = None
        offset = 0
        while True:
            content, goes_on = self._cut_continuation(line)
            parts.append(content)
            origins.append((offset, self.next + 1, skipped))
            offset += len(content)
            skipped = 0
            self.next += 1
            if goes_on:
                blank = self._skip_inside(blank)
            if not goes_on or self.at_end():
                break
            line = self.source.lines[self.next]
        return LogicalLine("".join(parts), Span(first + 1, self.next), tuple(origins), blank)

    def _skip_inside(self, blank: int | None) -> int | None:
        """Pass comments and blank lines inside a continued instruction; the first blank line seen so far."""
        while not self.at_end() and is_gap(line := self.source.lines[self.next]):
            self.next += 1
            if blank is None and not line.strip(SPACE):
                blank = self.next
        return blank

    def _cut_continuation(self, line: str) -> tuple[str, bool]:
        """The line without its escape character, and whether the next line belongs to it.

        Blanks may follow the escape character; two of them in a row are an escaped one and end the line.
        """
        stripped = line.rstrip(" \t")
        if not stripped.endswith(self.escape) or stripped.endswith(self.escape * 2):
            return line, False
        return stripped[:-1], True

    def body(self, terminator: str, strip_tabs: bool) -> str | None:
        """Read raw lines up to the one that is `terminator`; None (and nothing read) when it never comes."""
        for index in range(self.next, len(self.source.lines)):
            line = self.source.lines[index]
            if (line.lstrip("\t") if strip_tabs else line) == terminator:
                lines = self.source.raw[self.next : index]
                self.next = index + 1
                return "".join([f"{line}\n" for line in lines])
        return None


def is_gap(line: str) -> bool:
    """Whether the line is blank or a comment."""
    stripped = line.lstrip(SPACE)
    return not stripped or stripped[0] == "#"
