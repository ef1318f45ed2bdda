"""Build checks that need variables, stages, the ignore rules or base images; and all checks together. Pure."""

from __future__ import annotations

import contextlib
import posixpath
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import NamedTuple

from orca.dockerfile import checks, words
from orca.dockerfile import instructions as i
from orca.dockerfile.checks import Found, Rule, Selection, is_secret
from orca.dockerfile.glob import has_meta
from orca.dockerfile.ignore import IgnoreRules
from orca.dockerfile.instructions import Dockerfile, Finding, From, Instruction
from orca.dockerfile.text import quoted
from orca.errors import OrcaError
from orca.oci import platform as platforms
from orca.oci import reference
from orca.oci.platform import Platform
from orca.plan.scope import PROXIES, Scope, make_scope
from orca.plan.stages import SCRATCH, split

BUILT_IN = frozenset({"SOURCE_DATE_EPOCH"}) | PROXIES
MAX_NEAR = 100  # names that a misspelt one is compared with
_PORT = re.compile(r"[0-9]+(?:-[0-9]+)?(?:/\w+)?")
_PROTOCOL = re.compile(r"/(\w+)$")
_REMOTE = re.compile(r"(?:https?|git|ssh)://|git@", re.IGNORECASE)
_LAST_COUNTS = (i.Cmd, i.Entrypoint, i.Healthcheck)


class Base(NamedTuple):
    """What is known of a base image: the names of its variables, and what it is for."""

    names: frozenset[str]
    platform: Platform | None = None


def unknown(image: str, platform: Platform) -> Base | None:
    """For callers that know no base image."""
    return None


class Use(NamedTuple):
    """One instruction as its place in the stage makes it.

    `needs` are the undefined variables that it uses; `near` has for each a name that may be meant: a similar one, or
    its own, which `ARG name` would bring in. `values` are its words (ports, sources, the path) with their variables
    replaced. `shell` and `directory`: has SHELL, has an absolute WORKDIR come before?
    """

    stage: int
    instruction: Instruction
    needs: tuple[str, ...] = ()
    near: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    shell: bool = False
    directory: bool = False


@dataclass(frozen=True)
class Facts:
    """What is checked. `reached` are the stages that would be built, None for all.

    `base` tells what is known of an image by its name; None means that it is not in the store.
    """

    scope: Scope
    platform: Platform
    reached: frozenset[int] | None = None
    base: Callable[[str, Platform], Base | None] = unknown
    ignore: IgnoreRules | None = None
    ignore_name: str = ".dockerignore"

    @property
    def source(self) -> Dockerfile:
        return self.scope.source

    def reaches(self, stage: int) -> bool:
        return self.reached is None or stage in self.reached

    @cached_property
    def uses(self) -> list[Use]:
        """Every instruction of the stages that count, in order."""
        return list(_walk(self))


def check(facts: Facts, wanted: Selection) -> list[Finding]:
    """Everything that the rules find, from the first line on."""
    if wanted.skip is None:
        return []
    found = [*checks.run(checks.RULES, facts.source, wanted), *checks.run(RULES, facts, wanted)]
    return sorted(found, key=lambda finding: (finding.span.first, finding.rule))


def description(rule: str) -> str:
    """One sentence on a rule."""
    about = {found.name: found.description for found in checks.RULES} | {
        found.name: found.description for found in RULES
    }
    return about[rule]


# -- the walk through the stages


@dataclass
class _Seen:
    """What a stage has defined so far. `values` holds every name that is declared, those without a value too.

    `whole`: are these all the names there are, or does the base image have others, unknown ones?
    """

    values: dict[str, str | None] = field(default_factory=dict)
    whole: bool = True
    shell: bool = False
    directory: bool = False

    def copy(self) -> _Seen:
        return _Seen(dict(self.values), self.whole, self.shell, self.directory)


def _walk(facts: Facts) -> Iterator[Use]:
    _, parts = split(facts.source)
    ends: dict[int, _Seen] = {}
    names: dict[str, int] = {}
    for index, (origin, body) in enumerate(parts):
        seen = _begin(facts, origin, names, ends)
        for instruction in body:
            use = _use(facts, index, instruction, seen)
            if facts.reaches(index):
                yield use
            _define(facts, instruction, seen)
        ends[index] = seen
        if origin.stage:
            names[origin.stage] = index


def _begin(facts: Facts, origin: From, names: Mapping[str, int], ends: Mapping[int, _Seen]) -> _Seen:
    image, platform = _image(facts, origin), _platform(facts, origin)
    if image.lower() in names:
        return ends[names[image.lower()]].copy()
    base = Base(frozenset()) if image.lower() == SCRATCH else facts.base(image, platform)
    known = base.names if base else frozenset()
    return _Seen({"PATH": "", **dict.fromkeys(sorted(known), "")}, whole=base is not None)


def _image(facts: Facts, origin: From) -> str:
    with contextlib.suppress(OrcaError):
        return facts.scope.expand(origin.image, facts.scope.in_from, origin)
    return ""


def _platform(facts: Facts, origin: From) -> Platform:
    if origin.platform is not None:
        with contextlib.suppress(OrcaError):
            text = facts.scope.expand(origin.platform, facts.scope.in_from, origin)
            return platforms.parse(text) if text else facts.platform
    return facts.platform


def _use(facts: Facts, index: int, instruction: Instruction, seen: _Seen) -> Use:
    escape = facts.source.escape
    missing: dict[str, None] = {}
    for word in _expanded_words(instruction):
        if "$" in word:
            with contextlib.suppress(OrcaError):  # told where the word is expanded
                missing |= dict.fromkeys(sorted(words.needed(word, escape) - seen.values.keys() - BUILT_IN))
    needs = tuple(name for name in missing if re.match(r"[^\W\d]", name))
    outside = {*facts.scope.globals_, *facts.scope.predefined}
    near = tuple(name if name in outside else _near(name, seen.values) for name in needs)
    if not seen.whole:  # the base image may have the others
        needs, near = _only_near(needs, near)
    values = tuple(_values(facts, instruction, seen))
    return Use(index, instruction, needs, near, values, seen.shell, seen.directory)


def _only_near(needs: tuple[str, ...], near: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    pairs = [(name, other) for name, other in zip(needs, near, strict=True) if other]
    return tuple(name for name, _ in pairs), tuple(other for _, other in pairs)


def _near(name: str, known: Collection[str]) -> str:
    """A name among the last of `known` that `name` may be a slip for; "" when there is none."""
    last = islice(known, max(0, len(known) - MAX_NEAR), None)
    likely = [other for other in last if abs(len(other) - len(name)) <= 2 and len(set(other) ^ set(name)) <= 3]
    if not likely:
        return ""
    import difflib  # only a mistake needs it

    return next(iter(difflib.get_close_matches(name, likely, 1, 0.75)), "")


def _expanded_words(instruction: Instruction) -> Iterator[str]:
    """The words in which the builder replaces variables."""
    match instruction:
        case i.Copy() | i.Add():
            yield from (*instruction.sources, instruction.destination)
            yield from filter(None, (instruction.chown, instruction.chmod))
        case i.Env() | i.Label():
            for name, value in instruction.pairs:
                yield from (name, value)
        case i.Arg():
            yield from (value for _, value in instruction.pairs if value)
        case i.Expose():
            yield from instruction.ports
        case i.Volume():
            yield from instruction.paths
        case i.Workdir():
            yield instruction.path
        case i.User():
            yield instruction.user
        case i.Stopsignal():
            yield instruction.signal
        case i.Run():
            yield from instruction.mounts


def _values(facts: Facts, instruction: Instruction, seen: _Seen) -> Iterator[str]:
    given: tuple[str, ...] = ()
    match instruction:
        case i.Copy() | i.Add():
            given = instruction.sources
        case i.Expose():
            given = instruction.ports
        case i.Workdir():
            given = (instruction.path,)
    for word in given:
        with contextlib.suppress(OrcaError):
            yield from facts.scope.expand_words(word, seen.values.get, instruction)


def _define(facts: Facts, instruction: Instruction, seen: _Seen) -> None:
    """Take in what the instruction defines for those after it."""

    def value(word: str) -> str:
        with contextlib.suppress(OrcaError):
            return facts.scope.expand(word, seen.values.get, instruction)
        return ""

    match instruction:
        case i.Arg():
            for name, default in instruction.pairs:
                seen.values[name] = facts.scope.arg_value(name, None if default is None else value(default))
        case i.Env():
            seen.values |= {value(name): value(text) for name, text in instruction.pairs}
        case i.Shell():
            seen.shell = True
        case i.Workdir():
            seen.directory = seen.directory or value(instruction.path).startswith("/")


# -- the rules


def _froms(facts: Facts) -> Iterator[From]:
    yield from (found for found in facts.source.instructions if isinstance(found, From))


def _needed(facts: Facts, word: str | None) -> frozenset[str]:
    with contextlib.suppress(OrcaError):
        return words.needed(word or "", facts.source.escape)
    return frozenset()


def _undefined_in_from(facts: Facts) -> Found:
    known = {*facts.scope.globals_, *facts.scope.predefined, *_declared(facts)}
    for found in _froms(facts):
        for name in sorted((_needed(facts, found.image) | _needed(facts, found.platform)) - known - BUILT_IN):
            near = _near(name, sorted(known))
            hint = f" (did you mean {near}?)" if near else ""
            yield found.span, f"the variable {name} is not declared before the first FROM{hint}"


def _declared(facts: Facts) -> Iterator[str]:
    """The ARGs before the first FROM, those without a value too."""
    for instruction in split(facts.source)[0]:
        yield from (name for name, _ in instruction.pairs)


def _default_in_from(facts: Facts) -> Found:
    """What FROM comes to when no --build-arg is given."""
    global_args, _ = split(facts.source)
    declared = frozenset(_declared(facts))
    if not declared:
        return
    given = {name: text for name, text in facts.scope.given.items() if name not in declared}
    try:
        bare = make_scope(facts.source, global_args, given=given, predefined=facts.scope.predefined, proxies={})
    except OrcaError:
        return
    for found in _froms(facts):
        if not _needed(facts, found.image) or not _needed(facts, found.image) <= declared | set(bare.predefined):
            continue
        with contextlib.suppress(OrcaError):
            image = bare.expand(found.image, bare.in_from, found)
            if not _is_name(image):
                yield found.span, f"the defaults of its ARGs make {quoted(found.image)} an empty or invalid image name"


def _is_name(image: str) -> bool:
    with contextlib.suppress(OrcaError):
        reference.parse(image)
        return True
    return False


def _constant_platform(facts: Facts) -> Found:
    for found in _froms(facts):
        if found.platform is None or "$" in found.platform:
            continue
        with contextlib.suppress(OrcaError):
            platform = platforms.parse(found.platform)
            if found.stage and (platform.os in found.stage or platform.architecture in found.stage):
                continue
        yield found.span, f"FROM --platform should not be a constant ({quoted(found.platform)}): --platform chooses it"


def _redundant_platform(facts: Facts) -> Found:
    for found in _froms(facts):
        if found.platform in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
            yield found.span, f"--platform={found.platform} is what FROM does without it"


def _base_platform(facts: Facts) -> Found:
    stages = {found.stage for found in _froms(facts)}
    for index, found in enumerate(_froms(facts)):
        image, wanted = _image(facts, found), _platform(facts, found)
        if not facts.reaches(index) or not image or image.lower() in stages or image.lower() == SCRATCH:
            continue
        base = facts.base(image, wanted)
        if base is not None and base.platform is not None and wanted.distance(base.platform) is None:
            yield found.span, f"the base image {image} is for {base.platform}, not for {wanted}"


def _undefined(facts: Facts) -> Found:
    for use in facts.uses:
        for name, near in zip(use.needs, use.near, strict=True):
            hint = f" (ARG {name} brings it in)" if near == name else f" (did you mean ${near}?)" if near else ""
            yield use.instruction.span, f"the variable ${name} is not defined here{hint}"


def _secrets(facts: Facts) -> Found:
    for use in facts.uses:
        if isinstance(use.instruction, i.Arg | i.Env):
            for name, _ in use.instruction.pairs:
                if is_secret(name):
                    keyword = use.instruction.keyword
                    how = "use RUN --mount=type=secret"
                    yield use.instruction.span, f"{keyword} {quoted(name)} shows its value in the image: {how}"


def _relative_workdir(facts: Facts) -> Found:
    for use in facts.uses:
        if isinstance(use.instruction, i.Workdir) and not use.directory:
            for path in use.values:
                if not path.startswith("/"):
                    yield use.instruction.span, f"the relative path {quoted(path)} depends on the base image's WORKDIR"


def _json_args(facts: Facts) -> Found:
    for use in facts.uses:
        found = use.instruction
        if isinstance(found, i.Cmd | i.Entrypoint) and isinstance(found.command, i.ShellForm) and not use.shell:
            yield found.span, f'write {found.keyword} ["program", "argument"]: a shell would not pass on signals'


def _multiple(facts: Facts) -> Found:
    last: dict[tuple[int, str], Instruction] = {}
    for use in facts.uses:
        if isinstance(use.instruction, _LAST_COUNTS):
            key = use.stage, use.instruction.keyword
            if key in last:
                what = f"a later {use.instruction.keyword} of this stage takes the place of this one"
                yield last[key].span, what
            last[key] = use.instruction


def _expose_format(facts: Facts) -> Found:
    for span, port in _ports(facts):
        if not _PORT.fullmatch(port) and ":" in port:
            yield span, f"EXPOSE takes no address and no port of the host: {quoted(port)}"


def _expose_casing(facts: Facts) -> Found:
    for span, port in _ports(facts):
        found = _PROTOCOL.search(port)
        if found and found[1] != found[1].lower():
            yield span, f"the protocol of {quoted(port)} should be lowercase"


def _ports(facts: Facts) -> Found:
    for use in facts.uses:
        if isinstance(use.instruction, i.Expose):
            for port in use.values:
                yield use.instruction.span, port


def _ignored(facts: Facts) -> Found:
    rules = facts.ignore
    if rules is None:
        return
    for use in facts.uses:
        found = use.instruction
        if not isinstance(found, i.Copy | i.Add) or (isinstance(found, i.Copy) and found.from_ is not None):
            continue
        for source in use.values:
            path = posixpath.normpath(posixpath.join("/", source)).lstrip("/")
            if _REMOTE.match(source) or not path or has_meta(path):
                continue
            decision = rules.decide(path)
            if decision.excluded and not rules.may_reinclude_below(path):
                where = f"line {decision.line} of {facts.ignore_name}"
                yield found.span, f"{found.keyword} of {quoted(source)}, which {where} excludes"


# fmt: off
RULES: tuple[Rule[Facts], ...] = (
    Rule("CopyIgnoredFile", "COPY and ADD should not name what the ignore file excludes.", _ignored),
    Rule("ExposeInvalidFormat", "EXPOSE takes ports of the container, no addresses and no ports of the host.",
         _expose_format),
    Rule("ExposeProtoCasing", "The protocol in EXPOSE should be lowercase.", _expose_casing),
    Rule("FromPlatformFlagConstDisallowed", "FROM --platform should not be a constant.", _constant_platform),
    Rule("InvalidBaseImagePlatform", "The base image should be for the platform that is built for.", _base_platform),
    Rule("InvalidDefaultArgInFrom", "The defaults of the ARGs that FROM uses should make the name of an image.",
         _default_in_from),
    Rule("JSONArgsRecommended", "CMD and ENTRYPOINT should be JSON arrays, so that signals reach the program.",
         _json_args),
    Rule("MultipleInstructionsDisallowed", "Of several CMD, ENTRYPOINT or HEALTHCHECK only the last one counts.",
         _multiple),
    Rule("RedundantTargetPlatform", "--platform=$TARGETPLATFORM is what FROM does anyway.", _redundant_platform),
    Rule("SecretsUsedInArgOrEnv", "ARG and ENV should hold no secrets: everybody who has the image can read them.",
         _secrets),
    Rule("UndefinedArgInFrom", "FROM should use only ARGs that come before the first FROM.", _undefined_in_from),
    Rule("UndefinedVar", "Variables should be defined before they are used.", _undefined),
    Rule("WorkdirRelativePath", "WORKDIR should be absolute: a relative one depends on the base image.",
         _relative_workdir),
)
# fmt: on
