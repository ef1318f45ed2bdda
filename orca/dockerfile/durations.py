"""Go's way to write a length of time, as HEALTHCHECK takes it: `1h2m3.5s`, `300ms`."""

from __future__ import annotations

import re

NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # U+00B5, the micro sign
    "μs": 1_000,  # U+03BC, the Greek letter
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
LIMIT = (1 << 63) - 1
MAX_LENGTH = 200

_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")


def parse_duration(text: str) -> int:
    """`text` in nanoseconds, a fraction of one cut off. Raises ValueError with a message for the user."""
    sign, rest = (text[0], text[1:]) if text[:1] in ("+", "-") else ("+", text)
    if rest == "0":
        return 0
    if not rest or len(rest) > MAX_LENGTH:
        raise ValueError("not a duration")
    total = position = 0
    while position < len(rest):
        part = _PART.match(rest, position)
        if not part or not (part[1] or part[2]):
            raise ValueError("not a duration")
        total += _nanoseconds(part[1], part[2] or "", NANOSECONDS[part[3]])
        position = part.end()
    if total > LIMIT:
        raise ValueError("too long a duration")
    return -total if sign == "-" else total


def _nanoseconds(whole: str, fraction: str, unit: int) -> int:
    scale: int = 10 ** len(fraction)
    return int(whole or "0") * unit + int(fraction or "0") * unit // scale
