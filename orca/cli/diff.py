"""orca diff."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from orca.cli import choice
from orca.cli.options import Parser, print_json
from orca.executor import contents
from orca.executor.contents import Change
from orca.sources import names
from orca.store.store import Store
from orca.ui import human
from orca.ui.escape import visible
from orca.ui.terminal import Terminal

EXAMPLES = """\
  orca diff app:1 app:2       what version 2 added (A), changed (C) and removed (D)
  orca diff app@3 app@4       what step 4 of a build did
  orca diff $b@2 $b           what the steps of a scripted build after step 2 did
  orca diff app               what the last step that has files did: the last layer
  orca diff --json a b        the same for programs"""


def make_parser() -> Parser:
    """The options of `orca diff`."""
    parser = Parser(
        "diff",
        "Compare the files of two images. Directories that differ in their time alone are not shown, and\n"
        "of what went with its directory only that directory, unless --all asks for them.",
        EXAMPLES,
        usage="orca diff [options] IMAGE [IMAGE]",
    )
    add = parser.add_argument
    add("image", metavar="IMAGE", help="the older one; alone: what its last layer did")
    add("other", metavar="IMAGE", nargs="?", help="the newer one")
    add("-a", "--all", action="store_true", help="every path, and times of directories")
    choice.add_option(add)
    add("--json", action="store_true", help="print JSON: one object for each path")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Print the differences; a sum goes to standard error."""
    given = make_parser().parse(arguments)
    wanted = choice.wanted(given)
    store = Store.open()
    with store.in_use():
        layers = contents.listings(names.look(store, given.image, wanted), store)
        other = layers
        if given.other is None:
            layers = layers[:-1]
        else:
            other = contents.listings(names.look(store, given.other, wanted), store)
    found = list(contents.diff(contents.tree(layers), contents.tree(other), whole=given.all))
    if given.json:
        print_json([to_json(change) for change in found])
        return 0
    for change in found:
        print(line(change))
    Terminal(sys.stderr).line(summary(found))
    return 0


def to_json(change: Change) -> dict[str, Any]:
    """A change for programs."""
    kind = {"A": "added", "C": "changed", "D": "removed"}[change.kind]
    return {"kind": kind, "path": f"/{change.path}", "size": change.size, "fields": list(change.fields)}


def line(change: Change) -> str:
    """A change for people: "C /etc/passwd  1.2 kB (content, time)"."""
    size = f"  {human.size(change.size)}" if change.size else ""
    fields = f" ({', '.join(change.fields)})" if change.fields else ""
    return f"{change.kind} {visible('/' + change.path)}{size}{fields}"


def summary(found: Sequence[Change]) -> str:
    """How many of each kind, and their bytes."""
    if not found:
        return "no difference in the files"
    words = {"A": "added", "C": "changed", "D": "removed"}
    parts = []
    for kind, word in words.items():
        of = [change for change in found if change.kind == kind]
        if of:
            parts.append(f"{len(of)} {word} ({human.size(sum(change.size for change in of))})")
    return ", ".join(parts)
