"""A record of each build: its events, one JSON object a line, and the whole output of every step."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Collection
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from orca.errors import StoreError
from orca.events import Emit, Event, Output
from orca.store import files
from orca.store.store import Store

KEPT = 50
STEP = "-step"
"""How the name of a scripted step's record ends."""
KEPT_STEPS = 200
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
    """Keep the newest records only. Their names begin with the time. Scripted steps push out no builds."""
    names = sorted(entry.name for entry in builds.iterdir())
    steps = [name for name in names if name.endswith(STEP)]
    for name in (*steps[:-KEPT_STEPS], *[name for name in names if not name.endswith(STEP)][:-KEPT]):
        files.remove_tree(builds / name)


# -- reading records


def events_of(store: Store, build: str) -> list[dict[str, Any]]:
    """The events of a build; lines that are none (the last one of a killed build) are left out."""
    found = []
    try:
        with (store.root / "builds" / build / "events.jsonl").open("rb") as file:
            for line in file:
                with contextlib.suppress(ValueError, RecursionError):
                    value = json.loads(line)
                    if isinstance(value, dict):
                        found.append(value)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise files.explain(error, "reading the record of a build") from error
    return found


def names(store: Store) -> list[str]:
    """The ids of all builds that have a record, the newest first."""
    found = (path.parent.name for path in (store.root / "builds").glob("*/events.jsonl"))
    return sorted(found, reverse=True)


def find(store: Store, text: str | None, digests: Collection[str] = ()) -> str:
    """The id of the build that `text` is the beginning of, or that made one of `digests`; the newest for None.

    Raises StoreError when there is none, or when several begin so.
    """
    every = names(store)
    hint = "orca builds lists them; the newest 50 are kept, and a build that came from the cache leaves none"
    if text is None:
        if not every:
            raise StoreError("no build has left a record", hint=hint)
        return every[0]
    fitting = [name for name in every if name.startswith(text)]
    if len(fitting) > 1 and text not in fitting:
        raise StoreError(f"{text} is the beginning of {len(fitting)} builds", hint="write more of it")
    if fitting:
        return text if text in fitting else fitting[0]
    wanted = set(digests)
    for name in every if digests else ():
        ends = {event.get("digest") for event in events_of(store, name) if event.get("event") == "build-finished"}
        if wanted & (ends | _made(store, name)):
            return name
    what = f"no record of the build that made {text}" if digests else f"no build and no image {text!r}"
    raise StoreError(what, hint=hint)


def _made(store: Store, build: str) -> set[str]:
    """The digests of the manifests that a build's recipe names."""
    value = files.read_json(store.root / "builds" / build / RECIPE)
    if not isinstance(value, dict):
        return set()
    images = value.get("images")
    return {str(value.get("digest")), *(images.values() if isinstance(images, dict) else ())}
