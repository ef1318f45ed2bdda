"""orca blame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orca.cli import choice
from orca.cli.history import entries
from orca.cli.images import NOTHING, short
from orca.cli.options import Parser, print_cut, print_json
from orca.executor import contents
from orca.executor.layers import clean
from orca.sources import names
from orca.store import chains
from orca.store.layout import Image
from orca.store.store import Store
from orca.ui import human
from orca.ui.escape import visible

EXAMPLES = """\
  orca blame app /etc/passwd     which instructions put, changed or removed the file, the newest first
  orca blame --json app /srv     the same for programs"""

HEADERS = ("STEP", "CHANGE", "SIZE", "LAYER", "INSTRUCTION")
_WORDS = {"A": "added", "C": "changed", "D": "removed"}


def make_parser() -> Parser:
    """The options of `orca blame`."""
    parser = Parser(
        "blame",
        "Say which instructions of an image's build put a path there, changed or removed it.\n"
        "STEP is the N of IMAGE@N, where the build is known.",
        EXAMPLES,
        usage="orca blame [options] IMAGE PATH",
    )
    add = parser.add_argument
    add("image", metavar="IMAGE", help="a name, a digest, or the beginning of a digest")
    add("path", metavar="PATH", help="a path in the image, also one that was removed")
    choice.add_option(add)
    add("--json", action="store_true", help="print JSON: one object for each change")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Print the table. Raises UsageError for a path that never was there."""
    given = make_parser().parse(arguments)
    wanted = choice.wanted(given)
    store = Store.open()
    with store.in_use():
        found = names.find(store, given.image, wanted)[2]
        rows = look(store, found, given.path)
    if given.json:
        print_json(rows)
        return 0
    lines = [[str(row["step"] or NOTHING), row["change"], human.size(row["size"]), short(row["layer"]),
              visible(row["instruction"]) or NOTHING] for row in rows]  # fmt: skip
    print_cut(human.table(lines, HEADERS, right=("SIZE",)).splitlines())
    return 0


def look(store: Store, found: Image, path: str) -> list[dict[str, Any]]:
    """Every change of `path`, the newest first. Links above it are followed in the image as it is."""
    layers = contents.listings(found, store)
    there = contents.tree(layers).resolve(path, last=False)
    place = there.path if there else clean(path)
    touched = list(contents.touches(layers, place))
    if not touched:
        contents.must_be_there(None, path)
    made = {row.layer: row.created_by for row in entries(found)}
    steps = steps_of(store, found)
    rows = []
    for number, change in touched[::-1]:
        layer = found.manifest.layers[number].digest
        row = {"step": steps.get(layer), "change": _WORDS[change.kind], "fields": list(change.fields)}
        rows.append({**row, "size": change.size, "layer": layer, "instruction": made.get(layer, "")})
    return rows


def steps_of(store: Store, found: Image) -> dict[str, int]:
    """The step that made each layer, as far as this store knows."""
    result = {}
    for link in chains.read(store.root, found.descriptor.digest):
        record = store.step(link.key) if link.own else None
        if record is not None and record.layer is not None:
            result[record.layer.digest] = link.number
    return result
