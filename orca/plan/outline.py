"""What a Dockerfile offers, for `--call outline` and `--call targets`. Pure.

The JSON has the names that BuildKit's frontend gives. A description is a comment directly above a stage or an ARG
that begins with its name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from orca.dockerfile import mounts, words
from orca.dockerfile.checks import describes
from orca.dockerfile.instructions import Arg, Dockerfile, From, Run, Span
from orca.errors import OrcaError
from orca.plan.scope import Scope
from orca.plan.stages import Plan, Stage, split


@dataclass(frozen=True)
class Argument:
    """An ARG, with its value if it has one."""

    name: str
    value: str | None
    description: str
    span: Span


@dataclass(frozen=True)
class Need:
    """A secret, an agent or a cache that a RUN mounts."""

    name: str
    required: bool
    span: Span


@dataclass(frozen=True)
class Outline:
    """What building one stage takes."""

    name: str
    description: str
    arguments: tuple[Argument, ...]
    secrets: tuple[Need, ...]
    agents: tuple[Need, ...]
    caches: tuple[Need, ...]

    def to_json(self) -> dict[str, Any]:
        return _present(
            name=self.name,
            description=self.description,
            args=[
                _present(name=arg.name, description=arg.description, value=arg.value, location=place(arg.span))
                for arg in self.arguments
            ],
            secrets=[_need(need) for need in self.secrets],
            ssh=[_need(need) for need in self.agents],
            cache=[{"ID": need.name, "location": place(need.span)} for need in self.caches],
        )


@dataclass(frozen=True)
class Target:
    """A stage that can be built."""

    name: str
    default: bool
    description: str
    base: str
    platform: str
    span: Span

    def to_json(self) -> dict[str, Any]:
        return _present(**{**vars(self), "default": self.default or None, "span": None}, location=place(self.span))


def place(span: Span) -> dict[str, Any]:
    """Where something is, in BuildKit's shape."""
    return {"ranges": [{"start": {"line": span.first}, "end": {"line": span.last}}]}


def _present(**fields: Any) -> dict[str, Any]:
    """The fields that say something."""
    return {name: value for name, value in fields.items() if value not in (None, "", [])}


def _need(need: Need) -> dict[str, Any]:
    return _present(name=need.name, required=need.required or None, location=place(need.span))


def targets(source: Dockerfile, scope: Scope) -> tuple[Target, ...]:
    """All stages, in order. The last one is the default."""
    _, parts = split(source)
    return tuple(
        Target(
            origin.stage or "",
            index == len(parts) - 1,
            describes(source, origin, origin.stage) if origin.stage else "",
            _expanded(origin.image, scope, origin),
            _expanded(origin.platform or "", scope, origin),
            origin.span,
        )
        for index, (origin, _) in enumerate(parts)
    )


def _expanded(word: str, scope: Scope, at: From) -> str:
    with contextlib.suppress(OrcaError):
        return scope.expand(word, scope.in_from, at)
    return word


def outline(source: Dockerfile, scope: Scope, plan: Plan) -> Outline:
    """What the plan's target takes, with all stages that it needs."""
    stages = list(plan.stages.values())
    name = plan.target.origin.stage or ""
    about = describes(source, plan.target.origin, name) if name else ""
    needs = [found for stage in stages for found in _mounted(stage)]
    return Outline(
        name,
        about,
        tuple(_arguments(source, scope, stages)),
        *(_merged(needs, kind) for kind in ("secret", "ssh", "cache")),
    )


def _arguments(source: Dockerfile, scope: Scope, stages: list[Stage]) -> Iterator[Argument]:
    """Each ARG that the stages can see, once; those before the first FROM only if something uses them."""
    global_args, _ = split(source)
    used = {name for stage in stages for word in _from_words(stage) for name in _names(word, source.escape)}
    used |= {name for stage in stages for arg in _args(stage) for name, _ in arg.pairs}
    found: dict[str, Argument] = {}
    for arg in global_args:
        for name, _ in arg.pairs:
            if name in used:
                found[name] = Argument(name, scope.in_from(name), describes(source, arg, name), arg.span)
    for stage in stages:
        known: dict[str, str] = {}
        for arg in _args(stage):
            for name, default in arg.pairs:
                value = scope.arg_value(name, None if default is None else _default(default, known, scope, arg))
                known |= {} if value is None else {name: value}
                about = describes(source, arg, name)
                first = found.setdefault(name, Argument(name, value, about, arg.span))
                found[name] = replace(first, description=first.description or about)
    yield from sorted(found.values(), key=lambda argument: argument.span.first)


def _default(word: str, known: Mapping[str, str], scope: Scope, at: Arg) -> str:
    with contextlib.suppress(OrcaError):
        return scope.expand(word, known.get, at)
    return word


def _args(stage: Stage) -> Iterator[Arg]:
    yield from (found for found in stage.instructions if isinstance(found, Arg))


def _from_words(stage: Stage) -> Iterator[str]:
    yield stage.origin.image
    yield stage.origin.platform or ""


def _names(word: str, escape: str) -> frozenset[str]:
    with contextlib.suppress(OrcaError):
        return words.names(word, escape)
    return frozenset()


def _mounted(stage: Stage) -> Iterator[tuple[str, Need]]:
    """The kind and the id of what its RUNs mount; a bad mount is told when its step is reached."""
    for found in stage.instructions:
        if isinstance(found, Run):
            for text in found.mounts:
                with contextlib.suppress(OrcaError):
                    mount = mounts.parse(text, str, "/")
                    yield mount.kind, Need(mount.id, mount.required, found.span)


def _merged(needs: list[tuple[str, Need]], wanted: str) -> tuple[Need, ...]:
    """Those of one kind, each name once."""
    found: dict[str, Need] = {}
    for kind, need in needs:
        if kind == wanted:
            first = found.setdefault(need.name, need)
            found[need.name] = replace(first, required=first.required or need.required)
    return tuple(found.values())
