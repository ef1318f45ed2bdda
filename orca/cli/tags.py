"""orca tags."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from orca.cli import access
from orca.cli.options import Parser, print_json
from orca.executor import sandbox
from orca.sources import several
from orca.sources.images import Puller
from orca.store.store import Store
from orca.tools.command import Runner
from orca.ui.escape import visible

EXAMPLES = """\
  orca tags debian                             the registry is the one that registries.conf says
  orca tags --tls-verify=false 127.0.0.1:5000/app
  orca tags --json registry.example/app | jq -r '.tags[]'"""


def make_parser() -> Parser:
    """The options of `orca tags`."""
    parser = Parser("tags", "List the tags of a repository in a registry.", EXAMPLES,
                    usage="orca tags [options] REPOSITORY")  # fmt: skip
    parser.add_argument("repository", metavar="REPOSITORY", help="[registry/]name")
    parser.add_argument("--json", action="store_true", help="print JSON: the repository's name and its tags")
    access.add_options(parser)
    return parser


def run(arguments: Sequence[str]) -> int:
    """Print the tags, one a line."""
    given = make_parser().parse(arguments)
    registry_access = access.read(given, [given.repository])
    store = Store.open()
    sandbox.catch_signals()
    store.sweep()
    with store.in_use(), store.scratch() as scratch, access.shown(given) as emit:
        name, found = several.tags(Puller(store, Runner(emit), scratch, registry_access), given.repository)
    if given.json:
        print_json({"name": str(name), "tags": found})
    else:
        sys.stdout.write("".join(f"{visible(tag)}\n" for tag in found))
    return 0
