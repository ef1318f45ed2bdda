"""What a shared cache can spare this build: found before the first step, fetched into the store.

The keys of all steps follow from the Dockerfile, the context and the base images, so they are known before
anything is done. A stage is needed only from its first step on that nobody has; stages that only cached steps
read are not built at all, and their layers are not fetched.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from orca.dispatch.ops import ExecOp, FileOp, Op, Step
from orca.errors import OrcaError
from orca.events import Event, Performed, Progress, StepFinished, StepStarted, ToolFinished, ToolStarted
from orca.executor.position import Position, StageResult, shown
from orca.executor.sharing import Elsewhere
from orca.executor.stage import StageBuilder
from orca.plan.stages import Stage
from orca.store.store import StepRecord

if TYPE_CHECKING:
    from orca.executor.build import Build
    from orca.executor.rootfs import Workshop


_SWAPPING = threading.Lock()


@dataclass(frozen=True)
class Ahead:
    """A step that lies ahead: its key and all that its record will say; `reads` are the stages that it copies from.

    One that must be carried out `anew` may not be taken from a cache.
    """

    number: int
    key: str
    step: Step
    ingredients: dict[str, Any]
    reads: frozenset[int]
    anew: bool


class Walker(StageBuilder):
    """Goes through a stage and does nothing: which steps will it have?"""

    def __init__(self, build: Build, stage: Stage, shop: Workshop | None) -> None:
        super().__init__(build, stage, shop)
        self.steps: list[Ahead] = []

    def _known(self, key: str) -> StepRecord | None:
        return None

    def _do(self, number: int, step: Step, before: Position, key: str, ingredients: dict[str, Any]) -> Position:
        self.steps.append(Ahead(number, key, step, ingredients, self._stages_read(step.op), self._anew))
        return Position(key, step.state)

    def _do_link(
        self, number: int, step: Step, before: Position, key: str, ingredients: dict[str, Any]
    ) -> tuple[Position, bool]:
        return self._do(number, step, before, key, ingredients), False

    def _stages_read(self, op: Op) -> frozenset[int]:
        words = [mount.from_ for mount in op.mounts] if isinstance(op, ExecOp) else []
        words += [op.from_] if isinstance(op, FileOp) else []
        found = (self.build.plan.find(word, self.stage.index) for word in words if word is not None)
        return frozenset(index for index in found if index is not None)


@dataclass(frozen=True)
class Walked:
    """A stage that was gone through: its steps, and where it will end."""

    stage: Stage
    steps: tuple[Ahead, ...]
    result: StageResult


def take_in(build: Build, shop: Workshop, elsewhere: Elsewhere) -> dict[int, StageResult]:
    """Fetch what the shared caches have of this build into the store.

    Returns the stages that need not be built: of them only the keys are known. A cache that fails is left out
    with a warning. What is wrong with the build itself is not told here: the build will come upon it.
    """
    try:
        walked = _walk(build, shop)
    except OrcaError:
        return {}
    while True:
        search = _Search(build, elsewhere, walked)
        search.need(build.plan.target.index)
        if all(elsewhere.bring(records) for records in search.to_fetch):
            break  # else a cache was struck out: what do the others have?
    build.hits |= search.hits
    return {index: found.result for index, found in walked.items() if index not in search.needed}


def _walk(build: Build, shop: Workshop) -> dict[int, Walked]:
    """Every stage of the plan, gone through in silence. Raises OrcaError."""
    walkers: dict[int, Walker] = {}

    def walker(build: Build, stage: Stage, shop: Workshop | None) -> Walker:
        walkers[stage.index] = Walker(build, stage, shop)
        return walkers[stage.index]

    with build.walking(walker), _stepless(shop):
        for index in build.plan.stages:
            build.stage_result(index, shop)
        results = build.results()
    return {
        index: Walked(
            found.stage, tuple(found.steps), replace(results[index], only_key=True, cached=len(found.steps) + 1)
        )
        for index, found in walkers.items()
    }


@contextlib.contextmanager
def _stepless(shop: Workshop) -> Iterator[None]:
    """Tool calls belong to no step: none has begun yet."""
    _SWAPPING.acquire()  # builds for several platforms have one runner
    then = shop.runner.emit

    def emit(event: Event) -> None:
        then(
            replace(event, step=None) if isinstance(event, ToolStarted | ToolFinished | Progress | Performed) else event
        )

    shop.runner.emit = emit
    try:
        yield
    finally:
        shop.runner.emit = then
        _SWAPPING.release()


class _Search:
    """Which stages are needed, and which steps they get from elsewhere."""

    def __init__(self, build: Build, elsewhere: Elsewhere, walked: dict[int, Walked]) -> None:
        self.build = build
        self.elsewhere = elsewhere
        self.walked = walked
        self.needed: set[int] = set()
        self.to_fetch: list[list[StepRecord]] = []
        self.hits: set[int] = set()

    def need(self, index: int) -> None:
        """The files or the config of this stage are needed."""
        if index in self.needed or index not in self.walked:
            return
        self.needed.add(index)
        found = self.walked[index]
        there = self._prefix(found)
        for step in found.steps[there:]:
            for other in step.reads:
                self.need(other)
        if not there and isinstance(found.stage.base, int):
            self.need(found.stage.base)

    def _prefix(self, found: Walked) -> int:
        """How many steps, from the first on, are in the store or in a shared cache; the latter will be fetched."""
        records: list[StepRecord] = []
        count = 0
        self.elsewhere.prepare([step.key for step in found.steps if not step.anew])
        for step in found.steps:
            if step.anew:
                break
            if self.build.store.step(step.key) is None:
                record = self.elsewhere.record(step.key, step.step, step.ingredients)
                if record is None:
                    break
                records.append(record)
            self.hits.add(step.number)
            count += 1
        if records:
            self.to_fetch.append(records)
        return count


def tell(build: Build, spared: dict[int, StageResult]) -> None:
    """Steps of stages that are not built are told as cached."""
    for index in spared:
        stage = build.plan.stages[index]
        own = enumerate(stage.instructions, stage.first_step + 1 + stage.triggers)
        for number, instruction in ((stage.first_step, stage.origin), *own):
            begun = time.monotonic()
            text = " ".join(shown(instruction).split())
            build.emit(StepStarted(number, stage.label, text, instruction.span.first))
            build.emit(StepFinished(number, time.monotonic() - begun, True))
