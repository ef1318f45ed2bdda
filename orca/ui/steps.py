"""What the live screen knows of each step, and how it draws it: pure, without a terminal."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from orca import events
from orca.ui import human
from orca.ui.escape import strip_controls, visible
from orca.ui.terminal import Line, Span
from orca.ui.wording import Labels, amount

OUTPUT_LINES = 6
"""Last lines of a running step's output that are shown under it."""

NARROW = 60
"""Columns below which a step is drawn without its tools."""

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_TIME = 6  # columns of the last column: "1m 23s", "cached"
_LONGEST = 2000  # characters of an output line that are looked at: a screen is never that wide
_MAKES_LAYER = ("RUN", "COPY", "ADD")
_HELPERS = ("slirp4netns", "pasta")  # they only wait while another tool works: their time says little

Outcome = Literal["running", "done", "cached", "failed", "stopped"]

_GLYPHS: dict[Outcome, Span] = {
    "done": ("✔", "green"),
    "cached": ("✔", "cyan"),
    "failed": ("✘", "bold red"),
    "stopped": ("○", "yellow"),
}


def moving(bar: events.Progress) -> bool:
    """Whether what it tells of has not come to its end."""
    return bar.total is None or bar.done < bar.total


@dataclass(frozen=True)
class Frame:
    """What a drawing depends on beside the steps: columns, what steps are called, the time."""

    width: int
    labels: Labels
    now: float

    @property
    def narrow(self) -> bool:
        """Whether there is room for little more than the instruction."""
        return self.width < NARROW


@dataclass
class Step:
    """One instruction on the screen; number 0 stands for work that belongs to no step."""

    number: int
    text: str
    began: float
    outcome: Outcome = "running"
    seconds: float = 0.0
    layer: int | None = None
    calls: dict[int, tuple[str, float]] = field(default_factory=dict)
    spent: dict[str, float] = field(default_factory=dict)
    bars: dict[str, events.Progress] = field(default_factory=dict)
    output: deque[str] = field(default_factory=lambda: deque(maxlen=OUTPUT_LINES))

    def busy(self) -> bool:
        """Whether anything still goes on for it, be it its commit."""
        return self.outcome == "running" or bool(self.calls)

    def idle(self) -> bool:
        """Whether no call runs and no bar moves."""
        return not self.calls and not any(map(moving, self.bars.values()))

    def settled(self) -> bool:
        """Whether its line will change no more: it ended, and so did its commit."""
        if self.busy():
            return False
        keyword = self.text.split(maxsplit=1)[:1]
        return self.outcome != "done" or self.layer is not None or not set(keyword) & set(_MAKES_LAYER)

    def end(self, outcome: Outcome, seconds: float) -> None:
        """It ended: what it said and did until now collapses into its one line."""
        self.outcome, self.seconds = outcome, seconds
        self.output.clear()
        self.bars.clear()


def step_line(step: Step, frame: Frame) -> Line:
    """The one line of a step: glyph, number, instruction, tools with their times, time."""
    glyph = _GLYPHS.get(step.outcome) or (SPINNER[int(frame.now * 10) % len(SPINNER)], "cyan")
    label = _label(step, frame)
    room = frame.width - human.cells(label) - 3 - _TIME
    text = visible(step.text)
    tools = "" if frame.narrow else _fitting(_facts(step, frame.now), room - 2 - min(human.cells(text), room * 3 // 5))
    if tools:
        room -= human.cells(tools) + 2
    keyword, space, rest = human.pad(human.cut(text, room), room).partition(" ")
    return (
        glyph,
        (f" {label}", "dim"),
        (keyword, "bold"),
        (space + rest, ""),
        (f"  {tools}" if tools else "", "dim"),
        (" " + human.pad(_time(step, frame.now), _TIME, right=True), "cyan" if step.outcome == "cached" else "dim"),
    )


def _label(step: Step, frame: Frame) -> str:
    if not step.number:
        return ""
    return f"[{frame.labels(step.number, aligned=True)}] "


def _time(step: Step, now: float) -> str:
    if step.outcome == "cached":
        return "cached"
    return human.seconds(step.seconds) if step.outcome != "running" else _so_far(now - step.began)


def _so_far(elapsed: float) -> str:
    """A duration that still grows: no milliseconds, they would only flicker."""
    return f"{max(elapsed, 0):.1f}s" if elapsed < 1 else human.seconds(elapsed)


def _facts(step: Step, now: float) -> list[tuple[float, str]]:
    """Each tool with its time in the order of first use, then the layer's size; with how much each matters."""
    running: dict[str, float] = {}
    for tool, began in step.calls.values():
        running[tool] = running.get(tool, 0.0) + now - began
    facts = []
    for tool in step.spent | running:
        total = step.spent.get(tool, 0.0) + running.get(tool, 0.0)
        weight = 0.0 if tool in _HELPERS else total
        facts.append((weight, f"{visible(tool)} {_so_far(total) if tool in running else human.seconds(total)}"))
    if step.layer:
        facts.append((0.0, human.size(step.layer)))
    return facts


def _fitting(facts: list[tuple[float, str]], room: int) -> str:
    """The facts on one line, without those that matter least where there is no room."""
    while facts:
        line = " · ".join(text for _, text in facts)
        if human.cells(line) <= room:
            return line
        facts = [fact for fact in facts if fact is not min(facts)]
    return ""


def extra_lines(step: Step, frame: Frame, room: int) -> list[Line]:
    """What stands under a busy step, at most `room` lines: its bars, then the last of its output."""
    if room < 1 or not (step.busy() or step.bars):
        return []
    indent = " " * (2 if frame.narrow else human.cells(_label(step, frame)) + 2)
    bars = [
        bar_line(bar, indent, frame.width) for bar in step.bars.values() if bar.total is None or bar.done < bar.total
    ]
    lines = [output_line(text, indent, frame.width) for text in step.output]
    kept = bars[:room]
    return kept + lines[max(len(lines) - (room - len(kept)), 0) :]


def output_line(text: str, indent: str, width: int) -> Line:
    """A line of a RUN's output under its step."""
    clean = strip_controls(text if len(text) <= _LONGEST else text[-_LONGEST:]).expandtabs(8)
    return ((f"{indent}│ {human.cut(clean, width - len(indent) - 2)}", "dim"),)


def bar_line(bar: events.Progress, indent: str, width: int) -> Line:
    """How far a pull or a commit is: a bar if the end is known and there is room, and the amount."""
    told = amount(bar)
    room = width - len(indent) - human.cells(told) - 2
    what = human.cut(visible(bar.what), min(28, room))
    length = min(30, room - human.cells(what) - 2)
    head: Span = (f"{indent}{what}  ", "dim")
    if not bar.total or length < 5:
        return (head, (told, ""))
    filled = length * min(bar.done, bar.total) // bar.total
    return (head, ("━" * filled, "cyan"), ("─" * (length - filled) + "  ", "dim"), (told, ""))


def screen_lines(steps: Sequence[Step], frame: Frame, room: int) -> list[Line]:
    """All `steps` in at most `room` lines: first a line for each, then what is under the busy ones.

    If there are more steps than lines, busy ones come first and the rest is counted.
    """
    hidden = 0
    if len(steps) > room:
        by_need = sorted(steps, key=lambda step: not step.busy())
        kept = {id(step) for step in by_need[: room - 1]}
        hidden = len(steps) - len(kept)
        steps = [step for step in steps if id(step) in kept]
    spare = room - len(steps) - bool(hidden)
    active = sum(step.busy() or bool(step.bars) for step in steps)
    lines: list[Line] = []
    for step in steps:
        lines.append(step_line(step, frame))
        if step.busy() or step.bars:
            under = extra_lines(step, frame, spare // active)
            lines, spare, active = lines + under, spare - len(under), active - 1
    if hidden:
        lines.append(((f"  … and {human.count(hidden, 'more step')}", "dim"),))
    return lines
