"""What happens during a build, as values. The executor emits; `orca/ui` draws, logs or prints them.

An event carries no clock: whoever receives it may stamp it. Steps are numbered from 1 over all
stages that are built, in Dockerfile order; FROM is a step like the others. Calls (tool processes)
are numbered from 1 over the whole command. Events of one step arrive in order; those of different
steps interleave when stages run in parallel. An emitter may be called from any thread, one at a time.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orca.errors import Location


@dataclass(frozen=True)
class Event:
    """Base of all events."""

    def to_json(self) -> dict[str, Any]:
        """The event as a JSON object: `event` is its name in kebab case, then its fields."""
        kind = re.sub(r"(?<!^)(?=[A-Z])", "-", type(self).__name__).lower()
        return {"event": kind, **dataclasses.asdict(self)}


@dataclass(frozen=True)
class Part:
    """One platform of a build for several: it has the step numbers from `first` on."""

    platform: str
    first: int
    steps: int


@dataclass(frozen=True)
class BuildStarted(Event):
    """A build begins: `build` is the id of its record, `steps` how many steps its stages have.

    `parts` are there when it is for several platforms.
    """

    build: str
    dockerfile: str
    steps: int
    tags: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class StepsAdded(Event):
    """A base image turned out to bring steps along (ONBUILD): now there are `steps` in all."""

    steps: int


@dataclass(frozen=True)
class StepStarted(Event):
    """Step `step` begins. `text` is the instruction on one line, `why` one sentence for a learner."""

    step: int
    stage: str
    text: str
    line: int
    why: str = ""


@dataclass(frozen=True)
class ToolStarted(Event):
    """A process starts for `step` (None: for no step). `argv` is exact; `why` a short reason."""

    step: int | None
    call: int
    argv: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class ToolFinished(Event):
    """The process of `call` ended."""

    step: int | None
    call: int
    seconds: float
    exit_code: int


@dataclass(frozen=True)
class Performed(Event):
    """orca did this by a system call of its own; `argv` is the command that would do the same."""

    step: int | None
    argv: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Output(Event):
    """One line that a RUN printed, without its newline; `stream` is "stdout" or "stderr"."""

    step: int
    text: str
    stream: str = "stdout"


@dataclass(frozen=True)
class Progress(Event):
    """`what` has come to `done` of `total` (None: unknown), counted in `unit` ("B" or "files").

    `rate` is how many of them came in a second lately, where that is known.
    """

    step: int | None
    what: str
    done: int
    total: int | None
    unit: str = "B"
    rate: int | None = None


@dataclass(frozen=True)
class StepMissed(Event):
    """Step `step` is the first of its stage that is not cached, though an earlier build did it: `why` says why."""

    step: int
    why: str


@dataclass(frozen=True)
class StepFinished(Event):
    """Step `step` is done; its layer, if it makes one, may still be committing."""

    step: int
    seconds: float
    cached: bool


@dataclass(frozen=True)
class LayerCommitted(Event):
    """The layer of `step` is in the store: `digest` and `size` (bytes) of its blob.

    A step that may make a layer and changed nothing has an empty digest and size 0.
    """

    step: int
    digest: str
    size: int
    seconds: float


@dataclass(frozen=True)
class StepFailed(Event):
    """Step `step` failed; the error itself is raised."""

    step: int
    seconds: float
    message: str


@dataclass(frozen=True)
class Warned(Event):
    """Something that a user should know and that did not stop the build."""

    message: str
    hint: str | None = None
    location: Location | None = None


@dataclass(frozen=True)
class CheckFound(Event):
    """A build check found something: `rule` is its name, `message` what it is here, `description` the rule itself."""

    rule: str
    message: str
    description: str
    location: Location


@dataclass(frozen=True)
class BuildFinished(Event):
    """The image is in the store. `size` counts compressed bytes of all its layers.

    `platforms` are there when it is an index, which has no config: `layers` are then those of all its images.
    """

    names: tuple[str, ...]
    digest: str
    config_digest: str
    size: int
    layers: int
    seconds: float
    cached: int
    steps: int
    platforms: tuple[str, ...] = ()


Emit = Callable[[Event], None]


def ignore(event: Event) -> None:
    """An emitter for callers that do not listen."""
