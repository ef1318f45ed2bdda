"""Ways to cut an instruction's arguments into words, and the JSON form."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from .text import BLANK, SPACE, Fault

_BLANK_WORD = re.compile(f"[^{BLANK}]+")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Word:
    """A word, quotes and escapes still in it, and its offset in the logical line."""

    text: str
    at: int


def split_blanks(args: str, at: int) -> list[Word]:
    """Words between blanks; quotes mean nothing here."""
    return [Word(found[0], at + found.start()) for found in _BLANK_WORD.finditer(args)]


def split_quoted(args: str, at: int, escape: str) -> list[Word]:
    """Words between white space outside quotes.

    A quote that is never closed reaches to the end; an escape character at the very end is dropped.
    """
    words = []
    for found in _quoted_word(escape).finditer(args):
        text = found[0] if found["lone"] is None and found["lone2"] is None else found[0][:-1]
        if text:
            words.append(Word(text, at + found.start()))
    return words


@cache
def _quoted_word(escape: str) -> re.Pattern[str]:
    e = re.escape(escape)
    parts = (
        rf"{e}(?:.|(?P<lone>\Z))",
        r"'[^']*(?:'|\Z)",
        rf'"(?:[^"{e}]|{e}.)*+(?:"|(?P<lone2>{e})?\Z)',
        rf"[^{SPACE}{e}'\"]",
    )
    return re.compile(f"(?:{'|'.join(parts)})++", re.DOTALL)


def string_array(args: str, at: int) -> tuple[str, ...] | None:
    """The strings of a JSON array; None when `args` is no JSON array, which makes it the shell form.

    Raises Fault for an array that holds something else than strings, as BuildKit does.
    """
    values = _json_array(args)
    if values is None:
        return None
    if not all(isinstance(value, str) for value in values):
        raise Fault("not every value of the JSON array is a string", at=at, hint="put each word in double quotes")
    if any("\0" in value for value in values):
        raise Fault("a word of the JSON array holds a NUL character", at=at)
    return tuple(_LONE_SURROGATE.sub("\ufffd", value) for value in values)


def _json_array(args: str) -> list[Any] | None:
    if not args.startswith("["):
        return None
    try:
        values: list[Any] = json.loads(args)
    except (ValueError, RecursionError):  # what nests so deeply is no array of strings either
        return None
    return values
