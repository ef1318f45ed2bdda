"""The images that FROM and --from name: in the store, or fetched once in a build."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from orca.dockerfile.instructions import From
from orca.errors import OrcaError, StoreError
from orca.events import Event, Warned
from orca.executor.options import Options
from orca.executor.position import Miss
from orca.oci.platform import Platform
from orca.plan.stages import named_context
from orca.sources import names
from orca.sources.names import platform_of, stored
from orca.store.layout import Image
from orca.store.store import Store

if TYPE_CHECKING:
    from orca.executor.rootfs import Workshop
    from orca.sources.images import Puller


IMAGE = "docker-image://"
LAYOUT = "oci-layout://"


class Bases:
    """The base images of one build. `puller` is there once the build may fetch."""

    def __init__(self, options: Options, store: Store, emit: Callable[[Event], None]) -> None:
        self.options = options
        self.store = store
        self.emit = emit
        self.puller: Puller | None = None
        self.used: dict[tuple[str, str], str] = {}
        """What (name, platform) turned out to be: the manifest's digest."""
        self._policy_used: dict[tuple[str, Platform], Image] = {}
        self._lock = threading.RLock()

    def image(
        self, text: str, platform: Platform, shop: Workshop | None, step: int, *, asked: bool, strict: bool
    ) -> tuple[Image, bool]:
        """The image that FROM names, and whether it was in the store already.

        `asked`: somebody chose the platform, so a registry is asked where the store has another one only.
        `strict`: an image for another platform than the one asked for is then an error, else a warning.
        """
        name = named_context(text, self.options.contexts.named)
        source = "" if name is None else self.options.contexts.named[name]
        if source.startswith(LAYOUT):
            return self._suited(
                self._layout(text, source, platform, shop), text, platform, strict=asked and strict
            ), True
        if source.startswith(IMAGE):
            text = source.removeprefix(IMAGE)
        policy = self.options.caching.pull
        there = names.in_store(self.store, text, platform) if policy in ("missing", "never") else None
        if there is not None and (found := stored(self.store, there, platform, fitting=asked)) is not None:
            return self._suited(found, text, platform, strict=asked and strict), True
        if shop is None:
            raise Miss
        with self._lock:
            if (text, platform) not in self._policy_used:
                assert self.puller is not None
                with self._or_a_stage(text):
                    fetched = self.puller.ensure(text, platform, policy, step, beside=asked)
                self._policy_used[text, platform] = fetched
            found = self._policy_used[text, platform]
        return self._suited(found, text, platform, strict=asked and strict), False

    @contextlib.contextmanager
    def _or_a_stage(self, text: str) -> Iterator[None]:
        """When no such image can be got, a stage of nearly that name may have been meant."""
        try:
            yield
        except OrcaError as error:
            import difflib

            stages = [each.stage for each in self.options.dockerfile.instructions
                      if isinstance(each, From) and each.stage]  # fmt: skip
            near = difflib.get_close_matches(text.lower(), stages, 1)
            if near and near[0] == text.lower():
                error.hint = f"the stage {near[0]} comes later: a stage reads only from those above it"
            elif near:
                error.hint = f"did you mean the stage {near[0]}? Else {error.hint or 'see above'}"
            raise

    def triggers(self, text: str, platform: Platform) -> int:
        """How many ONBUILD triggers the image has, as far as is known before anything is fetched."""
        if named_context(text, self.options.contexts.named) is not None:
            return 0
        with contextlib.suppress(OrcaError):
            if there := names.in_store(self.store, text, platform):
                return len(self.store.images.image(there, platform).config.onbuild)
        return 0

    def _layout(self, name: str, source: str, platform: Platform, shop: Workshop | None) -> Image:
        """The image of a named OCI layout, copied into the store once. Raises Miss, OrcaError."""
        from orca.sources import layouts

        with self._lock:
            if (source, platform) not in self._policy_used:
                found = layouts.find(source.removeprefix(LAYOUT), platform, what=f"--build-context {name}={source}")
                if shop is None and not self.store.complete(found.image.descriptor):
                    raise Miss
                layouts.bring(found, self.store)
                self._policy_used[source, platform] = found.image
            return self._policy_used[source, platform]

    def _suited(self, image: Image, text: str, platform: Platform, *, strict: bool) -> Image:
        """`image`, if it is for `platform`. One that is not only earns a warning, unless `strict`."""
        self.used[text, str(platform)] = image.descriptor.digest
        actual = platform_of(image)
        if actual is not None and platform.distance(actual) is None:
            message = f"{text} is for {actual}, not for {platform}"
            if strict:
                raise StoreError(message, hint="choose another base image, or another --platform")
            self.emit(Warned(message, hint="what it runs may not work here"))
        return self.store.images.oci(image)
