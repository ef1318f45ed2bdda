"""Options: how to get at registries, for base images and for what is pushed."""

from __future__ import annotations

from orca.cli.access import add_registry_options as declare
from orca.cli.access import read

TITLE = "registries"

__all__ = ["TITLE", "declare", "read"]
