"""Scripted builds: one instruction of a session at a time, carried out as a Dockerfile's stage would.

Each is a build whose stage goes on where the session stands. Other sessions that it names are stages above it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orca.dispatch.state import State
from orca.dockerfile import parser
from orca.dockerfile.instructions import Dockerfile, From, Instruction, Span
from orca.dockerfile.remotes import hide
from orca.errors import StoreError, UsageError
from orca.events import BuildStarted
from orca.executor.build import Build
from orca.executor.options import Options, Result
from orca.executor.position import Position, StageResult
from orca.executor.records import STEP
from orca.plan.stages import SCRATCH, copied_from
from orca.store import sessions
from orca.store.chains import Link
from orca.store.layout import Image
from orca.store.sessions import Done, Session
from orca.store.store import Store

if TYPE_CHECKING:
    from orca.executor.rootfs import Workshop

_NOWHERE = Span(1, 1)


def standing(store: Store, session: Session) -> StageResult:
    """Where a session stands, as a finished stage. Raises StoreError when its image is gone."""
    last = session.last
    if not store.complete(last.manifest):
        hint = f"orca undo {session.name} goes one step back; orca abandon {session.name} ends it"
        raise StoreError(f"{session.name}: a layer is missing in the store, or damaged", hint=hint)
    record = store.step(last.key)
    # Another build may have made the step again: its files are not ours.
    same = record is not None and record.manifest.digest == last.manifest.digest
    snapshots = record.snapshots if record is not None and same else ()
    position = Position(last.key, State.from_json(last.state), snapshots)
    return StageResult(position, last.manifest, None, 0, base_layers=session.base_layers)


def _stage(name: str | None) -> From:
    """The FROM of a stage that has begun long ago."""
    return From(span=_NOWHERE, text=f"FROM {SCRATCH}", image=SCRATCH, stage=name)


def first(text: str, sources: Sequence[str]) -> Dockerfile:
    """The Dockerfile of a session's FROM line."""
    parsed = parser.parse(text, "orca from")
    return replace(parsed, instructions=(*map(_stage, sources), *parsed.instructions))


def following(text: str, sources: Sequence[str]) -> Dockerfile:
    """The Dockerfile of one more instruction. Raises DockerfileError, UsageError."""
    instruction = parser.parse_instruction(text, name="orca step")
    if isinstance(instruction, From):
        raise UsageError("FROM begins another image", hint="orca from IMAGE, or orca from SESSION")
    lines = tuple(text.splitlines())
    return Dockerfile("orca step", lines, (*map(_stage, sources), _stage(None), instruction))


def nothing(session: Session) -> Dockerfile:
    """The Dockerfile of a session to which nothing is added."""
    return Dockerfile(session.name, (), (_stage(None),))


def sources_of(store: Store, instruction: Instruction, session: Session) -> dict[str, Session]:
    """The other sessions that an instruction reads, by the words that name them. Raises UsageError."""
    found = {}
    for _, word in copied_from(instruction):
        name = word.lower()
        if (other := sessions.find(store, name)) is not None:
            if name == session.name:
                raise UsageError(f"--from={word} names this scripted build itself", hint="RUN cp copies within it")
            found[name] = other
    return found


class Scripted(Build):
    """The build of one instruction after `session` (None: of its FROM); `made` is then where it stands."""

    whole = False
    mark = STEP

    def __init__(
        self, options: Options, store: Store, session: Session | None, sources: Mapping[str, Session] | None = None
    ) -> None:
        named = list((sources or {}).values())
        begun = {index: standing(store, other) for index, other in enumerate(named)}
        number = 1
        if session is not None:
            begun[len(named)] = standing(store, session)
            number = len(session.steps)
        self.made: StageResult | None = None
        self._session = session
        super().__init__(options, store, first_step=number - len(named), begun=begun)

    def run(self, shop: Workshop) -> Result:
        """As `Build.run`; what `orca why` is told begins with the steps of the session that are done."""
        if (session := self._session) is not None:
            started = f"{session.name} {session.created}"
            self.shared.trace.go_on(self.plan.target, session.name, started, _earlier(session))
        return super().run(shop)

    def _finish(self, target: StageResult, shop: Workshop | None) -> Image:
        self.made = target
        return self.store.images.image(target.manifest)


def _earlier(session: Session) -> Iterator[dict[str, Any]]:
    """The steps of a session as a trace has them."""
    for number, step in enumerate(session.steps, 1):
        entry = {"step": number, "line": number, "text": step.text, "key": step.key, "cached": step.cached}
        if number == 1:
            stage = {"stage": session.base} if step.reads else {"from": step.manifest.digest, "image": session.base}
            entry["made_of"] = {**stage, "platform": session.platform}
        yield entry


class Committed(Build):
    """The end of a session: its image."""

    def __init__(self, options: Options, store: Store, session: Session) -> None:
        self.session = session
        super().__init__(options, store, begun={0: standing(store, session)})

    def _announce(self) -> None:
        names = self.options.naming.tags
        self.emit(BuildStarted(self.id, self.session.name, len(self.session.steps), names))

    def _count(self) -> None:
        """The steps were done when they were."""
        self.steps = len(self.session.steps)
        self.cached = sum(step.cached for step in self.session.steps)

    def chain(self) -> list[Link]:
        """The steps of the session: IMAGE@N."""
        return [
            Link(number, "0", step.text, step.key, True, step.manifest)
            for number, step in enumerate(self.session.steps, 1)
        ]


def begun(build: Scripted, name: str, text: str, reads: Mapping[str, Session]) -> Session:
    """The session that a FROM has begun."""
    made = build.made
    assert made is not None
    state = made.position.state.to_json()
    context = str(build.options.context.absolute()) if build.options.context is not None else None
    definitions = {word: other.definition() for word, other in reads.items()}
    steps = [
        Done(
            text if not number else hide(link.text), link.key, link.manifest or made.manifest, state,
            made.cached > number, context if number else None, definitions if not number else {}, own=not number,
        )
        for number, link in enumerate(build.chain())
    ]  # fmt: skip
    steps[-1] = replace(steps[-1], key=made.position.key, manifest=made.manifest)
    return Session(name, str(build.options.platform), time.time(), made.base_layers, tuple(steps))


def after(session: Session, build: Scripted, text: str, reads: Mapping[str, Session]) -> Session:
    """The session with one more step."""
    made = build.made
    assert made is not None
    hidden = "\n".join(map(hide, text.splitlines())) if text.upper().startswith("ADD") else text
    instruction = build.options.dockerfile.instructions[-1]
    given = [name for name, _ in getattr(instruction, "pairs", ())] if instruction.keyword == "ARG" else []
    context = build.options.context
    done = Done(
        hidden,
        made.position.key,
        made.manifest,
        made.position.state.to_json(),
        made.cached > 0,
        str(context.absolute()) if context is not None else None,
        {word: other.definition() for word, other in reads.items()},
        tuple(name for name in given if name in build.options.build_args),
    )
    return replace(session, steps=(*session.steps, done))
