"""Options: where the image and what is known of it go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

TITLE = "results"


def declare(add: Callable[..., Any]) -> None:
    """Add the options to a parser's group."""
    add("-o", "--output", action="append", default=[], metavar="SPEC", help="also write the image: oci:DIR:TAG")
    add("--iidfile", metavar="FILE", help="write the image's digest to FILE")
    add("--metadata-file", metavar="FILE", help="write digests and names to FILE, as JSON")
