"""Options: what the image is called, and what it says of itself."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from orca.cli.options import pairs
from orca.errors import UsageError
from orca.executor.options import Naming
from orca.oci import reference

TITLE = "the image"


def declare(add: Callable[..., Any]) -> None:
    """Add the options to a parser's group."""
    add("-t", "--tag", action="append", default=[], metavar="NAME", help="name the image (may be given again)")
    add("--label", action="append", default=[], metavar="NAME=VALUE", help="add a label to the image")


def read(given: argparse.Namespace, environ: Mapping[str, str]) -> Naming:
    """The options as a value. Raises UsageError."""
    return Naming(
        tags=tuple(dict.fromkeys(str(reference.local(tag)) for tag in given.tag)),
        labels=pairs(given.label, "--label"),
        epoch=_epoch(environ),
    )


def _epoch(environ: Mapping[str, str]) -> int | None:
    text = environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 11:
        raise UsageError(f"SOURCE_DATE_EPOCH is not a number of seconds: {text[:40]!r}")
    return int(text)
