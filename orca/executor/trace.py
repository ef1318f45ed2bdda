"""What a build did, step by step, kept in its record: so that `orca why` can tell why a step was not cached."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orca.dispatch.state import State
from orca.errors import OrcaError
from orca.events import StepMissed
from orca.executor.options import Options
from orca.plan import why
from orca.plan.why import Json, Memory, Reason
from orca.sources import listing
from orca.sources.tree import Item
from orca.store import files
from orca.store.store import Store

if TYPE_CHECKING:
    from orca.plan.stages import Stage

_ID = re.compile(r"[0-9A-Za-z-]{1,64}")


class Trace:
    """The trace of one command. Steps are noted from any thread."""

    def __init__(self, options: Options, store: Store, build: str) -> None:
        self.store = store
        self.build = build
        self.origin = origin(options)
        self._head = {
            "dockerfile": options.dockerfile.name,
            "tags": list(options.naming.tags),
            "time": time.time(),
            "no_cache": options.caching.no_cache,
        }
        self._steps: list[dict[str, Any]] = []
        self._fresh: dict[str, list[Item]] = {}
        self._missed: set[tuple[str, str]] = set()
        self._older: list[Json] | None = None
        self._lock = threading.Lock()

    def to_json(self) -> dict[str, Any]:
        return {"build": self.build, "origin": self.origin, **self._head, "steps": self._steps}

    def go_on(self, stage: Stage, session: str, started: str, steps: Iterable[dict[str, Any]]) -> None:
        """The steps that a scripted build has done before this one. `started` tells it from others of that name."""
        name = {"stage": stage.label, "platform": str(stage.platform)}
        with self._lock:
            self._head |= {"session": session, "started": started}
            self._steps = [{**name, **step} for step in steps]
            if not all(step["cached"] for step in self._steps[1:]):
                self._missed.add((name["platform"], name["stage"]))

    def base(self, stage: Stage, number: int, key: str, made_of: Mapping[str, Any], *, cached: bool) -> None:
        """A FROM is done."""
        with self._lock:
            self._steps.append({**_step(stage, number, stage.origin.span.first, stage.origin.text, key),
                                "cached": cached, "made_of": dict(made_of)})  # fmt: skip

    def step(
        self, stage: Stage, number: int, line: int, text: str, key: str, made_of: Mapping[str, Any], state: State,
        *, cached: bool, anew: bool,
    ) -> StepMissed | None:  # fmt: skip
        """A step is about to be taken from the cache or carried out; the event to tell if it is a surprise."""
        found = {**_step(stage, number, line, text, key), "cached": cached}
        with self._lock:
            self._steps.append(found)
            name = (found["platform"], found["stage"])
            if cached or name in self._missed:
                return None
            self._missed.add(name)
            found |= {"made_of": dict(made_of), "variables": variables(state), "anew": anew}
        return self._surprise(found)

    def failed(self, number: int) -> None:
        """A step that was to be carried out failed: that is why the cache will not have it."""
        with self._lock:
            for step in self._steps:
                if step["step"] == number:
                    step["failed"] = True

    def files(self, digest: str, items: list[Item]) -> None:
        """What the files are that a step to be carried out reads from the context."""
        self._fresh[digest] = items

    def _surprise(self, step: dict[str, Any]) -> StepMissed | None:
        """Why the first step of a stage that is not cached is not, if that is known and worth a line."""
        with self._lock:
            if self._older is None:
                self._older = older(self.store, {**self._head, "origin": self.origin})
            name = (step["platform"], step["stage"])
            steps = [each for each in self._steps if (each["platform"], each["stage"]) == name]
        trace = {**self._head, "steps": steps}
        for found, _ in why.missed(trace, self._older, memory(self.store, self._fresh)):
            if found.reasons[0].kind not in _USUAL:
                return StepMissed(step["step"], line(found.reasons))
        return None

    def write(self) -> None:
        """Keep it in the build's record."""
        with contextlib.suppress(OrcaError), self._lock:
            files.write_json(self.store.root / "builds" / self.build / "trace.json", self.to_json(), durable=False)


_USUAL = ("new", "no-cache")


def _step(stage: Stage, number: int, line: int, text: str, key: str) -> dict[str, Any]:
    return {
        "step": number,
        "stage": stage.label,
        "platform": str(stage.platform),
        "line": line,
        "text": text,
        "key": key,
    }


def origin(options: Options) -> str:
    """Which builds are of the same thing: those of one Dockerfile and one context."""
    places = [os.path.realpath(place) if place else "" for place in (options.context, options.dockerfile.name)]
    return hashlib.sha256("\0".join(places).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def variables(state: State) -> dict[str, str]:
    """The ARGs and ENVs after a step. What nobody shall see is only told from other values."""
    return {name: _shown(name, text) for name, text in {**state.set_args(), **state.config.environment()}.items()}


def _shown(name: str, text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest() if why.hides(name) else text


def line(reasons: Sequence[Reason]) -> str:
    """The first reason, and how many more there are."""
    more = f", and {len(reasons) - 1} more" if len(reasons) > 1 else ""
    return f"{reasons[0]}{more}"


# -- reading traces


def read(store: Store, build: str) -> Json | None:
    """The trace of a build; None when it has none that can be read."""
    value = files.read_json(store.root / "builds" / build / "trace.json") if _ID.fullmatch(build) else None
    if not isinstance(value, dict) or not isinstance(value.get("steps"), list):
        return None
    if not isinstance(value.get("time"), int | float) or not {"build", "origin", "dockerfile", "tags"} <= value.keys():
        return None
    wanted = {"step", "stage", "platform", "line", "text", "key", "cached"}
    return value if all(isinstance(step, dict) and wanted <= step.keys() for step in value["steps"]) else None


def every(store: Store) -> list[Json]:
    """The traces of all builds that have one, the newest first."""
    found = filter(None, (read(store, name) for name in os.listdir(store.root / "builds")))
    return sorted(found, key=lambda trace: float(trace["time"]), reverse=True)


def older(store: Store, than: Json) -> list[Json]:
    """Traces of the same thing from before one, the newest first.

    Steps of the same scripted build say nothing of what was before it; those of an earlier one of that name come first.
    """
    mine, name = than.get("started"), than.get("session")
    before = [found for found in every(store) if found.get("origin") == than["origin"] and found["time"] < than["time"]]
    others = [found for found in before if mine is None or found.get("started") != mine]
    return sorted(others, key=lambda found: found.get("session") != name)


def memory(store: Store, fresh: Mapping[str, list[Item]] | None = None) -> Memory:
    """What the store knows. `fresh` are files that have not been listed yet, by their digest."""

    def listed(digest: str) -> Mapping[str, listing.Facts] | None:
        items = (fresh or {}).get(digest)
        return listing.read(store.root, digest) if items is None else listing.facts(items)

    def changes(old: str, new: str) -> list[tuple[str, str]] | None:
        before = listed(old)
        after = listed(new) if before is not None else None
        return None if before is None or after is None else list(listing.changes(before, after))

    def made(key: str) -> tuple[Json, Mapping[str, str]] | None:
        record = store.step(key)
        if record is None:
            return None
        return record.ingredients, variables(State.from_json(record.state))

    return Memory(changes, made)
