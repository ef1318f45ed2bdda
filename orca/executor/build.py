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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from orca.dispatch import table
from orca.dispatch.ops import ExecOp, FileOp
from orca.dispatch.settings import Settings
from orca.dispatch.state import State
from orca.dockerfile import parser
from orca.dockerfile.glob import GlobError
from orca.dockerfile.ignore import IgnoreRules
from orca.dockerfile.instructions import Dockerfile, Instruction
from orca.dockerfile.mounts import Mount
from orca.errors import DockerfileError, Interrupted, NotYet, OrcaError, StoreError
from orca.events import BuildFinished, BuildStarted, Emit, Event, StepFailed, Warned, ignore
from orca.executor.stage import Miss, StageBuilder, StageResult
from orca.oci import platform as platforms
from orca.oci.image import History, ImageConfig
from orca.oci.platform import Platform
from orca.plan import scope as scopes
from orca.plan.cachekey import step_key
from orca.plan.stages import Plan, Stage, make_plan, split
from orca.sources import names
from orca.sources.statcache import StatCache
from orca.sources.tree import Item, SourceError, Tree, digest_items
from orca.store.files import explain
from orca.store.layout import Image
from orca.store.store import StepRecord, Store

# What has an effect is loaded when something has to be done.
if TYPE_CHECKING:
    from concurrent.futures import Future

    from orca.executor.rootfs import RootFs, Workshop
    from orca.sources.images import Puller
    from orca.tools.command import Runner


@dataclass(frozen=True)
class Options:
    """What a build is asked to do. `tags` are full names; `epoch` is SOURCE_DATE_EPOCH.

    `in_order` gives up all overlap, for those who want to read along.
    """

    dockerfile: Dockerfile
    context: Path | None
    ignore_file: Path | None = None
    tags: tuple[str, ...] = ()
    target: str | None = None
    platform: Platform = field(default_factory=platforms.host)
    build_args: Mapping[str, str] = field(default_factory=dict)
    proxies: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    no_cache: bool = False
    pull: str = "missing"
    network: str = "default"
    hosts: tuple[tuple[str, str], ...] = ()
    jobs: int = 0
    in_order: bool = False
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    agents: Mapping[str, str] = field(default_factory=dict)
    epoch: int | None = None


@dataclass(frozen=True)
class Result:
    """A built image, in the store."""

    image: Image
    cached: int
    steps: int
    seconds: float


def rfc3339(seconds: float) -> str:
    """A time as image configs write it, in whole seconds of UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class Build:
    """One build on one store. `emit` may be set until the first step begins."""

    def __init__(self, options: Options, store: Store, emit: Emit = ignore) -> None:
        self.options = options
        self.store = store
        self.emit = emit
        self.begun = time.monotonic()
        self.id = time.strftime("%Y%m%dT%H%M%S-", time.gmtime()) + os.urandom(2).hex()
        self.settings, self.plan = prepare(options)
        self._context: Tree | None = None
        self._items: dict[FileOp, list[Item]] = {}
        self._mounted: dict[str, Item] = {}
        self._running: dict[int, Future[StageResult]] = {}
        self._done: dict[int, StageResult] = {}
        self._extra = self.plan.total_steps
        self._lock = threading.RLock()
        self._puller: Puller | None = None
        self._policy_used: dict[str, Image] = {}
        self._unsaid: list[Warned] = []

    # -- the two passes

    def from_cache(self) -> Result | None:
        """The image, if every step of it is in the cache; nothing is written but tags. None when not."""
        if self.options.no_cache or self.options.pull in ("always", "newer"):
            return None
        events: list[Event] = []
        emit, self.emit = self.emit, events.append
        try:
            self._announce()
            for index in self.plan.stages:
                self.stage_result(index, None)
            result = self._finish(self._done[self.plan.target.index], only_look=True)
        except Miss:
            # What COPY reads is looked up once: `run` will not come upon these again.
            self._unsaid = [event for event in events if isinstance(event, Warned)]
            return None
        finally:
            self._remember_context()
            self.emit = emit
            self._done.clear()
            self._extra = self.plan.total_steps
        for event in events:
            emit(event)
        return self._told(result)

    def run(self, runner: Runner) -> Result:
        """Build it, inside the sandbox. Raises what the first failing step raised."""
        from orca.executor.overlay import Mounter
        from orca.executor.rootfs import Workshop
        from orca.sources.images import Puller
        from orca.tools import kernel

        (self.store.root / "builds" / self.id).mkdir(mode=0o700, exist_ok=True)
        self._announce()
        for event in self._unsaid:
            self.emit(event)
        self.store.sweep()
        with contextlib.ExitStack() as stack:
            scratch = stack.enter_context(self.store.scratch())
            volatile = scratch / "volatile"
            volatile.mkdir()
            # Bundles, mount points and runc's state: in memory, seen by nobody outside, gone with the sandbox.
            kernel.mount("tmpfs", volatile, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755")
            stack.callback(kernel.detach, volatile)
            mounter = stack.enter_context(Mounter(self.store.root / "snapshots", runner))
            self._puller = Puller(self.store, runner, scratch)
            shop = Workshop(self.store, runner, mounter, scratch, volatile)
            try:
                result = self._finish(self._run_stages(shop), only_look=False)
            finally:
                self._remember_context()
        return self._told(result)

    def _remember_context(self) -> None:
        """Keep the digests of the context's files: whichever pass found them, no other need read them again."""
        if self._context is not None:
            self._context.remember()

    def _announce(self) -> None:
        self.emit(BuildStarted(self.id, self.options.dockerfile.name, self.plan.total_steps, self.options.tags))

    def _run_stages(self, shop: Workshop) -> StageResult:
        """All stages of the plan, at most `jobs` at a time; a stage waits for those it needs."""
        from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

        jobs = 1 if self.options.in_order else self.options.jobs or max(2, os.cpu_count() or 1)
        pool = ThreadPoolExecutor(jobs, "stage")
        try:
            # In order: whatever a stage waits for has been submitted before it, so no wait is for ever.
            with self._lock:
                for index, stage in self.plan.stages.items():
                    self._running[index] = pool.submit(StageBuilder(self, stage, shop).run)
            futures = list(self._running.values())
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in futures:
                if future in done and (error := future.exception()) and not isinstance(error, Interrupted):
                    raise error
            self._done |= {index: future.result() for index, future in self._running.items()}
            return self._done[self.plan.target.index]
        except BaseException:
            self._kill_all(shop.runner)
            raise
        finally:
            # What was killed still has to tell and to clean up.
            pool.shutdown(wait=True, cancel_futures=True)

    @staticmethod
    def _kill_all(runner: Runner) -> None:
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
                self._done[index] = StageBuilder(self, stage, shop).run()
                return self._done[index]
        return future.result()

    def _unplanned(self, index: int) -> Stage:
        """A stage that only an ONBUILD trigger of a base refers to."""
        options = self.options
        everything = make_plan(options.dockerfile, self.settings.scope, target=str(index), platform=options.platform)
        return replace(everything.stages[index], first_step=self.extra_step(len(everything.stages[index].instructions)))

    def extra_step(self, more: int = 0) -> int:
        """A number for a step that the Dockerfile does not show."""
        with self._lock:
            self._extra += 1 + more
            return self._extra - more

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

    def base_image(self, text: str, platform: Platform, shop: Workshop | None, step: int) -> tuple[Image, bool]:
        """The image that FROM names, and whether it was in the store already."""
        there = names.in_store(self.store, text) if self.options.pull in ("missing", "never") else None
        if there is not None:
            return self._suited(self.store.images.image(there, platform), text, platform), True
        if shop is None:
            raise Miss
        with self._lock:
            if text not in self._policy_used:
                assert self._puller is not None
                self._policy_used[text] = self._puller.ensure(text, platform, self.options.pull, step)
            return self._suited(self._policy_used[text], text, platform), False

    def _suited(self, image: Image, text: str, platform: Platform) -> Image:
        """`image`, if it is for `platform`. One that is not only earns a warning where no platform was asked for."""
        config = image.config
        actual = platforms.normalize(config.os, config.architecture, config.variant)
        if config.architecture and actual != platform:
            message = f"{text} is for {actual}, not for {platform}"
            if platform != platforms.host():
                raise StoreError(message, hint="choose another base image, or another --platform")
            self.emit(Warned(message, hint="what it runs may not work here"))
        return image

    def lookup(self, key: str, stage: Stage) -> StepRecord | None:
        """The cached step, unless this build must not use the cache."""
        return None if self.options.no_cache else self.store.step(key)

    def context(self) -> Tree:
        """The build context. Raises SourceError when there is none."""
        with self._lock:
            if self._context is None:
                self._context = self._open_context()
            return self._context

    def _open_context(self) -> Tree:
        path = self.options.context
        if path is None:
            raise SourceError("there is no build context to copy from", hint="give a directory: orca build DIR")
        rules, name = None, ".dockerignore"
        if self.options.ignore_file is not None:
            name = self.options.ignore_file.name
            rules = IgnoreRules.parse(read_small(self.options.ignore_file), name)
        cache = StatCache.for_directory(self.store.root / "cache", path.resolve())
        return Tree(path, rules=rules, rules_name=name, cache=cache)

    def items(self, op: FileOp, source: Tree) -> list[Item]:
        """What a COPY's sources are. Found and hashed once for the context, where both passes ask."""
        with self._lock:
            if op.from_ is not None:
                return self._find(op, source)
            if op not in self._items:
                self._items[op] = self._find(op, source)
            return self._items[op]

    def _find(self, op: FileOp, source: Tree) -> list[Item]:
        items: list[Item] = []
        for pattern in op.sources:
            try:
                found = source.find(pattern)
            except GlobError as error:
                raise SourceError(error.message, hint=error.hint) from error
            if not found:
                self.emit(Warned(f"{pattern} matches nothing", hint="a pattern that matches nothing copies nothing"))
            items += found
        return items

    def context_digest(self, op: FileOp) -> str:
        """What a COPY from the context depends on."""
        return digest_items(self.items(op, self.context()), owners=False) if op.sources else ""

    def mount_item(self, mount: Mount, context: Tree) -> Item:
        """What a bind mount from the context shows; found and hashed once."""
        with self._lock:
            source = mount.source or "/"
            if source not in self._mounted:
                self._mounted[source] = context.find_one(source)
            return self._mounted[source]

    def mount_keys(self, op: ExecOp, stage: Stage, shop: Workshop | None) -> list[str]:
        """What a RUN depends on through its bind mounts. What a cache, a secret or an agent holds does not count."""
        keys = []
        for mount in op.mounts:
            if mount.from_ is not None:
                keys.append(self.source_key(mount.from_, stage, shop))
            elif mount.kind == "bind":
                keys.append(digest_items([self.mount_item(mount, self.context())], owners=False))
        return keys

    def secret(self, name: str) -> bytes | None:
        """The secret that --secret gave under this id."""
        return self.options.secrets.get(name)

    def agent(self, name: str) -> str | None:
        """The socket of the agent that --ssh gave under this id."""
        return self.options.agents.get(name)

    def source_key(self, word: str, stage: Stage, shop: Workshop | None) -> str:
        """What a COPY --from depends on: all of the stage or image that it names."""
        index = self.plan.find(word, stage.index)
        if index is not None:
            return self.stage_result(index, shop).position.key
        return self.base_image(word, stage.platform, shop, 0)[0].descriptor.digest

    def source_rootfs(self, word: str, stage: Stage, shop: Workshop, step: int) -> RootFs:
        """The file system that a COPY --from reads."""
        from orca.executor.rootfs import RootFs

        index = self.plan.find(word, stage.index)
        if index is None:
            image, _ = self.base_image(word, stage.platform, shop, step)
            return RootFs(shop, (shop.unpack(image, step),))
        result = self.stage_result(index, shop)
        if result.rootfs is not None:
            return result.rootfs
        known = result.position.snapshots
        if known and shop.usable(known):
            return RootFs(shop, known)
        return RootFs(shop, (shop.unpack(self.store.images.image(result.manifest), step),))

    def timestamp(self) -> str:
        """Now, or SOURCE_DATE_EPOCH."""
        return rfc3339(time.time() if self.options.epoch is None else self.options.epoch)

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
            raise

    # -- the end

    def _finish(self, target: StageResult, *, only_look: bool) -> Result:
        """The final manifest: all config fields, --label, a time; remembered for the next time."""
        # The config too: what `FROM stage` takes from it (ONBUILD, the base's CMD) changes no step's key.
        # And the manifest: a step that had to be made again has another layer under its old key.
        wanted = {
            "finish": dict(self.options.labels),
            "epoch": self.options.epoch,
            "config": target.position.state.config.to_json(),
            "manifest": target.manifest.digest,
        }
        key = step_key(target.position.key, wanted)
        record = self.lookup(key, self.plan.target)
        if record is not None and (not self.options.no_cache):
            image = self.store.images.image(record.manifest)
        elif only_look:
            raise Miss
        else:
            image = self._assemble(target)
            if not self.store.complete(image.descriptor):
                hint = "orca pull, or orca build --no-cache, makes the base image anew"
                raise StoreError("a layer of the base image is missing in the store, or damaged", hint=hint)
            state = target.position.state.to_json()
            record = StepRecord(key, "image", image.descriptor, target.position.snapshots, state, wanted)
            self.store.put_step(record)
        if self.options.tags:
            self.store.tag(self.options.tags, image.descriptor)
        return Result(
            image,
            sum(stage.cached for stage in self._done.values()),
            self.plan.total_steps,
            time.monotonic() - self.begun,
        )

    def _assemble(self, target: StageResult) -> Image:
        """The image as umoci left it, with the builder's own config: umoci drops fields that it does not know."""
        made = self.store.images.image(target.manifest)
        config = replace(
            target.position.state.config.with_labels(self.options.labels),
            created=self.timestamp(),
            diff_ids=made.config.diff_ids,
            history=tuple(_plain(entry) for entry in made.config.history),
        )
        return self.store.images.put_image(made.manifest, config)

    def _told(self, result: Result) -> Result:
        manifest = result.image.manifest
        self.emit(
            BuildFinished(
                self.options.tags,
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


def _plain(entry: History) -> History:
    return replace(entry, author=entry.author or None)


def read_small(path: Path, limit: int = 1 << 20) -> bytes:
    """A text file that must be a small regular one: nothing else is opened. Raises OrcaError."""
    import stat

    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OrcaError(f"{path} is not a regular file")
            data = file.read(limit + 1)
    except OSError as error:
        raise OrcaError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > limit:
        raise OrcaError(f"{path} is larger than {limit} bytes")
    return data


def prepare(options: Options) -> tuple[Settings, Plan]:
    """Scopes and the stage graph. Raises DockerfileError, UsageError."""
    global_args, _ = split(options.dockerfile)
    scope = scopes.make_scope(
        options.dockerfile,
        global_args,
        given=options.build_args,
        predefined=scopes.platform_args(options.platform, platforms.host()),
        proxies=options.proxies,
    )
    plan = make_plan(options.dockerfile, scope, target=options.target, platform=options.platform)
    settings = Settings(scope, options.network, options.hosts)
    refuse_early(plan, settings)
    return settings, plan


def refuse_early(plan: Plan, settings: Settings) -> None:
    """What this version does not have is said before anything is done. Raises NotYet.

    Other errors may depend on what comes before; they are told when their step is reached.
    """
    nothing = State(ImageConfig())
    for stage in plan.stages.values():
        for instruction in stage.instructions:
            try:
                table.translate(instruction, nothing, settings)
            except NotYet:
                raise
            except OrcaError:
                continue
