"""What the record of a build keeps, to build the same again: `orca verify` does."""

from __future__ import annotations

import argparse
import os
from typing import Any

from orca.cli.flags import naming, running, source
from orca.dockerfile.remotes import hide
from orca.executor.options import Options

RECORDED = (source, naming, running)
"""The groups whose options a record keeps. Credentials are in another."""


def recipe(given: argparse.Namespace, options: Options) -> dict[str, Any]:
    """What must be known to build the same again: the Dockerfile's text, and the options as they were given.

    Of secrets only their names and where they came from; no credentials, those in URLs neither.
    """
    probe = argparse.ArgumentParser(add_help=False)
    for group in RECORDED:
        group.declare(probe.add_argument)
    kept: dict[str, Any] = {}
    for action in probe._actions:
        value = getattr(given, action.dest, None)
        if value != action.default:
            kept[action.dest] = [hide(text) for text in value] if isinstance(value, list) else (
                hide(value) if isinstance(value, str) else value)  # fmt: skip
    kept |= {"tag": [], "build_arg": [f"{name}={text}" for name, text in options.build_args.items()]}
    kept["platform"] = [str(platform) for platform in options.platforms or (options.platform,)]
    if options.naming.epoch is not None and given.timestamp is None:
        kept["source_date_epoch"] = str(options.naming.epoch)
    lines = list(options.dockerfile.lines)
    for found in options.dockerfile.instructions:
        if found.keyword == "ADD":
            lines[found.span.first - 1 : found.span.last] = map(hide, lines[found.span.first - 1 : found.span.last])
    text = "\n".join(lines) + "\n"
    return {
        "dockerfile": {"name": options.dockerfile.name, "text": text},
        "ignore_file": str(options.ignore_file.absolute()) if options.ignore_file else None,
        "options": kept,
        "cwd": os.getcwd(),
    }
