"""What the command line says that matters to the translation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orca.plan.scope import Scope

NETWORKS = ("default", "none", "host")
# What a Dockerfile may ask for and only --allow grants, in BuildKit's words.
HOST_NETWORK, INSECURE = "network.host", "security.insecure"


@dataclass(frozen=True)
class Settings:
    """`network` is the build's default for RUN; `hosts` are --add-host pairs (name, address).

    `allowed` is what --allow grants; `around` what else of the command line is in the key of every RUN.
    """

    scope: Scope
    network: str = "default"
    hosts: tuple[tuple[str, str], ...] = ()
    allowed: frozenset[str] = frozenset()
    around: Mapping[str, object] = field(default_factory=dict)
