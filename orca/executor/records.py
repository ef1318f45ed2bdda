"""A record of each build: its events, one JSON object a line, and the whole output of every step."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import IO

from orca.events import Emit, Event, Output
from orca.store import files
from orca.store.store import Store

KEPT = 50


class Recorder:
    """Writes the events of one build to builds/ID/events.jsonl and hands them on."""

    def __init__(self, store: Store, build: str, then: Emit) -> None:
        self._path = store.root / "builds" / build / "events.jsonl"
        self._then = then
        self._file: IO[str] | None = None
        forget_old(store.root / "builds")

    def emit(self, event: Event) -> None:
        """Record and hand on. RUN's output is in its own log already."""
        if not isinstance(event, Output):
            if self._file is None:
                self._path.parent.mkdir(mode=0o700, exist_ok=True)
                self._file = self._path.open("a", encoding="utf-8", errors="surrogateescape")
            stamp = round(time.time(), 3)
            self._file.write(json.dumps({"time": stamp, **event.to_json()}, separators=(",", ":")) + "\n")
            self._file.flush()
        self._then(event)


def forget_old(builds: Path) -> None:
    """Keep the newest records only. Their names begin with the time."""
    names = sorted(entry.name for entry in builds.iterdir())
    for name in names[:-KEPT]:
        files.remove_tree(builds / name)
