"""orca history."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from orca.cli import choice
from orca.cli.images import NOTHING, age, short
from orca.cli.options import Parser, print_json
from orca.executor.records import tools_of
from orca.oci.image import Descriptor, History
from orca.sources import names
from orca.store import chains
from orca.store.layout import Image
from orca.store.store import Store
from orca.ui import human
from orca.ui.escape import visible
from orca.ui.template import print_rows
from orca.ui.terminal import Terminal

EXAMPLES = """\
  orca history app             what made each layer, the newest first
  orca history --no-trunc app  whole instructions and digests
  orca history --format '{{.Size}} {{.CreatedBy}}' app
  orca history --json app      the same for programs

TOOLS is what made the layer, if this store still has the record of the build that did.
fields for --format: .ID .CreatedAt .CreatedSince .CreatedBy .Size .Bytes .Tools .Comment .Author"""

HEADERS = ("CREATED", "CREATED BY", "SIZE", "LAYER", "TOOLS")
WITH_TOOLS = 140
NARROWEST = 20
"""Columns that CREATED BY gets at least, however narrow the terminal is."""


@dataclass(frozen=True)
class Row:
    """One history entry; `layer` is the digest of the layer that it made, or None. `tools` made it, in that order."""

    created: str | None
    created_by: str
    size: int
    layer: str | None
    comment: str | None
    author: str | None
    tools: tuple[str, ...] = ()


def make_parser() -> Parser:
    """The options of `orca history`."""
    parser = Parser(
        "history", "Show which instruction made each layer, the newest first.", EXAMPLES,
        usage="orca history [options] IMAGE",
    )  # fmt: skip
    add = parser.add_argument
    add("image", metavar="IMAGE", help="a name, a digest, or the beginning of a digest")
    choice.add_option(add)
    add("--no-trunc", action="store_true", help="print whole instructions and digests")
    add("-q", "--quiet", action="store_true", help="print only the digests of layers")
    add("--format", metavar="TEMPLATE", help="print this for each: '{{.CreatedBy}}', 'table {{.ID}}\\t{{.Size}}', json")
    add("--json", action="store_true", help="print JSON: one object for each entry")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Print the table. On a terminal CREATED BY is cut to what fits."""
    given = make_parser().parse(arguments)
    wanted = choice.wanted(given)
    store = Store.open()
    found = names.find(store, given.image, wanted)[2]
    rows = list(reversed(entries(found)))
    if given.quiet:
        print("".join(f"{row.layer}\n" for row in rows if row.layer), end="")
        return 0
    rows = with_tools(rows, store, found)
    if given.format not in (None, "json"):
        print_rows(given.format, [fields(row, whole=given.no_trunc) for row in rows])
        return 0
    if given.json or given.format:
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


def with_tools(rows: list[Row], store: Store, found: Image) -> list[Row]:
    """The rows with the tools that made their layers, as far as records of builds tell."""
    links = [link for link in chains.read(store.root, found.descriptor.digest) if link.own]
    made = {}
    for link in links:
        record = store.step(link.key)
        if record is not None and record.layer is not None and record.build:
            made[record.layer.digest] = tools_of(store, record.build, record.number)
    return [replace(row, tools=made.get(row.layer or "", ())) for row in rows]


def fields(row: Row, *, whole: bool) -> dict[str, Any]:
    """What --format can name."""
    layer = row.layer or "<missing>"
    return {
        "ID": layer if whole else short(layer),
        "CreatedAt": row.created or NOTHING,
        "CreatedSince": age(row.created),
        "CreatedBy": row.created_by,
        "Size": human.size(row.size),
        "Bytes": row.size,
        "Tools": ", ".join(row.tools),
        "Comment": row.comment or "",
        "Author": row.author or "",
    }


def _row(entry: History, layer: Descriptor | None) -> Row:
    size, digest = (layer.size, layer.digest) if layer else (0, None)
    return Row(entry.created, entry.created_by or "", size, digest, entry.comment, entry.author)


def render(rows: Sequence[Row], width: int | None, *, whole: bool) -> str:
    """The table, in at most `width` columns if that can be; tools are left out where there is little room."""
    headers = HEADERS[:-1] if width is not None and width < WITH_TOOLS else HEADERS
    lines = []
    for row in rows:
        layer = NOTHING if row.layer is None else row.layer if whole else short(row.layer)
        tools = ", ".join(row.tools) or NOTHING
        line = [age(row.created), visible(row.created_by) or NOTHING, human.size(row.size), layer, tools]
        lines.append(line[: len(headers)])
    if width is not None:
        others = [max(human.cells(text) for text in column) for column in zip(headers, *lines, strict=True)]
        room = max(width - sum(others) + others[1] - 2 * (len(headers) - 1), NARROWEST)
        for line in lines:
            line[1] = human.cut(line[1], room)
    return human.table(lines, headers, right=("SIZE",))
