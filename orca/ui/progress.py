"""The view on a terminal: a line for each step, moving while it runs, quiet once it is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from orca import events
from orca.ui.escape import visible
from orca.ui.screen import MovingScreen, Screen, StillScreen
from orca.ui.steps import Frame, Step, screen_lines, step_line
from orca.ui.terminal import Span, Terminal, spelled, styled
from orca.ui.wording import Labels, heading, summary

FRAMES_PER_SECOND = 10
TALLEST = 24
"""Lines that the changing part takes at most, however high the terminal is."""


class LiveView:
    """Keeps the steps up to date and draws them.

    Steps that will change no more are printed for good, in the order of the Dockerfile, and scroll
    away like other output; the rest is the changing part. Until a tool runs or something makes
    progress nothing moves: no thread and no rich until then. `close` at any time.
    """

    def __init__(self, terminal: Terminal, clock: Callable[[], float] = time.monotonic) -> None:
        self._terminal = terminal
        self._clock = clock
        self._lock = threading.RLock()
        self._screen: Screen = StillScreen(terminal)
        self._painter: threading.Thread | None = None
        self._closing = threading.Event()
        self._labels = Labels()
        self._steps: dict[int, Step] = {}
        self._above: list[str] = []

    def __call__(self, event: events.Event) -> None:
        """Take in `event`. A type without a handler is a mistake in orca: KeyError."""
        with self._lock:
            self._handlers[type(event)](self, event)
            if self._painter is None:
                if isinstance(event, _MOVING):
                    self._start_moving()
                self.paint()

    def close(self) -> None:
        """Print all that is left for good: steps still running are shown as stopped."""
        self._closing.set()
        if self._painter is not None:
            self._painter.join()
        with self._lock:
            self._print_all()
            self.paint()

    def paint(self) -> None:
        """Draw how things stand now."""
        with self._lock:
            frame, room = self._frame(), max(min(self._terminal.size()[1] - 2, TALLEST), 1)
            self._let_go(frame, room)
            live = screen_lines(list(self._steps.values()), frame, room)
            above, self._above = self._above, []
            self._screen.show(above, live)

    def _frame(self) -> Frame:
        # The last column stays free: a full line would make some terminals begin a new one.
        return Frame(self._terminal.width - 1, self._labels, self._clock())

    def _start_moving(self) -> None:
        self._screen.show([], [])
        self._screen = MovingScreen(self._terminal)
        self._painter = threading.Thread(target=self._keep_painting, name="orca-screen", daemon=True)
        self._painter.start()

    def _keep_painting(self) -> None:
        while not self._closing.wait(1 / FRAMES_PER_SECOND):
            self.paint()

    def _let_go(self, frame: Frame, room: int) -> None:
        """Print settled steps for good: the leading ones, and others where lines are short."""
        leading = True
        for step in list(self._steps.values()):
            leading = leading and step.settled()
            if leading or (step.settled() and len(self._steps) > room):
                self._print(step, frame)

    def _print(self, step: Step, frame: Frame) -> None:
        del self._steps[step.number]
        if step.number:
            self._above.append(spelled(step_line(step, frame), color=self._terminal.color))

    def _print_all(self) -> None:
        frame = self._frame()
        for step in list(self._steps.values()):
            if step.outcome == "running":
                step.end("stopped", frame.now - step.began)
            self._print(step, frame)

    def _say(self, *spans: Span) -> None:
        """Lines of one style each, to be printed for good."""
        self._above += [styled(text, style, color=self._terminal.color) for text, style in spans]

    def _step(self, number: int | None, text: str = "") -> Step:
        """The step of that number; calls that belong to none share number 0, below the others."""
        key = number or 0
        if key not in self._steps:
            self._steps[key] = Step(key, text, self._clock())
            self._steps = dict(sorted(self._steps.items(), key=lambda item: item[0] or float("inf")))
        return self._steps[key]

    def _began(self, event: events.BuildStarted) -> None:
        self._labels = Labels(event)
        self._say(*((line, "dim") for line in heading(event, self._terminal.width)))

    def _added(self, event: events.StepsAdded) -> None:
        self._labels.grow(event.steps)

    def _started(self, event: events.StepStarted) -> None:
        self._step(event.step, event.text)

    def _tool_started(self, event: events.ToolStarted) -> None:
        if event.step is None or event.step in self._steps:
            tool = event.argv[0].rpartition("/")[2] if event.argv else ""
            self._step(event.step, event.why or tool).calls[event.call] = (tool, self._clock())

    def _tool_finished(self, event: events.ToolFinished) -> None:
        if (step := self._steps.get(event.step or 0)) is None:
            return
        tool, _ = step.calls.pop(event.call, ("", 0.0))
        if tool:
            step.spent[tool] = step.spent.get(tool, 0.0) + event.seconds
        if step.number == 0 and not step.calls:
            del self._steps[0]
        elif not step.busy():
            step.bars.clear()

    def _output(self, event: events.Output) -> None:
        if event.step in self._steps:
            self._steps[event.step].output.append(event.text)

    def _progress(self, event: events.Progress) -> None:
        if event.step is None or event.step in self._steps:
            step = self._step(event.step, event.what)
            step.bars[event.what] = event
            if step.number == 0 and step.idle():
                del self._steps[0]

    def _missed(self, event: events.StepMissed) -> None:
        if event.step in self._steps:
            self._steps[event.step].output.append(f"not cached: {visible(event.why)}")

    def _finished(self, event: events.StepFinished) -> None:
        self._step(event.step).end("cached" if event.cached else "done", event.seconds)

    def _failed(self, event: events.StepFailed) -> None:
        self._step(event.step).end("failed", event.seconds)

    def _committed(self, event: events.LayerCommitted) -> None:
        if event.step in self._steps:
            self._steps[event.step].layer = event.size
            self._steps[event.step].bars.clear()

    def _warned(self, event: events.Warned) -> None:
        from orca.ui.failure import render_warning  # most builds have nothing to warn of

        self._let_go(self._frame(), len(self._steps))  # it stands behind what ended before it
        color, width = self._terminal.color, self._terminal.width
        self._above += render_warning(event, color=color, width=width).split("\n")

    def _checked(self, event: events.CheckFound) -> None:
        from orca.ui.failure import render_finding

        color, width = self._terminal.color, self._terminal.width
        self._above += render_finding(event, color=color, width=width).split("\n")

    def _ended(self, event: events.BuildFinished) -> None:
        self._print_all()
        self._say(("", ""), *summary(event, self._terminal.width))

    def _nothing(self, event: events.Event) -> None:
        """Not on this screen."""

    _handlers: dict[type[events.Event], Any] = {  # noqa: RUF012  # a constant table
        events.BuildStarted: _began,
        events.StepsAdded: _added,
        events.StepStarted: _started,
        events.ToolStarted: _tool_started,
        events.ToolFinished: _tool_finished,
        events.Performed: _nothing,
        events.Output: _output,
        events.Progress: _progress,
        events.StepMissed: _missed,
        events.StepFinished: _finished,
        events.LayerCommitted: _committed,
        events.StepFailed: _failed,
        events.Warned: _warned,
        events.CheckFound: _checked,
        events.BuildFinished: _ended,
    }


_MOVING = (events.ToolStarted, events.Output, events.Progress)


@contextmanager
def opened(terminal: Terminal) -> Iterator[events.Emit]:
    """The live view for as long as the block lasts."""
    view = LiveView(terminal)
    try:
        yield view
    finally:
        view.close()
