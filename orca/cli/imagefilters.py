"""--filter of `orca images`, as docker and podman spell it."""

from __future__ import annotations

import fnmatch
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from orca.errors import UsageError
from orca.store.facts import Facts

_DURATION = re.compile(r"(?:[0-9]+(?:d|h|m|s))+")
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
KEYS = ("reference", "label", "before", "since", "after", "until", "dangling")


@dataclass(frozen=True)
class Row:
    """One name of an image; the name is empty for one that has none."""

    name: str
    digest: str
    facts: Facts


Test = Callable[[Row], bool]


def parse(words: Sequence[str], created_of: Callable[[str], str | None]) -> tuple[Test, bool | None]:
    """What all filters together let through, and what they say of images without a name (None: nothing).

    Several values of `reference` or `label!=`… as docker has it: references are alternatives, all else must hold.
    `created_of` says when a named image was made. Raises UsageError.
    """
    references, tests, dangling = [], [], None
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not value or key.rstrip("!") not in KEYS:
            raise UsageError(f"--filter {word[:80]!r} is not understood", hint=f"KEY=VALUE with {', '.join(KEYS)}")
        if key == "reference":
            references.append(value)
        elif key == "dangling":
            dangling = _truth(value)
        elif key in ("label", "label!"):
            tests.append(_label(value, wanted=key == "label"))
        elif key.endswith("!"):
            raise UsageError(f"--filter {word[:80]!r}: only label has !=")
        else:
            tests.append(_when(key, value, created_of))
    if references:
        tests.append(lambda row: wanted(row.name, references))
    return (lambda row: all(test(row) for test in tests)), dangling


def wanted(name: str, patterns: Sequence[str]) -> bool:
    """Does one of the patterns (none: anything goes) mean this image: by full name, repository, short name?"""
    if not patterns:
        return True
    repository, _ = split_name(name)
    spellings = {name, repository, name.removeprefix("localhost/"), repository.removeprefix("localhost/")}
    spellings |= {repository.rpartition("/")[2], name.rpartition("/")[2]}
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns for text in spellings)


def split_name(name: str) -> tuple[str, str]:
    """Repository and tag; the tag is empty for a name that has none."""
    name = name.partition("@")[0]
    repository, colon, tag = name.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (name, "")


def timestamp(text: str | None) -> float | None:
    """A time of RFC 3339 in seconds since 1970; None for anything else."""
    try:
        found = datetime.fromisoformat(text or "")
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _truth(value: str) -> bool:
    if value.lower() not in ("true", "false", "1", "0"):
        raise UsageError(f"--filter dangling={value[:40]!r} is neither true nor false")
    return value.lower() in ("true", "1")


def _label(text: str, *, wanted: bool) -> Test:
    key, equals, value = text.partition("=")

    def test(row: Row) -> bool:
        there = row.facts.labels.get(key)
        return (there is not None and (not equals or there == value)) is wanted

    return test


def _when(key: str, value: str, created_of: Callable[[str], str | None]) -> Test:
    if key == "until":
        limit = _moment(value)
        return lambda row: (timestamp(row.facts.created) or 0) < limit
    other = timestamp(created_of(value))
    if other is None:
        raise UsageError(f"--filter {key}={value[:80]}: that image does not say when it was made")
    if key == "before":
        return lambda row: (timestamp(row.facts.created) or 0) < other
    return lambda row: (timestamp(row.facts.created) or 0) > other


def _moment(text: str) -> float:
    """A time of RFC 3339, seconds since 1970, or a duration before now (24h, 1h30m)."""
    if _DURATION.fullmatch(text):
        parts = re.findall(r"([0-9]{1,9})([dhms])", text)
        return time.time() - sum(int(number) * _UNITS[unit] for number, unit in parts)
    found = float(text) if text.isascii() and text.isdigit() and len(text) < 15 else timestamp(text)
    if found is None:
        raise UsageError(f"--filter until={text[:40]!r} is not a time", hint="24h, 2024-01-31 or seconds since 1970")
    return found
