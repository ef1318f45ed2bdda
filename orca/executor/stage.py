"""One stage: its instructions translated, looked up in the step cache, carried out.

What a step has made is committed in the background (see `commits`).
"""

from __future__ import annotations

import contextlib
import functools
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orca.dispatch import table
from orca.dispatch.ops import ConfigOp, ExecOp, FileOp, Op, Step
from orca.dispatch.state import State, from_base
from orca.dockerfile.instructions import Copy, Instruction
from orca.errors import OrcaError
from orca.events import StepFinished, StepStarted
from orca.executor.commits import Commit, Commits
from orca.executor.position import Miss, Position, StageResult, shown
from orca.oci.image import DEFAULT_PATH, Descriptor, ImageConfig
from orca.plan.cachekey import step_key
from orca.plan.stages import SCRATCH, Stage
from orca.sources.tree import digest_items
from orca.store.store import StepRecord

# A build that comes from the cache does nothing, and loads nothing of what would do it.
if TYPE_CHECKING:
    from orca.executor.build import Build
    from orca.executor.rootfs import RootFs, Upper, Workshop
    from orca.sources.tree import Item


_BLANKS = re.compile(r"\s+")


class StageBuilder:
    """Builds one stage; used once. `shop` None means: only look whether the cache has everything."""

    def __init__(self, build: Build, stage: Stage, shop: Workshop | None) -> None:
        self.build = build
        self.stage = stage
        self.shop = shop
        self.begun = build.begun_stages.get(stage.index)
        self.cached = 0
        self._anew = build.wanted_anew(stage)
        self._only_key = False
        self._commits = Commits(build, stage, shop)
        self._rootfs: RootFs | None = None
        self._below: Descriptor | None = None  # what is below the loose snapshots
        self._base_layers = 0
        self._triggers: tuple[str, ...] = ()

    def run(self) -> StageResult:
        """Carry out the whole stage. Raises Miss when only looking, OrcaError on failure."""
        try:
            position = self._from() if self.begun is None else self._go_on(self.begun)
            for number, instruction in self._instructions(position):
                position = self._step(number, instruction, position)
            self._commits.settle()
        except OrcaError:
            # What was done before the step that failed is worth keeping: the next build begins there.
            with contextlib.suppress(Exception):
                self._commits.settle()
            raise
        finally:
            self._commits.end()
        if self._commits.manifest is None:
            raise Miss
        return StageResult(
            position, self._commits.manifest, self._rootfs, self.cached, self._anew, self._base_layers, self._only_key
        )

    def _go_on(self, begun: StageResult) -> Position:
        """Stand where somebody has ended, as if the same stage went on."""
        self._rootfs, self._base_layers = begun.rootfs, begun.base_layers
        self._commits.begin_at(None if begun.only_key else begun.manifest)
        self._anew |= begun.anew
        return begun.position

    def _instructions(self, position: Position) -> Iterator[tuple[int, Instruction]]:
        """The base's ONBUILD triggers, then the stage's own instructions, with their step numbers."""
        next_step = self.stage.first_step + 1
        for offset, trigger in enumerate(self._triggers):
            number = next_step + offset if offset < self.stage.triggers else self.build.extra_step()
            yield number, self.build.parse_trigger(trigger, self.stage)
        yield from enumerate(self.stage.instructions, next_step + self.stage.triggers)

    @property
    def _on_tree(self) -> bool:
        """FROM a named context of files alone: they are copied to an empty root."""
        return isinstance(self.stage.base, str) and self.build.named.is_tree(self.stage.base)

    def _copy_of_tree(self, position: Position) -> Step:
        word = str(self.stage.base)
        copy = Copy(
            span=self.stage.origin.span, text=f"COPY --from={word} / /", sources=("/",), destination="/", from_=word
        )
        return table.translate(copy, position.state, self.build.settings)

    # -- FROM

    def _from(self) -> Position:
        number, begun = self.stage.first_step, time.monotonic()
        why = "The stage begins with the files and the config of its base image."
        self._tell_start(number, self.stage.origin, why)
        with self.build.at(self.stage.origin, number, begun):
            position, cached = self._base(number)
            self._reached(number, self.stage.origin, position.key, self._commits.manifest)
            if self.build.options.naming.env:
                position = replace(position, state=position.state.with_env(self.build.options.naming.env))
            if self._on_tree:
                position, copied = self._carry_out(number, self._copy_of_tree(position), position, traced=False)
                cached = cached and copied
        if self.shop is not None:
            self.build.shared.trace.base(self.stage, number, position.key, self._base_made_of(), cached=cached)
        self.cached += cached
        self.build.emit(StepFinished(number, time.monotonic() - begun, cached))
        return position

    def _base_made_of(self) -> dict[str, Any]:
        """What FROM began with, for `orca why`."""
        platform = str(self.stage.platform)
        if isinstance(self.stage.base, int):
            return {"stage": self.build.plan.stages[self.stage.base].label, "platform": platform}
        empty = self._on_tree or self.stage.base.lower() == SCRATCH
        manifest = self._commits.manifest
        digest = manifest.digest if manifest and not empty else SCRATCH
        return {"from": digest, "image": self.stage.base, "platform": platform}

    def _base(self, number: int) -> tuple[Position, bool]:
        """The state to begin with, and whether nothing had to be done for it."""
        if isinstance(self.stage.base, int):
            below = self.build.stage_result(self.stage.base, self.shop)
            position = self._go_on(below)
            self._triggers = position.state.config.onbuild
            state = replace(position.state, config=replace(position.state.config, onbuild=()), cmd_set=False)
            return Position(position.key, state, position.snapshots), True
        if self.stage.base.lower() == SCRATCH or self._on_tree:
            return self._scratch(number)
        image, cached = self.build.bases.image(
            self.stage.base, self.stage.platform, self.shop, number, asked=self.stage.asked, strict=True
        )
        self._commits.begin_at(image.descriptor)
        self._base_layers = len(image.manifest.layers)
        self._triggers = image.config.onbuild
        key = step_key("", {"from": image.descriptor.digest, "platform": str(self.stage.platform)})
        return Position(key, from_base(image.config)), cached

    def _scratch(self, number: int) -> tuple[Position, bool]:
        """FROM scratch: an image without layers, the same for everybody."""
        platform = self.stage.platform
        config = ImageConfig(
            architecture=platform.architecture,
            os=platform.os,
            variant=platform.variant,
            env=(("PATH", DEFAULT_PATH),),
            working_dir="/",
        )
        key = step_key("", {"from": SCRATCH, "platform": str(platform)})
        position = Position(key, State(config))
        record = self.build.lookup(key, self.stage)
        if record is not None:
            self._commits.begin_at(record.manifest)
            return position, True
        shop = self._needs_shop()
        from orca.tools import umoci

        layout = shop.layout()
        shop.runner.run(umoci.new(layout.path), step=number)
        shop.runner.run(umoci.config(layout.path, ImageConfig(os="linux"), config, None), step=number)
        manifest = layout.index()[umoci.TAG].plain()
        self._commits.begin_at(manifest, layout)
        shop.store.put_step(StepRecord(key, "FROM scratch", manifest, (), position.state.to_json(), {}))
        return position, False

    # -- steps

    def _step(self, number: int, instruction: Instruction, before: Position) -> Position:
        begun = time.monotonic()
        with self.build.at(instruction, number, begun):
            step = table.translate(instruction, before.state, self.build.settings)
            self._tell_start(number, instruction, step.op.describe())
            position, cached = self._carry_out(number, step, before)
        self.cached += cached
        self.build.emit(StepFinished(number, time.monotonic() - begun, cached))
        return position

    def _carry_out(self, number: int, step: Step, before: Position, *, traced: bool = True) -> tuple[Position, bool]:
        """Take the step from the cache, or do it; where the stage stands then, and whether it was in the cache."""
        ingredients = {**step.op.ingredients(), "history": step.history, **self._extra(step.op, number)}
        ingredients |= self.build.options.naming.ingredients()
        key = step_key(before.key, ingredients)
        self._anew = self._anew or self._reads_anew(step.op)
        record = self._known(key)
        cached = record is not None
        if traced:
            self._trace(number, step, key, ingredients, cached=cached)
        self._reached(number, step.instruction, key, record.manifest if record else None)
        if record is not None:
            self.build.hits.add(number)
            position = self._take(record, step)
        elif self._may_pass():
            self._only_key = cached = True
            position = Position(key, step.state)
        elif isinstance(step.op, FileOp) and step.op.link:
            position, cached = self._do_link(number, step, before, key, ingredients)
        else:
            position = self._do(number, step, before, key, ingredients)
        if self.build.options.in_order:
            self._commits.settle()
        return position, cached

    def _known(self, key: str) -> StepRecord | None:
        """The step, if it is in the cache, or made for another platform meanwhile; else it is ours to make."""
        shared = self.build.shared
        while True:
            record = shared.made(key) if self._anew else self.build.lookup(key, self.stage)
            if record is not None or self.shop is None:
                return record
            if shared.claim(key):
                self._commits.claims.add(key)
                # Whoever let go of it between our look and our claim has left a record.
                return shared.made(key)

    def _may_pass(self) -> bool:
        """Only looking, a step is missing, and the stage is not the image: whoever reads this stage may be cached all
        the same, and then nobody needs its files.
        """
        return self.shop is None and not self._anew and self.stage is not self.build.plan.target

    def _tell_start(self, number: int, instruction: Instruction, why: str) -> None:
        text = _BLANKS.sub(" ", shown(instruction))
        self.build.emit(StepStarted(number, self.stage.label, text, instruction.span.first, why))

    def _reached(self, number: int, instruction: Instruction, key: str, manifest: Descriptor | None) -> None:
        self.build.reached(number, self.stage, shown(instruction), key, manifest)

    def _extra(self, op: Op, number: int) -> dict[str, Any]:
        """What a FileOp reads, which only the executor can know."""
        if isinstance(op, ExecOp) and op.mounts:
            return {"sources": self.build.mount_keys(op, self.stage, self.shop)}
        if not isinstance(op, FileOp):
            return {}
        if op.from_ is None:
            found: dict[str, Any] = {"files": self.build.inputs.context_digest(op)}
            if op.remotes:
                found["fetched"] = [self.build.remotes.key(remote, self.shop, number) for remote in op.remotes]
            return found
        if self.build.reads_tree(op.from_, self.stage):
            return {"files": self.build.named.copy_key(op, self.build.inputs, self.shop)}
        return {"source": self.build.source_key(op.from_, self.stage, self.shop)}

    def _trace(self, number: int, step: Step, key: str, ingredients: dict[str, Any], *, cached: bool) -> None:
        """Note the step for `orca why`; what a step that is carried out reads of the context is listed beside it."""
        if self.shop is None:
            return
        from orca.sources import listing

        trace, store = self.build.shared.trace, self.build.store
        for digest, items in () if cached else self._read_from_context(step.op, ingredients):
            trace.files(digest, items)
            self._commits.enqueue(functools.partial(listing.keep, store.root, digest, items))
        surprise = trace.step(
            self.stage, number, step.instruction.span.first, shown(step.instruction), key, ingredients, step.state,
            cached=cached, anew=self._anew,
        )  # fmt: skip
        if surprise is not None:
            self.build.emit(surprise)

    def _read_from_context(self, op: Op, ingredients: dict[str, Any]) -> Iterator[tuple[str, list[Item]]]:
        """The files of a step by the digest that its ingredients have."""
        inputs = self.build.inputs
        if isinstance(op, FileOp) and op.sources and op.from_ is None:
            yield ingredients["files"], inputs.items(op, inputs.context())
        if isinstance(op, ExecOp):
            for mount in op.mounts:
                if mount.kind == "bind" and mount.from_ is None:
                    items = [inputs.mount_item(mount, inputs.context())]
                    yield digest_items(items, owners=False), items

    def _reads_anew(self, op: Op) -> bool:
        """Does this step read a stage that had to be carried out anew?"""
        words = [mount.from_ for mount in op.mounts] if isinstance(op, ExecOp) else [getattr(op, "from_", None)]
        return any(self.build.is_anew(word, self.stage, self.shop) for word in words if word is not None)

    def _take(self, record: StepRecord, step: Step) -> Position:
        """Go on from a cached step."""
        self._commits.settle()
        self.build.note(self.stage.index, record.key)
        self._commits.begin_at(record.manifest)
        self._rootfs, self._below = None, None
        return Position(record.key, step.state, record.snapshots)

    def _needs_shop(self) -> Workshop:
        if self.shop is None:
            raise Miss
        return self.shop

    def _do(self, number: int, step: Step, before: Position, key: str, ingredients: dict[str, Any]) -> Position:
        shop = self._needs_shop()
        upper: Upper | None = None
        snapshots = before.snapshots
        root_changed = False
        if not isinstance(step.op, ConfigOp):
            from orca.executor import effects

            rootfs = self._materialise(number, before)
            work = effects.Work(self.build, self.stage, shop, rootfs, number, step.instruction)
            upper, root_changed = effects.EFFECTS[type(step.op)](step.op, work)
            if upper is not None:
                effects.clamp_times(upper, self.build.options.naming)
                self._rootfs = rootfs.with_upper(upper)
            snapshots = self._rootfs.names if self._rootfs else ()
        after = Position(key, step.state, snapshots, before.loose if self._rootfs is None else ())
        commit = Commit(number, step, before.state, after, ingredients, upper, self._rootfs, root_changed)
        self._commits.add(commit)
        return after

    def _do_link(
        self, number: int, step: Step, before: Position, key: str, ingredients: dict[str, Any]
    ) -> tuple[Position, bool]:
        """COPY --link: its layer, made now or long ago, on what is below; and whether it was there already."""
        shop = self._needs_shop()
        from orca.executor import effects, links
        from orca.executor.rootfs import RootFs

        assert isinstance(step.op, FileOp)
        link = links.describe(
            step.op, ingredients, self._materialise(number, before) if links.names_owner(step.op) else None
        )
        link = replace(link, record=None if self._anew else self.build.lookup(link.key, self.stage))
        upper: Upper | None = None
        if link.record is None:
            work = effects.Work(self.build, self.stage, shop, RootFs(shop, ()), number, step.instruction, link.owner)
            upper, _ = effects.copy_files(step.op, work)
            if upper is not None:
                effects.clamp_times(upper, self.build.options.naming)
        names = link.record.snapshots if link.record else ((upper.name,) if upper else ())
        snapshots, loose = self._stack(before, names, upper)
        after = Position(key, step.state, snapshots, loose)
        commit = Commit(number, step, before.state, after, ingredients, upper, self._rootfs, link=link)
        self._commits.add(commit)
        return after, link.record is not None

    def _stack(
        self, before: Position, names: tuple[str, ...], upper: Upper | None
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Put the snapshot of a COPY --link on the stack. Nothing is unpacked for it.

        Returns the whole stack, empty while nobody has unpacked what is below, and the loose snapshots on that.
        """
        from orca.executor.rootfs import RootFs

        shop = self._needs_shop()
        if upper is None and not shop.store.has_snapshots(names):
            self._commits.settle()
            self._rootfs, self._below = None, None  # whoever needs the files unpacks the whole image
            return (), ()
        if self._rootfs is None and self._below is None:
            self._commits.settle()
            assert self._commits.manifest is not None
            base = shop.unpacked(shop.store.images.image(self._commits.manifest))
            if before.snapshots and shop.usable(before.snapshots):
                self._rootfs = RootFs(shop, before.snapshots)
            elif base is not None:
                self._rootfs = RootFs(shop, (base,))
            else:
                self._below, self._commits.unstacked = self._commits.manifest, []
        if self._rootfs is None:
            return (), (*names, *before.loose)
        for name in names:
            self._rootfs = self._rootfs.with_upper(upper) if upper else self._rootfs.with_snapshot(name)
        return self._rootfs.names, ()

    def _materialise(self, number: int, position: Position) -> RootFs:
        """The root file system at `position`: the snapshots that are there, or the image unpacked."""
        from orca.executor.rootfs import RootFs

        shop = self._needs_shop()
        if self._rootfs is None and position.snapshots and shop.usable(position.snapshots):
            self._rootfs = RootFs(shop, position.snapshots)
        if self._rootfs is not None and not self._rootfs.fits():
            self._commits.settle()  # in the store, snapshots have shorter names
        if self._rootfs is None or not self._rootfs.fits():
            self._commits.settle()
            self._rootfs = RootFs(shop, self._unpack(number, position))
        return self._rootfs

    def _unpack(self, number: int, position: Position) -> tuple[str, ...]:
        """The snapshots of the stage's files: all of the image unpacked, or what is below the loose ones."""
        shop, below = self._needs_shop(), self._below
        if below is None or not shop.usable(position.loose):
            assert self._commits.manifest is not None
            return (shop.unpack(shop.store.images.image(self._commits.manifest), number),)
        base = shop.unpack(shop.store.images.image(below), number)
        for known in self._commits.unstacked:
            if record := shop.store.step(known.key):
                shop.store.put_step(replace(record, snapshots=(*known.loose, base)))
        self._below = None
        return (*position.loose, base)
