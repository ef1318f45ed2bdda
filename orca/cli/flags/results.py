"""Options: where the image and what is known of it go."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from orca.executor.options import Naming, Output

TITLE = "results"


def declare(add: Callable[..., Any]) -> None:
    """Add the options to a parser's group."""
    add("-o", "--output", action="append", default=[], metavar="SPEC",
        help="write it there too: type=oci|docker|tar|local|image|registry|cacheonly,dest=…; oci:DIR:TAG")  # fmt: skip
    add("--push", action="store_true", help="send the image to the registry of each of its names")
    add("--load", action="store_true", help="nothing to do: the image is in the store in any case")
    add("--manifest", metavar="LIST", help="put the image into this manifest list too; a missing list is made")
    add("--iidfile", metavar="FILE", help="write the image's digest to FILE")
    add("--metadata-file", metavar="FILE", help="write digests and names to FILE, as JSON")


def read(given: argparse.Namespace, naming: Naming) -> tuple[Output, ...]:
    """The outputs that are asked for. Raises UsageError."""
    if not given.output and not given.push:
        return ()
    from orca.cli.flags import outputs

    return outputs.outputs(given.output, naming, push=given.push)
