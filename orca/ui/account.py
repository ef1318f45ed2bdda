"""What a build did, told from the events of its record: steps, the calls of each, when they were and what came of them.

Events are JSON objects as `Event.to_json` makes them, each with its `time` (seconds since 1970). A record may be
cut off anywhere, and fields may be missing or of a strange type: what cannot be used is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = Mapping[str, Any]


@dataclass
class Call:
    """One command. `begun` counts seconds from the build's beginning; `seconds` is None when it did not end.

    `by_orca` says that no process was started: orca made the system call itself.
    """

    step: int | None
    argv: tuple[str, ...]
    why: str
    begun: float
    by_orca: bool = False
    seconds: float | None = None
    exit_code: int | None = None


@dataclass
class StepAccount:
    """One step. `layer` is the digest of its layer: "" when it made none, None when it could not."""

    number: int
    stage: str
    text: str
    line: int
    why: str
    begun: float
    seconds: float | None = None
    cached: bool = False
    failed: str | None = None
    missed: str | None = None
    layer: str | None = None
    size: int = 0
    committed: float | None = None
    """When its layer was in the store, in seconds from the build's beginning."""
    calls: list[Call] = field(default_factory=list)


@dataclass
class Account:
    """A whole build. `digest` is None when it did not finish, `time` when it began, `seconds` how long it took."""

    build: str = ""
    dockerfile: str = ""
    tags: tuple[str, ...] = ()
    time: float = 0.0
    seconds: float = 0.0
    digest: str | None = None
    size: int = 0
    layers: int = 0
    steps: list[StepAccount] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    """All calls in the order in which they began, those of no step too."""
    warnings: list[str] = field(default_factory=list)
    failed: str | None = None

    @property
    def cached(self) -> int:
        """How many steps were in the cache."""
        return sum(step.cached for step in self.steps)

    @property
    def status(self) -> str:
        """How it ended: "done", "failed", or "unfinished" when the record just ends: it runs still, or was killed."""
        return "done" if self.digest else "failed" if self.failed else "unfinished"


def tell(events: Iterable[Json]) -> Account:
    """The account of a build. Events of which nothing can be understood are passed over."""
    teller = _Teller()
    for event in events:
        try:
            teller.take(event)
        except (KeyError, TypeError, ValueError):
            continue
    account = teller.account
    account.steps.sort(key=lambda step: step.number)
    return account


class _Teller:
    def __init__(self) -> None:
        self.account = Account()
        self._steps: dict[int, StepAccount] = {}
        self._calls: dict[int, Call] = {}

    def take(self, event: Json) -> None:
        now = float(event["time"])
        if not self.account.time:
            self.account.time = now
        since = max(now - self.account.time, 0.0)
        self.account.seconds = max(self.account.seconds, since)
        handler = getattr(self, "_" + str(event["event"]).replace("-", "_"), None)
        if handler is not None:
            handler(event, since)

    def _build_started(self, event: Json, since: float) -> None:
        self.account.build, self.account.dockerfile = str(event["build"]), str(event["dockerfile"])
        self.account.tags = tuple(map(str, event["tags"]))

    def _step_started(self, event: Json, since: float) -> None:
        step = StepAccount(
            int(event["step"]), str(event["stage"]), str(event["text"]), int(event["line"]), str(event["why"]), since
        )
        self._steps[step.number] = step
        self.account.steps.append(step)

    def _tool_started(self, event: Json, since: float) -> None:
        self._calls[int(event["call"])] = self._call(event, since, by_orca=False)

    def _performed(self, event: Json, since: float) -> None:
        self._call(event, since, by_orca=True)

    def _call(self, event: Json, since: float, *, by_orca: bool) -> Call:
        call = Call(event["step"], tuple(map(str, event["argv"])), str(event["why"]), since, by_orca)
        self.account.calls.append(call)
        if call.step in self._steps:
            self._steps[call.step].calls.append(call)
        return call

    def _tool_finished(self, event: Json, since: float) -> None:
        call = self._calls[int(event["call"])]
        call.seconds, call.exit_code = float(event["seconds"]), int(event["exit_code"])

    def _step_missed(self, event: Json, since: float) -> None:
        self._steps[event["step"]].missed = str(event["why"])

    def _step_finished(self, event: Json, since: float) -> None:
        step = self._steps[event["step"]]
        step.seconds, step.cached = float(event["seconds"]), bool(event["cached"])

    def _step_failed(self, event: Json, since: float) -> None:
        self.account.failed = str(event["message"])
        step = self._steps[event["step"]]  # unknown where it failed before it began
        step.seconds, step.failed = float(event["seconds"]), self.account.failed

    def _layer_committed(self, event: Json, since: float) -> None:
        step = self._steps[event["step"]]
        step.layer, step.size, step.committed = str(event["digest"]), int(event["size"]), since

    def _warned(self, event: Json, since: float) -> None:
        self.account.warnings.append(str(event["message"]))

    def _build_finished(self, event: Json, since: float) -> None:
        self.account.digest, self.account.size = str(event["digest"]), int(event["size"])
        self.account.layers, self.account.tags = int(event["layers"]), tuple(map(str, event["names"]))
