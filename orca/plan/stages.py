"""The stage graph: which stages a Dockerfile has, what each needs, which ones a target reaches. Pure."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from orca.dockerfile import mounts
from orca.dockerfile.instructions import Arg, Copy, Dockerfile, From, Instruction, Run
from orca.errors import UsageError
from orca.oci import platform as platforms
from orca.oci.platform import Platform
from orca.plan.scope import Scope

SCRATCH = "scratch"


@dataclass(frozen=True)
class Stage:
    """One stage. `base` is the index of an earlier stage, or the name of an image, or "scratch".

    `first_step` is the number of its FROM among the steps of the build; those of the ONBUILD `triggers` that
    its base is known to have come next. A stage FROM a stage has that one's platform. `asked` says that somebody
    chose the platform, which is else the machine's own.
    """

    index: int
    name: str | None
    origin: From
    base: int | str
    platform: Platform
    instructions: tuple[Instruction, ...]
    needs: frozenset[int]
    first_step: int = 0
    asked: bool = False
    triggers: int = 0

    @property
    def label(self) -> str:
        """How the screen calls it: its name, or its number."""
        return self.name or str(self.index)


@dataclass(frozen=True)
class Plan:
    """The stages that will be built, in Dockerfile order, and the one that becomes the image."""

    stages: Mapping[int, Stage]
    target: Stage
    names: Mapping[str, int]
    total_steps: int

    def with_triggers(self, counts: Mapping[int, int]) -> Plan:
        """The plan with room for the steps of ONBUILD triggers; `counts` are those of each stage's base."""
        if not any(counts.values()):
            return self
        kept: dict[int, Stage] = {}
        first = step = min(stage.first_step for stage in self.stages.values())
        for index, stage in self.stages.items():
            kept[index] = replace(stage, first_step=step, triggers=counts.get(index, 0))
            step += 1 + kept[index].triggers + len(stage.instructions)
        return replace(self, stages=kept, target=kept[self.target.index], total_steps=step - first)

    def find(self, word: str, before: int) -> int | None:
        """The index of the stage that `--from=word` in stage `before` means, None when it is no stage."""
        name = word.lower()
        # Of several stages with one name, the nearest above: what `_from_stage` took for a need.
        above = [index for index, stage in self.stages.items() if stage.name == name and index < before]
        if above:
            return above[-1]
        if name in self.names:
            return self.names[name]
        number = _number(word)
        return number if number is not None and number < before else None


def _number(word: str) -> int | None:
    """`word` as the number of a stage; None when it is none. One with too many digits stays above all stages."""
    return int(word.lstrip("0")[:12] or "0") if word.isascii() and word.isdigit() else None


def split(source: Dockerfile) -> tuple[tuple[Arg, ...], list[tuple[From, tuple[Instruction, ...]]]]:
    """The ARGs before the first FROM, and each FROM with the instructions of its stage."""
    global_args: list[Arg] = []
    stages: list[tuple[From, list[Instruction]]] = []
    for instruction in source.instructions:
        if isinstance(instruction, From):
            stages.append((instruction, []))
        elif stages:
            stages[-1][1].append(instruction)
        elif isinstance(instruction, Arg):
            global_args.append(instruction)
    return tuple(global_args), [(origin, tuple(rest)) for origin, rest in stages]


def copied_from(instruction: Instruction) -> Iterator[tuple[Instruction, str]]:
    """The --from of a COPY, and from= of a RUN's mounts."""
    if isinstance(instruction, Copy) and instruction.from_ is not None:
        yield instruction, instruction.from_
    if isinstance(instruction, Run):
        for text in instruction.mounts:
            with contextlib.suppress(mounts.MountError):  # told where the mount is translated
                if word := mounts.source_stage(text):
                    yield instruction, word


def named_context(word: str, names: Collection[str]) -> str | None:
    """The --build-context that `word` means in a FROM or --from: its name, in any case, `:latest` or not."""
    name = word.lower()
    bare = name.removesuffix(":latest")
    return next((each for each in (name, bare, f"{bare}:latest") if each in names), None)


def make_plan(
    source: Dockerfile,
    scope: Scope,
    *,
    target: str | None,
    platform: Platform,
    asked: bool = False,
    first: int = 1,
    contexts: Collection[str] = (),
) -> Plan:
    """Resolve FROMs and --froms; steps are numbered from `first` on. `asked`: `platform` was chosen by somebody.

    `contexts` are names that stand for something else than a stage or an image: a stage of such a name is it.

    Raises DockerfileError at the line, UsageError for an unknown target.
    """
    _, parts = split(source)
    names: dict[str, int] = {}
    stages: list[Stage] = []
    for index, (origin, body) in enumerate(parts):
        if origin.stage and origin.stage in contexts:
            body = ()
        stage = _stage(index, origin, body, names, scope, platform, _all_names(parts), contexts)
        if isinstance(stage.base, int):
            below = stages[stage.base]
            stage = replace(stage, platform=below.platform, asked=below.asked)
        elif stage.platform == platform:
            stage = replace(stage, asked=asked or stage.asked)
        stages.append(stage)
        if origin.stage:
            names[origin.stage] = index
    wanted = _target(stages, names, target)
    return _reach(stages, wanted, names, first)


def _all_names(parts: list[tuple[From, tuple[Instruction, ...]]]) -> dict[str, int]:
    return {origin.stage: index for index, (origin, _) in enumerate(parts) if origin.stage}


def _stage(
    index: int,
    origin: From,
    body: tuple[Instruction, ...],
    names: Mapping[str, int],
    scope: Scope,
    default: Platform,
    later: Mapping[str, int],
    contexts: Collection[str] = (),
) -> Stage:
    image = scope.expand(origin.image, scope.in_from, origin)
    if not image:
        hint = "give the ARG a default, or --build-arg"
        raise scope.error(f"FROM {origin.image} is empty after its variables were expanded", origin, hint)
    base: int | str = names.get(image.lower(), image)
    if origin.stage and origin.stage in contexts:
        base = origin.stage
    platform, asked = default, False
    if origin.platform is not None:
        text = scope.expand(origin.platform, scope.in_from, origin)
        try:
            platform, asked = (platforms.parse(text), True) if text else (default, False)
        except UsageError as error:
            raise scope.error(error.message, origin, error.hint) from error
    needs = {base} if isinstance(base, int) else set()
    for instruction in body:
        for at, word in copied_from(instruction):
            if named_context(word, contexts) is not None and word.lower() not in names:
                continue
            found = _from_stage(word, index, names, later, scope, at)
            needs |= {found} if found is not None else set()
    return Stage(index, origin.stage, origin, base, platform, body, frozenset(needs), asked=asked)


def _from_stage(
    word: str, index: int, names: Mapping[str, int], later: Mapping[str, int], scope: Scope, at: Instruction
) -> int | None:
    """The stage that `--from=word` means. A stage that comes later, or is this one, is an error."""
    if "$" in word:
        hint = "name a stage with FROM $IMAGE AS name, and copy from that"
        raise scope.error("variables are not expanded in --from", at, hint)
    name = word.lower()
    if name in names:
        return names[name]
    number = later.get(name, _number(word))
    if number is not None:
        if number < index:
            return number
        what = "this stage itself" if number == index else "a later stage"
        raise scope.error(f"--from={word} names {what}", at, "a stage can copy only from those above it")
    return None


def _target(stages: list[Stage], names: Mapping[str, int], target: str | None) -> Stage:
    if target is None:
        return stages[-1]
    if target.lower() in names:
        return stages[names[target.lower()]]
    number = _number(target)
    if number is not None and number < len(stages):
        return stages[number]
    import difflib

    near = difflib.get_close_matches(target.lower(), names, 1)
    raise UsageError(
        f"no stage {target!r} in the Dockerfile",
        hint=f"did you mean {near[0]}?" if near else known(list(names), len(stages)),
    )


def known(names: Sequence[str], count: int) -> str:
    """The hint that says by what a Dockerfile's `count` stages are called."""
    if names:
        return f"it has: {', '.join(names)}"
    return f"its stages have no names, only numbers: 0 to {count - 1}" if count > 1 else "it has one stage, number 0"


def _reach(stages: list[Stage], wanted: Stage, names: Mapping[str, int], first: int) -> Plan:
    """Keep what `wanted` needs, and number its steps in Dockerfile order."""
    reached, queue = set(), [wanted.index]
    while queue:
        index = queue.pop()
        if index not in reached:
            reached.add(index)
            queue.extend(stages[index].needs)
    kept: dict[int, Stage] = {}
    step = first
    for stage in stages:
        if stage.index in reached:
            kept[stage.index] = replace(stage, first_step=step)
            step += 1 + len(stage.instructions)
    return Plan(kept, kept[wanted.index], names, step - first)
