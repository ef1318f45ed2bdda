"""The patterns of modifiers, against what the same pattern does when every possibility is tried."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca.dockerfile.patterns import PatternError, remove_prefix, remove_suffix, replace

QUIET = settings.get_profile("dockerfile")

PATTERNS = st.text("ab*?", max_size=6)
VALUES = st.text("ab", max_size=8)


def ends(pattern: str, value: str, start: int) -> list[int]:
    """Where a match that begins at `start` may end, in order."""
    regex = re.compile("".join({"*": ".*", "?": "."}.get(char, char) for char in pattern))
    return [end for end in range(start, len(value) + 1) if regex.fullmatch(value, start, end)]


@QUIET
@given(PATTERNS, VALUES, st.booleans())
def test_prefix(pattern: str, value: str, longest: bool) -> None:
    found = ends(pattern, value, 0) or [0]
    assert remove_prefix(value, pattern, longest) == value[found[-1 if longest else 0] :]


@QUIET
@given(PATTERNS, VALUES, st.booleans())
def test_suffix(pattern: str, value: str, longest: bool) -> None:
    starts = [start for start in range(len(value) + 1) if len(value) in ends(pattern, value, start)] or [len(value)]
    assert remove_suffix(value, pattern, longest) == value[: starts[0 if longest else -1]]


@QUIET
@given(PATTERNS, VALUES, st.booleans())
def test_replace(pattern: str, value: str, every: bool) -> None:
    assert replace(value, pattern, "<>", every) == replaced(pattern, value, every)


def replaced(pattern: str, value: str, every: bool) -> str:
    """From left to right the longest match at each place, no empty one right after another match."""
    result, position, last = "", 0, -1
    while position <= len(value):
        found = ends(pattern, value, position)
        if found and not (found[-1] == position == last):
            result += "<>"
            last = found[-1]
            if not every:
                return result + value[last:]
            if last > position:
                position = last
                continue
        result += value[position : position + 1]
        position += 1
    return result


@pytest.mark.parametrize("pattern", ["\\", "a\\", "\\a", "\\["])
def test_bad_escapes(pattern: str) -> None:
    with pytest.raises(PatternError, match="no escape"):
        remove_prefix("a", pattern, False)


def test_escapes_and_characters_of_regular_expressions_are_literal() -> None:
    assert remove_prefix("*?\\}/.", r"\*\?\\\}\/.", False) == ""
    assert replace("a.b|c[d]", ".", "", True) == "ab|c[d]"
    assert remove_suffix("a[d]", "[d]", False) == "a"
