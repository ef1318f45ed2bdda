"""File modes as --chmod writes them: octal, or symbolic as chmod(1) has them (`u=rwX,go=rX`). No umask."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_LENGTH = 1000

_OCTAL = re.compile(r"[0-7]{1,5}")
_ACTION = re.compile(r"([-+=])([ugo]|[rwxXst]*)")
_CLAUSE = re.compile(rf"([ugoa]*)((?:{_ACTION.pattern})+)")
_SHIFTS = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}
_SET_ID = {"u": 0o4000, "g": 0o2000, "o": 0}
_STICKY = 0o1000


class ModeError(ValueError):
    """A text that is no mode."""


@dataclass(frozen=True)
class Symbolic:
    """A symbolic mode. `clauses` are (who, operator, permissions), in order; who is of the letters ugo."""

    text: str
    clauses: tuple[tuple[str, str, str], ...]

    def __call__(self, mode: int, *, directory: bool) -> int:
        """What becomes of the twelve bits `mode`."""
        execute = directory or bool(mode & 0o111)
        for who, operator, permissions in self.clauses:
            bits = _bits(who, permissions, mode, execute=execute)
            if operator == "-":
                mode &= ~bits
            elif operator == "+":
                mode |= bits
            else:
                mode = mode & ~_everything(who) | bits
        return mode


Mode = int | Symbolic


def parse(text: str) -> Mode:
    """A mode: its number, or what changes. Raises ModeError."""
    if _OCTAL.fullmatch(text) and int(text, 8) <= 0o7777:
        return int(text, 8)
    clauses: list[tuple[str, str, str]] = []
    for part in text.split(",") if len(text) <= MAX_LENGTH else ():
        found = _CLAUSE.fullmatch(part)
        if not found:
            break
        who = "ugo" if not found[1] or "a" in found[1] else found[1]
        clauses += [(who, operator, permissions) for operator, permissions in _ACTION.findall(found[2])]
    else:
        if clauses:
            return Symbolic(text, tuple(clauses))
    raise ModeError(text)


def applied(change: Mode | None, mode: int, *, directory: bool) -> int:
    """The mode that a file or directory of mode `mode` gets."""
    if change is None or isinstance(change, int):
        return mode if change is None else change
    return change(mode, directory=directory)


def written(change: Mode | None) -> int | str | None:
    """A mode as JSON can hold it."""
    return change.text if isinstance(change, Symbolic) else change


def _bits(who: str, permissions: str, mode: int, *, execute: bool) -> int:
    """The bits that `permissions` means for each of `who`."""
    bits = _STICKY if "t" in permissions and "o" in who else 0
    if permissions in _SHIFTS and permissions:
        share = mode >> _SHIFTS[permissions] & 7
    else:
        share = sum(bit for letter, bit in _BITS.items() if letter in permissions)
        share |= 1 if "X" in permissions and execute else 0
    for name in who:
        bits |= share << _SHIFTS[name]
        bits |= _SET_ID[name] if "s" in permissions else 0
    return bits


def _everything(who: str) -> int:
    """What `=` clears for `who`."""
    bits = _STICKY if set(who) == set("ugo") else 0
    for name in who:
        bits |= 7 << _SHIFTS[name] | _SET_ID[name]
    return bits
