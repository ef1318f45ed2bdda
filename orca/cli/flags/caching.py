"""Options: what may be taken from before."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from orca.errors import UsageError
from orca.executor.options import Caching

TITLE = "the cache"


def declare(add: Callable[..., Any]) -> None:
    """Add the options to a parser's group."""
    add("--no-cache", action="store_true", help="carry out every step, even if its result is known")
    add("--no-cache-filter", action="append", default=[], metavar="STAGE[,STAGE]",
        help="carry out these stages anew, and what reads them")  # fmt: skip
    add("--pull", nargs="?", const="always", default="missing", metavar="POLICY",
        choices=["always", "missing", "newer", "never", "true", "false"],
        help="when to ask the registry for base images: always (= --pull), missing, newer, never")  # fmt: skip


def read(given: argparse.Namespace) -> Caching:
    """The options as a value. Raises UsageError."""
    stages = [name.strip().lower() for word in given.no_cache_filter for name in word.split(",")]
    if "" in stages:
        raise UsageError("--no-cache-filter names no stage", hint="write --no-cache-filter=STAGE[,STAGE]")
    return Caching(
        no_cache=given.no_cache,
        pull={"true": "always", "false": "missing"}.get(given.pull, given.pull),
        no_cache_stages=frozenset(stages),
    )
