"""orca undo."""

from __future__ import annotations

from collections.abc import Sequence

from orca.cli import scripted
from orca.cli.options import Parser
from orca.errors import UsageError
from orca.store import sessions

EXAMPLES = """\
  orca undo $b               go back before the last step
  orca undo $b 3             before the last three

What was undone stays in the cache: the same instruction brings it back at once."""


def make_parser() -> Parser:
    """The options of `orca undo`."""
    parser = Parser("undo", "Take back the last steps of a scripted build.", EXAMPLES, usage="orca undo ID [N]")
    parser.add_argument("id", metavar="ID", help="what orca from has printed")
    parser.add_argument("count", metavar="N", nargs="?", default="1", help="how many steps (default 1)")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Take them back; says on standard error where the scripted build stands."""
    given = make_parser().parse(arguments)
    if not given.count.isascii() or not given.count.isdigit() or len(given.count) > 6:
        raise UsageError(f"N is a number, not {given.count[:40]!r}")
    undo(given.id, int(given.count))
    return 0


def undo(name: str, count: int) -> None:
    """Take back `count` steps. Raises UsageError, StoreError."""
    with scripted.store_in_use() as store, sessions.locked(store, name):
        session = sessions.get(store, name).without(count)
        sessions.put(store, session)
    scripted.tell(f"{name} is at step {len(session.steps)}: {' '.join(session.last.text.split())}")
