"""Builds for several platforms at once: one `Build` each, then an index of what they made."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from orca.errors import Interrupted
from orca.events import BuildFinished, BuildStarted, Emit, Event, Part, Warned, ignore
from orca.executor import annotate
from orca.executor.build import Build
from orca.executor.options import Options, Result
from orca.executor.shared import Shared
from orca.oci.image import Descriptor
from orca.oci.index import Index
from orca.sources.names import entry_of, platform_of
from orca.store.layout import Image
from orca.store.store import Store

if TYPE_CHECKING:
    from orca.executor.rootfs import Workshop


class Builds:
    """As `Build`, for all of `options.platforms`. What does not depend on the platform is built once."""

    def __init__(self, options: Options, store: Store, emit: Emit = ignore) -> None:
        self.options = options
        self.store = store
        self.emit = emit
        self.begun = time.monotonic()
        self.shared = Shared(options, store, self._tell, several=True)
        self.id = self.shared.id
        self.builds: list[Build] = []
        self._told_warnings: set[Warned] = set()
        self._unsaid: list[Warned] = []
        # The image of one platform has no name: the index gets it.
        bare = replace(options, naming=replace(options.naming, tags=()))
        first = 1
        for platform in options.platforms:
            build = Build(replace(bare, platform=platform), store, self._tell, self.shared, first)
            self.builds.append(build)
            first += build.plan.total_steps

    def _tell(self, event: Event) -> None:
        """Emit; what is worth a warning for every platform is said once."""
        if isinstance(event, Warned):
            if event in self._told_warnings:
                return
            self._told_warnings.add(event)
        self.emit(event)

    def from_cache(self) -> Result | None:
        """The index, if every step for every platform is in the cache; nothing is written but it. None when not."""
        events: list[Event] = []
        emit, self.emit = self.emit, events.append
        try:
            self._announce()
            images = []
            for build in self.builds:
                image = build.look()
                if image is None:
                    # What COPY reads is looked up once: `run` will not come upon these again.
                    self._unsaid = [event for event in events if isinstance(event, Warned)]
                    return None
                images.append(image)
        finally:
            self.emit = emit
            self.shared.restart()
        for event in events:
            emit(event)
        return self._finish(images)

    def run(self, shop: Workshop) -> Result:
        """Build for all platforms, inside the sandbox. Raises what the first failing step raised."""
        (self.store.root / "builds" / self.id).mkdir(mode=0o700, exist_ok=True)
        self._announce()
        for event in self._unsaid:
            self.emit(event)
        for build in self.builds:
            build.check_machine(shop)
        try:
            return self._finish(self._carry_out(shop))
        finally:
            self.shared.trace.write()

    def _carry_out(self, shop: Workshop) -> list[Image]:
        from concurrent.futures import ThreadPoolExecutor

        jobs = 1 if self.options.in_order else self.options.jobs or max(2, os.cpu_count() or 1)
        at_once = min(jobs, len(self.builds))
        for build in self.builds:
            build.options = replace(build.options, jobs=jobs // at_once)
        pool = ThreadPoolExecutor(at_once, "platform")
        try:
            return [future.result() for future in [pool.submit(build.carry_out, shop) for build in self.builds]]
        except Interrupted:
            raise self.shared.failed or Interrupted("interrupted") from None
        except Exception as error:
            # The others end as they are killed: only what came first tells the reason.
            raise self.shared.failed or error from None
        except BaseException:
            Build.kill_all(shop.runner)
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _announce(self) -> None:
        parts = tuple(
            Part(str(build.options.platform), min(stage.first_step for stage in build.plan.stages.values()),
                 build.plan.total_steps)
            for build in self.builds
        )  # fmt: skip
        steps = sum(part.steps for part in parts)
        self.emit(BuildStarted(self.id, self.options.dockerfile.name, steps, self.options.naming.tags, parts))

    def _finish(self, images: Sequence[Image]) -> Result:
        """Put the images together, name the index, tell."""
        platforms = [build.options.platform for build in self.builds]
        for platform, image in zip(platforms, images, strict=True):
            actual = platform_of(image)
            if actual is not None and platform.distance(actual) is None:
                hint = "a stage FROM --platform=$BUILDPLATFORM is for building, not for the image"
                self._tell(Warned(f"the image for {platform} says that it is for {actual}", hint=hint))
        index = self.store.images.put_index(
            annotate.index(Index(tuple(map(entry_of, images, platforms))), self.options.naming.annotations)
        )
        if self.options.naming.tags:
            self.store.tag(self.options.naming.tags, index)
        result = Result(
            images[0],
            sum(build.cached for build in self.builds),
            max(build.steps for build in self.builds),
            time.monotonic() - self.begun,
            index,
            tuple(zip(platforms, images, strict=True)),
        )
        self.emit(_finished(result, index, self.options.naming.tags))
        return result


def _finished(result: Result, index: Descriptor, tags: tuple[str, ...]) -> BuildFinished:
    layers = {layer.digest: layer.size for _, image in result.images for layer in image.manifest.layers}
    return BuildFinished(
        tags, index.digest, "", sum(layers.values()), len(layers), result.seconds, result.cached, result.steps,
        tuple(str(platform) for platform, _ in result.images),
    )  # fmt: skip
