"""orca report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from orca.cli import records
from orca.cli.options import Parser
from orca.errors import UsageError
from orca.store import files
from orca.store.store import Store
from orca.ui import report as pages
from orca.ui.terminal import Terminal

EXAMPLES = """\
  orca report app -o app.html    the build that made localhost/app:latest
  orca report -o last.html       the last build that did something, also one that failed
  orca report > last.html        the same to standard output"""


def make_parser() -> Parser:
    """The options of `orca report`."""
    parser = Parser(
        "report",
        "Draw a build as one HTML page that needs nothing else: its steps, how long each took, every command with\n"
        "what it was for, and the layers.",
        EXAMPLES,
        usage="orca report [options] [IMAGE|BUILD]",
    )
    parser.add_argument("what", metavar="IMAGE|BUILD", nargs="?", help="an image or a build (default: the last build)")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the page there (default: standard output)")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Write the page."""
    given = make_parser().parse(arguments)
    page = pages.page(records.find(Store.open(), given.what))
    if given.output in (None, "-"):
        terminal = Terminal(sys.stdout)
        if terminal.tty:
            raise UsageError("a page is not written to a terminal", hint="-o FILE, or redirect standard output")
        terminal.write(page)
        return 0
    try:
        Path(given.output).write_text(page, encoding="utf-8")
    except OSError as error:
        raise files.explain(error, f"writing {given.output}") from error
    return 0
