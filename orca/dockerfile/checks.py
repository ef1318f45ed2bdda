"""Build checks that need only the text of a Dockerfile: BuildKit's rules, by their names, as values. Pure.

A rule finds what is legal and likely wrong. `plan.checks` has those that need variables, stages or base images,
and runs both. What is found is a `Finding`; `docs/checks.md` has a paragraph for each rule.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from orca.errors import UsageError

from .instructions import (
    Arg,
    Dockerfile,
    Env,
    Finding,
    From,
    Instruction,
    Label,
    Maintainer,
    Span,
)
from .logical import is_gap
from .text import quoted

Subject = TypeVar("Subject")
Found = Iterator[tuple[Span, str]]

RESERVED = ("context", "scratch")
_SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE
)
_PUBLIC = re.compile(r"(?:_|^)public(?:_|$)", re.IGNORECASE)
_TRUE = ("1", "t", "true")
_FALSE = ("0", "f", "false")


@dataclass(frozen=True)
class Rule(Generic[Subject]):
    """One check. `find` yields where it is broken, with a sentence. An experimental rule must be asked for."""

    name: str
    description: str
    find: Callable[[Subject], Found]
    experimental: bool = False


@dataclass(frozen=True)
class Selection:
    """Which rules count (None: all of them, where a set would name them), and whether findings are an error."""

    skip: frozenset[str] | None = frozenset()
    experimental: frozenset[str] | None = frozenset()
    error: bool = False

    def wants(self, rule: Rule[Subject]) -> bool:
        if self.skip is None or rule.name.lower() in self.skip:
            return False
        return not rule.experimental or self.experimental is None or rule.name.lower() in self.experimental


def selection(source: Dockerfile, given: str | None) -> Selection:
    """What `# check=` says, or BUILDKIT_DOCKERFILE_CHECK (`given`) in its place. Raises UsageError, DockerfileError."""
    from .parser import location

    directive = next((found for found in source.directives if found.name == "check"), None)
    if given is not None:
        return _options(given)
    try:
        return _options(directive.value) if directive else Selection()
    except UsageError as error:
        from orca.errors import DockerfileError

        where = location(source, directive.span) if directive else None
        raise DockerfileError(error.message, hint=error.hint, location=where) from error


def _options(text: str) -> Selection:
    """`skip=A,B;error=true;experimental=all`. Raises UsageError."""
    sets: dict[str, frozenset[str] | None] = {"skip": frozenset(), "experimental": frozenset()}
    fails = False
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, equals, value = (word.strip() for word in part.partition("="))
        if name in sets and equals:
            sets[name] = None if value.lower() == "all" else _names(value)
        elif name == "error" and value.lower() in (*_TRUE, *_FALSE):
            fails = value.lower() in _TRUE
        else:
            hint = "write skip=RULE,RULE, skip=all, experimental=RULE or error=true, with ; between them"
            raise UsageError(f"bad check option {quoted(part)}", hint=hint)
    return Selection(sets["skip"], sets["experimental"], fails)


def _names(value: str) -> frozenset[str]:
    return frozenset(filter(None, (word.strip().lower() for word in value.split(","))))


def run(rules: Iterable[Rule[Subject]], subject: Subject, wanted: Selection) -> Iterator[Finding]:
    """What the rules that count find."""
    for rule in rules:
        if wanted.wants(rule):
            for span, message in rule.find(subject):
                yield Finding(rule.name, message, span)


# what rules share


def is_secret(name: str) -> bool:
    """Does a variable of this name look as if it held a secret? BuildKit's list of words."""
    return _SECRET.search(name) is not None and _PUBLIC.search(name) is None


def comment_above(source: Dockerfile, instruction: Instruction) -> list[str]:
    """The comment lines directly above an instruction, without their `#`, the uppermost first."""
    pieces = source.pieces
    before = bisect_left(pieces, instruction.span.first, key=lambda piece: piece.first) - 1
    if before < 0 or any(found.span == pieces[before] for found in source.directives):
        return []
    gap = source.lines[pieces[before].first - 1 : pieces[before].last]
    if not is_gap(gap[0]):  # an instruction, whose last line may look like a comment
        return []
    lines = [line.strip() for line in gap]
    blank = max((number for number, line in enumerate(lines, 1) if not line), default=0)
    return [line[1:].strip() for line in lines[blank:]]


def describes(source: Dockerfile, instruction: Instruction, name: str) -> str:
    """What a comment `# name …` directly above the instruction says of it; "" for none."""
    for line in comment_above(source, instruction):
        first, _, rest = line.partition(" ")
        if first.lower() == name.lower():
            return rest.strip()
    return ""


def _written(instruction: Instruction) -> str:
    """The instruction's name as the Dockerfile spells it."""
    return instruction.text[: len(instruction.keyword)]


def _staged(source: Dockerfile) -> Iterator[Instruction]:
    """From the first FROM on."""
    inside = False
    for instruction in source.instructions:
        inside = inside or isinstance(instruction, From)
        if inside:
            yield instruction


def _stages(source: Dockerfile) -> Iterator[tuple[From, str, str]]:
    """Each FROM that names its stage, with its AS and the name as they are spelled."""
    for instruction in source.instructions:
        if isinstance(instruction, From) and instruction.stage is not None:
            *_, as_, name = instruction.text.split()
            yield instruction, as_, name


# the rules


def _instruction_casing(source: Dockerfile) -> Found:
    names = [(found, _written(found)) for found in _staged(source)]
    lower = sum(name.islower() for _, name in names)
    upper = sum(name.isupper() for _, name in names)
    majority = "lowercase" if lower > upper else "uppercase"
    for found, name in names:
        if not (name.islower() if lower > upper else name.isupper()):
            yield found.span, f"{name} should be written as most instructions here are: in {majority}"


def _duplicate_stage(source: Dockerfile) -> Found:
    seen: set[str] = set()
    for found, _, _ in _stages(source):
        assert found.stage is not None
        if found.stage in seen:
            yield found.span, f"a stage before this one is called {quoted(found.stage)} too"
        seen.add(found.stage)


def _from_as_casing(source: Dockerfile) -> Found:
    for found, as_, _ in _stages(source):
        name = _written(found)
        if name.isupper() != as_.isupper() or name.islower() != as_.islower():
            yield found.span, f"{quoted(as_)} and {quoted(name)} are not written in the same case"


def _stage_name_casing(source: Dockerfile) -> Found:
    for found, _, name in _stages(source):
        if name != name.lower():
            yield found.span, f"the stage name {quoted(name)} should be lowercase"


def _reserved_stage(source: Dockerfile) -> Found:
    for found, _, _ in _stages(source):
        if found.stage in RESERVED:
            yield found.span, f"a stage should not be called {quoted(found.stage)}: the name has a meaning of its own"


def _definition_description(source: Dockerfile) -> Found:
    for found in source.instructions:
        if isinstance(found, From):
            names = [found.stage] if found.stage else []
        elif isinstance(found, Arg):
            names = [name for name, _ in found.pairs]
        else:
            continue
        comment = comment_above(source, found) if names else []
        if comment and comment[-1].split(" ")[0].lower() not in [name.lower() for name in names]:
            example = names[0] if len(names) == 1 else "NAME"
            yield found.span, f"the comment above {found.keyword} should be written # {example} DESCRIPTION"


def _legacy_key_value(source: Dockerfile) -> Found:
    for found in source.instructions:
        if isinstance(found, Env | Label) and found.legacy:
            yield found.span, f"write {found.keyword} name=value, not the old form {found.keyword} name value"


def _maintainer(source: Dockerfile) -> Found:
    for found in source.instructions:
        if isinstance(found, Maintainer):
            yield found.span, "MAINTAINER is deprecated: write LABEL org.opencontainers.image.authors=…"


def _empty_continuation(source: Dockerfile) -> Found:
    """Only the parser sees these, and has found them already."""
    for found in source.warnings:
        if found.rule == "NoEmptyContinuation":
            yield found.span, found.message


# fmt: off
RULES: tuple[Rule[Dockerfile], ...] = (
    Rule("ConsistentInstructionCasing", "All instructions should be written in the same case.", _instruction_casing),
    Rule("DuplicateStageName", "Each stage should have a name of its own.", _duplicate_stage),
    Rule("FromAsCasing", "FROM and AS should be written in the same case.", _from_as_casing),
    Rule("InvalidDefinitionDescription", "A comment above a stage or an ARG should describe it by its name.",
         _definition_description, experimental=True),
    Rule("LegacyKeyValueFormat", "ENV and LABEL should have an = between name and value.", _legacy_key_value),
    Rule("MaintainerDeprecated", "MAINTAINER is deprecated.", _maintainer),
    Rule("NoEmptyContinuation", "An empty line inside a continued instruction will be an error one day.",
         _empty_continuation),
    Rule("ReservedStageName", "A stage should not have a name that has a meaning of its own.", _reserved_stage),
    Rule("StageNameCasing", "Names of stages should be lowercase.", _stage_name_casing),
)
# fmt: on
