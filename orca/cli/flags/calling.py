"""Options: what is done with the Dockerfile instead of building it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

TITLE = "instead of building"

METHODS = ("build", "check", "outline", "targets")
_JSON = ",format=json"


@dataclass(frozen=True)
class Call:
    """`method` is one of METHODS."""

    method: str = "build"
    json: bool = False


def declare(add: Callable[..., Any]) -> None:
    """Add the options to a parser's group."""
    add("--check", action="store_true", help="run the build checks, build nothing (= --call check)")
    add("--call", default="build", metavar="METHOD", choices=[*METHODS, *(name + _JSON for name in METHODS[1:])],
        help="check: run the build checks; outline: what the target takes; targets: the stages; "
             "each may be followed by ,format=json")  # fmt: skip


def read(given: argparse.Namespace) -> Call:
    """The options as a value."""
    method = given.call.removesuffix(_JSON)
    if given.check and method == "build":
        method = "check"
    return Call(method, given.call.endswith(_JSON))
