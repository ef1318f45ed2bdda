"""Here-documents: `[fd]<<[-]WORD` in a logical line, and the bodies that follow it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .instructions import Heredoc
from .text import SPACE

_HEREDOC = re.compile(r"(?P<fd>[0-9]{0,9})<<(?P<dash>-?+)(?P<word>[^<]+)")
_LEADING_TABS = re.compile(r"^\t+", re.MULTILINE)

# One shell word, quotes and escapes left in. Here the escape character is always the shell's backslash.
_SHELL_WORD = re.compile(
    rf"""(?: \\(?:.|\Z) | '[^']*(?:'|(?P<open>\Z)) | "(?:[^"\\]|\\.)*+(?:"|(?P<open2>\\?\Z)) | [^{SPACE}\\'"] )++""",
    re.VERBOSE | re.DOTALL,
)
_QUOTING = re.compile(r"""'([^']*)'|"((?:[^"\\]|\\.)*+)"|\\(.)|\\\Z""", re.DOTALL)
_QUOTED_ESCAPE = re.compile(r'\\(["$\\])')


@dataclass(frozen=True)
class HeredocWord:
    """The announcement of one here-document; `at` is its offset in the text it was found in."""

    name: str
    expand: bool
    strip_tabs: bool
    fd: int
    at: int = 0


@dataclass(frozen=True)
class Document:
    """A here-document as read: `raw` is its body before `<<-` takes any tabs."""

    word: HeredocWord
    raw: str

    def value(self) -> Heredoc:
        body = _LEADING_TABS.sub("", self.raw) if self.word.strip_tabs else self.raw
        return Heredoc(self.word.name, body, self.word.expand, self.word.strip_tabs, self.word.fd)

    def as_written(self) -> str:
        """The lines to put after a command so that a shell reads the same here-document."""
        return f"\n{self.raw}{self.word.name}"


def find(line: str) -> list[HeredocWord]:
    """The here-documents that a logical line announces, in order; none when its quotes do not close."""
    if "<<" not in line:
        return []
    words = list(_SHELL_WORD.finditer(line))
    if any(_is_open(word) for word in words):
        return []
    return [found for word in words if (found := parse_word(word[0], word.start()))]


def parse_word(word: str, at: int = 0) -> HeredocWord | None:
    """`word` as a here-document's announcement, None when it is none.

    A word with any quoting in it asks for a body in which nothing is expanded.
    """
    found = _HEREDOC.fullmatch(word)
    if not found:
        return None
    raw = found["word"]
    single = _SHELL_WORD.fullmatch(raw)
    if not single or _is_open(single):
        return None
    name = _QUOTING.sub(_unquote, raw)
    return HeredocWord(name, name == raw, found["dash"] == "-", int(found["fd"] or 0), at) if name else None


def _is_open(word: re.Match[str]) -> bool:
    return word["open"] is not None or word["open2"] is not None


def _unquote(found: re.Match[str]) -> str:
    single, double, escaped = found.groups()
    if double is not None:
        return _QUOTED_ESCAPE.sub(r"\1", double)
    return single or escaped or ""
