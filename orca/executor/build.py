"""A whole build: plan, look whether the cache has it all, else carry it out in the sandbox.

`prepare` has no effects. `Build.from_cache` reads only. `Build.run` is for the inside of the
sandbox and does the work, independent stages in parallel.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from orca.dispatch import table
from orca.dispatch.ops import ExecOp
from orca.dispatch.settings import Settings
from orca.dispatch.state import State
from orca.dockerfile import parser
from orca.dockerfile.instructions import Instruction, Onbuild, Run
from orca.errors import DockerfileError, Interrupted, NotAllowed, NotYet, OrcaError, UsageError
from orca.events import BuildFinished, BuildStarted, Emit, Event, StepFailed, StepsAdded, Warned, ignore
from orca.executor.finish import finish
from orca.executor.options import Options, Result, rfc3339
from orca.executor.position import Miss, StageResult
from orca.executor.shared import Shared
from orca.executor.stage import StageBuilder
from orca.oci import platform as platforms
from orca.oci.image import Descriptor, ImageConfig
from orca.plan import scope as scopes
from orca.plan.scope import Scope
from orca.plan.stages import SCRATCH, Plan, Stage, known, make_plan, split
from orca.sources.tree import digest_items
from orca.store.chains import Link
from orca.store.files import explain
from orca.store.layout import Image
from orca.store.store import StepRecord, Store

# What has an effect is loaded when something has to be done.
if TYPE_CHECKING:
    from concurrent.futures import Future

    from orca.executor.rootfs import RootFs, Workshop
    from orca.executor.sharing import Elsewhere
    from orca.tools.command import Runner


class Build:
    """One build on one store. `emit` may be set until the first step begins."""

    whole = True
    """Is it worth telling where it begins and ends? Its record has that in any case."""
    mark = ""
    """How the names of such records end."""

    def __init__(
        self,
        options: Options,
        store: Store,
        emit: Emit = ignore,
        shared: Shared | None = None,
        first_step: int = 1,
        begun: Mapping[int, StageResult] | None = None,
    ) -> None:
        """`shared` and `first_step` are for one of several builds (see `several`).

        The stages in `begun` go on from there: their FROM is done already (see `scripted`).
        """
        self.begun_stages = begun or {}
        self.options = options
        self.store = store
        self.emit = emit
        self.begun = time.monotonic()
        self.settings, self.plan = prepare(options, first_step)
        # They emit through us: `emit` changes between the two passes.
        self.shared = shared or Shared(options, store, lambda event: self.emit(event), mark=self.mark)
        self.id, self.inputs, self.bases = self.shared.id, self.shared.inputs, self.shared.bases
        self.plan = self.plan.with_triggers(self._triggers())
        self.shared.number_from(first_step - 1 + self.plan.total_steps)
        self.remotes, self.named = self.shared.remotes, self.shared.named
        self.elsewhere: Elsewhere | None = None
        self._looked_elsewhere = False
        self._builder: Callable[[Build, Stage, Workshop | None], StageBuilder] = StageBuilder
        self._made: dict[int, list[str]] = {}
        self._steps_before = first_step - 1
        self._links: dict[int, Link] = {}
        self._running: dict[int, Future[StageResult]] = {}
        self._done: dict[int, StageResult] = {}
        self._lock = threading.RLock()
        self._noting = threading.Lock()  # a commit notes its step while somebody waits for it with the other lock held
        self._unsaid: list[Warned] = []
        self.cached = 0
        self.steps = self.plan.total_steps
        self.hits: set[int] = set()
        if any(stage.platform != platforms.host() for stage in self.plan.stages.values()):
            from orca.executor import foreign

            for stage in self.plan.stages.values():
                foreign.look(stage.platform)

    @property
    def builds(self) -> list[Build]:
        """As `several.Builds` has it."""
        return [self]

    def _triggers(self) -> dict[int, int]:
        """How many ONBUILD triggers the base of each stage has, as far as is known already."""
        found = {}
        for index, stage in self.plan.stages.items():
            if index in self.begun_stages:
                continue
            if isinstance(stage.base, int):
                above = self.plan.stages[stage.base].instructions
                found[index] = sum(isinstance(instruction, Onbuild) for instruction in above)
            elif stage.base.lower() != SCRATCH:
                found[index] = self.bases.triggers(stage.base, stage.platform)
        return found

    # -- the two passes

    def from_cache(self) -> Result | None:
        """The image, if every step of it is in the cache; nothing is written but tags. None when not."""
        events: list[Event] = []
        emit, self.emit = self.emit, events.append
        try:
            self._announce()
            image = self.look()
        finally:
            self.emit = emit
            self.shared.restart()
        if image is None:
            return None
        result = self._result(image)
        for event in events:
            emit(event)
        return self._told(result)

    def look(self) -> Image | None:
        """The image, if every step of it is in the cache; tells of the steps. None when not."""
        caching = self.options.caching
        if caching.no_cache or caching.pull in ("always", "newer"):
            return None
        events: list[Event] = []
        emit, self.emit = self.emit, events.append
        try:
            for index in self.plan.stages:
                self.stage_result(index, None)
            image = self._finish(self._done[self.plan.target.index], None)
            self._count()
        except Miss:
            # What COPY reads is looked up once: `run` will not come upon these again.
            self._unsaid = [event for event in events if isinstance(event, Warned)]
            return None
        finally:
            self.inputs.remember()
            self.named.remember()
            self.emit = emit
            self._done.clear()
        for event in events:
            emit(event)
        return image

    def run(self, shop: Workshop) -> Result:
        """Build it, inside the sandbox. Raises what the first failing step raised."""
        (self.store.root / "builds" / self.id).mkdir(mode=0o700, exist_ok=True)
        self._announce()
        self.check_machine(shop)
        try:
            return self._told(self._result(self.carry_out(shop)))
        finally:
            self.shared.trace.write()

    def carry_out(self, shop: Workshop) -> Image:
        """`run` without what is said at its beginning and its end."""
        from orca.sources.images import Puller

        for event in self._unsaid:
            self.emit(event)
        self._links.clear()  # steps that the Dockerfile does not show may get other numbers now
        self.bases.puller = self.bases.puller or Puller(self.store, shop.runner, shop.scratch, self.options.access)
        try:
            self._take_in(shop)
            image = self._finish(self._run_stages(shop), shop)
            self._count()
            return image
        finally:
            self.inputs.remember()
            self.named.remember()

    def check_machine(self, shop: Workshop) -> None:
        """Can every RUN that is not known to be cached run here? Raises OrcaError before anything else is done.

        Where there are shared caches, they are asked first.
        """
        if self.options.caching.cache_from and not self._looked_elsewhere:
            return
        for stage in (stage for index, stage in self.plan.stages.items() if index not in self._done):
            for number, instruction in enumerate(stage.instructions, stage.first_step + stage.triggers + 1):
                if isinstance(instruction, Run) and number not in self.hits:
                    from orca.executor import foreign

                    with self.at(instruction, number, time.monotonic()):
                        foreign.check(stage.platform, shop, number)
                    break

    def _take_in(self, shop: Workshop) -> None:
        """Let the shared caches spare us what they can."""
        self._looked_elsewhere = True
        if not self.options.caching.cache_from:
            return
        if not self.options.caching.no_cache:
            self._ask_elsewhere(shop)
        self.check_machine(shop)

    def _ask_elsewhere(self, shop: Workshop) -> None:
        from orca.executor import lookahead, sharing

        self.elsewhere = sharing.Elsewhere(self, shop, lambda event: self.emit(event))
        if self.elsewhere.has_any():
            spared = lookahead.take_in(self, shop, self.elsewhere)
            lookahead.tell(self, spared)
            self._done |= spared

    @contextlib.contextmanager
    def walking(self, builder: Callable[[Build, Stage, Workshop | None], StageBuilder]) -> Iterator[None]:
        """Stages are gone through by `builder`, which does nothing; what it tells is not told, but for warnings."""
        events: list[Event] = []
        emit, self.emit, self._builder = self.emit, events.append, builder
        try:
            yield
        finally:
            self.emit, self._builder = emit, StageBuilder
            self._done.clear()
        for event in events:
            if isinstance(event, Warned):
                emit(event)

    def _count(self) -> None:
        """How many steps there were, and how many of them came from the cache."""
        self.cached = sum(stage.cached for stage in self._done.values())
        self.steps = self.shared.steps

    def _announce(self) -> None:
        self.emit(BuildStarted(self.id, self.options.dockerfile.name, self.plan.total_steps, self.options.naming.tags))

    def _run_stages(self, shop: Workshop) -> StageResult:
        """All stages of the plan, at most `jobs` at a time; a stage waits for those it needs."""
        from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

        jobs = 1 if self.options.in_order else self.options.jobs or max(2, os.cpu_count() or 1)
        pool = ThreadPoolExecutor(jobs, "stage")
        try:
            # In order: whatever a stage waits for has been submitted before it, so no wait is for ever.
            with self._lock:
                for index, stage in self.plan.stages.items():
                    if index not in self._done:
                        self._running[index] = pool.submit(self._builder(self, stage, shop).run)
            futures = list(self._running.values())
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in futures:
                if future in done and (error := future.exception()) and not isinstance(error, Interrupted):
                    raise error
            self._done |= {index: future.result() for index, future in self._running.items()}
            return self._done[self.plan.target.index]
        except BaseException as error:
            self.shared.fail(error)
            self.kill_all(shop.runner)
            raise
        finally:
            # What was killed still has to tell and to clean up.
            pool.shutdown(wait=True, cancel_futures=True)

    @staticmethod
    def kill_all(runner: Runner) -> None:
        """End every process of the build: as pid 1 we may kill all others of our namespace."""
        from orca.executor import sandbox

        runner.cancel()
        if sandbox.inside():
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)

    # -- what stages ask for

    def stage_result(self, index: int, shop: Workshop | None) -> StageResult:
        """The finished stage `index`; built here and now if nobody has begun it."""
        with self._lock:
            if index in self._done:
                return self._done[index]
            future = self._running.get(index)
            if future is None:
                stage = self.plan.stages.get(index) or self._unplanned(index)
                self._done[index] = self._builder(self, stage, shop).run()
                return self._done[index]
        return future.result()

    def _unplanned(self, index: int) -> Stage:
        """A stage that only an ONBUILD trigger of a base refers to."""
        options = self.options
        everything = make_plan(
            options.dockerfile, self.settings.scope, target=str(index), platform=options.platform,
            asked=bool(options.platforms), contexts=options.contexts.named,
        )  # fmt: skip
        return replace(everything.stages[index], first_step=self.extra_step(len(everything.stages[index].instructions)))

    def extra_step(self, more: int = 0) -> int:
        """A number for a step that the Dockerfile does not show."""
        number = self.shared.extra_step(more)
        self.emit(StepsAdded(self.shared.steps))
        return number

    def parse_trigger(self, text: str, stage: Stage) -> Instruction:
        """An ONBUILD trigger of the base as an instruction, located at the stage's FROM."""
        try:
            found = parser.parse_instruction(text, name="ONBUILD", escape="\\")
        except DockerfileError as error:
            message = f"the base image has a bad ONBUILD trigger: {error.message}"
            raise self.settings.scope.error(message, stage.origin, error.hint) from error
        if found.keyword in ("ONBUILD", "FROM", "MAINTAINER"):
            raise self.settings.scope.error(
                f"the base image has ONBUILD {found.keyword}, which is not allowed", stage.origin
            )
        return replace(found, span=stage.origin.span)

    def results(self) -> dict[int, StageResult]:
        """The stages that are finished."""
        return dict(self._done)

    def note(self, index: int, key: str) -> None:
        """A step of the stage `index` is in the store, whether made now or before."""
        with self._noting:
            self._made.setdefault(index, []).append(key)

    def steps_made(self, *, whole: bool) -> list[list[str]]:
        """The keys of this build's steps, stage by stage; without `whole`, only of those the image is made of."""
        stages = list(self.plan.stages) if whole else self._own_stages()
        return [list(dict.fromkeys(self._made[index])) for index in stages if index in self._made]

    def _own_stages(self) -> list[int]:
        """The stages that the image is made of, the lowest first."""
        index: int | str = self.plan.target.index
        chain: list[int] = []
        while isinstance(index, int):
            chain.append(index)
            index = self.plan.stages[index].base
        return chain[::-1]

    def reached(self, number: int, stage: Stage, text: str, key: str, manifest: Descriptor | None) -> None:
        """A step will be known as IMAGE@number; `manifest` is the image after it, None while that is not known."""
        number -= self._steps_before
        own = stage.index in self._own_stages()
        with self._noting:
            self._links[number] = Link(number, stage.label, text, key, own, manifest)

    def chain(self) -> list[Link]:
        """Every step of this build, by number."""
        with self._noting:
            return [link for _, link in sorted(self._links.items())]

    def lookup(self, key: str, stage: Stage) -> StepRecord | None:
        """The cached step, unless this build must not use the cache."""
        return self.shared.made(key) or (None if self.options.caching.no_cache else self.store.step(key))

    def wanted_anew(self, stage: Stage) -> bool:
        """Did --no-cache-filter name this stage?"""
        return bool({stage.name, str(stage.index)} & self.options.caching.no_cache_stages)

    def is_anew(self, word: str, stage: Stage, shop: Workshop | None) -> bool:
        """Is what `--from=word` means a stage that had to be carried out anew?"""
        if not self.options.caching.no_cache_stages or self.reads_tree(word, stage):
            return False
        index = self.plan.find(word, stage.index)
        return index is not None and self.stage_result(index, shop).anew

    def mount_keys(self, op: ExecOp, stage: Stage, shop: Workshop | None) -> list[str]:
        """What a RUN depends on through its bind mounts. What a cache, a secret or an agent holds does not count."""
        keys = []
        for mount in op.mounts:
            if self.reads_tree(mount.from_, stage):
                keys.append(self.named.mount_key(mount, shop))
            elif mount.from_ is not None:
                keys.append(self.source_key(mount.from_, stage, shop))
            elif mount.kind == "bind":
                keys.append(digest_items([self.inputs.mount_item(mount, self.inputs.context())], owners=False))
        return keys

    def secret(self, name: str) -> bytes | None:
        """The secret that --secret gave under this id."""
        return self.options.running.secrets.get(name)

    def agent(self, name: str) -> str | None:
        """The socket of the agent that --ssh gave under this id."""
        return self.options.running.agents.get(name)

    def reads_tree(self, word: str | None, stage: Stage) -> bool:
        """Does `--from=word` in `stage` mean a named context of files alone?

        A stage of such a name is that context, and reads it under its own name.
        """
        if word is None or not self.named.is_tree(word):
            return False
        index = self.plan.find(word, stage.index)
        return index is None or index >= stage.index

    def source_key(self, word: str, stage: Stage, shop: Workshop | None) -> str:
        """What a COPY --from depends on: all of the stage or image that it names."""
        index = self.plan.find(word, stage.index)
        if index is not None:
            return self.stage_result(index, shop).position.key
        return self._source_image(word, stage, shop, 0).descriptor.digest

    def _source_image(self, word: str, stage: Stage, shop: Workshop | None, step: int) -> Image:
        return self.bases.image(word, stage.platform, shop, step, asked=stage.asked, strict=False)[0]

    def source_rootfs(self, word: str, stage: Stage, shop: Workshop, step: int) -> RootFs:
        """The file system that a COPY --from reads."""
        from orca.executor.rootfs import RootFs

        index = self.plan.find(word, stage.index)
        if index is None:
            return RootFs(shop, (shop.unpack(self._source_image(word, stage, shop, step), step),))
        result = self.stage_result(index, shop)
        if result.only_key:
            with self._lock:
                del self._done[index]
                result = self.stage_result(index, shop)
        if result.rootfs is not None:
            return result.rootfs
        known = result.position.snapshots
        if known and shop.usable(known):
            return RootFs(shop, known)
        return RootFs(shop, (shop.unpack(self.store.images.image(result.manifest), step),))

    def timestamp(self) -> str:
        """Now, or SOURCE_DATE_EPOCH."""
        epoch = self.options.naming.epoch
        return rfc3339(time.time() if epoch is None else epoch)

    def log_path(self, step: int) -> Path:
        """Where the whole output of a step is kept."""
        return self.store.root / "builds" / self.id / f"step-{step}.log"

    @contextlib.contextmanager
    def at(self, instruction: Instruction, step: int, begun: float) -> Iterator[None]:
        """Errors raised within get the instruction's location and are told as the step's failure."""
        try:
            try:
                yield
            except OSError as error:
                raise explain(error, f"carrying out {instruction.keyword}") from error
        except OrcaError as error:
            if error.location is None:
                error.location = parser.location(self.options.dockerfile, instruction.span)
            self.emit(StepFailed(step, time.monotonic() - begun, error.message))
            self.shared.trace.failed(step)
            raise

    # -- the end

    def _finish(self, target: StageResult, shop: Workshop | None) -> Image:
        """The image of the finished target; see `finish`."""
        return finish(self, target, shop)

    def _result(self, image: Image) -> Result:
        return Result(image, self.cached, self.steps, time.monotonic() - self.begun)

    def _told(self, result: Result) -> Result:
        manifest = result.image.manifest
        self.emit(
            BuildFinished(
                self.options.naming.tags,
                result.image.descriptor.digest,
                manifest.config.digest,
                manifest.size,
                len(manifest.layers),
                result.seconds,
                result.cached,
                result.steps,
            )
        )
        return result


def prepare(options: Options, first_step: int = 1) -> tuple[Settings, Plan]:
    """Scopes and the stage graph. Raises DockerfileError, UsageError."""
    scope = make_scope(options)
    plan = make_plan(
        options.dockerfile, scope, target=options.target, platform=options.platform,
        asked=bool(options.platforms), first=first_step, contexts=options.contexts.named,
    )  # fmt: skip
    check_stage_names(options)
    running = options.running
    settings = Settings(scope, running.network, running.hosts, running.allowed, running.ingredients())
    refuse_early(plan, settings)
    return settings, plan


def make_scope(options: Options) -> Scope:
    """What is the same for all instructions. Raises DockerfileError."""
    global_args, _ = split(options.dockerfile)
    return scopes.make_scope(
        options.dockerfile,
        global_args,
        given=options.build_args,
        predefined=scopes.predefined(options.platform, platforms.host(), options.naming.epoch),
        proxies=options.proxies,
    )


def check_stage_names(options: Options) -> None:
    """--no-cache-filter names stages that are there. Raises UsageError."""
    if not options.caching.no_cache_stages:
        return
    _, stages = split(options.dockerfile)
    there = {name for index, (origin, _) in enumerate(stages) for name in (origin.stage, str(index)) if name}
    for name in sorted(options.caching.no_cache_stages - there):
        names = [origin.stage for origin, _ in stages if origin.stage]
        raise UsageError(f"--no-cache-filter: no stage {name!r} in the Dockerfile", hint=known(names, len(stages)))


def refuse_early(plan: Plan, settings: Settings) -> None:
    """What this version does not have, and what is not granted, is said before anything is done.

    Raises NotYet, NotAllowed.

    Other errors may depend on what comes before; they are told when their step is reached.
    """
    nothing = State(ImageConfig())
    for stage in plan.stages.values():
        for instruction in stage.instructions:
            try:
                table.translate(instruction, nothing, settings)
            except (NotYet, NotAllowed):
                raise
            except OrcaError:
                continue
