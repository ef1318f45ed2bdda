"""Which variables an instruction can see, and what they are worth. Pure.

Global ARGs (before the first FROM) are seen by FROM lines; a stage gets one by `ARG name`. Proxies
need no ARG and never show in history or in a cache key. See "Variables" in docs/dockerfile.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from orca.dockerfile import words
from orca.dockerfile.instructions import Arg, Dockerfile, Instruction
from orca.dockerfile.parser import location
from orca.errors import DockerfileError
from orca.oci.platform import Platform

_PROXY = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
PROXIES = frozenset(_PROXY) | frozenset(name.lower() for name in _PROXY)

Lookup = Callable[[str], str | None]


def platform_args(target: Platform, build: Platform) -> dict[str, str]:
    """TARGETPLATFORM, TARGETOS … BUILDVARIANT."""
    return {
        prefix + name: text
        for prefix, platform in (("TARGET", target), ("BUILD", build))
        for name, text in (
            ("PLATFORM", str(platform)),
            ("OS", platform.os),
            ("ARCH", platform.architecture),
            ("VARIANT", platform.variant or ""),
        )
    }


def predefined(target: Platform, build: Platform, epoch: int | None) -> dict[str, str]:
    """The ARGs that a stage gets by name alone: the platforms', and SOURCE_DATE_EPOCH where there is one."""
    times = {} if epoch is None else {"SOURCE_DATE_EPOCH": str(epoch)}
    return {**platform_args(target, build), **times}


@dataclass(frozen=True)
class Scope:
    """What is the same for all instructions of one build.

    `given` are the --build-arg values, `predefined` the platform's and other built-in ARGs,
    `globals_` the ARGs before the first FROM with their values, `proxies` the proxies of RUN.
    """

    source: Dockerfile
    given: Mapping[str, str] = field(default_factory=dict)
    predefined: Mapping[str, str] = field(default_factory=dict)
    globals_: Mapping[str, str] = field(default_factory=dict)
    proxies: Mapping[str, str] = field(default_factory=dict)

    def in_from(self, name: str) -> str | None:
        """The value of `name` in a FROM line or in an ARG before it."""
        return self.globals_.get(name, self.predefined.get(name))

    def arg_value(self, name: str, default: str | None) -> str | None:
        """What `ARG name[=default]` in a stage sets; None when it stays unset."""
        if name in self.given:
            return self.given[name]
        if default is not None:
            return default
        return self.globals_.get(name, self.predefined.get(name))

    def expand(self, word: str, lookup: Lookup, at: Instruction) -> str:
        """`word` with its variables replaced and quotes removed. Raises DockerfileError at the instruction."""
        try:
            return words.expand(word, lookup, self.source.escape)
        except words.WordError as error:
            raise DockerfileError(error.message, hint=error.hint, location=location(self.source, at.span)) from error

    def expand_words(self, word: str, lookup: Lookup, at: Instruction) -> list[str]:
        """As `expand`, but blanks in the result make several words."""
        try:
            return words.expand_words(word, lookup, self.source.escape)
        except words.WordError as error:
            raise DockerfileError(error.message, hint=error.hint, location=location(self.source, at.span)) from error

    def error(self, message: str, at: Instruction, hint: str | None = None) -> DockerfileError:
        """A DockerfileError that points at `at`."""
        return DockerfileError(message, hint=hint, location=location(self.source, at.span))


def make_scope(
    source: Dockerfile,
    global_args: Iterable[Arg],
    *,
    given: Mapping[str, str],
    predefined: Mapping[str, str],
    proxies: Mapping[str, str],
) -> Scope:
    """The scope of a build: evaluates the ARGs before the first FROM, each seeing those above it."""
    values = {name: given.get(name, text) for name, text in predefined.items()}
    scope = Scope(source, given, values, {}, {**proxies, **{n: v for n, v in given.items() if n in PROXIES}})
    found: dict[str, str] = {}
    for instruction in global_args:
        for name, default in instruction.pairs:
            if name in given:
                found[name] = given[name]
            elif default is not None:
                found[name] = scope.expand(default, lambda n: found.get(n, values.get(n)), instruction)
            elif name in values:
                found[name] = values[name]
    return Scope(source, given, values, found, scope.proxies)
