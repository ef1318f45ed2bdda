"""Go's durations."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca.dockerfile.durations import parse_duration

QUIET = settings.get_profile("dockerfile")

GOOD = [
    ("0", 0),
    ("-0", 0),
    ("0s", 0),
    ("5s", 5_000_000_000),
    ("30m", 1_800_000_000_000),
    ("1h2m3.5s", 3_723_500_000_000),
    ("+1.5h", 5_400_000_000_000),
    ("-1ms", -1_000_000),
    (".5s", 500_000_000),
    ("5.s", 5_000_000_000),
    ("100us", 100_000),
    ("100µs", 100_000),
    ("100\u03bcs", 100_000),
    ("1s1h1s", 3_602_000_000_000),
    ("1.0000000009s", 1_000_000_000),
    ("9223372036854775807ns", (1 << 63) - 1),
]
BAD = [
    "",
    "-",
    "+",
    "5",
    "s",
    ".s",
    "1d",
    "1 s",
    " 1s",
    "1S",
    "--1s",
    "1s-1s",
    "1e3s",
    "٣s",
    "9223372036854775808ns",
    "9" * 5000 + "s",
]


@pytest.mark.parametrize(("text", "nanoseconds"), GOOD)
def test_good(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", BAD)
def test_bad(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@QUIET
@given(st.text("0123456789.hmsunµ+-", max_size=300))
def test_nothing_but_value_errors(text: str) -> None:
    try:
        assert isinstance(parse_duration(text), int)
    except ValueError as error:
        assert "duration" in str(error)
