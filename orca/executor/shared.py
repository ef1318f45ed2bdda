"""What the builds of one command share: a record, base images, the context, and the steps that several need.

A build for one platform has all this for itself.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from orca.events import Event
from orca.executor.bases import Bases
from orca.executor.inputs import Inputs
from orca.executor.named import Named
from orca.executor.options import Options
from orca.executor.remotes import Remotes
from orca.store.store import StepRecord, Store

if TYPE_CHECKING:
    from orca.executor.trace import Trace


class Shared:
    """`several` says that there is more than one build. `mark` ends the record's name."""

    def __init__(
        self, options: Options, store: Store, emit: Callable[[Event], None], *, several: bool = False, mark: str = ""
    ) -> None:
        self.id = time.strftime("%Y%m%dT%H%M%S-", time.gmtime()) + os.urandom(2).hex() + mark
        self._options = options
        self._store = store
        self._trace: Trace | None = None
        self.inputs = Inputs(options, store, emit)
        self.bases = Bases(options, store, emit)
        self.remotes = Remotes(store, emit)
        self.named = Named(options, store, emit)
        self.failed: BaseException | None = None
        """What ended the first build that failed; the others are then ended, and say nothing of interest."""
        self._several = several
        self._steps = 0
        self._extra = 0
        self._making: dict[str, threading.Event] = {}
        self._made: dict[str, StepRecord] = {}
        self._lock = threading.Lock()

    @property
    def trace(self) -> Trace:
        """What the build does, for `orca why`; a build that comes from the cache has none."""
        from orca.executor.trace import Trace

        with self._lock:
            self._trace = self._trace or Trace(self._options, self._store, self.id)
            return self._trace

    def number_from(self, steps: int) -> None:
        """So many steps have numbers; those that the Dockerfile does not show follow."""
        self._steps, self._extra = steps, 0

    @property
    def steps(self) -> int:
        """How many steps have a number by now."""
        return self._steps + self._extra

    def restart(self) -> None:
        """The second pass numbers its extra steps anew."""
        self._extra = 0

    def extra_step(self, more: int = 0) -> int:
        """A number for a step that the Dockerfile does not show, with room for `more` after it."""
        with self._lock:
            self._extra += 1 + more
            return self._steps + self._extra - more

    def fail(self, error: BaseException) -> None:
        """Remember the first failure."""
        with self._lock:
            self.failed = self.failed or error

    # -- steps that several platforms have in common

    def made(self, key: str) -> StepRecord | None:
        """The step, if a build of this command has made it."""
        return self._made.get(key)

    def claim(self, key: str) -> bool:
        """True: the caller makes the step, and says `done` or `abandon`. False: somebody else has, or has given up."""
        if not self._several:
            return True
        with self._lock:
            busy = self._making.get(key)
            if busy is None:
                self._making[key] = threading.Event()
                return True
        busy.wait()
        return False

    def done(self, record: StepRecord) -> None:
        """The step is in the cache."""
        if self._several:
            self._made[record.key] = record
            self.abandon(record.key)

    def abandon(self, key: str) -> None:
        """The step will not be made by the caller; no harm if it has been."""
        with self._lock:
            busy = self._making.pop(key, None)
        if busy is not None:
            busy.set()
