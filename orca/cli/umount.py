"""orca umount."""

from __future__ import annotations

import os
from collections.abc import Sequence

from orca.cli.options import Parser
from orca.errors import UsageError
from orca.executor import mounting
from orca.executor.mounting import Mount
from orca.store.store import Store
from orca.ui.escape import visible

EXAMPLES = """\
  orca umount app        every mount of what was called app
  orca umount --all      all that orca mount has left"""


def make_parser() -> Parser:
    """The options of `orca umount`."""
    parser = Parser("umount", "End mounts that orca mount left.", EXAMPLES, usage="orca umount [options] MOUNT ...")
    add = parser.add_argument
    add("mounts", metavar="IMAGE", nargs="*", help="the path that was printed, its id, or what was mounted")
    add("-a", "--all", action="store_true", help="all of them")
    add("-f", "--force", action="store_true", help="also one that is in use: it goes when its last user has gone")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Unmount; prints the paths."""
    given = make_parser().parse(arguments)
    if bool(given.mounts) == given.all:
        raise UsageError("say which mounts, or --all", hint="orca mount lists them")
    store = Store.open()
    found = mounting.find(store)
    chosen = found if given.all else [each for word in given.mounts for each in _named(found, word)]
    for each in dict.fromkeys(chosen):
        mounting.end(store, each, force=given.force)
        print(visible(str(each.path)))
    return 0


def _named(found: Sequence[Mount], word: str) -> list[Mount]:
    place = os.path.realpath(word)
    named = [each for each in found if word in (each.id, each.image) or place == os.path.realpath(each.path)]
    if not named:
        raise UsageError(f"{word} is not mounted", hint="orca mount lists what is")
    return named
