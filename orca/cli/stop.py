"""orca stop."""

from __future__ import annotations

from collections.abc import Sequence

from orca.cli.container import each, remove
from orca.cli.flags.containers import seconds
from orca.cli.options import Parser
from orca.executor import inside, stopping
from orca.executor.container import Request
from orca.store import containers
from orca.store.containers import Entry
from orca.store.store import Store

EXAMPLES = """\
  orca stop web             its stop signal (the image's STOPSIGNAL, else SIGTERM); SIGKILL after 10 seconds
  orca stop -t 60 db        a minute for a database
  orca stop --rm web        stop it, and delete what it changed
  orca stop --all           all that run"""


def make_parser() -> Parser:
    """The options of `orca stop`."""
    parser = Parser("stop", "Stop containers, and wait until they have ended.", EXAMPLES)
    add = parser.add_argument
    add("containers", metavar="CONTAINER", nargs="*", help="a name, an id or its beginning")
    add("-t", "--time", metavar="SECONDS", help="how long it has, before SIGKILL (default: its --stop-timeout, or 10)")
    add("-a", "--all", action="store_true", help="all that run")
    add("-i", "--ignore", action="store_true", help="do not mind one that is not there")
    add("--rm", action="store_true", help="delete it then, as orca container rm does")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Stop them; prints their names as given."""
    given = make_parser().parse(arguments)
    grace = None if given.time is None else seconds(given.time, "--time")
    store = Store.open()

    def work(entry: Entry) -> None:
        stop(entry, grace)

    code = each(store, given, work, running=True)
    if given.rm:
        names = [word for word in given.containers if _there(store, word)]
        remove(store, [containers.find(store, word) for word in names])
    return code


def _there(store: Store, word: str) -> bool:
    return any(
        word in (entry.config.name, entry.id) or entry.id.startswith(word) for entry in containers.listing(store)
    )


def stop(entry: Entry, grace: float | None) -> None:
    """Stop one; one that does not run is left as it is."""
    if not entry.alive():
        return
    config = entry.config.request
    request = Request.from_json(config) if config else Request("")
    if grace is None:
        grace = stopping.GRACE if request.stop_timeout is None else request.stop_timeout
    inside.stop(entry, stopping.signal_number(request.stop_signal), grace)
