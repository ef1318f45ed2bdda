"""What every view says in the same words."""

from __future__ import annotations

from orca import events
from orca.ui import human
from orca.ui.escape import visible


def heading(event: events.BuildStarted, width: int) -> list[str]:
    """What is built out of what."""
    names = f" {visible(', '.join(event.tags))}" if event.tags else ""
    places = f" for {visible(', '.join(part.platform for part in event.parts))}" if event.parts else ""
    text = f"Building{names}{places} from {visible(event.dockerfile)}: {human.count(event.steps, 'step')}"
    return human.wrap(text, width, indent="  ")


class Labels:
    """How steps are called: `2/8`, or `linux/arm64 2/5` in a build for several platforms.

    Whoever has a view gives it the BuildStarted event. Without one a step is called by its number alone.
    """

    def __init__(self, event: events.BuildStarted | None = None) -> None:
        self._steps = event.steps if event else 0
        self._parts = event.parts if event else ()

    def grow(self, steps: int) -> None:
        """There are more steps than the Dockerfile shows."""
        self._steps = steps

    def __call__(self, step: int, *, aligned: bool = False) -> str:
        """The label; `aligned`: numbers and platforms are filled up with blanks, so that all are of one width."""
        for part in self._parts:
            if part.first <= step < part.first + part.steps:
                widest = max(human.cells(other.platform) for other in self._parts) if aligned else 0
                number = _of(step - part.first + 1, part.steps, aligned=aligned)
                return f"{human.pad(visible(part.platform), widest)} {number}"
        return _of(step, self._steps, aligned=aligned)


def _of(step: int, steps: int, *, aligned: bool) -> str:
    if not steps:
        return str(step)
    return f"{step:>{len(str(steps))}}/{steps}" if aligned else f"{step}/{steps}"


def amount(event: events.Progress) -> str:
    """How far it is: "1.0 MB of 12.3 MB, 2.1 MB/s", "17 of 20 files"."""
    if event.unit == "B":
        done = human.size(event.done)
        rate = "" if event.rate is None else f", {human.size(event.rate)}/s"
        return (done if event.total is None else f"{done} of {human.size(event.total)}") + rate
    total = "" if event.total is None else f" of {event.total}"
    return f"{event.done}{total} {visible(event.unit)}"


def summary(event: events.BuildFinished, width: int) -> list[tuple[str, str]]:
    """The finished image: its names, its digest, then size, layers, time and what was cached; each with its style."""
    cached = {0: "nothing cached", event.steps: "all cached"}.get(
        event.cached, f"{event.cached} of {human.count(event.steps, 'step')} cached"
    )
    facts: tuple[str, ...] = (
        f"{human.size(event.size)} in {human.count(event.layers, 'layer')}",
        human.seconds(event.seconds),
        cached,
    )
    names = [(visible(name), "bold green") for name in event.names] or [("Built without a name", "bold green")]
    if event.platforms:
        facts = (f"an index: {visible(', '.join(event.platforms))}", *facts)
    told = human.wrap(" · ".join(facts), width, first="  ", indent="  ")
    return [*names, (f"  {visible(event.digest)}", ""), *((line, "dim") for line in told)]
