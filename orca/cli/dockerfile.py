"""orca dockerfile."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from orca.cli.options import Parser
from orca.store import sessions
from orca.store.store import Store
from orca.ui.escape import visible

EXAMPLES = """\
  orca dockerfile $b                     what was done, as a Dockerfile
  orca dockerfile $b > Dockerfile        orca build makes the same image of it

Other scripted builds that it copied from are stages. COPY reads from one context there: that of the build."""


def make_parser() -> Parser:
    """The options of `orca dockerfile`."""
    parser = Parser("dockerfile", "Print a scripted build as a Dockerfile.", EXAMPLES, usage="orca dockerfile ID")
    parser.add_argument("id", metavar="ID", help="what orca from has printed")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Print it."""
    given = make_parser().parse(arguments)
    store = Store.open()
    text = sessions.dockerfile(sessions.get(store, given.id))
    if sys.stdout.isatty():
        text = "\n".join(visible(line) for line in text.splitlines()) + "\n"
    sys.stdout.write(text)
    return 0
