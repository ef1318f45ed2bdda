"""orca prune."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence

from orca.cli import storage
from orca.cli.options import Parser, print_json
from orca.errors import UsageError
from orca.store import gc
from orca.store.gc import Garbage
from orca.store.store import Store
from orca.ui import Terminal, human

EXAMPLES = """\
  orca prune                what no image and no cached step needs
  orca prune --all          also the step cache: the next build begins anew
  orca prune --dry-run      only show what would go"""


def make_parser() -> Parser:
    """The options of `orca prune`."""
    parser = Parser(
        "prune",
        "Delete what no name and no record of the step cache needs: blobs, snapshots, leftovers.\n"
        "Images that have a name stay whole, always. A running build is waited for, ten seconds at most.",
        EXAMPLES,
        usage="orca prune [options]",
    )
    add = parser.add_argument
    add("-a", "--all", action="store_true",
        help="also delete the step cache with all snapshots, stat caches, downloads, records and logs")  # fmt: skip
    add("-n", "--dry-run", action="store_true", help="delete nothing, show what would be deleted")
    storage.add_option(add)
    add("--json", action="store_true", help="print JSON: counts, bytes and every path")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Delete; prints what was freed."""
    given = make_parser().parse(arguments)
    if storage.wanted(given):
        if given.all:
            raise UsageError("--all has no meaning with --storage=ostree", hint="orca rm --all --storage=ostree")
        from orca.cli import ostree

        return ostree.prune(given)
    store = Store.open()
    if os.geteuid() and has_trees(store):
        # Snapshots belong to our subordinate ids: only inside the sandbox may we look into and delete them.
        from orca.executor import sandbox
        from orca.tools.command import Runner

        sandbox.enter(Runner())
    with _hold(store, dry=given.dry_run) as alone:
        garbage = gc.find(store, everything=given.all)
        if not given.dry_run:
            gc.delete(store, garbage)
    if given.json:
        print_json(summary(store, garbage, dry=given.dry_run))
    else:
        print(table(garbage, dry=given.dry_run))
    notes = [f"the manifest {digest} has a name but cannot be read: orca images shows it" for digest in garbage.damaged]
    if garbage.steps_kept:
        kept = human.count(garbage.steps_kept, "cached step")
        notes.append(f"kept for the next build: {kept}, with what they need; orca prune --all deletes them too")
    if not alone:
        notes.append("the store is in use: some of it may be work under way, which orca prune waits for")
    terminal = Terminal(sys.stderr)
    for note in notes:
        terminal.line("\n".join(human.wrap(note, terminal.width)))
    return 0


@contextlib.contextmanager
def _hold(store: Store, *, dry: bool) -> Iterator[bool]:
    """Whoever deletes must have the store alone; whoever only looks waits for nobody. Yields whether we are alone."""
    if not dry:
        with store.alone():
            yield True
        return
    with store.perhaps_alone() as alone:
        yield alone


def has_trees(store: Store) -> bool:
    """Is there anything in the store that may belong to our subordinate ids?"""
    kept = any((store.root / "builds").glob("*/failed-*"))
    return kept or any(os.scandir(store.root / "snapshots")) or any(os.scandir(store.root / "work"))


def summary(store: Store, garbage: Garbage, *, dry: bool) -> dict[str, object]:
    """The result for programs. Paths are relative to the store."""
    return {
        "dryRun": dry,
        "bytes": garbage.size,
        "kinds": {
            kind: {"count": len(found), "bytes": sum(item.size for item in found)}
            for kind in gc.KINDS
            for found in [[item for item in garbage.items if item.kind == kind]]
        },
        "paths": sorted(str(item.path.relative_to(store.root)) for item in garbage.items),
        "damaged": list(garbage.damaged),
    }


def table(garbage: Garbage, *, dry: bool) -> str:
    """The result for people: a line for each kind, then the sum."""
    rows = []
    for kind in gc.KINDS:
        found = [item for item in garbage.items if item.kind == kind]
        if found:
            rows.append((kind, str(len(found)), human.size(sum(item.size for item in found))))
    total = garbage.size
    last = f"{'would free' if dry else 'freed'} {human.size(total)} ({total} bytes)"
    return "\n".join([human.table(rows, ("KIND", "COUNT", "SIZE"), right=("COUNT", "SIZE")), last] if rows else [last])
