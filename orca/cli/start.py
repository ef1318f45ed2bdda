"""orca start."""

from __future__ import annotations

from collections.abc import Sequence

from orca.cli import launch, storage
from orca.cli.options import Parser
from orca.errors import OrcaError
from orca.executor.container import Request
from orca.store import containers
from orca.store.containers import Held, State
from orca.store.store import Store
from orca.ui.escape import visible

EXAMPLES = """\
  orca start web       run it again, in the background: the same command, what it changed is still there"""


def make_parser() -> Parser:
    """The options of `orca start`."""
    parser = Parser("start", "Start a container again that has ended.", EXAMPLES)
    parser.add_argument("container", metavar="CONTAINER", help="a name, an id or its beginning")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Start it; prints its name when it runs."""
    given = make_parser().parse(arguments)
    entry = containers.find(Store.open(), given.container)
    store = storage.open_kind(entry.config.storage)
    if not entry.config.request:
        raise OrcaError(f"the container {entry.config.name} was never made", hint="orca container rm deletes it")

    def make() -> Held:
        held = containers.hold(store, entry)
        held.configure(detached=True, kept=True)
        held.say(State())
        held.begins()
        return held

    job = launch.Job(store, Request.from_json(entry.config.request), make, new=False)
    return launch.detached(job, lambda found: visible(given.container))
