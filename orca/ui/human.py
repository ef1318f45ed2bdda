"""Numbers and columns for people. Nothing here is meant to be read back by a program."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence

from orca.ui.escape import visible

_UNITS = ("kB", "MB", "GB", "TB", "PB")
_AGES = (
    (60, 1, "second"),
    (3600, 60, "minute"),
    (86400, 3600, "hour"),
    (14 * 86400, 86400, "day"),
    (60 * 86400, 7 * 86400, "week"),
    (730 * 86400, 30 * 86400, "month"),
)


def size(count: int) -> str:
    """Bytes in decimal units, as registries and disks count them: `size(12_345_678)` is "12.3 MB"."""
    if count < 1000:
        return f"{count} B"
    value, units = count / 1000, iter(_UNITS)
    unit = next(units)
    while value >= 999.95 and (bigger := next(units, None)):
        value, unit = value / 1000, bigger
    return f"{value:.1f} {unit}"


def seconds(value: float) -> str:
    """A duration: "40ms", "1.2s", "1m 23s", "2h 05m"."""
    value = max(value, 0.0)
    if value < 0.9995:
        return f"{value * 1000:.0f}ms"
    if value < 59.95:
        return f"{value:.1f}s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def ago(elapsed: float) -> str:
    """How long ago something was that happened `elapsed` seconds before now: "3 hours ago"."""
    if elapsed < 1:
        return "just now"
    for limit, unit, name in _AGES:
        if elapsed < limit:
            return _plural(int(elapsed // unit), name) + " ago"
    return _plural(int(elapsed // (365 * 86400)), "year") + " ago"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def count(number: int, noun: str) -> str:
    """A number with its noun: "1 layer", "3 layers"."""
    return _plural(number, noun)


def cells(text: str) -> int:
    """How many columns of a terminal `text` takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(map(_cell, text))


def _cell(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cut(text: str, width: int) -> str:
    """`text` if it fits into `width` columns, else its beginning and "…"."""
    if cells(text) <= width:
        return text
    if width < 1:
        return ""
    taken = 0
    for index, char in enumerate(text):
        taken += _cell(char)
        if taken > width - 1:
            return text[:index] + "…"
    return text


def pad(text: str, width: int, *, right: bool = False) -> str:
    """`text` filled up with spaces to `width` columns; `right` puts it at the right edge."""
    fill = " " * (width - cells(text))
    return fill + text if right else text + fill


def wrap(text: str, width: int, *, first: str = "", indent: str = "") -> list[str]:
    """`text` in lines of at most `width` columns, broken at spaces.

    `first` begins the first line, `indent` the others. A word that is longer than a line stays
    whole (a path must stay copyable), and so may stand out.
    """
    lines: list[str] = []
    line, empty = first, True
    for word in text.split():
        if not empty and cells(line) + 1 + cells(word) > width:
            lines.append(line)
            line, empty = indent, True
        line += word if empty else " " + word
        empty = False
    return [*lines, line]


def table(rows: Iterable[Sequence[str]], headers: Sequence[str], *, right: Collection[str] = ()) -> str:
    """Rows under their headers in aligned columns, two spaces apart, without a last newline.

    Columns named in `right` are aligned to the right. Every cell passes through `visible`.
    """
    lines = [list(headers), *([visible(cell) for cell in row] for row in rows)]
    widths = [max(map(cells, column)) for column in zip(*lines, strict=True)]
    flags = [header in right for header in headers]
    return "\n".join(
        "  ".join(pad(cell, width, right=flag) for cell, width, flag in zip(line, widths, flags, strict=True)).rstrip()
        for line in lines
    )
