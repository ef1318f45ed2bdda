"""Build checks on one build: what the store and the ignore file have to say, given to the rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from orca.dockerfile import checks as text_checks
from orca.dockerfile.checks import Selection
from orca.dockerfile.instructions import Finding
from orca.dockerfile.parser import location
from orca.errors import DockerfileError, OrcaError
from orca.events import CheckFound, Emit, Warned
from orca.executor.inputs import Inputs
from orca.executor.options import Options
from orca.oci.platform import Platform
from orca.plan import checks
from orca.plan.checks import Base, Facts
from orca.plan.scope import Scope
from orca.sources import names
from orca.store.store import Store

if TYPE_CHECKING:
    from orca.executor.build import Build
    from orca.executor.several import Builds

SHOWN = 10
"""Findings that a build shows."""

TOLD = "InvalidBaseImagePlatform"
"""What a build says when it comes upon the base image."""

VARIABLE = "BUILDKIT_DOCKERFILE_CHECK"


def selection(options: Options) -> Selection:
    """Which rules count: the build argument, else the directive. Raises UsageError, DockerfileError."""
    return text_checks.selection(options.dockerfile, options.build_args.get(VARIABLE))


def findings(
    options: Options, scope: Scope, reached: frozenset[int] | None, inputs: Inputs, wanted: Selection
) -> list[Finding]:
    """What the rules find in a build's Dockerfile. Raises what reading its ignore file raises."""
    if wanted.skip is None:
        return []
    ignore, name = inputs.ignore_rules()
    facts = Facts(scope, options.platform, reached, _known(inputs.store), ignore, name)
    return checks.check(facts, wanted)


def event(options: Options, finding: Finding) -> CheckFound:
    """The finding as those who watch the build get it."""
    where = location(options.dockerfile, finding.span)
    return CheckFound(finding.rule, finding.message, checks.description(finding.rule), where)


def _known(store: Store) -> Callable[[str, Platform], Base | None]:
    """What the store knows of base images; nothing is fetched."""
    known: dict[tuple[str, Platform], Base | None] = {}

    def base(image: str, platform: Platform) -> Base | None:
        if (image, platform) not in known:
            known[image, platform] = _base(store, image, platform)
        return known[image, platform]

    return base


def _base(store: Store, image: str, platform: Platform) -> Base | None:
    try:
        there = names.in_store(store, image)
        found = names.stored(store, there, platform, fitting=False) if there is not None else None
    except OrcaError:  # told by the build itself
        return None
    return Base(frozenset(found.config.environment()), names.platform_of(found)) if found is not None else None


# -- in a build


def refuse(build: Build | Builds, emit: Emit) -> None:
    """Stop a build with findings whose Dockerfile asks for it by `error=true`. Raises DockerfileError."""
    found = _findings(build)
    _emit(build, found, emit)
    if found:
        rules = ", ".join(dict.fromkeys(finding.rule for finding in found))
        hint = "error=true asks for this; skip=RULE beside it leaves a rule out"
        raise DockerfileError(f"the build checks found something: {rules}", hint=hint)


def tell(build: Build | Builds, emit: Emit) -> None:
    """Tell at the end of a build what the checks find: then its base images are known."""
    if not selection(build.options).error:
        _emit(build, [finding for finding in _findings(build) if finding.rule != TOLD], emit)


def _findings(build: Build | Builds) -> list[Finding]:
    """What the checks find for each platform, once."""
    wanted = selection(build.options)
    found = [
        finding
        for each in build.builds
        for finding in findings(
            each.options, each.settings.scope, frozenset(each.plan.stages), build.shared.inputs, wanted
        )
    ]
    return list(dict.fromkeys(found))


def _emit(build: Build | Builds, found: list[Finding], emit: Emit) -> None:
    for finding in found[:SHOWN]:
        emit(event(build.options, finding))
    if len(found) > SHOWN:
        emit(Warned(f"the build checks found {len(found) - SHOWN} more", hint="orca build --check shows them all"))
