"""What the command line parsers of all verbs share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from orca.errors import UsageError


class Parser(argparse.ArgumentParser):
    """argparse that raises UsageError, and whose help ends with examples."""

    def __init__(self, verb: str, about: str, examples: str, usage: str | None = None) -> None:
        super().__init__(
            prog=f"orca {verb}",
            usage=usage,
            description=about,
            epilog=f"examples:\n{examples}",
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=28, width=100),
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"{self.prog} --help")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse; --help prints and exits with 0. Raises UsageError."""
        for word in arguments:
            if word == "--":
                break
            if word.startswith("-") and word.endswith("=--"):  # argparse would make an empty list of it
                raise UsageError(f"{word.removesuffix('=--')}: -- is no value")
        return self.parse_args(list(arguments))


def pairs(words: Sequence[str], option: str) -> dict[str, str]:
    """`NAME=VALUE` words as a mapping. Raises UsageError."""
    result = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise UsageError(f"{option} {word!r} is not NAME=VALUE")
        result[name] = value
    return result


def print_json(value: object) -> None:
    """A value as indented JSON on standard output.

    Characters that do not show themselves (and lone surrogates) are spelled as JSON's own escapes, so that
    what an image says can neither drive a terminal nor fail to be written; the value stays the same.
    """
    import json

    from orca.ui.escape import shows

    text = json.dumps(value, indent=2, ensure_ascii=False)
    if not text.isascii():
        text = "".join(char if char == "\n" or shows(char) else json.dumps(char)[1:-1] for char in text)
    sys.stdout.write(text + "\n")
