from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca.ui import human


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (12_345_678, "12.3 MB"),
        (5 * 10**12, "5.0 TB"),
        (10**19, "10000.0 PB"),
    ],
)
def test_size(count: int, text: str) -> None:
    assert human.size(count) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-1, "0ms"),
        (0.04, "40ms"),
        (0.9994, "999ms"),
        (0.9996, "1.0s"),
        (1.234, "1.2s"),
        (59.96, "1m 00s"),
        (83, "1m 23s"),
        (3599.9, "1h 00m"),
        (7500, "2h 05m"),
    ],
)
def test_seconds(value: float, text: str) -> None:
    assert human.seconds(value) == text


@pytest.mark.parametrize(
    ("elapsed", "text"),
    [
        (-5, "just now"),
        (1, "1 second ago"),
        (59, "59 seconds ago"),
        (60, "1 minute ago"),
        (7200, "2 hours ago"),
        (3 * 86400, "3 days ago"),
        (21 * 86400, "3 weeks ago"),
        (90 * 86400, "3 months ago"),
        (800 * 86400, "2 years ago"),
    ],
)
def test_ago(elapsed: float, text: str) -> None:
    assert human.ago(elapsed) == text


def test_cells_and_cut() -> None:
    assert human.cells("漢字a") == 5
    assert human.cells("e\u0301") == 1
    assert human.cut("漢字漢字", 5) == "漢字…"
    assert human.cut("漢字漢字", 4) == "漢…"
    assert human.cut("fits", 4) == "fits"


@given(st.text(), st.integers(0, 20))
def test_cut_never_stands_out(text: str, width: int) -> None:
    assert human.cells(human.cut(text, width)) <= width


@given(st.text("abc 漢"), st.integers(1, 40))
def test_wrap_keeps_every_word_and_the_width(text: str, width: int) -> None:
    lines = human.wrap(text, width, first="> ", indent="  ")
    assert " ".join(lines).split()[1:] == text.split()
    assert all(human.cells(line) <= width or len(line.split()) <= 2 for line in lines)


def test_table() -> None:
    rows = [("app", "漢字", "1.2 MB"), ("evil\x1b[2J", "x", "900 B")]
    assert human.table(rows, ("NAME", "TAG", "SIZE"), right=("SIZE",)).split("\n") == [
        "NAME         TAG     SIZE",
        "app          漢字  1.2 MB",
        "evil\\x1b[2J  x      900 B",
    ]


def test_table_without_rows() -> None:
    assert human.table([], ("NAME", "TAG")) == "NAME  TAG"
