"""`--progress json`: one event a line, for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from orca import events
from orca.ui.terminal import Terminal


def json_line(event: events.Event, now: float) -> str:
    """`event` as one line of ASCII: `time` (RFC 3339, UTC, milliseconds), then `Event.to_json`."""
    milliseconds = int(now * 1000)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000))
    return json.dumps({"time": f"{stamp}.{milliseconds % 1000:03d}Z", **event.to_json()})


@contextmanager
def opened(terminal: Terminal, clock: Callable[[], float] = time.time) -> Iterator[events.Emit]:
    """The JSON view for as long as the block lasts."""
    yield lambda event: terminal.line(json_line(event, clock()))
