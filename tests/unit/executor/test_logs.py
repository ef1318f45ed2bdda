"""Logs of containers: written, read back, turned over."""

from __future__ import annotations

from pathlib import Path

import pytest

from orca.cli.logs import moment
from orca.errors import UsageError
from orca.executor import logs
from orca.executor.logs import LogWriter


def text(place: Path, **options: int) -> list[tuple[str, bytes, bool]]:
    return [(line.stream, line.data, line.whole) for line in logs.read(place, **options)]


def test_pieces_and_lines(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "log")
    for data, stream in ((b"a\nb", "stdout"), (b"err\n", "stderr"), (b"c\n\n", "stdout"), (b"\xff\x00 end", "stdout")):
        writer.take(data, stream)
    writer.close()
    assert text(tmp_path) == [
        ("stdout", b"a", True), ("stdout", b"b", False), ("stderr", b"err", True), ("stdout", b"c", True),
        ("stdout", b"", True), ("stdout", b"\xff\x00 end", False),
    ]  # fmt: skip


def test_tail_counts_lines_not_pieces(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "log")
    for data, stream in ((b"one\n", "stdout"), (b"tw", "stdout"), (b"err\n", "stderr"), (b"o\n", "stdout")):
        writer.take(data, stream)
    writer.close()
    assert text(tmp_path, tail=1) == [("stdout", b"tw", False), ("stdout", b"o", True)]
    assert len(text(tmp_path, tail=2)) == 3
    assert text(tmp_path, tail=0) == []
    assert len(text(tmp_path, tail=99)) == 4


def test_turned_over(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "log", limit=1000)
    for number in range(100):
        writer.take(b"%d\n" % number, "stdout")
    writer.close()
    assert (tmp_path / "log.1").stat().st_size <= 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1"]
    numbers = [int(data) for _, data, _ in text(tmp_path)]
    assert numbers == list(range(numbers[0], 100))
    assert len(numbers) > 20


def test_following_through_a_turn(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "log", limit=300)
    writer.take(b"0\n", "stdout")
    left = iter(range(1, 30))

    def alive() -> bool:
        number = next(left, None)
        if number is not None:
            writer.take(b"%d\n" % number, "stdout")
        return number is not None

    found = [int(line.data) for line in logs.read(tmp_path, alive=alive)]
    writer.close()
    assert found == list(range(30))


def test_what_is_no_line_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(
        b"rubbish\n2026-01-31T12:00:00.5Z stdout F good\n2026-01-31T12:00:00.5Z stdout F cut"
    )
    assert text(tmp_path) == [("stdout", b"good", True)]
    assert text(tmp_path / "nowhere") == []


def test_times() -> None:
    assert logs.rfc3339(1_700_000_000_123_456_789) == "2023-11-14T22:13:20.123456789Z"
    assert logs.seconds_of("2023-11-14T22:13:20.123456789Z") == pytest.approx(1_700_000_000.123456)
    assert logs.seconds_of("2023-11-14T22:13:20+00:00") == 1_700_000_000
    assert logs.seconds_of("yesterday") is None
    assert moment("1700000000.5", "--since") == 1_700_000_000.5
    assert moment(None, "--since") is None
    with pytest.raises(UsageError, match="is no time"):
        moment("soon", "--since")
