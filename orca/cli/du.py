"""orca du."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from orca.cli.images import short
from orca.cli.options import Parser, print_json
from orca.cli.prune import has_trees
from orca.store import ostree, usage
from orca.store.store import Store
from orca.store.usage import Usage
from orca.ui import human
from orca.ui.escape import visible

EXAMPLES = """\
  orca du              what takes how much, and what orca prune would free
  orca du -v           each image and each cache of RUN --mount=type=cache too
  orca du --json       bytes, for programs

images: blobs of images that have a name. step cache: what only cached steps need. unused: blobs of nobody.
PRUNE and PRUNE --ALL are the very bytes that these would free now."""

HEADERS = ("KIND", "COUNT", "SIZE", "PRUNE", "PRUNE --ALL")
IMAGES = ("IMAGE", "DIGEST", "SIZE", "SHARED", "UNIQUE", "UNPACKED")


def make_parser() -> Parser:
    """The options of `orca du`."""
    parser = Parser("du", "Show what the store takes on the disk.", EXAMPLES, usage="orca du [options]")
    add = parser.add_argument
    add("-v", "--verbose", action="store_true", help="also each image (shared and unique bytes) and each cache")
    add("--json", action="store_true", help="print JSON: all of it, in bytes")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Print the tables."""
    given = make_parser().parse(arguments)
    store = Store.open()
    layered = (store.root / "ostree/images/oci-layout").is_file()
    if os.geteuid() and (layered or has_trees(store)):
        # Snapshots belong to our subordinate ids: only inside the sandbox may we look into them.
        from orca.executor import sandbox
        from orca.tools.command import Runner

        sandbox.enter(Runner())
    with store.in_use():
        found = usage.of(store)
        trees = ostree.usage(ostree.OstreeStore(store.root)) if layered else None
    if given.json:
        print_json({**to_json(found), **({"ostree": trees.to_json()} if trees else {})})
        return 0
    print(kinds(found))
    if trees is not None:
        print(f"\n{saving(trees)}")
    if given.verbose:
        for text in (images(found), mounts(found)):
            print(f"\n{text}" if text else "", end="\n" if text else "")
    return 0


def saving(trees: ostree.Usage) -> str:
    """What OSTree storage holds, and what its hard links save."""
    disk, apart = human.size(trees.bytes), human.size(trees.separate)
    return (
        f"OSTree storage: {trees.images} images of {trees.layers} layers, {trees.checkouts} checked out: "
        f"{disk} on the disk; with files of their own the checkouts alone would take {apart}"
    )


def to_json(found: Usage) -> dict[str, Any]:
    """Everything in bytes."""
    rows = [{**asdict(use), "pruneAll": use.prune_all} for use in found.kinds]
    for row in rows:
        del row["prune_all"]
    totals = {name: sum(row[name] for row in rows) for name in ("size", "prune", "pruneAll")}
    images = [{**asdict(each), "shared": each.size - each.unique} for each in found.images]
    caches = [{"id": each.id, "size": each.size, "used": each.used, "inUse": each.in_use} for each in found.mounts]
    return {"total": totals, "kinds": rows, "images": images, "cacheMounts": caches}


def kinds(found: Usage) -> str:
    """The table, with a sum."""
    rows = [(use.kind, str(use.count), *map(human.size, (use.size, use.prune, use.prune_all))) for use in found.kinds]
    sums = (sum(numbers) for numbers in zip(*((u.size, u.prune, u.prune_all) for u in found.kinds), strict=True))
    if rows:
        rows.append(("total", "", *map(human.size, sums)))
    return human.table(rows, HEADERS, right=HEADERS[1:])


def images(found: Usage) -> str:
    """A row for each image."""
    rows = [
        (visible(", ".join(each.names)), short(each.digest),
         *map(human.size, (each.size, each.size - each.unique, each.unique, each.snapshot)))
        for each in sorted(found.images, key=lambda each: -each.size)
    ]  # fmt: skip
    return human.table(rows, IMAGES, right=IMAGES[2:]) if rows else ""


def mounts(found: Usage) -> str:
    """A row for each cache of RUN --mount=type=cache."""
    rows = [(visible(each.id), human.size(each.size)) for each in found.mounts]
    return human.table(rows, ("CACHE MOUNT", "SIZE"), right=("SIZE",)) if rows else ""
