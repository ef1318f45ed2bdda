"""The view without a screen: one line after the other, each naming its step, for logs and pipes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from orca import events
from orca.ui import human
from orca.ui.escape import strip_controls, visible
from orca.ui.terminal import Terminal, styled
from orca.ui.wording import Labels, amount, heading, summary

PROGRESS_EVERY = 5.0
"""Seconds between two lines on the same pull or commit."""


class PlainView:
    """Prints events as lines: `[2/8] RUN …`, the output prefixed by its step, how each step ended."""

    def __init__(self, terminal: Terminal, clock: Callable[[], float] = time.monotonic) -> None:
        self._terminal = terminal
        self._clock = clock
        self._labels = Labels()
        self._told: dict[tuple[int | None, str], float] = {}
        self.color = terminal.color

    def __call__(self, event: events.Event) -> None:
        """Print `event`. A type without a handler is a mistake in orca: KeyError."""
        self.handlers[type(event)](self, event)

    def say(self, text: str) -> None:
        """One line; its controls are the caller's care."""
        self._terminal.line(text)

    def width(self) -> int:
        """Columns to wrap at: the terminal's, or 100 in a log."""
        return self._terminal.width if self._terminal.tty else 100

    def label(self, step: int) -> str:
        """`[2/8]`, `[linux/arm64 2/5]`, or `[2]` when nobody said how many there are."""
        return f"[{self._labels(step)}]"

    def _step(self, step: int, text: str, style: str = "") -> None:
        self.say(f"{styled(self.label(step), 'dim', color=self.color)} {styled(text, style, color=self.color)}")

    def began(self, event: events.BuildStarted) -> None:
        """What is built out of what."""
        self._labels = Labels(event)
        for line in heading(event, self.width()):
            self.say(line)

    def added(self, event: events.StepsAdded) -> None:
        """There are more steps than the Dockerfile shows."""
        self._labels.grow(event.steps)

    def started(self, event: events.StepStarted) -> None:
        """The instruction."""
        self._step(event.step, visible(event.text), "bold")

    def output(self, event: events.Output) -> None:
        """A line of a RUN: exact in a file, harmless on a terminal."""
        text = strip_controls(event.text) if self._terminal.tty else event.text
        self._step(event.step, text)

    def progress(self, event: events.Progress) -> None:
        """Now and then a line, so that a long pull does not look like a dead one."""
        key, now = (event.step, event.what), self._clock()
        if now - self._told.setdefault(key, now) < PROGRESS_EVERY:
            return
        self._told[key] = now
        text = f"{visible(event.what)}: {amount(event)}"
        if event.step is None:
            self.say(text)
        else:
            self._step(event.step, text)

    def missed(self, event: events.StepMissed) -> None:
        """What changed since the step was cached."""
        self._step(event.step, f"not cached: {visible(event.why)}", "dim")

    def finished(self, event: events.StepFinished) -> None:
        """How the step ended well."""
        if event.cached:
            self._step(event.step, "CACHED", "cyan")
        else:
            self._step(event.step, f"done in {human.seconds(event.seconds)}", "green")

    def failed(self, event: events.StepFailed) -> None:
        """How the step ended badly; the error itself follows after the view."""
        self._step(event.step, f"FAILED after {human.seconds(event.seconds)}", "bold red")

    def warned(self, event: events.Warned) -> None:
        """The warning, as errors look."""
        from orca.ui.failure import render_warning  # most builds have nothing to warn of

        self.say(render_warning(event, color=self.color, width=self.width()))

    def checked(self, event: events.CheckFound) -> None:
        """What a build check found, with its lines."""
        from orca.ui.failure import render_finding

        self.say(render_finding(event, color=self.color, width=self.width()))

    def ended(self, event: events.BuildFinished) -> None:
        """The image."""
        for text, style in summary(event, self.width()):
            self.say(styled(text, style, color=self.color))

    def silent(self, event: events.Event) -> None:
        """Only `--explain` shows these."""

    handlers: dict[type[events.Event], Any] = {  # noqa: RUF012  # a constant table
        events.BuildStarted: began,
        events.StepsAdded: added,
        events.StepStarted: started,
        events.ToolStarted: silent,
        events.ToolFinished: silent,
        events.Performed: silent,
        events.Output: output,
        events.Progress: progress,
        events.StepMissed: missed,
        events.StepFinished: finished,
        events.LayerCommitted: silent,
        events.StepFailed: failed,
        events.Warned: warned,
        events.CheckFound: checked,
        events.BuildFinished: ended,
    }


@contextmanager
def opened(terminal: Terminal) -> Iterator[events.Emit]:
    """The plain view for as long as the block lasts."""
    yield PlainView(terminal)
