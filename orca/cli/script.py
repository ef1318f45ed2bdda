"""orca script."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from orca.cli import records
from orca.cli.options import Parser
from orca.store.store import Store
from orca.ui.script import Script
from orca.ui.terminal import Terminal

EXAMPLES = """\
  orca script app > app.sh       the commands of the build that made localhost/app:latest
  orca script                    those of the last build that did something
  orca script 20260102T1         the build whose id begins so: orca builds lists them
  sudo bash app.sh               make its layers again, by hand"""


def make_parser() -> Parser:
    """The options of `orca script`."""
    parser = Parser(
        "script",
        "Print a build as a shell script: every command that it ran, in order, with what it was for.\n"
        "What needed the sandbox around it (the container, its mounts and its network) is there as comments.",
        EXAMPLES,
        usage="orca script [IMAGE|BUILD]",
    )
    parser.add_argument("what", metavar="IMAGE|BUILD", nargs="?", help="an image or a build (default: the last build)")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Print the script."""
    given = make_parser().parse(arguments)
    store = Store.open()
    account = records.find(store, given.what)
    Terminal(sys.stdout).write(Script(account, str(store.root), records.starts(store, account)).text())
    return 0
