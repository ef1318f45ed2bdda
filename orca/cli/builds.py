"""orca builds."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from orca.cli.options import Parser, print_json
from orca.executor import records
from orca.store.store import Store
from orca.ui import account as accounts
from orca.ui import human
from orca.ui.account import Account
from orca.ui.escape import visible
from orca.ui.terminal import Terminal

EXAMPLES = """\
  orca builds                    the builds that did something, the newest first
  orca builds --json             the same for programs
  orca report BUILD -o b.html    one of them as a page; orca script BUILD: as a script"""


def make_parser() -> Parser:
    """The options of `orca builds`."""
    parser = Parser(
        "builds",
        "List the records of builds. The newest 50, and 200 of scripted steps, are kept;\n"
        "a build that came from the cache leaves none.",
        EXAMPLES,
        usage="orca builds [options]",
    )
    parser.add_argument("--json", action="store_true", help="print JSON: one object for each build")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Print the table, the newest first."""
    given = make_parser().parse(arguments)
    store = Store.open()
    found = []
    for name in records.names(store):
        account = accounts.tell(records.events_of(store, name))
        account.build = name
        found.append(account)
    if given.json:
        print_json([_value(account) for account in found])
    else:
        now = time.time()
        terminal = Terminal(sys.stdout)
        rows = [_row(account, now) for account in found]
        print(render(rows, terminal.width if terminal.tty else None))
    return 0


HEADERS = ("BUILD", "BEGAN", "STATUS", "STEPS", "CACHED", "TIME", "IMAGE")
NARROWEST = 8
"""Columns that IMAGE gets at least, however narrow the terminal is."""


def render(rows: Sequence[tuple[str, ...]], width: int | None) -> str:
    """The table; its last column is cut where the terminal ends."""
    if width is not None:
        others = [max(map(human.cells, column)) for column in zip(HEADERS, *rows, strict=True)][:-1]
        room = max(width - sum(others) - 2 * len(others), NARROWEST)
        rows = [(*row[:-1], human.cut(visible(row[-1]), room)) for row in rows]
    return human.table(rows, HEADERS, right=("STEPS", "CACHED", "TIME"))


def _row(account: Account, now: float) -> tuple[str, ...]:
    image = ", ".join(account.tags) or (account.digest or "")[:19] or "-"
    return (
        account.build,
        human.ago(max(now - account.time, 0)),
        account.status,
        str(len(account.steps)),
        str(account.cached),
        human.seconds(account.seconds),
        image,
    )


def _value(account: Account) -> dict[str, object]:
    return {
        "build": account.build,
        "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(account.time)),
        "status": account.status,
        "dockerfile": account.dockerfile,
        "names": list(account.tags),
        "digest": account.digest,
        "steps": len(account.steps),
        "cached": account.cached,
        "seconds": round(account.seconds, 3),
        "failed": account.failed,
    }
