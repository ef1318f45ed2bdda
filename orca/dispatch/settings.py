"""What the command line says that matters to the translation."""

from __future__ import annotations

from dataclasses import dataclass

from orca.plan.scope import Scope

NETWORKS = ("default", "none", "host")


@dataclass(frozen=True)
class Settings:
    """`network` is the build's default for RUN; `hosts` are --add-host pairs (name, address)."""

    scope: Scope
    network: str = "default"
    hosts: tuple[tuple[str, str], ...] = ()
