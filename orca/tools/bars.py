"""skopeo's progress bars, read back: on a terminal it tells of each blob how much of it has been sent.

    Copying blob e101d5be206a [====>------] 11.6MiB / 80.0MiB
    Copying blob 8b7d3dbbe820 done
    Copying blob 54956d8bd71b skipped: already exists

Nothing depends on them: what cannot be read is passed over, and without bars there is less to see.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from orca.events import Emit, Progress

SHOWN = 12
"""Digits by which skopeo names a blob."""
WINDOW = 3.0
"""Seconds over which a rate is taken."""
_LONGEST = 4096
_NUMBER = r"([0-9.]+) ?([KMGT]i?)?[bB]"
_BAR = re.compile(rf"Copying blob (?:sha256:)?([0-9a-f]{{12}})\w*(?: (done|skipped)|.*? {_NUMBER} / {_NUMBER})")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True)
class Bar:
    """How far a blob is. `there`: the other side has it already; `ended`: nothing more of it will come."""

    blob: str
    done: int = 0
    ended: bool = False
    there: bool = False


def parse(line: str) -> Bar | None:
    """What a line says of a blob, if it does."""
    match = _BAR.search(line)
    if match is None:
        return None
    if match[2]:
        return Bar(match[1], ended=True, there=match[2] == "skipped")
    try:
        return Bar(match[1], int(float(match[3]) * _UNITS[(match[4] or "")[:1]]))
    except ValueError:
        return None


class Rate:
    """Bytes per second over the last seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()

    def __call__(self, done: int) -> int | None:
        """The rate, now that `done` bytes have come; None while it is too early to say."""
        now = self._clock()
        self._seen.append((now, done))
        while now - self._seen[0][0] > WINDOW and len(self._seen) > 2:
            self._seen.popleft()
        then, before = self._seen[0]
        return int((done - before) / (now - then)) if now - then >= 0.3 else None


class Bars:
    """Takes what skopeo writes to its terminal, emits Progress for each blob and for all of them (`what`).

    `sizes` are the blobs that are expected, by digest. A blob that the other side has counts as done, not as sent.
    """

    def __init__(
        self, what: str, sizes: Mapping[str, int], emit: Emit, step: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._what = what
        self._sizes = {digest.partition(":")[2][:SHOWN]: size for digest, size in sizes.items()}
        self._emit = emit
        self._step = step
        self._clock = clock
        self._rest = ""
        self._known: dict[str, Bar] = {}
        self._rates: dict[str, Rate] = {}

    @property
    def seen(self) -> bool:
        """Has there been any bar?"""
        return bool(self._known)

    def feed(self, data: bytes) -> None:
        """Take a piece of what was written."""
        *lines, self._rest = re.split(r"[\r\n]+", self._rest + data.decode("utf-8", "replace"))
        self._rest = self._rest[-_LONGEST:]
        for line in lines:
            bar = parse(line)
            if bar is not None and bar.blob in self._sizes and self._known.get(bar.blob) != bar:
                self._take(bar)

    def _take(self, bar: Bar) -> None:
        before = self._known.get(bar.blob)
        if before is not None and before.ended:
            return
        self._known[bar.blob] = bar
        size, done = self._sizes[bar.blob], self._done(bar.blob)
        rate = None if bar.ended else self._rate(bar.blob, done)
        self._emit(Progress(self._step, f"blob {bar.blob}", done, size, rate=rate))
        sent = sum(self._done(blob) for blob, each in self._known.items() if not each.there)
        all_done = sum(map(self._done, self._known))
        self._emit(Progress(self._step, self._what, all_done, sum(self._sizes.values()), rate=self._rate("", sent)))

    def _done(self, blob: str) -> int:
        bar = self._known[blob]
        return self._sizes[blob] if bar.ended else min(bar.done, self._sizes[blob])

    def _rate(self, blob: str, done: int) -> int | None:
        return self._rates.setdefault(blob, Rate(self._clock))(done)
