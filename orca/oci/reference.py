"""Image references: `[registry[:port]/]path[:tag][@digest]`, by the grammar of the distribution spec."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from orca.errors import UsageError

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])"
_REFERENCE = re.compile(
    rf"(?:(?P<registry>{_HOST}(?::[0-9]+)?)/)?(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
LOCAL = "localhost"
NAME_LIMIT = 255
"""Characters of registry and path, as tools and registries have it."""


@dataclass(frozen=True)
class Reference:
    """A parsed reference; `registry` is None for a short name."""

    registry: str | None
    path: str
    tag: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def name(self) -> str:
        """Registry and path, without tag and digest."""
        return f"{self.registry}/{self.path}" if self.registry else self.path

    def tagged(self) -> Reference:
        """With tag `latest` when it has neither tag nor digest."""
        return self if self.tag or self.digest else replace(self, tag="latest")

    def at(self, registry: str) -> Reference:
        """The same in `registry` (which may have a path of its own: `host/prefix`)."""
        host, _, prefix = registry.partition("/")
        return replace(self, registry=host, path=f"{prefix}/{self.path}" if prefix else self.path)


def parse(text: str) -> Reference:
    """Parse a reference. Raises UsageError; nothing that begins with `-` or holds a blank gets through."""
    match = _REFERENCE.fullmatch(text) if len(text) <= 1024 else None
    if match is None:
        raise UsageError(f"bad image name {text[:120]!r}", hint=_hint(text))
    registry, path = match["registry"], match["path"]
    if len(f"{registry or ''}{path}") >= NAME_LIMIT:
        raise UsageError(
            f"bad image name {text[:60]!r}…", hint=f"a repository's name has at most {NAME_LIMIT} characters"
        )
    port = (registry or "").rpartition("]")[2].partition(":")[2]
    if port and not 0 < int(port[:6]) < 65536:
        raise UsageError(f"bad image name {text[:120]!r}", hint=f"{port[:20]} is no port")
    # `library/debian` is a path; what has a dot or a port, or is localhost, names a registry.
    if registry and not (set(".:[") & set(registry) or registry == LOCAL or registry != registry.lower()):
        registry, path = None, f"{registry}/{path}"
    return Reference(registry, path, match["tag"], match["digest"])


def local(text: str) -> Reference:
    """The full name that something built here gets: `app` is `localhost/app:latest`."""
    reference = parse(text)
    if reference.digest:
        raise UsageError(f"a digest cannot be given to a new image: {text}", hint="name it NAME[:TAG]")
    return (reference if reference.registry else reference.at(LOCAL)).tagged()


def _hint(text: str) -> str:
    if text != text.lower() and _REFERENCE.fullmatch(text.lower()):
        return f"repository names are lower case: {text.lower()}"
    return "a name looks like [registry[:port]/]path[:tag][@sha256:…]"
