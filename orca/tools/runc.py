"""runc's command lines. Pure."""

from __future__ import annotations

from pathlib import Path

from orca.tools.command import Command


def run(state: Path, bundle: Path, container: str) -> Command:
    """Run the bundle's config.json to its end."""
    return Command(
        ("runc", "--root", str(state), "run", "--bundle", str(bundle), container),
        "run the command in a container",
    )
