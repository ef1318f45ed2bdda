"""The live screen, seen through a small terminal that understands what it sends."""

from __future__ import annotations

import io
import re
import sys
import threading

import pytest

from orca import events
from orca.ui import human, open_view
from orca.ui.progress import LiveView
from orca.ui.steps import Frame, Step, bar_line, screen_lines, step_line
from orca.ui.terminal import Line, Terminal
from orca.ui.wording import Labels


def labels(steps: int, *parts: events.Part) -> Labels:
    return Labels(events.BuildStarted("b", "Dockerfile", steps, parts=parts))


PIECE = re.compile(r"\x1b\[(\??\d*(?:;\d+)*)([A-Za-z])|(.)", re.DOTALL)


class Glass:
    """A terminal without an end: lines of text, a cursor, and the few sequences orca uses."""

    def __init__(self) -> None:
        self.lines, self.row, self.column, self.cursor_shown = [""], 0, 0, True

    def take(self, text: str) -> Glass:
        for match in PIECE.finditer(text):
            number, command, char = match.groups()
            if command:
                self._obey(number, command)
            elif char == "\n":
                self.row, self.column = self.row + 1, 0
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif char == "\r":
                self.column = 0
            else:
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + char + line[self.column + 1 :]
                self.column += 1
        return self

    def _obey(self, number: str, command: str) -> None:
        if command == "A":
            self.row -= int(number or 1)
            assert self.row >= 0
        elif command == "K":
            self.lines[self.row] = self.lines[self.row][: self.column] if number in ("", "0") else ""
        elif number == "?25":
            self.cursor_shown = command == "h"
        else:
            assert command == "m", f"unknown sequence {number}{command}"

    def shown(self) -> list[str]:
        return [line.rstrip() for line in self.lines if line.strip()]


def plain_text(line: Line) -> str:
    return "".join(text for text, _ in line)


def play(played: list[events.Event], tty: io.StringIO, columns: int, **environ: str) -> list[str]:
    environ = {"TERM": "xterm", "COLUMNS": str(columns), **environ}
    with open_view("auto", stream=tty, environ=environ) as emit:
        for event in played:
            emit(event)
    glass = Glass().take(tty.getvalue())
    assert glass.cursor_shown
    return glass.shown()


def test_the_end_of_a_build(recorded: list[events.Event], tty: io.StringIO) -> None:
    assert play(recorded, tty, 80) == [
        "Building localhost/app:latest from Dockerfile: 3 steps",
        "✔ [1/3] FROM debian:12                                       skopeo 1.2s   1.3s",
        "✔ [2/3] RUN echo hello && exit 0        runc 3.4s · umoci 40ms · 12.3 MB   3.5s",
        "✔ [3/3] ENV A=b                                                          cached",
        "warning: JSON is better for CMD (Dockerfile:5)",
        '   hint: write CMD ["x"]',
        "localhost/app:latest",
        "  sha256:" + "cd" * 32,
        "  60.3 MB in 2 layers · 5.1s · 1 of 3 steps cached",
    ]


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_every_width_is_kept(recorded: list[events.Event], tty: io.StringIO, columns: int) -> None:
    lines = play(recorded, tty, columns)
    assert all(human.cells(line) < columns for line in lines if "sha256" not in line)
    assert sum(line.startswith("✔") for line in lines) == 3


def test_without_colour_there_is_none(recorded: list[events.Event], tty: io.StringIO) -> None:
    play(recorded, tty, 80, NO_COLOR="1")
    assert not re.search(r"\x1b\[[\d;]*m", tty.getvalue())


def test_cached_build_needs_neither_rich_nor_a_thread(tty: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    cached = [
        events.BuildStarted("b", "Dockerfile", 1, ()),
        events.StepStarted(1, "0", "FROM scratch", 1),
        events.StepFinished(1, 0.0, True),
        events.BuildFinished((), "sha256:1", "", 0, 0, 0.08, 1, 1),
    ]
    threads = threading.active_count()
    assert play(cached, tty, 40)[-1] == "  0 B in 0 layers · 80ms · all cached"
    assert threading.active_count() == threads


def test_closed_in_the_middle(recorded: list[events.Event], tty: io.StringIO) -> None:
    environ = {"TERM": "xterm", "COLUMNS": "80"}
    with pytest.raises(KeyboardInterrupt), open_view("tty", stream=tty, environ=environ) as emit:
        for event in recorded[:10]:
            emit(event)
        raise KeyboardInterrupt
    glass = Glass().take(tty.getvalue())
    assert glass.cursor_shown and glass.column == 0
    assert glass.shown()[-1].startswith("○ [2/3] RUN echo hello")
    assert not any("│" in line for line in glass.shown())


def test_failed_step(tty: io.StringIO) -> None:
    lines = play([events.StepStarted(1, "0", "RUN false", 1), events.StepFailed(1, 0.5, "no")], tty, 40)
    assert lines[0].startswith("✘ [1] RUN false") and lines[0].endswith("500ms")


def test_output_is_shown_while_it_runs_and_harmless(tty: io.StringIO) -> None:
    view = LiveView(Terminal(tty, {"TERM": "xterm", "COLUMNS": "40"}))
    view(events.StepStarted(1, "0", "RUN x", 1))
    for number in range(10):
        view(events.Output(1, f"\x1b[2J\x1b]0;evil\x07line {number} 漢字\r"))
    view.paint()
    shown = Glass().take(tty.getvalue()).shown()
    assert [line.strip() for line in shown[1:]] == [f"│ line {number} 漢字" for number in range(4, 10)]
    view.close()
    assert len(Glass().take(tty.getvalue()).shown()) == 1


def test_work_of_no_step(tty: io.StringIO) -> None:
    view = LiveView(Terminal(tty, {"TERM": "xterm", "COLUMNS": "80"}))
    view(events.ToolStarted(None, 1, ("skopeo", "copy"), "pull debian"))
    view(events.Progress(None, "layer 1", 5, 10))
    view.paint()
    assert "pull debian" in Glass().take(tty.getvalue()).shown()[0]
    view(events.ToolFinished(None, 1, 1.0, 0))
    view.close()
    assert Glass().take(tty.getvalue()).shown() == []


def test_settled_steps_scroll_away(tty: io.StringIO) -> None:
    view = LiveView(Terminal(tty, {"TERM": "xterm", "COLUMNS": "80"}))
    view(events.StepStarted(1, "a", "RUN long", 1))
    for step in range(2, 101):
        view(events.StepStarted(step, "b", f"ENV A={step}", step))
        view(events.StepFinished(step, 0.0, True))
        view(events.Progress(1, "x", step, 200))
    view.paint()
    assert len(view._steps) <= 22
    view.close()
    shown = Glass().take(tty.getvalue()).shown()
    assert len(shown) == 100
    assert len(set(shown)) == 100


def test_narrower_terminal_erases_what_was_wrapped(tty: io.StringIO) -> None:
    environ = {"TERM": "xterm", "COLUMNS": "80"}
    view = LiveView(Terminal(tty, environ))
    view(events.StepStarted(1, "0", "RUN x", 1))
    view(events.Output(1, "x" * 200))
    view.paint()
    environ["COLUMNS"] = "40"
    tty.truncate(0)
    view._screen.show([], [])
    assert tty.getvalue().count("\x1b[1A") == 4
    view.close()


def test_more_running_than_lines() -> None:
    steps = [Step(number, f"RUN {number}", 0.0) for number in range(1, 10)]
    lines = screen_lines(steps, Frame(79, labels(9), 1.0), 5)
    assert len(lines) == 5
    assert plain_text(lines[-1]) == "  … and 5 more steps"


@pytest.mark.parametrize("width", [20, 39, 59, 60, 79, 199])
def test_step_line_is_as_wide_as_the_terminal(width: int) -> None:
    step = Step(12, "RUN 漢字 " * 30, 0.0, calls={1: ("runc", 0.5)}, spent={"tar": 2.0, "umoci": 0.04}, layer=10**7)
    assert human.cells(plain_text(step_line(step, Frame(width, labels(100), 3.0)))) == width


@pytest.mark.parametrize("width", [30, 40, 80])
def test_bar_fits(width: int) -> None:
    for total in (None, 0, 100_000_000):
        bar = events.Progress(1, "docker.io/library/a-long-name:latest", 12_000_000, total)
        assert human.cells(plain_text(bar_line(bar, "  ", width))) <= width


def test_steps_of_several_platforms() -> None:
    called = labels(15, events.Part("linux/amd64", 1, 5), events.Part("linux/arm64/v9", 6, 10))
    assert [called(5), called(7), called(15), called(16)] == [
        "linux/amd64 5/5", "linux/arm64/v9 2/10", "linux/arm64/v9 10/10", "16/15",
    ]  # fmt: skip
    assert [called(5, aligned=True), called(7, aligned=True)] == ["linux/amd64    5/5", "linux/arm64/v9  2/10"]
    line = plain_text(step_line(Step(7, "RUN x", 0.0), Frame(79, called, 1.0)))
    assert "[linux/arm64/v9  2/10] RUN x" in line


def test_helpers_yield_to_working_tools() -> None:
    step = Step(1, "RUN x" * 9, 0.0, spent={"slirp4netns": 3.0, "runc": 2.9})
    text = plain_text(step_line(step, Frame(60, labels(9), 3.0)))
    assert "runc" in text and "slirp4netns" not in text
