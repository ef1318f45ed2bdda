"""A record of each build: its events, one JSON object a line, and the whole output of every step."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Collection
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from orca.events import Emit, Event, Output
from orca.store import files
from orca.store.store import Store

KEPT = 50
RECIPE = "recipe.json"
VERSION = 1

if TYPE_CHECKING:
    from orca.executor.bases import Bases
    from orca.executor.options import Result


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


def write_recipe(store: Store, build: str, result: Result, recipe: dict[str, Any], bases: Bases) -> None:
    """Keep what `orca verify` needs to make an image again. `recipe` holds the Dockerfile and the options."""
    images = {str(platform): image.descriptor.digest for platform, image in result.images}
    used = [
        {"text": text, "platform": platform, "digest": digest}
        for (text, platform), digest in sorted(bases.used.items())
    ]
    value = {**recipe, "version": VERSION, "digest": result.descriptor.digest, "images": images, "bases": used}
    files.write_json(store.root / "builds" / build / RECIPE, value, durable=False)


def recipe_of(store: Store, digests: Collection[str]) -> dict[str, Any] | None:
    """The newest recipe of an image, or of an index that it is in; None when no build of it is remembered."""
    for path in sorted((store.root / "builds").glob(f"*/{RECIPE}"), reverse=True):
        value = files.read_json(path)
        if isinstance(value, dict) and value.get("version") == VERSION:
            made = {value.get("digest"), *dict(value.get("images") or {}).values()}
            if made & set(digests):
                return value
    return None


def tools_of(store: Store, build: str, step: int) -> tuple[str, ...]:
    """The programs that a step of a build called, each once, in that order; none when the record is gone."""
    path = store.root / "builds" / build / "events.jsonl"
    found: dict[str, None] = {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError), path.open("rb") as file:
        for line in file:
            if f'"step":{step},'.encode() in line and b'"argv":' in line:
                argv = json.loads(line)["argv"]
                name = Path(argv[0]).name
                found[" ".join([name, *argv[1:3]]) if name == "umoci" and argv[1] == "raw" else name] = None
    return tuple(found)


def forget_old(builds: Path) -> None:
    """Keep the newest records only. Their names begin with the time."""
    names = sorted(entry.name for entry in builds.iterdir())
    for name in names[:-KEPT]:
        files.remove_tree(builds / name)
