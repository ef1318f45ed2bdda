"""The `--explain` view: what each instruction means, and every call it leads to, as one would type it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from orca import events
from orca.ui import human, plain
from orca.ui.escape import visible
from orca.ui.shell import BY_SYSTEM_CALL, BY_TOOL, command_lines
from orca.ui.terminal import Terminal, styled


class ExplainView(plain.PlainView):
    """The plain view, with each instruction's meaning before it and each call as it starts.

    Commands stand at the left edge behind a prompt, so that they can be copied; the comment above
    each names its step, because the commits of earlier steps go on in the background.
    """

    def __init__(self, terminal: Terminal) -> None:
        super().__init__(terminal)
        self._tools: dict[int, str] = {}

    def started(self, event: events.StepStarted) -> None:
        """The instruction, and one sentence on what will happen."""
        self.say("")
        super().started(event)
        if event.why:
            for line in human.wrap(visible(event.why), self.width(), first="  ", indent="  "):
                self.say(line)

    def tool_started(self, event: events.ToolStarted) -> None:
        """The call as typed."""
        self._tools[event.call] = event.argv[0].rpartition("/")[2] if event.argv else ""
        self._command(event.step, event.argv, event.why, BY_TOOL)

    def tool_finished(self, event: events.ToolFinished) -> None:
        """Only a call that failed is worth a line."""
        tool = self._tools.pop(event.call, "")
        if event.exit_code:
            self._comment(event.step, f"{tool} ended with code {event.exit_code} after {human.seconds(event.seconds)}")

    def performed(self, event: events.Performed) -> None:
        """What orca did without a process, as the command that would do it."""
        why = f"{event.why} (by system call)" if event.why else "by system call"
        self._command(event.step, event.argv, why, BY_SYSTEM_CALL)

    def committed(self, event: events.LayerCommitted) -> None:
        """The layer, where the background commit of its step ends."""
        if not event.digest:
            self._comment(event.step, "nothing changed, so there is no new layer")
            return
        digest = visible(event.digest)[:19]
        self._comment(
            event.step, f"layer {digest}… is stored: {human.size(event.size)}, {human.seconds(event.seconds)}"
        )

    def _command(self, step: int | None, argv: Sequence[str], why: str, prompt: str) -> None:
        self._comment(step, why)
        for line in command_lines(argv, self.width(), prompt):
            self.say(styled(line, "cyan", color=self.color))

    def _comment(self, step: int | None, text: str) -> None:
        label = f"{self.label(step)} " if step is not None else ""
        for line in human.wrap(visible(text), self.width(), first=f"# {label}", indent="#   "):
            self.say(styled(line, "dim", color=self.color))

    handlers: dict[type[events.Event], Any] = plain.PlainView.handlers | {
        events.StepStarted: started,
        events.ToolStarted: tool_started,
        events.ToolFinished: tool_finished,
        events.Performed: performed,
        events.LayerCommitted: committed,
    }


@contextmanager
def opened(terminal: Terminal) -> Iterator[events.Emit]:
    """The explaining view for as long as the block lasts."""
    yield ExplainView(terminal)
