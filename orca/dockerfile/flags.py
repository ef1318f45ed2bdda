"""Flags: `--name[=value]` between an instruction's name and its arguments."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from .text import SPACE, Fault, quoted


class Kind(Enum):
    """What a flag takes."""

    BOOLEAN = "true or false, or nothing at all"
    TEXT = "a value, once"
    LIST = "a value, as often as wanted"


KNOWN: Mapping[str, Mapping[str, Kind]] = {
    "ADD": {
        "chown": Kind.TEXT,
        "chmod": Kind.TEXT,
        "link": Kind.BOOLEAN,
        "keep-git-dir": Kind.BOOLEAN,
        "checksum": Kind.TEXT,
        "exclude": Kind.LIST,
        "unpack": Kind.BOOLEAN,
    },
    "COPY": {
        "from": Kind.TEXT,
        "chown": Kind.TEXT,
        "chmod": Kind.TEXT,
        "link": Kind.BOOLEAN,
        "parents": Kind.BOOLEAN,
        "exclude": Kind.LIST,
    },
    "FROM": {"platform": Kind.TEXT},
    "HEALTHCHECK": {
        "interval": Kind.TEXT,
        "timeout": Kind.TEXT,
        "start-period": Kind.TEXT,
        "start-interval": Kind.TEXT,
        "retries": Kind.TEXT,
    },
    "RUN": {
        "mount": Kind.LIST,
        "network": Kind.TEXT,
        "security": Kind.TEXT,
        "device": Kind.LIST,
    },
}


@dataclass(frozen=True)
class Flag:
    """One flag, unquoted; `value` is None without `=`. `at` is its offset in the logical line."""

    name: str
    value: str | None
    at: int


@dataclass(frozen=True)
class Flags:
    """The flags of one instruction, checked against KNOWN."""

    texts: Mapping[str, str] = field(default_factory=dict)
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    booleans: Mapping[str, bool] = field(default_factory=dict)
    places: Mapping[str, int] = field(default_factory=dict)

    def text(self, name: str) -> str | None:
        """The flag's value; an empty one is as good as none."""
        return self.texts.get(name) or None

    def list(self, name: str) -> tuple[str, ...]:
        return self.lists.get(name, ())

    def boolean(self, name: str) -> bool:
        return self.booleans.get(name, False)


# A flag ends at white space outside quotes. The backslash escapes here whatever the escape directive says.
_FLAG = re.compile(
    rf"""--(?: \\(?:.|\Z) | '(?:[^'\\]|\\.)*+(?:'|\\?\Z) | "(?:[^"\\]|\\.)*+(?:"|\\?\Z) | [^{SPACE}\\'"] )*+""",
    re.VERBOSE | re.DOTALL,
)
_UNQUOTE = re.compile(r"""'((?:[^'\\]|\\.)*+)(?:'|\\?\Z)|"((?:[^"\\]|\\.)*+)(?:"|\\?\Z)|\\(.|\Z)""", re.DOTALL)
_BLANKS = re.compile(f"[{SPACE}]*+")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def split(args: str, at: int) -> tuple[tuple[Flag, ...], str, int]:
    """The flags that `args` begins with, what follows them, and its offset. A bare `--` ends the flags."""
    flags = []
    position = _after_blanks(args, 0)
    while found := _FLAG.match(args, position):
        text = _UNQUOTE.sub(_unquoted, found[0])
        start, position = position, _after_blanks(args, found.end())
        if text == "--":
            break
        name, equals, value = text[2:].partition("=")
        flags.append(Flag(name, value if equals else None, at + start))
    return tuple(flags), args[position:], at + position


def _after_blanks(text: str, position: int) -> int:
    found = _BLANKS.match(text, position)
    return found.end() if found else position


def _unquoted(found: re.Match[str]) -> str:
    single, double, escaped = found.groups()
    if escaped is not None:
        return escaped
    return _ESCAPED.sub(r"\1", double if single is None else single)


def check(keyword: str, given: tuple[Flag, ...]) -> Flags:
    """Sort the flags by kind; raises Fault for one that is unknown, repeated or lacks its value."""
    known = KNOWN.get(keyword, {})
    texts: dict[str, str] = {}
    lists: defaultdict[str, list[str]] = defaultdict(list)
    booleans: dict[str, bool] = {}
    places: dict[str, int] = {}
    for flag in given:
        kind = known.get(flag.name)
        if kind is None:
            raise _unknown(keyword, flag, known)
        if flag.name in places and kind is not Kind.LIST:
            raise Fault(f"{keyword} takes --{flag.name} only once", at=flag.at)
        places[flag.name] = flag.at
        if kind is Kind.BOOLEAN:
            booleans[flag.name] = _boolean(flag)
        elif flag.value is None:
            raise Fault(f"--{flag.name} needs a value", at=flag.at, hint=f"write --{flag.name}=VALUE, without blanks")
        elif kind is Kind.TEXT:
            texts[flag.name] = flag.value
        else:
            lists[flag.name].append(flag.value)
    return Flags(texts, {name: tuple(values) for name, values in lists.items()}, booleans, places)


def _boolean(flag: Flag) -> bool:
    value = "true" if flag.value is None else flag.value.lower()
    if value not in ("true", "false"):
        raise Fault(f"--{flag.name} takes true or false, not {quoted(value)}", at=flag.at)
    return value == "true"


def _unknown(keyword: str, flag: Flag, known: Mapping[str, Kind]) -> Fault:
    from difflib import get_close_matches  # only an error needs it

    name = f"--{flag.name}"
    if not known:
        hint = f"{keyword} knows no flags; quote the word if it is an argument"
        return Fault(f"{keyword} takes no flag {quoted(name)}", at=flag.at, hint=hint)
    near = get_close_matches(flag.name[:40].lower(), known, n=1)
    listed = f"{keyword} knows {', '.join(f'--{option}' for option in known)}"
    hint = f"did you mean --{near[0]}? {listed}" if near else listed
    return Fault(f"unknown flag {quoted(name)} of {keyword}", at=flag.at, hint=hint)
