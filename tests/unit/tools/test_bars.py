"""skopeo's progress bars: what is read out of them, and what is passed over."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fake_tools import FakeTools

from orca.errors import ToolError
from orca.events import Event, Progress
from orca.tools import bounds
from orca.tools.bars import Bar, Bars, Rate, parse
from orca.tools.command import Command, Runner

ONE, TWO = "11" * 32, "22" * 32
A, B = ONE[:12], TWO[:12]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (f"Copying blob {A} [=>-----] 11.5KiB / 80.0MiB", Bar(A, 11776)),
        (f"\x1b[2A\x1b[JCopying blob {A} [=>-----] 398.0b / 400.0b", Bar(A, 398)),
        (f"Copying blob {A} [====>-----] 2.0MiB / 3.0MiB | 1.2 MiB/s", Bar(A, 2 << 20)),
        (f"Copying blob sha256:{ONE} [=>--] 1.0GiB / 3.0GiB", Bar(A, 1 << 30)),
        (f"Copying blob {A} done  ", Bar(A, ended=True)),
        (f"Copying blob {A} skipped: already exists  ", Bar(A, ended=True, there=True)),
        (f"Copying blob {A} .        ", None),
        (f"Copying blob {A} [==] 1.2.3MiB / 3.0MiB", None),
        (f"Copying config {A} done", None),
        ("Writing manifest to image destination", None),
        ("Copying blob ../../etc done", None),
    ],
)
def test_a_line(line: str, found: Bar | None) -> None:
    assert parse(line) == found


@pytest.fixture
def events() -> list[Event]:
    return []


def bars(events: list[Event], times: Iterator[float]) -> Bars:
    return Bars("push", {f"sha256:{ONE}": 3000, f"sha256:{TWO}": 1000}, events.append, 7, lambda: next(times))


def test_blobs_and_their_sum(events: list[Event]) -> None:
    found = bars(events, iter([0.0] * 3 + [1.0] * 9))
    for piece in (f"Copying blob {B} skip", f"ped: already exists\r\nCopying blob {A} [=>] 1.0KiB / 2.9KiB\r", "\n"):
        found.feed(piece.encode())
    found.feed(f"Copying blob {'9' * 12} done\r\n".encode())  # none of ours
    found.feed(f"Copying blob {A} [==>] 2.0KiB / 2.9KiB\nCopying blob {A} done\nCopying blob {A} [] 1b / 2b\n".encode())
    assert events == [
        Progress(7, f"blob {B}", 1000, 1000),
        Progress(7, "push", 1000, 4000),
        Progress(7, f"blob {A}", 1024, 3000),
        Progress(7, "push", 2024, 4000),
        Progress(7, f"blob {A}", 2048, 3000, rate=1024),
        Progress(7, "push", 3048, 4000, rate=2048),
        Progress(7, f"blob {A}", 3000, 3000),
        Progress(7, "push", 4000, 4000, rate=3000),
    ]


def test_a_bar_says_no_more_than_the_manifest(events: list[Event]) -> None:
    bars(events, iter([0.0] * 9)).feed(f"Copying blob {A} [=>] 900.0TiB / 1000.0TiB\n".encode())
    assert events[0] == Progress(7, f"blob {A}", 3000, 3000)


def test_endless_lines_are_not_kept(events: list[Event]) -> None:
    found = bars(events, iter([0.0] * 9))
    for _ in range(100):
        found.feed(b"x" * 65536)
    assert len(found._rest) <= 4096 and not found.seen


def test_a_rate_is_of_the_last_seconds() -> None:
    times = iter([0.0, 0.1, 1.0, 2.0, 4.0, 6.0])
    rate = Rate(lambda: next(times))
    assert [rate(done) for done in (0, 10, 1000, 2000, 2000, 2000)] == [None, None, 1000, 1000, 333, 0]


class TestTerminal:
    SAYS = "import sys,os; print(sys.stdout.isatty(), os.get_terminal_size(1).columns); print('no', file=sys.stderr)"

    def test_the_tool_has_one(self) -> None:
        shown = bytearray()
        command = Command((sys.executable, "-c", self.SAYS), "")
        assert bounds.run(Runner(), command, lambda _: False, step=None, shown=shown.extend)
        assert shown == b"True 120\r\n"

    def test_its_errors_are_apart(self) -> None:
        command = Command((sys.executable, "-c", self.SAYS + "; sys.exit(3)"), "")
        with pytest.raises(ToolError) as caught:
            bounds.run(Runner(), command, lambda _: False, step=None, shown=lambda _: None)
        assert (caught.value.returncode, caught.value.stderr) == (3, "no")

    def test_without_terminals(self, monkeypatch: pytest.MonkeyPatch, fake_tools: FakeTools) -> None:
        def none() -> None:
            raise OSError("out of pty devices")

        monkeypatch.setattr(os, "openpty", none)
        fake_tools.answer("skopeo", stdout="x")
        assert bounds.run(Runner(), Command(("skopeo",), ""), lambda _: False, step=None, shown=lambda _: None)

    def test_too_much_ends_it(self, tmp_path: Path) -> None:
        command = Command((sys.executable, "-c", "import time; print('x'); time.sleep(60)"), "")
        assert not bounds.run(Runner(), command, lambda _: True, step=None, shown=lambda _: None)
