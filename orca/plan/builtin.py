"""BuildKit's own build arguments: those that mean something here, and those that do not. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

SANDBOX_HOSTNAME = "BUILDKIT_SANDBOX_HOSTNAME"
CACHE_MOUNT_NS = "BUILDKIT_CACHE_MOUNT_NS"
SYNTAX = "BUILDKIT_SYNTAX"

# They need no ARG. What they do is told in docs/dockerfile.md.
NAMES = frozenset(
    {
        *(SANDBOX_HOSTNAME, CACHE_MOUNT_NS, SYNTAX),
        *("BUILDKIT_BUILD_NAME", "BUILDKIT_CONTEXT_KEEP_GIT_DIR", "BUILDKIT_DOCKERFILE_CHECK"),
        *("BUILDKIT_INLINE_CACHE", "BUILDKIT_MULTI_PLATFORM", "SOURCE_DATE_EPOCH"),
    }
)
PLATFORM = frozenset(kind + part for kind in ("TARGET", "BUILD") for part in ("PLATFORM", "OS", "ARCH", "VARIANT"))

_HOSTNAME = re.compile(r"(?=.{1,64}\Z)[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?")


def bad_value(given: Mapping[str, str]) -> str | None:
    """What is wrong with the value of one of these arguments, None when nothing is."""
    name = given.get(SANDBOX_HOSTNAME, "")
    if name and not _HOSTNAME.fullmatch(name):
        return f"--build-arg {SANDBOX_HOSTNAME}={name[:80]!r} is no host name"
    return None


def hostname(given: Mapping[str, str]) -> str:
    """The host name of every RUN, empty for the usual one."""
    return given.get(SANDBOX_HOSTNAME, "")


def cache_id(given: Mapping[str, str], name: str) -> str:
    """The id of a cache mount, in the namespace that the build names."""
    space = given.get(CACHE_MOUNT_NS, "")
    return f"{space}/{name}" if space else name
