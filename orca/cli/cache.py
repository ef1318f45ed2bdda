"""orca cache."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Sequence

from orca.cli.options import Parser, print_json
from orca.errors import StoreError, UsageError
from orca.store import caches
from orca.store.caches import Cache
from orca.store.store import Store
from orca.ui import Terminal, human
from orca.ui.escape import visible

EXAMPLES = """\
  orca cache ls                  the caches of RUN --mount=type=cache, with their sizes
  orca cache prune --older 30d   delete those that no build has used for a month
  orca cache prune --id /root/.cache
                                 delete one
  orca cache prune --all         delete all that no running build holds"""

_AGE = re.compile(r"([0-9]{1,9})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def make_parser() -> Parser:
    """The options of `orca cache`."""
    parser = Parser(
        "cache",
        "List or delete the directories of RUN --mount=type=cache. One that a running build holds stays.\n"
        "The step cache is another thing: orca prune --all deletes it.",
        EXAMPLES,
        usage="orca cache ls|prune [options]",
    )
    add = parser.add_argument
    add("action", metavar="ACTION", choices=["ls", "prune"], help="ls or prune")
    add("-a", "--all", action="store_true", help="prune: delete all")
    add(
        "--id",
        action="append",
        default=[],
        metavar="ID",
        help="prune: delete the cache of this id (may be given again)",
    )
    add("--older", metavar="AGE", help="prune: delete what was last used so long ago: 30m, 12h, 7d, 4w")
    add("-n", "--dry-run", action="store_true", help="prune: delete nothing, show what would go")
    add("--json", action="store_true", help="print JSON")
    return parser


def run(arguments: Sequence[str]) -> int:
    """List or delete."""
    given = make_parser().parse(arguments)
    older = _age(given.older) if given.older is not None else None
    chosen = bool(given.all or given.id or older is not None)
    if given.action == "ls" and (chosen or given.dry_run):
        raise UsageError("these options are for orca cache prune", hint="orca cache --help")
    if given.action == "prune" and not chosen:
        raise UsageError("which caches shall go?", hint="--all, --id ID or --older AGE")
    if given.all and given.id:
        raise UsageError("--all and --id do not go together")
    store = Store.open()
    _see_all(store)
    found = caches.find(store)
    return _list(found, given) if given.action == "ls" else _prune(store, found, given, older)


def _see_all(store: Store) -> None:
    """What a RUN of an ordinary user left belongs to subordinate ids: it is seen and deleted inside the sandbox."""
    if os.geteuid() and any((store.root / "cache").glob("mount-*")):
        from orca.executor import sandbox
        from orca.tools.command import Runner

        sandbox.enter(Runner())


def _age(text: str) -> int:
    """Seconds. Raises UsageError."""
    match = _AGE.fullmatch(text)
    if match is None:
        raise UsageError(f"--older {text!r} is no age", hint="a number with s, m, h, d or w: 7d")
    return int(match[1]) * _SECONDS[match[2]]


def _list(found: list[Cache], given: argparse.Namespace) -> int:
    if given.json:
        print_json([_value(cache) for cache in found])
        return 0
    rows = [
        (visible(cache.id) or "-", human.size(cache.size), human.ago(max(time.time() - cache.used, 0)),
         "yes" if cache.in_use else "")
        for cache in found
    ]  # fmt: skip
    print(human.table(rows, ("ID", "SIZE", "LAST USED", "IN USE"), right=("SIZE",)))
    return 0


def _value(cache: Cache) -> dict[str, object]:
    used = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(cache.used))
    return {"id": cache.id, "size": cache.size, "lastUsed": used, "inUse": cache.in_use, "path": str(cache.path)}


def _prune(store: Store, found: list[Cache], given: argparse.Namespace, older: int | None) -> int:
    _must_be_there(given.id, found)
    wanted = [
        cache
        for cache in found
        if (not given.id or cache.id in given.id) and (older is None or time.time() - cache.used >= older)
    ]
    if given.dry_run:
        gone = [cache for cache in wanted if not cache.in_use]
    else:
        gone = caches.remove(store, wanted)
    kept = [cache.id for cache in wanted if cache not in gone]
    total = sum(cache.size for cache in gone)
    if given.json:
        removed = [{"id": cache.id, "size": cache.size} for cache in gone]
        print_json({"dryRun": given.dry_run, "bytes": total, "removed": removed, "inUse": kept})
    else:
        rows = [(visible(cache.id) or "-", human.size(cache.size)) for cache in gone]
        if rows:
            print(human.table(rows, ("ID", "SIZE"), right=("SIZE",)))
        print(f"{'would free' if given.dry_run else 'freed'} {human.size(total)} ({total} bytes)")
    terminal = Terminal(sys.stderr)
    for name in kept:
        terminal.line(f"{visible(name)} stays: a running build holds it")
    return 0


def _must_be_there(wanted: Sequence[str], found: list[Cache]) -> None:
    names = [cache.id for cache in found]
    for name in wanted:
        if name not in names:
            import difflib

            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]}?" if near else "orca cache ls lists what is there"
            raise StoreError(f"no cache {name!r}", hint=hint)
