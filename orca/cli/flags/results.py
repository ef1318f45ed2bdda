"""Options: where the image and what is known of it go."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

from orca.errors import UsageError
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
    """The outputs that are asked for. Raises UsageError, also for files about the result that cannot be written."""
    for option, path in (("--iidfile", given.iidfile), ("--metadata-file", given.metadata_file)):
        if path is not None:
            _check_file(option, path)
    if not given.output and not given.push:
        return ()
    from orca.cli.flags import outputs

    return outputs.outputs(given.output, naming, push=given.push)


def _check_file(option: str, path: str) -> None:
    """What would fail after the build is told before it. Raises UsageError."""
    parent = os.path.dirname(os.path.abspath(path))
    if not path or "\0" in path or os.path.isdir(path):
        raise UsageError(f"{option}={path} is not the name of a file", hint=f"{option}=FILE")
    if not os.path.isdir(parent):
        raise UsageError(f"{option}={path}: {parent} is not a directory", hint=f"mkdir -p {parent}")
    if not os.access(path if os.path.exists(path) else parent, os.W_OK):
        raise UsageError(f"{option}={path} cannot be written", hint=f"{option}=FILE in a directory of your own")
