"""Shell words as the builder expands them: quotes, escapes, `$name`, `${name}` and its modifiers.

A word is parsed once into parts; expanding it and asking it for its variables are two walks over the same parts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from orca.errors import OrcaError

from . import patterns
from .patterns import MAX_EXPANDED, PatternError
from .text import SPACE, quoted

MAX_DEPTH = 50  # of words inside modifiers of words

Lookup = Callable[[str], str | None]


class WordError(OrcaError):
    """A word cannot be parsed or expanded. It has no location: who knows the instruction adds one."""


@dataclass(frozen=True)
class Text:
    """Characters that stand for themselves; those that were quoted or escaped separate no words."""

    text: str
    quoted: bool


@dataclass(frozen=True)
class Variable:
    """`$name`, or `${name…}` with a modifier.

    `modifier` is "", "-", "+", "?", "#", "%", "/" or "//"; `or_empty` is the colon in front of the first three.
    """

    name: str
    quoted: bool
    modifier: str = ""
    or_empty: bool = False
    operand: Word = ()
    replacement: Word = ()


Part = Text | Variable
Word = tuple[Part, ...]


def expand(word: str, lookup: Lookup, escape: str = "\\") -> str:
    """One word with its quotes removed and its variables replaced; an undefined one is empty.

    `lookup` returns None for what is undefined. Raises WordError, for `${name?message}` with that message.
    """
    return _text(_parse(word, escape), lookup)


def expand_words(word: str, lookup: Lookup, escape: str = "\\") -> list[str]:
    """The same, cut at blanks outside quotes: those of the word and those of unquoted variables' values."""
    words: list[str] = []
    open_word = ""
    pending: list[str] = []
    for part in _parse(word, escape):
        text = _part_text(part, lookup)
        if part.quoted:
            pending.append(text)
            continue
        head, *others = _SPACES.split(text)
        pending.append(head)
        for other in others:
            words.append("".join(pending))
            pending = [other]
    words.append("".join((open_word, *pending)))
    _check_size(sum(map(len, words)))
    return [found for found in words if found]


def names(word: str, escape: str = "\\") -> frozenset[str]:
    """Every variable that expanding the word may look up. Raises WordError for a word that cannot be parsed."""
    return frozenset(_names(_parse(word, escape)))


def _names(word: Word) -> Iterator[str]:
    for part in word:
        if isinstance(part, Variable):
            yield part.name
            yield from _names(part.operand)
            yield from _names(part.replacement)


# Expansion


def _text(word: Word, lookup: Lookup) -> str:
    texts = [_part_text(part, lookup) for part in word]
    _check_size(sum(map(len, texts)))
    return "".join(texts)


def _check_size(size: int) -> None:
    if size > MAX_EXPANDED:
        raise WordError("a word expands to more than 1 MiB")
