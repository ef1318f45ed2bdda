"""What every view says in the same words."""

from __future__ import annotations

from orca import events
from orca.ui import human
from orca.ui.escape import visible


def heading(event: events.BuildStarted, width: int) -> list[str]:
    """What is built out of what."""
    names = f" {visible(', '.join(event.tags))}" if event.tags else ""
    text = f"Building{names} from {visible(event.dockerfile)}: {human.count(event.steps, 'step')}"
    return human.wrap(text, width, indent="  ")


def amount(event: events.Progress) -> str:
    """How far it is: "1.0 MB of 12.3 MB", "17 of 20 files"."""
    if event.unit == "B":
        done = human.size(event.done)
        return done if event.total is None else f"{done} of {human.size(event.total)}"
    total = "" if event.total is None else f" of {event.total}"
    return f"{event.done}{total} {visible(event.unit)}"


def summary(event: events.BuildFinished, width: int) -> list[tuple[str, str]]:
    """The finished image: its names, its digest, then size, layers, time and what was cached; each with its style."""
    cached = {0: "nothing cached", event.steps: "all cached"}.get(
        event.cached, f"{event.cached} of {human.count(event.steps, 'step')} cached"
    )
    facts = (
        f"{human.size(event.size)} in {human.count(event.layers, 'layer')}",
        human.seconds(event.seconds),
        cached,
    )
    names = [(visible(name), "bold green") for name in event.names] or [("Built without a name", "bold green")]
    told = human.wrap(" · ".join(facts), width, first="  ", indent="  ")
    return [*names, (f"  {visible(event.digest)}", ""), *((line, "dim") for line in told)]
