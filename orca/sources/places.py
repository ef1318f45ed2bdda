"""Where cached steps are shared, as a value: what opens it is in `shared.py`, and loaded when it is needed."""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = "orca"
"""Begins the tags of cached steps where the place names no tag of its own."""


@dataclass(frozen=True)
class Place:
    """Where cached steps are kept, as --cache-from and --cache-to say it.

    `where` is a repository with its registry, or with `local` a directory. `whole` (mode=max) exports the steps
    of all stages, not only those that the image is made of.
    """

    where: str
    local: bool = False
    prefix: str = PREFIX
    whole: bool = False
    ignore_error: bool = False

    def tag(self, key: str) -> str:
        return f"{self.prefix}-{key}"

    def __str__(self) -> str:
        return self.where if self.local or self.prefix == PREFIX else f"{self.where}:{self.prefix}"
