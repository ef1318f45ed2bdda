"""The characters of a Dockerfile: decoding, limits, lines, and where an error points to."""

from __future__ import annotations

import re
from dataclasses import dataclass

from orca.errors import DockerfileError, Location

from .instructions import Span

MAX_BYTES = 1 << 20  # far above any real Dockerfile; keeps every later pass short
BOM = "\ufeff"

# What Go calls white space. Python's own idea (str.isspace, \s) also holds the control characters U+001C to U+001F.
SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
BLANK = "\t\v\f\r "  # what separates an instruction's words

_NOT_TEXT = re.compile("[\0\ud800-\udfff]")


class Fault(Exception):
    """A mistake found in one logical line: what, perhaps at which character of it, perhaps what to do.

    Internal to this package: `parser` turns it into a DockerfileError with a location.
    """

    def __init__(self, message: str, *, at: int | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.at = at
        self.hint = hint


@dataclass(frozen=True)
class Source:
    """A text cut into lines. `raw` keeps a carriage return at the end of a line, `lines` does not."""

    name: str
    lines: tuple[str, ...]
    raw: tuple[str, ...]

    def location(self, span: Span, column: int = 0) -> Location:
        """The location of `span`, cut to the lines that exist (an empty text has one empty line)."""
        last = max(1, len(self.lines))
        first = min(span.first, last)
        end = max(first, min(span.last, last))
        return Location(self.name, first, end, column, self.lines[first - 1 : end])

    def error(self, message: str, span: Span, column: int = 0, hint: str | None = None) -> DockerfileError:
        """The error to raise for something wrong in `span`."""
        return DockerfileError(message, hint=hint, location=self.location(span, column))


def read(text: str | bytes, name: str) -> Source:
    """Cut `text` into lines; raises DockerfileError when it is too long or no text at all."""
    too_long = len(text) > MAX_BYTES
    start = text[:MAX_BYTES]
    decoded = start.decode("utf-8", "surrogateescape") if isinstance(start, bytes) else start
    source = cut(decoded.removeprefix(BOM), name)
    if too_long:
        hint = "COPY big data from the build context instead of writing it into the Dockerfile"
        raise printable(source).error(f"the file is longer than {MAX_BYTES} bytes", Span(1, 1), hint=hint)
    _refuse_binary(source)
    return source


def cut(text: str, name: str) -> Source:
    """`text` as lines; the newline at the very end starts no further line."""
    raw = text.split("\n")
    if not raw[-1]:
        raw.pop()
    lines = [line.rstrip("\r") for line in raw] if "\r" in text else raw
    return Source(name, tuple(lines), tuple(raw))


def _refuse_binary(source: Source) -> None:
    for number, line in enumerate(source.lines, start=1):
        if found := _NOT_TEXT.search(line):
            what = "a NUL byte" if found[0] == "\0" else "bytes that are not UTF-8"
            where = Span(number, number)
            hint = "save it as UTF-8 text"
            raise printable(source).error(f"the file holds {what}", where, found.start() + 1, hint)


def printable(source: Source) -> Source:
    """The same lines with U+FFFD for what cannot be written out again."""
    lines = tuple(_NOT_TEXT.sub("\ufffd", line) for line in source.lines)
    return Source(source.name, lines, lines)


def quoted(text: str, limit: int = 40) -> str:
    """`text` for a message: in quotes, control characters escaped, long ones cut."""
    shown = text if len(text) <= limit else text[: limit - 1] + "…"
    escaped = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown)
    return f'"{escaped}"'
