"""Platforms as `os/architecture[/variant]`, in Go's words."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
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


@dataclass(frozen=True)
class Platform:
    """An operating system, an architecture, and at times its variant."""

    os: str
    architecture: str
    variant: str | None = None

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def accepts(self, other: Mapping[str, Any] | None) -> bool:
        """Does an index entry's `platform` object mean this platform?"""
        if not other:
            return False
        variant = other.get("variant")
        found = normalize(str(other.get("os")), str(other.get("architecture")), str(variant) if variant else None)
        return found == self


def normalize(system: str, architecture: str, variant: str | None) -> Platform:
    """The one way to write a platform that has several names."""
    architecture, variant = _ALIASES.get((architecture, variant), (architecture, variant))
    return Platform(system, architecture, variant)


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
