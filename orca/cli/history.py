"""orca history."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from orca.cli.images import NOTHING, age, short
from orca.cli.options import Parser, print_json
from orca.oci import platform
from orca.oci.image import Descriptor, History
from orca.sources import names
from orca.store.layout import Image
from orca.store.store import Store
from orca.ui import human
from orca.ui.escape import visible
from orca.ui.terminal import Terminal

EXAMPLES = """\
  orca history app             what made each layer, the newest first
  orca history --no-trunc app  whole instructions and digests
  orca history --json app      the same for programs"""

HEADERS = ("CREATED", "CREATED BY", "SIZE", "LAYER")
NARROWEST = 20
"""Columns that CREATED BY gets at least, however narrow the terminal is."""


@dataclass(frozen=True)
class Row:
    """One history entry; `layer` is the digest of the layer that it made, or None."""

    created: str | None
    created_by: str
    size: int
    layer: str | None
    comment: str | None
    author: str | None


def make_parser() -> Parser:
    """The options of `orca history`."""
    parser = Parser(
        "history", "Show which instruction made each layer, the newest first.", EXAMPLES,
        usage="orca history [options] IMAGE",
    )  # fmt: skip
    add = parser.add_argument
    add("image", metavar="IMAGE", help="a name, a digest, or the beginning of a digest")
    add("--platform", metavar="OS/ARCH", help="which image of an index of several (default: this machine's)")
    add("--no-trunc", action="store_true", help="print whole instructions and digests")
    add("--json", action="store_true", help="print JSON: one object for each entry")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Print the table. On a terminal CREATED BY is cut to what fits."""
    given = make_parser().parse(arguments)
    wanted = platform.parse(given.platform) if given.platform else platform.host()
    rows = list(reversed(entries(names.find(Store.open(), given.image, wanted)[2])))
    if given.json:
        print_json([asdict(row) for row in rows])
        return 0
    terminal = Terminal(sys.stdout)
    width = terminal.width if terminal.tty and not given.no_trunc else None
    print(render(rows, width, whole=given.no_trunc))
    return 0


def entries(found: Image) -> list[Row]:
    """The history, the oldest first, each entry with the layer it made.

    An image may have layers that its history does not tell of: they come last, with no instruction.
    """
    layers = iter(found.manifest.layers)
    rows = [_row(entry, None if entry.empty_layer else next(layers, None)) for entry in found.config.history]
    return [*rows, *(_row(History(), layer) for layer in layers)]


def _row(entry: History, layer: Descriptor | None) -> Row:
    size, digest = (layer.size, layer.digest) if layer else (0, None)
    return Row(entry.created, entry.created_by or "", size, digest, entry.comment, entry.author)


def render(rows: Sequence[Row], width: int | None, *, whole: bool) -> str:
    """The table, in at most `width` columns if that can be."""
    lines = []
    for row in rows:
        layer = NOTHING if row.layer is None else row.layer if whole else short(row.layer)
        lines.append([age(row.created), visible(row.created_by) or NOTHING, human.size(row.size), layer])
    if width is not None:
        others = [max(human.cells(text) for text in column) for column in zip(HEADERS, *lines, strict=True)]
        room = max(width - sum(others) + others[1] - 2 * (len(HEADERS) - 1), NARROWEST)
        for line in lines:
            line[1] = human.cut(line[1], room)
    return human.table(lines, HEADERS, right=("SIZE",))
