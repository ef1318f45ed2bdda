"""orca search."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from orca.cli import access
from orca.cli.options import Parser, print_json
from orca.errors import UsageError
from orca.oci import reference
from orca.sources import registries
from orca.sources.catalog import Catalog
from orca.ui.escape import visible

EXAMPLES = """\
  orca search registry.example                 all repositories that the registry lists
  orca search 127.0.0.1:5000/app               those with app in their name
  orca search --json registry.example/app | jq -r '.[].name'

Not every registry has such a list; orca tags REPOSITORY asks for the tags of one that you know."""


def make_parser() -> Parser:
    """The options of `orca search`."""
    parser = Parser("search", "List repositories of a registry, if it offers such a list.", EXAMPLES,
                    usage="orca search [options] REGISTRY[/TERM]")  # fmt: skip
    add = parser.add_argument
    add("term", metavar="REGISTRY[/TERM]", help="the registry, and what the names shall contain")
    add("--limit", type=int, metavar="N", help="not more than N names")
    add("--json", action="store_true", help="print JSON: an object with the name of each")
    access.add_registry_options(add)
    return parser


def run(arguments: Sequence[str]) -> int:
    """Print the names, one a line."""
    given = make_parser().parse(arguments)
    if given.limit is not None and given.limit < 1:
        raise UsageError(f"--limit {given.limit} is less than 1")
    registry, term = _parts(given.term)
    found = []
    for name in Catalog(registry, access.read(given, [f"{registry}/x"])).repositories():
        if term in name:
            found.append(f"{registry}/{name}")
        if given.limit is not None and len(found) == given.limit:
            break
    if given.json:
        print_json([{"name": name} for name in found])
    else:
        sys.stdout.write("".join(f"{visible(name)}\n" for name in found))
    return 0


def _parts(text: str) -> tuple[str, str]:
    """The registry, and what is searched for. Raises UsageError."""
    registry, _, term = text.removeprefix("docker://").partition("/")
    hint = "write HOST[:PORT]/TERM; there is no list of all registries"
    try:
        parsed = reference.parse(f"{registry}/x")
    except UsageError as error:
        raise UsageError(f"{registry[:120]!r} is no registry", hint=hint) from error
    if parsed.registry is None:
        raise UsageError(f"{registry!r} is no registry", hint=hint)
    return registries.normal(parsed).registry or "", term.lower()
