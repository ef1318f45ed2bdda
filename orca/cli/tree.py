"""orca tree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from orca.cli import choice
from orca.cli.history import entries
from orca.cli.images import short
from orca.cli.options import Parser, print_cut, print_json
from orca.sources import names
from orca.store import chains
from orca.store.layout import Image
from orca.store.store import Store
from orca.ui import human
from orca.ui.escape import visible

EXAMPLES = """\
  orca tree app              the steps of the build that made it, stage by stage, with the layers that they made
  orca run app@3 sh          a number is the N of IMAGE@N
  orca tree --json app       the same for programs"""


def make_parser() -> Parser:
    """The options of `orca tree`."""
    parser = Parser(
        "tree", "Show the stages and steps that an image came from; for one not built here, its history.", EXAMPLES,
        usage="orca tree [options] IMAGE",
    )  # fmt: skip
    add = parser.add_argument
    add("image", metavar="IMAGE", help="a name, a digest, or the beginning of a digest")
    choice.add_option(add)
    add("--json", action="store_true", help="print JSON: one object for each step")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Print the tree."""
    given = make_parser().parse(arguments)
    wanted = choice.wanted(given)
    store = Store.open()
    with store.in_use():
        found = names.find(store, given.image, wanted)[2]
        rows = steps(store, found) or history(found)
    if given.json:
        print_json(rows)
        return 0
    print_cut(drawn(given.image, found, rows))
    return 0


def steps(store: Store, found: Image) -> list[dict[str, Any]]:
    """Every step of the build, by number; none when it is not known."""
    rows = []
    for link in chains.read(store.root, found.descriptor.digest):
        record = store.step(link.key)
        layer = record.layer if record else None
        rows.append({"step": link.number, "stage": link.stage, "own": link.own, "text": " ".join(link.text.split()),
                     "size": layer.size if layer else 0, "layer": layer.digest if layer else None})  # fmt: skip
    return rows


def history(found: Image) -> list[dict[str, Any]]:
    """The same out of the image's history, which has no numbers and knows of one stage only."""
    return [
        {"step": None, "stage": "", "own": True, "text": row.created_by, "size": row.size, "layer": row.layer}
        for row in entries(found)
    ]


def drawn(name: str, found: Image, rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The lines: the image, its own stages, then those that were only copied from."""
    layers = human.count(len(found.manifest.layers), "layer")
    yield f"{visible(name)}  {short(found.descriptor.digest)}  {human.size(found.manifest.size)}, {layers}"
    stages = list(dict.fromkeys((not row["own"], row["stage"]) for row in rows))
    for number, (other, stage) in enumerate(sorted(stages, key=lambda each: each[0])):
        last = number == len(stages) - 1
        about = ", copied from" if other else ""
        yield f"{'└' if last else '├'}─ {f'stage {visible(stage)}' if stage else 'history'}{about}"
        own = [row for row in rows if row["stage"] == stage and row["own"] is not other]
        for row in own:
            edge = "└" if row is own[-1] else "├"
            size = f"  {human.size(row['size'])}" if row["layer"] else ""
            step = f"{row['step']:>3} " if row["step"] else ""
            yield f"{' ' if last else '│'}  {edge}─ {step}{visible(row['text'])}{size}"
