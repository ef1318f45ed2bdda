"""Shared caches of a build: --cache-from before the first step, --cache-to after the last.

A cache that cannot be reached, is damaged or lies never fails a build: it is a warning, and its steps are
carried out. What it holds is believed only as far as it can be checked; names of snapshots, the state and the
ingredients of a step are always our own.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orca.dispatch.ops import Step
from orca.errors import Interrupted, OrcaError, StoreError, ToolError
from orca.events import Event, Warned
from orca.executor.position import shown
from orca.oci.image import MANIFEST, ImageConfig
from orca.sources.places import Place
from orca.sources.shared import Entry, Shelf, entry_of, open_shelf, parse_entry
from orca.store.store import StepRecord, Store

if TYPE_CHECKING:
    from pathlib import Path

    from orca.executor.build import Build
    from orca.executor.rootfs import Workshop
    from orca.tools.command import Runner

AT_ONCE = 6


class Elsewhere:
    """The caches that --cache-from named, in that order, each with the keys that it has."""

    def __init__(self, build: Build, shop: Workshop, emit: Callable[[Event], None]) -> None:
        self._store = build.store
        self._platform = build.options.platform
        self._emit = emit
        self._entries: dict[str, tuple[Shelf, Entry]] = {}
        self._wrong: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self._shelves: list[tuple[Shelf, frozenset[str]]] = []
        for place in build.options.caching.cache_from:
            shelf = open_shelf(place, build.store, shop.runner, shop.scratch, build.options.access)
            try:
                self._shelves.append((shelf, shelf.keys()))
            except Interrupted:
                raise
            except OrcaError as error:
                self._warn(place, error)

    def _warn(self, place: Place, error: OrcaError) -> None:
        message = error.message.removeprefix(f"{place}: ")
        self._emit(Warned(f"the cache {place} is not used: {message}", hint=error.hint))

    def has_any(self) -> bool:
        """Is there a step to be had from any of them?"""
        return any(keys for _, keys in self._shelves)

    def prepare(self, keys: Sequence[str]) -> None:
        """Ask for all of these steps that are not in the store, several at a time."""
        from concurrent.futures import ThreadPoolExecutor

        missing = [key for key in keys if key not in self._entries and self._store.step(key) is None]
        wanted = [key for key in missing if any(key in there for _, there in self._shelves)]
        if len(wanted) > 1:
            with ThreadPoolExecutor(AT_ONCE, "cache-from") as pool:
                list(pool.map(self._ask, wanted))

    def _ask(self, key: str) -> tuple[Shelf, Entry] | None:
        """The step's entry out of the first cache that has a right one."""
        with self._lock:
            if key in self._entries:
                return self._entries[key]
            shelves = [shelf for shelf, there in self._shelves if key in there]
        for shelf in shelves:
            if (key, str(shelf.place)) in self._wrong:
                continue
            try:
                found = shelf, parse_entry(key, shelf.entry(key))
            except Interrupted:
                raise
            except OrcaError as error:
                with self._lock:
                    said = any(place == str(shelf.place) for _, place in self._wrong)
                    self._wrong.add((key, str(shelf.place)))
                if not said:
                    message = error.message.removeprefix(f"{shelf.place}: ")
                    self._emit(Warned(f"a step in the cache {shelf.place} is not used: {message}", hint=error.hint))
                continue
            with self._lock:
                self._entries[key] = found
            return found
        return None

    def record(self, key: str, step: Step, ingredients: dict[str, Any]) -> StepRecord | None:
        """What the store will know of a step from elsewhere, if its blobs can be had. All but the image is ours."""
        found = self._ask(key)
        if found is None:
            return None
        _, entry = found
        made = entry.found
        layer = made.manifest.layers[-1] if _makes_layer(made.config) else None
        state = step.state.to_json()
        return StepRecord(
            key, shown(step.instruction), made.descriptor, (), state, ingredients, layer, entry.created
        )  # fmt: skip

    def bring(self, records: Sequence[StepRecord]) -> bool:
        """Steps of one stage, in their order, into the store. False strikes out the cache that failed."""
        for record in reversed(records):
            shelf, entry = self._entries[record.key]
            try:
                if not all(self._store.images.has(layer) for layer in entry.found.manifest.layers):
                    shelf.fetch(entry, self._platform)
            except Interrupted:
                raise
            except OrcaError as error:
                self._strike_out(shelf, error)
                return False
            put(record, entry, self._store)
        return True

    def _strike_out(self, shelf: Shelf, error: OrcaError) -> None:
        self._shelves = [(other, keys) for other, keys in self._shelves if other is not shelf]
        self._entries = {key: found for key, found in self._entries.items() if found[0] is not shelf}
        self._warn(shelf.place, error)

    def finished(self, record: StepRecord) -> StepRecord | None:
        """The finished image under its key, with `record`'s own state; fetched at once."""
        found = self._ask(record.key)
        if found is None:
            return None
        made = replace(record, manifest=found[1].found.descriptor, created=found[1].created)
        return made if self.bring([made]) else None


def _makes_layer(config: ImageConfig) -> bool:
    """Did the last step make a layer?"""
    return bool(config.history) and not config.history[-1].empty_layer and bool(config.diff_ids)


def put(record: StepRecord, entry: Entry, store: Store) -> None:
    """A step whose layers are in the store, with its manifest and its config."""
    found = entry.found
    store.images.put(entry.config, found.manifest.config.media_type)
    store.images.put(entry.manifest, found.descriptor.media_type)
    if store.complete(found.descriptor):
        store.put_step(record)


def export(build: Build, scratch: Path, runner: Runner) -> None:
    """Write the steps of a finished build to every --cache-to place. Raises OrcaError unless it is to be ignored."""
    for place in build.options.caching.cache_to:
        try:
            _export(build, open_shelf(place, build.store, runner, scratch, build.options.access))
        except Interrupted:
            raise
        except OrcaError as error:
            message = error.message.removeprefix(f"{place}: ")
            text = f"the cache could not be written to {place}: {message}"
            if not place.ignore_error:
                raise OrcaError(text, hint=error.hint) from error
            build.emit(Warned(text, hint=error.hint))


def _export(build: Build, shelf: Shelf) -> None:
    there: frozenset[str] = frozenset()
    with contextlib.suppress(StoreError, ToolError):  # not there yet, mostly; else sending will say what it is
        there = shelf.keys()
    for keys in build.steps_made(whole=shelf.place.whole):
        # The last one has the layers of those before. An image in Docker's form is made of steps that are not.
        records = [build.store.step(key) for key in reversed(keys) if key not in there]
        known = [record for record in records if record is not None and record.manifest.media_type == MANIFEST]
        shelf.send([(record.key, entry_of(record, build.store)) for record in known])
