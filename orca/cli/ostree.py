"""What `orca pull` and `orca prune` do with --storage=ostree."""

from __future__ import annotations

import argparse
import os
import sys

from orca.cli import access
from orca.cli.options import print_json
from orca.oci.platform import Platform
from orca.sources.access import Access
from orca.store import ostree as kept
from orca.store.layout import Image
from orca.store.ostree import Garbage, OstreeStore
from orca.tools import ostree as branches
from orca.tools.command import Runner, find
from orca.ui import Terminal, human
from orca.ui.escape import visible


def pull(given: argparse.Namespace, platform: Platform, registry_access: Access) -> int:
    """Get images into the OSTree repository; prints their digests."""
    find("ostree")  # a missing program is told before anything is fetched
    store = OstreeStore.open()
    with store.in_use():
        runner = _enter()
        from orca.executor.ostree import Importer

        store.sweep()
        with store.scratch() as scratch:
            for text in given.images:
                with access.shown(given) as emit:
                    runner.emit = emit
                    before = set(store.imported())
                    found = Importer(store, runner, scratch, registry_access).pull(text, platform)
                print(found.descriptor.digest, flush=True)
                if not given.quiet:
                    _tell(text, found, before)
    return 0


def _enter() -> Runner:
    import sh  # noqa: F401  # loaded here once, not again on each side of the fork

    from orca.executor import sandbox

    runner = Runner()
    sandbox.enter(runner)
    return runner


def _tell(text: str, found: Image, before: set[str]) -> None:
    layers = {layer.digest for layer in found.manifest.layers}
    new = human.count(len(layers - before), "new layer")
    line = f"{visible(text)}  {human.size(found.manifest.size)} in {human.count(len(layers), 'layer')}, {new}"
    Terminal(sys.stderr).line(line)


def prune(given: argparse.Namespace) -> int:
    """Delete what no image in OSTree storage needs; prints what was freed."""
    store = OstreeStore.open()
    if os.geteuid() and (store.repo.exists() or any((store.place / "checkouts").iterdir())):
        runner = _enter()  # where files of our subordinate ids can be deleted
    else:
        runner = Runner()
    with store.perhaps_alone() if given.dry_run else store.alone():
        garbage = kept.find_garbage(store)
        freed = None if given.dry_run else _delete(garbage, store, runner)
    if given.json:
        print_json(summary(garbage, store, freed))
    else:
        print(table(garbage, store, freed))
    return 0


def _delete(garbage: Garbage, store: OstreeStore, runner: Runner) -> int:
    from orca.executor import ostree

    before = kept.usage(store).bytes
    ostree.prune(garbage, store, runner)
    return before - kept.usage(store).bytes


def _kinds(garbage: Garbage, store: OstreeStore) -> dict[str, int]:
    """How much of each kind can go."""
    layers = sum(len(name) == len(branches.layer_branch(f"sha256:{'0' * 64}")) for name in garbage.branches)
    trees = sum(path.parent == store.place / "checkouts" for path in garbage.paths)
    return {"layers": layers, "images": len(garbage.branches) - layers, "checkouts": trees}


def summary(garbage: Garbage, store: OstreeStore, freed: int | None) -> dict[str, object]:
    """The result for programs; `bytes` is null when nothing was deleted: only ostree knows what objects are shared."""
    paths = [str(path.relative_to(store.root)) for path in garbage.paths]
    return {
        "dryRun": freed is None, "bytes": freed, "kinds": _kinds(garbage, store),
        "branches": list(garbage.branches), "paths": paths,
    }  # fmt: skip


def table(garbage: Garbage, store: OstreeStore, freed: int | None) -> str:
    """The result for people."""
    rows = [(kind, str(count)) for kind, count in _kinds(garbage, store).items() if count]
    last = "nothing was deleted" if freed is None else f"freed {human.size(freed)} ({freed} bytes)"
    return "\n".join([human.table(rows, ("KIND", "COUNT"), right=("COUNT",)), last] if rows else [last])
