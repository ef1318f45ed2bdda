"""Platforms as `os/architecture[/variant]`, in Go's words."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orca.errors import UsageError

_MACHINES = {
    "x86_64": ("amd64", None),
    "i386": ("386", None),
    "i686": ("386", None),
    "aarch64": ("arm64", None),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "ppc64le": ("ppc64le", None),
    "s390x": ("s390x", None),
    "riscv64": ("riscv64", None),
    "loongarch64": ("loong64", None),
    "mips64": ("mips64le", None),
}
# Other names in use, and variants that say nothing: as containerd normalizes them.
_ALIASES = {
    ("x86_64", None): ("amd64", None),
    ("x86-64", None): ("amd64", None),
    ("amd64", "v1"): ("amd64", None),
    ("aarch64", None): ("arm64", None),
    ("arm64", "v8"): ("arm64", None),
    ("aarch64", "v8"): ("arm64", None),
    ("arm", None): ("arm", "v7"),
    ("armhf", None): ("arm", "v7"),
    ("armel", None): ("arm", "v6"),
    ("i386", None): ("386", None),
}
_NAMES = frozenset(architecture for architecture, _ in _MACHINES.values())
_KNOWN = _NAMES | {architecture for architecture, _ in _ALIASES}
_PART = re.compile(r"[A-Za-z0-9_.-]+")
_VARIANT = re.compile(r"v[0-9]{1,3}")
# The variant that an architecture without one stands for.
_PLAIN = {"amd64": 1, "arm": 7, "arm64": 8}


@dataclass(frozen=True)
class Platform:
    """An operating system, an architecture, and at times its variant."""

    os: str
    architecture: str
    variant: str | None = None

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def distance(self, other: Platform) -> int | None:
        """How far from this platform is what runs on it: 0 is the same, None does not run.

        A variant runs what was made for lower ones of the same architecture: arm/v7 runs arm/v6.
        """
        if (self.os, self.architecture) != (other.os, other.architecture):
            return None
        if self.variant == other.variant:
            return 0
        own, others = self._level(), other._level()
        return own - others if own is not None and others is not None and own >= others else None

    def _level(self) -> int | None:
        if self.variant is None:
            return _PLAIN.get(self.architecture)
        return int(self.variant[1:]) if _VARIANT.fullmatch(self.variant) else None

    def to_json(self) -> dict[str, str]:
        """As a descriptor's `platform` object."""
        value = {"architecture": self.architecture, "os": self.os}
        return {**value, "variant": self.variant} if self.variant else value


def normalize(system: str, architecture: str, variant: str | None) -> Platform:
    """The one way to write a platform that has several names."""
    architecture, variant = _ALIASES.get((architecture, variant), (architecture, variant))
    return Platform(system, architecture, variant)


def of(value: Mapping[str, Any] | None) -> Platform | None:
    """What a descriptor's `platform` object means; None for one that names no architecture."""
    if not value or not value.get("architecture"):
        return None
    variant = value.get("variant")
    return normalize(str(value.get("os") or "linux"), str(value["architecture"]), str(variant) if variant else None)


def host() -> Platform:
    """The platform that this machine runs."""
    machine = os.uname().machine
    architecture, variant = _MACHINES.get(machine, (machine, None))
    return Platform("linux", architecture, variant)


def parse(text: str) -> Platform:
    """`linux/arm64/v8`, or an architecture alone. Raises UsageError."""
    parts = text.strip().lower().split("/")
    if not 1 <= len(parts) <= 3 or not all(_PART.fullmatch(part) for part in parts):
        raise UsageError(f"bad platform {text!r}", hint="a platform looks like linux/amd64 or linux/arm64/v8")
    if len(parts) == 1:
        if parts[0] == "local":
            return host()
        if parts[0] != "linux" and parts[0] not in _KNOWN:
            raise UsageError(f"unknown architecture {text!r}", hint=f"known are {', '.join(sorted(_NAMES))}")
        parts = ["linux", *parts] if parts[0] != "linux" else ["linux", host().architecture]
    return normalize(parts[0], parts[1], parts[2] if len(parts) == 3 else None)


def parse_list(words: Iterable[str]) -> tuple[Platform, ...]:
    """Lists like `linux/amd64,linux/arm64`, each platform once. Raises UsageError."""
    parts = [part for word in words for part in word.split(",")]
    return tuple(dict.fromkeys(parse(part) for part in parts))
