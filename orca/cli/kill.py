"""orca kill."""

from __future__ import annotations

from collections.abc import Sequence

from orca.cli.container import each
from orca.cli.flags.containers import stop_signal
from orca.cli.options import Parser
from orca.executor import inside, stopping
from orca.store.containers import Entry
from orca.store.store import Store

EXAMPLES = """\
  orca kill web            SIGKILL: it ends at once
  orca kill -s HUP web     any other signal: many servers read their configuration again"""


def make_parser() -> Parser:
    """The options of `orca kill`."""
    parser = Parser("kill", "Send a signal to the first process of containers.", EXAMPLES)
    add = parser.add_argument
    add("containers", metavar="CONTAINER", nargs="*", help="a name, an id or its beginning")
    add("-s", "--signal", default="KILL", metavar="SIGNAL", help="a name or a number (default KILL)")
    add("-a", "--all", action="store_true", help="all that run")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Send it; prints the names as given. After SIGKILL, waits until nothing of the container is left."""
    given = make_parser().parse(arguments)
    number = stopping.signal_number(stop_signal(given.signal))

    def work(entry: Entry) -> None:
        inside.tell(entry, lambda first: number)
        if number == 9:
            entry.wait(stopping.GRACE)

    return each(Store.open(), given, work, running=True)
