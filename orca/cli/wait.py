"""orca wait."""

from __future__ import annotations

from collections.abc import Sequence

from orca.cli.options import Parser
from orca.errors import OrcaError
from orca.store import containers
from orca.store.store import Store

EXAMPLES = """\
  orca wait job            prints its exit code when it has ended
  test "$(orca wait job)" = 0 && echo well done"""


def make_parser() -> Parser:
    """The options of `orca wait`."""
    parser = Parser("wait", "Wait until containers have ended, and print their exit codes.", EXAMPLES)
    parser.add_argument("containers", metavar="CONTAINER", nargs="+", help="a name, an id or its beginning")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Wait for each; a line each."""
    given = make_parser().parse(arguments)
    store = Store.open()
    for entry in [containers.find(store, word) for word in given.containers]:
        code = entry.exit_code()
        if code is None:
            raise OrcaError(f"the container {entry.config.name} was killed: nobody knows its exit code")
        print(code, flush=True)
    return 0
