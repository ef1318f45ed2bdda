"""The patterns of `${name#pattern}` and its relatives: `*`, `?`, and what the backslash makes literal.

A pattern is cut at its stars into runs of one-character tests. Runs are searched one after the other, the earliest
match of each (for the last one the latest, where the longest match is wanted), so no pattern can make time explode.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from orca.errors import OrcaError

MAX_WORK = 50_000_000  # characters of pattern times characters of value; about a tenth of a second
MAX_EXPANDED = 1 << 20  # what one word may grow to; the kernel takes an eighth of it as one string

_ANY = None  # a test that every character passes


class PatternError(OrcaError):
    """A pattern that breaks the rules or the bounds."""


Run = tuple[str | None, ...]


@dataclass(frozen=True)
class Pattern:
    """Runs of tests with a star between each two: `a*b?` is (("a",), ("b", None))."""

    runs: tuple[Run, ...]

    @staticmethod
    def parse(text: str) -> Pattern:
        """Raises PatternError for an escape of anything but `*`, `?`, `\\`, `}` and `/`."""
        runs: list[list[str | None]] = [[]]
        chars = iter(text)
        for char in chars:
            if char == "*":
                runs.append([])
            else:
                runs[-1].append(_escaped(chars) if char == "\\" else _ANY if char == "?" else char)
        inner = [run for run in runs[1:-1] if run]
        return Pattern(tuple(map(tuple, [runs[0], *inner, runs[-1]] if len(runs) > 1 else runs)))

    def reversed(self) -> Pattern:
        return Pattern(tuple(run[::-1] for run in self.runs[::-1]))

    def size(self) -> int:
        return sum(map(len, self.runs)) + 1

    def match(self, value: str, start: int, longest: bool) -> int | None:
        """Where the shortest or longest match that begins at `start` ends; None when there is none."""
        head = _compiled(self.runs[0]).match(value, start)
        if not head:
            return None
        position = head.end()
        for index, run in enumerate(self.runs[1:], start=2):
            end = _last(run, value, position) if longest and index == len(self.runs) else _first(run, value, position)
            if end is None:
                return None
            position = end
        return position

    def search(self, value: str, start: int) -> tuple[int, int] | None:
        """The leftmost of the longest matches from `start` on.

        The first run's first occurrence decides: what does not match after it does not match further right either.
        """
        head = _compiled(self.runs[0]).search(value, start)
        if not head:
            return None
        end = self.match(value, head.start(), longest=True)
        return None if end is None else (head.start(), end)


def remove_prefix(value: str, pattern: str, longest: bool) -> str:
    """`value` without its shortest or longest beginning that matches."""
    end = _bounded(Pattern.parse(pattern), value).match(value, 0, longest)
    return value if end is None else value[end:]


def remove_suffix(value: str, pattern: str, longest: bool) -> str:
    """`value` without its shortest or longest end that matches."""
    end = _bounded(Pattern.parse(pattern), value).reversed().match(value[::-1], 0, longest)
    return value if end is None else value[: len(value) - end]


def replace(value: str, pattern: str, replacement: str, every: bool) -> str:
    """`value` with the leftmost longest match replaced, or every one."""
    parts: list[str] = []
    position = size = 0
    for start, end in _matches(_bounded(Pattern.parse(pattern), value), value):
        parts += (value[position:start], replacement)
        position = end
        size += len(replacement)
        if size > MAX_EXPANDED:
            raise PatternError("a replacement makes the value longer than 1 MiB")
        if not every:
            break
    return "".join((*parts, value[position:]))


def _matches(pattern: Pattern, value: str) -> Iterator[tuple[int, int]]:
    """All matches from left to right; none that is empty right after another one."""
    if len(pattern.runs) == 1:  # only such a pattern can match often
        yield from (found.span() for found in _compiled(pattern.runs[0]).finditer(value))
        return
    position, last = 0, -1
    while position <= len(value) and (found := pattern.search(value, position)):
        start, end = found
        if end > start or start != last:
            yield found
            last = end
        position = end if end > start else end + 1


def _bounded(pattern: Pattern, value: str) -> Pattern:
    if pattern.size() * len(value) > MAX_WORK:
        raise PatternError("a pattern and a value too long to match")
    return pattern


def _escaped(chars: Iterator[str]) -> str:
    char = next(chars, "")
    if char == "" or char not in "*?\\}/":
        raise PatternError(f"\\{char} is no escape in a pattern", hint="a backslash may stand before * ? \\ } and /")
    return char


def _compiled(run: Run) -> re.Pattern[str]:
    return re.compile("".join("." if test is _ANY else re.escape(test) for test in run), re.DOTALL)


def _first(run: Run, value: str, start: int) -> int | None:
    found = _compiled(run).search(value, start)
    return found.end() if found else None


def _last(run: Run, value: str, start: int) -> int | None:
    found = _compiled(run[::-1]).search(value[start:][::-1])
    return len(value) - found.start() if found else None
