"""orca abandon."""

from __future__ import annotations

from collections.abc import Sequence

from orca.cli.options import Parser
from orca.errors import UsageError
from orca.store import sessions
from orca.store.store import Store

EXAMPLES = """\
  orca abandon $b            end a scripted build; images that were made of it stay
  orca abandon --all         end all of them
  orca prune                 frees what only they needed"""


def make_parser() -> Parser:
    """The options of `orca abandon`."""
    parser = Parser("abandon", "End scripted builds.", EXAMPLES, usage="orca abandon ID ... | --all")
    parser.add_argument("ids", metavar="ID", nargs="*", help="what orca from has printed")
    parser.add_argument("-a", "--all", action="store_true", help="all that have begun")
    return parser


def run(arguments: Sequence[str]) -> int:
    """End them, all or none; prints their ids."""
    given = make_parser().parse(arguments)
    if bool(given.ids) == given.all:
        raise UsageError("say which scripted builds, or --all", hint="orca steps lists them")
    store = Store.open()
    known = sessions.names(store)
    for name in given.ids:
        if name not in known:
            sessions.get(store, name)  # raises, with a near name
    for name in dict.fromkeys(known if given.all else given.ids):
        with sessions.locked(store, name):
            if sessions.remove(store, name):
                print(name, flush=True)
    return 0
