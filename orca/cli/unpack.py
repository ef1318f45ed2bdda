"""orca unpack."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from orca.cli import choice, storage
from orca.cli.options import Parser
from orca.errors import UsageError
from orca.executor import sandbox, unpack
from orca.sources import names
from orca.tools.command import Runner
from orca.ui import Mode, Terminal, one_at_a_time, open_view
from orca.ui.escape import visible

EXAMPLES = """\
  orca unpack app rootfs                  the root file system
  orca unpack --bundle app box            a bundle: box/rootfs and box/config.json
  runc run --bundle box mybox             run it, as the user who unpacked it
  unshare --map-root-user --map-auto rm -r rootfs   how an ordinary user removes it again

An ordinary user's files belong to subordinate ids (subuid(5)), as they do in a container of that user.
Device nodes in layers become empty files."""


def make_parser() -> Parser:
    """The options of `orca unpack`."""
    parser = Parser(
        "unpack",
        "Write an image's root file system into a directory, which must be new or empty.",
        EXAMPLES,
        usage="orca unpack [options] IMAGE DIRECTORY",
    )
    add = parser.add_argument
    add("image", metavar="IMAGE", help="a name, a digest, or the beginning of a digest")
    add("directory", metavar="DIRECTORY", help="where to; it appears when everything is in it")
    add("--bundle", action="store_true", help="make DIRECTORY/rootfs and a config.json that runc run starts")
    add("-t", "--tty", action="store_true", help="with --bundle: give the container a terminal")
    choice.add_option(add)
    storage.add_option(add)
    add("--explain", action="store_true", help="show every tool call")
    add("-q", "--quiet", action="store_true", help="print errors only")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Unpack; prints nothing on standard output."""
    given = make_parser().parse(arguments)
    if given.tty and not given.bundle:
        raise UsageError("--tty has a meaning with --bundle only")
    wanted = choice.wanted(given)
    target = Path(os.path.realpath(given.directory))
    mode: Mode = "quiet" if given.quiet else "auto"
    store = storage.open_store(given)
    with store.in_use():
        image = names.find(store, given.image, wanted)[2]
        store.images.verify(image, layers=False)
        unpack.check_target(target)
        ordinary_id = os.geteuid()  # inside the sandbox we are root
        import sh  # noqa: F401  # loaded here once, not again on each side of the fork

        runner = Runner()
        sandbox.enter(runner)
        store.sweep()
        with open_view(mode, explain=given.explain) as show, one_at_a_time(show) as emit:
            runner.emit = emit
            if given.bundle:
                argv = unpack.unpack_bundle(image, target, store, runner, terminal=given.tty)
            else:
                unpack.unpack(image, target, store, runner)
    if not given.quiet:
        place = visible(shlex.quote(given.directory))
        terminal = Terminal(sys.stderr)
        if given.bundle:
            terminal.line(f"{how_to_run(place, ordinary_id)} runs: {visible(shlex.join(argv))}")
        else:
            terminal.line(f"{place} is ready")
        if ordinary_id:
            remove = f"unshare --map-root-user --map-auto rm -r {place}"
            terminal.line(f"files belong to your subordinate ids; to remove them: {remove}")
    return 0


def how_to_run(place: str, ordinary_id: int) -> str:
    """The command that starts a bundle. An ordinary user's runc keeps its state in XDG_RUNTIME_DIR, if there is one."""
    root = f"--root /tmp/runc-{ordinary_id} " if ordinary_id and not os.environ.get("XDG_RUNTIME_DIR") else ""
    return f"runc {root}run --bundle {place} NAME"
