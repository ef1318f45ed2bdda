"""What the command line parsers of all verbs share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

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

    def add_argument(self, *names: Any, **given: Any) -> argparse.Action:
        """As argparse has it, but what may be missing is not told to be required."""
        action = super().add_argument(*names, **given)
        if given.get("nargs") in ("*", argparse.REMAINDER) and not action.option_strings:
            action.required, action.default = False, action.default or []
        return action

    def error(self, message: str) -> NoReturn:
        hint = f"{self.prog} --help"
        if self.usage and message.startswith("the following arguments are required"):
            hint = f"{self.usage}; {hint} has examples"
        raise UsageError(message, hint=hint)

    def parse_args(self, *given: Any, **more: Any) -> Any:
        """As argparse has it; a mistyped option is told by itself, with the one that is like it."""
        found, rest = self.parse_known_args(*given, **more)
        for word in rest:
            if word.startswith("-"):
                raise self._unknown(word.partition("=")[0])
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return found

    def _unknown(self, option: str) -> UsageError:
        import difflib

        known = [name for name in self._option_string_actions if name.startswith("--")]
        near = difflib.get_close_matches(option, known, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        return UsageError(f"no option {option}", hint=f"{hint}{self.prog} --help lists them")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse; --help prints and exits with 0. Raises UsageError."""
        for word in arguments:
            if word == "--":
                break
            if word.startswith("-") and word.endswith("=--"):  # argparse would make an empty list of it
                raise UsageError(f"{word.removesuffix('=--')}: -- is no value")
        found: argparse.Namespace = self.parse_args(list(arguments))
        return found


def pairs(words: Sequence[str], option: str) -> dict[str, str]:
    """`NAME=VALUE` words as a mapping. Raises UsageError."""
    result = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise UsageError(f"{option} {word!r} is not NAME=VALUE")
        result[name] = value
    return result


def print_cut(lines: Iterable[str]) -> None:
    """Lines on standard output; on a terminal each is cut to its width instead of wrapped."""
    from orca.ui import human
    from orca.ui.terminal import Terminal

    terminal = Terminal(sys.stdout)
    for line in lines:
        print(human.cut(line, terminal.width) if terminal.tty else line)


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
