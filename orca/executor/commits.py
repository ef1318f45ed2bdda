"""What a stage has done, written into its image: in the background, one step after the other.

The upper directory of a finished step does not change any more, so packing it overlaps with the next step.
What the next step needs is the builder's own state, never what umoci wrote.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orca.dispatch.ops import ConfigOp, Step
from orca.dispatch.state import State
from orca.events import LayerCommitted
from orca.executor.position import Position, shown
from orca.oci.image import Descriptor
from orca.plan.stages import Stage
from orca.store.store import StepRecord

# A build that comes from the cache commits nothing, and loads nothing of what would do it.
if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from orca.executor.build import Build
    from orca.executor.links import Link
    from orca.executor.rootfs import RootFs, Upper, Workshop
    from orca.store.layout import Layout


@dataclass(frozen=True)
class Commit:
    """A step that is done and waits to be written into the image; `rootfs` is the stack that `upper` lies on."""

    number: int
    step: Step
    before: State
    after: Position
    ingredients: dict[str, Any]
    upper: Upper | None
    rootfs: RootFs | None
    root_changed: bool = False
    link: Link | None = None


class Commits:
    """The commits of one stage, and the manifest that they have come to. With `shop` None there are none."""

    def __init__(self, build: Build, stage: Stage, shop: Workshop | None) -> None:
        self.build = build
        self.stage = stage
        self.shop = shop
        self.manifest: Descriptor | None = None
        """The image as it is after the last step that is settled. Change it by `begin_at` only."""
        self.claims: set[str] = set()
        """Keys of steps that are ours to make."""
        self.unstacked: list[Position] = []
        """Remembered with their loose snapshots alone, while nobody had unpacked what is below them."""
        self._layout: Layout | None = None
        self._queue: ThreadPoolExecutor | None = None
        self._waiting: list[Future[None]] = []

    def begin_at(self, manifest: Descriptor | None, layout: Layout | None = None) -> None:
        """The next step is put on this image; `layout` is a private one that has it already. Nothing may wait."""
        self.manifest, self._layout = manifest, layout

    # -- the queue

    def add(self, commit: Commit) -> None:
        """Commit a step when those before it are. Raises what an earlier commit has raised."""
        self.enqueue(lambda: self._commit_located(commit))

    def enqueue(self, job: Callable[[], None]) -> None:
        """Do something in the background, after what is waiting already."""
        from concurrent.futures import ThreadPoolExecutor

        if self._queue is None:
            self._queue = ThreadPoolExecutor(1, f"commit-{self.stage.label}")
        self._raise_failed()
        self._waiting.append(self._queue.submit(job))

    def _raise_failed(self) -> None:
        """A commit that failed stops the stage at once."""
        while self._waiting and self._waiting[0].done():
            self._waiting.pop(0).result()

    def settle(self) -> None:
        """Wait until everything is committed. Raises what a commit has raised."""
        while self._waiting:
            self._waiting.pop(0).result()

    def end(self) -> None:
        """Let go of the queue, and of what was to be made and is not."""
        if self._queue is not None:
            self._queue.shutdown(wait=True, cancel_futures=True)
        for key in self.claims:
            self.build.shared.abandon(key)

    # -- one commit

    def _commit_located(self, commit: Commit) -> None:
        assert self.shop is not None
        begun = time.monotonic()
        with self.build.at(commit.step.instruction, commit.number, begun):
            made = (
                self._commit(commit, self.shop) if commit.link is None else self._link(commit, commit.link, self.shop)
            )
            if commit.upper is not None:
                _keep(commit.upper, commit.rootfs, self.shop)
            self._remember(commit, made)
            if not isinstance(commit.step.op, ConfigOp):
                digest, size = (made.digest, made.size) if made else ("", 0)
                self.build.emit(LayerCommitted(commit.number, digest, size, time.monotonic() - begun))

    def _commit(self, commit: Commit, shop: Workshop) -> Descriptor | None:
        """Write the layer or the config of one step into the image. Returns the layer, if there is one."""
        from orca.executor import layer
        from orca.tools import umoci

        layout = self._private_layout(shop)
        entry = umoci.Entry(commit.step.history, self.build.timestamp())
        before, after = commit.before.config, commit.step.state.config
        made: Descriptor | None = None
        if commit.upper is not None:
            made = layer.commit(
                commit.upper.fs, commit.upper.place / "pack", layout, entry, shop.runner,
                root=commit.root_changed, named_whiteouts=commit.upper.named_whiteouts,
                clamp=self.build.options.naming.epoch, exact=self.build.options.naming.exact_times, step=commit.number,
            )  # fmt: skip
        if made is None or before != after:
            # The layer has brought the history entry, if there is one.
            command = umoci.config(layout.path, before, after, entry if made is None else None)
            shop.runner.run(command, step=commit.number)
        self.manifest = layout.index()[umoci.TAG].plain()
        return made

    def _link(self, commit: Commit, link: Link, shop: Workshop) -> Descriptor | None:
        """Put the layer of a COPY --link on the image, packing it first if nobody has. Returns the layer."""
        from orca.executor import links
        from orca.tools import umoci

        entry = umoci.Entry(commit.step.history, self.build.timestamp())
        text, images = shown(commit.step.instruction), self.build.store.images
        if link.record is not None:
            alone = images.image(link.record.manifest)
        else:
            alone = links.pack(commit.upper, link, text, shop, entry, self.build.options.naming, commit.number)
        assert self.manifest is not None
        self.manifest = links.put_on(images.image(self.manifest), alone, entry, images).descriptor
        if self._layout is not None:
            self._layout.write_index({umoci.TAG: self.manifest})
        return alone.manifest.layers[0] if alone.manifest.layers else None

    def _private_layout(self, shop: Workshop) -> Layout:
        from orca.tools import umoci

        if self._layout is None:
            assert self.manifest is not None
            self._layout = shop.layout()
            self._layout.write_index({umoci.TAG: self.manifest})
        return self._layout

    def _remember(self, commit: Commit, made: Descriptor | None) -> None:
        assert self.manifest is not None
        if commit.after.loose:
            self.unstacked.append(commit.after)
        text = shown(commit.step.instruction)
        record = StepRecord(
            commit.after.key,
            text,
            self.manifest,
            commit.after.snapshots,
            commit.after.state.to_json(),
            commit.ingredients,
            made,
            self.build.timestamp(),
            self.build.id,
            commit.number,
        )
        self.build.store.put_step(record)
        self.build.note(self.stage.index, record.key)
        self.build.reached(commit.number, self.stage, text, record.key, record.manifest)
        self.build.shared.done(record)
        self.claims.discard(record.key)


def _keep(upper: Upper, rootfs: RootFs | None, shop: Workshop) -> None:
    """Move a packed upper directory into the store."""
    from orca.executor.rootfs import RootFs

    (rootfs or RootFs(shop, ())).keep(upper)
