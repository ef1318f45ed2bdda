"""The images that FROM and --from name: in the store, or fetched once in a build."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from orca.errors import StoreError
from orca.events import Event, Warned
from orca.executor.options import Options
from orca.executor.stage import Miss
from orca.oci import platform as platforms
from orca.oci.platform import Platform
from orca.sources import names
from orca.store.layout import Image
from orca.store.store import Store

if TYPE_CHECKING:
    from orca.executor.rootfs import Workshop
    from orca.sources.images import Puller


class Bases:
    """The base images of one build. `puller` is there once the build may fetch."""

    def __init__(self, options: Options, store: Store, emit: Callable[[Event], None]) -> None:
        self.options = options
        self.store = store
        self.emit = emit
        self.puller: Puller | None = None
        self._policy_used: dict[str, Image] = {}
        self._lock = threading.RLock()

    def image(self, text: str, platform: Platform, shop: Workshop | None, step: int) -> tuple[Image, bool]:
        """The image that FROM names, and whether it was in the store already."""
        there = names.in_store(self.store, text) if self.options.caching.pull in ("missing", "never") else None
        if there is not None:
            return self._suited(self.store.images.image(there, platform), text, platform), True
        if shop is None:
            raise Miss
        with self._lock:
            if text not in self._policy_used:
                assert self.puller is not None
                self._policy_used[text] = self.puller.ensure(text, platform, self.options.caching.pull, step)
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
