"""Options: how the build goes, and what is seen of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

TITLE = "the way"


def declare(add: Callable[..., Any]) -> None:
    """Add the options to a parser's group."""
    add("--jobs", type=int, default=0, metavar="N", help="how many stages may run at a time")
    add("--progress", default="auto", choices=["auto", "tty", "plain", "json", "quiet"], help="how progress is shown")
    add("-q", "--quiet", action="store_true", help="print nothing but the digest, and errors")
    add("--explain", action="store_true", help="say before each step what will happen, and show every tool call")
    add("--logfile", metavar="FILE", help="add what is shown to FILE instead; errors are told on the terminal too")
    add("--no-color", action="store_true", help=argparse.SUPPRESS)
