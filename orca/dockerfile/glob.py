"""Go's filepath.Match for one path element: `*`, `?`, `[a-z]`, `[^a-z]`, and the backslash."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from orca.errors import OrcaError


class GlobError(OrcaError):
    """A pattern that breaks the grammar; it has no location."""


class Wild(Enum):
    """What is neither a character nor a class."""

    ONE = "?"
    STAR = "*"


@dataclass(frozen=True)
class Class:
    """`[…]`: one character within (or, negated, outside) the ranges, both ends included."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool

    def matches(self, char: str) -> bool:
        return any(low <= char <= high for low, high in self.ranges) != self.negated


Atom = str | Class | Wild

_META = frozenset("*?[\\")


def has_meta(pattern: str) -> bool:
    """Whether the pattern can match anything but itself."""
    return not _META.isdisjoint(pattern)


def match_element(pattern: str, name: str) -> bool:
    """Whether `pattern` matches the whole of `name`, neither with a slash in it. Raises GlobError for a bad pattern.

    A star gives way to the next one and is never tried again, so time is bounded by the product of both lengths.
    """
    atoms = _parse_cached(pattern)
    at = position = 0
    star, resume = -1, 0
    while position < len(name):
        if at < len(atoms) and atoms[at] is Wild.STAR:
            star, resume = at, position
            at += 1
        elif at < len(atoms) and accepts(atoms[at], name[position]):
            at += 1
            position += 1
        elif star >= 0:
            resume += 1
            at, position = star + 1, resume
        else:
            return False
    return all(atom is Wild.STAR for atom in atoms[at:])


def accepts(atom: Atom, char: str) -> bool:
    """Whether an atom other than the star accepts the character."""
    if isinstance(atom, Class):
        return atom.matches(char)
    return atom is Wild.ONE or atom == char


def parse(pattern: str) -> tuple[Atom, ...]:
    """The pattern cut into characters, classes and wildcards. Raises GlobError."""
    found: list[Atom] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "[":
            parsed, at = _class(pattern, at + 1)
            found.append(parsed)
            continue
        if char == "\\":
            char, at = _escaped(pattern, at)
            found.append(char)
            continue
        found.append(Wild(char) if char in "*?" else char)
        at += 1
    return tuple(found)


_parse_cached = lru_cache(maxsize=256)(parse)


def _class(pattern: str, at: int) -> tuple[Class, int]:
    """The class whose content begins at `at`, and the offset behind its bracket."""
    negated = pattern.startswith("^", at)
    at += negated
    ranges: list[tuple[str, str]] = []
    while not (ranges and pattern.startswith("]", at)):
        low, at = _member(pattern, at)
        high = low
        if pattern.startswith("-", at):
            high, at = _member(pattern, at + 1)
        ranges.append((low, high))
    return Class(tuple(ranges), negated), at + 1


def _member(pattern: str, at: int) -> tuple[str, int]:
    if at >= len(pattern):
        raise GlobError("a [ is not closed", hint="a literal [ is written [[]")
    if pattern[at] == "\\":
        return _escaped(pattern, at)
    if pattern[at] in "-]":
        char = pattern[at]
        raise GlobError(f"a class in [] lacks a character before {char}", hint=f"a literal one is \\{char}")
    return pattern[at], at + 1


def _escaped(pattern: str, at: int) -> tuple[str, int]:
    if at + 1 >= len(pattern):
        raise GlobError("a backslash at the end of a pattern escapes nothing")
    return pattern[at + 1], at + 2
