"""orca mount."""

from __future__ import annotations

import os
from argparse import REMAINDER
from collections.abc import Sequence
from dataclasses import asdict

from orca.cli import choice
from orca.cli.images import short
from orca.cli.options import Parser, print_json
from orca.errors import OrcaError, UsageError
from orca.executor import mounting, sandbox
from orca.sources import names
from orca.store.layout import Image
from orca.store.store import Store, base_snapshot
from orca.tools.command import Runner
from orca.ui import human
from orca.ui.escape import visible

EXAMPLES = """\
  orca mount app -- ls -l '$ORCA_MOUNT'      a command that sees the image's files; for everybody
  orca mount app -- sh -c 'du -sh "$ORCA_MOUNT"/*'
  orca mount --rw app -- sh                  what it changes is thrown away at the end
  dir=$(orca mount app); ls "$dir"; orca umount "$dir"     root only
  orca mount $b -- ls '$ORCA_MOUNT/srv'      a scripted build, as it is by now
  orca mount                                 what is mounted

An ordinary user can mount only inside the sandbox, which ends with the command. '$ORCA_MOUNT' as a word of its own, or
at the beginning of one, is replaced in the command too."""


def make_parser() -> Parser:
    """The options of `orca mount`."""
    parser = Parser(
        "mount", "Mount the root file system of an image or a scripted build, read-only.", EXAMPLES,
        usage="orca mount [options] [IMAGE [-- COMMAND ...]]",
    )  # fmt: skip
    add = parser.add_argument
    add("image", metavar="IMAGE", nargs="?", help="a name, a digest, the id of a scripted build")
    add("command", metavar="COMMAND", nargs=REMAINDER, help="run this, with the place in $ORCA_MOUNT, then unmount")
    add("--rw", action="store_true", help="writable; the image and the store stay as they are")
    choice.add_option(add)
    add("--json", action="store_true", help="without an image: print JSON")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Print the path, the list, or run the command and return its exit code."""
    words = list(arguments)
    place = words.index("--") if "--" in words else len(words)
    given = make_parser().parse(words[:place])
    if given.command:
        raise UsageError(f"what is {given.command[0]!r}?", hint="put -- before a command")
    command = words[place + 1 :]
    store = Store.open()
    if given.image is None:
        if command:
            raise UsageError("which image?", hint="orca mount IMAGE -- COMMAND")
        return _listed(store, json=given.json)
    if place < len(words) and not command:
        raise UsageError("there is no command after --")
    if not command and os.geteuid():
        hint = f"orca mount {given.image} -- COMMAND runs one that sees the files at $ORCA_MOUNT"
        raise UsageError("only root can leave a mount behind", hint=hint)
    wanted = choice.wanted(given)
    with store.in_use():
        image = names.look(store, given.image, wanted)
        store.images.verify(image, layers=False)
        import sh  # noqa: F401  # loaded here once, not again on each side of the fork

        if command:
            runner = Runner()
            sandbox.enter(runner)
            return mounting.run(image, command, store, runner, writable=given.rw)
        _unpacked(image, store)
        print(mounting.leave(image, given.image, store, writable=given.rw))
    return 0


def _unpacked(image: Image, store: Store) -> None:
    """Unpack the image, if need be, in a process that moves into the sandbox. Raises OrcaError when it cannot be."""
    if store.snapshot(base_snapshot(image.config.diff_ids)).is_dir():
        return
    child = os.fork()
    if child == 0:
        from orca.cli.main import guarded

        def work(_: list[str]) -> int:
            runner = Runner()
            sandbox.enter(runner)
            mounting.unpack(image, store, runner)
            return 0

        os._exit(guarded(work, []))
    _, status = os.waitpid(child, 0)
    if status:
        raise OrcaError("the image could not be unpacked, and so is not mounted")


def _listed(store: Store, *, json: bool) -> int:
    found = mounting.find(store)
    if json:
        print_json([{**asdict(each), "path": str(each.path)} for each in found])
        return 0
    rows = [
        (
            visible(each.image),
            short(each.digest),
            "rw" if each.writable else "ro",
            str(each.path) if each.mounted else "-",
        )
        for each in found
    ]
    print(human.table(rows, ("IMAGE", "DIGEST", "MODE", "PATH")))
    return 0
