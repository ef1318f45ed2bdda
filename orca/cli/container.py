"""orca container: what is done to containers that no shorter command does."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence

from orca.cli.options import Parser, print_json
from orca.errors import OrcaError, StoreError, UsageError
from orca.store import containers, gc
from orca.store.containers import Entry
from orca.store.store import Store
from orca.ui import Terminal, human
from orca.ui.escape import visible

EXAMPLES = """\
  orca container rm web        delete a container that has ended, with its log and what it changed
  orca container rm -f web     stop it first
  orca container prune         delete all that have ended
  orca container inspect web   what it is made of and how it is, as JSON

ls, logs, start, stop, kill, wait, exec and run are orca ps, orca logs and so on."""

# The words that are commands of their own.
SAME = {
    "ls": "ps", "list": "ps", "ps": "ps", "logs": "logs", "start": "start", "stop": "stop", "kill": "kill",
    "wait": "wait", "exec": "exec", "run": "run",
}  # fmt: skip
ACTIONS = ("rm", "prune", "inspect")


def make_parser() -> Parser:
    """The options of `orca container`."""
    usage = "orca container rm|prune|inspect [options] [CONTAINER ...]"
    parser = Parser("container", "Delete or inspect containers.", EXAMPLES, usage=usage)
    add = parser.add_argument
    add("action", metavar="ACTION", choices=[*ACTIONS, *SAME], help="rm, prune or inspect")
    add("containers", metavar="CONTAINER", nargs="*", help="a name, an id or its beginning")
    add("-f", "--force", action="store_true", help="rm: stop those that run, and do not mind one that is not there")
    add("-a", "--all", action="store_true", help="rm: all")
    add("-t", "--time", metavar="SECONDS", help="rm -f: how long one has to end (default: 0)")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Carry it out."""
    if arguments and arguments[0] in SAME:
        module = importlib.import_module(f"orca.cli.{SAME[arguments[0]]}")
        return int(module.run(arguments[1:]))
    given = make_parser().parse_intermixed_args(list(arguments))
    store = Store.open()
    return {"rm": _remove, "prune": _prune, "inspect": _inspect}[given.action](store, given)


def each(store: Store, given: argparse.Namespace, work: Callable[[Entry], None], *, running: bool = False) -> int:
    """`work` for every container that was named, printing each name when it is done; returns the exit code.

    With --all, those that run (or every one, without `running`). One that fails does not keep it from the others.
    Raises UsageError when none is named.
    """
    if bool(given.containers) == given.all:
        raise UsageError("say which containers, or --all", hint="orca ps -a lists them")
    forgiving = getattr(given, "ignore", False) or getattr(given, "force", False)
    words = given.containers or [e.config.name for e in containers.listing(store) if e.alive() or not running]
    failed: list[OrcaError] = []
    for word in words:
        try:
            entry = containers.find(store, word)
        except StoreError as error:
            if not forgiving:
                failed.append(error)
            continue
        try:
            work(entry)
            print(visible(word), flush=True)
        except OrcaError as error:
            failed.append(error)
    return told(failed)


def told(failed: Sequence[OrcaError]) -> int:
    """Tell all errors but the last, which is raised."""
    from orca.ui import render_error

    terminal = Terminal(sys.stderr)
    for error in failed[:-1]:
        terminal.line(render_error(error, color=terminal.color, width=terminal.width))
    if failed:
        raise failed[-1]
    return 0


def _remove(store: Store, given: argparse.Namespace) -> int:
    from orca.cli.flags.containers import seconds
    from orca.cli.stop import stop

    grace = seconds(given.time, "--time") if given.time is not None else 0.0
    chosen: list[Entry] = []

    def work(entry: Entry) -> None:
        if entry.alive() and not given.force:
            raise StoreError(f"the container {entry.config.name} is running", hint="orca container rm -f stops it")
        stop(entry, grace)
        chosen.append(entry)

    try:
        return each(store, given, work)
    finally:
        remove(store, chosen)


def remove(store: Store, entries: Sequence[Entry]) -> None:
    """Delete containers that have ended. For an ordinary user the process moves into the sandbox: do it last."""
    if entries:
        enter()
    with containers.registry(store):
        for entry in entries:
            if entry.alive():
                raise StoreError(f"the container {entry.config.name} was started again")
            containers.remove(store, entry)


def enter() -> None:
    """What a container of an ordinary user changed belongs to subordinate ids: only the sandbox may delete it."""
    if os.geteuid():
        from orca.executor import sandbox
        from orca.tools.command import Runner

        sandbox.enter(Runner())


def _prune(store: Store, given: argparse.Namespace) -> int:
    if given.containers:
        raise UsageError("prune takes no names", hint="orca container rm deletes one")
    ended = [entry for entry in containers.listing(store) if not entry.alive()]
    if ended:
        enter()
    freed = sum(gc.size(entry.path) for entry in ended)
    for entry in ended:
        print(visible(entry.config.name))
    sys.stdout.flush()
    remove(store, ended)
    Terminal(sys.stderr).line(f"{human.count(len(ended), 'container')} deleted, {human.size(freed)} freed")
    return 0


def _inspect(store: Store, given: argparse.Namespace) -> int:
    from orca.cli import ps

    if not given.containers:
        raise UsageError("say which containers", hint="orca ps -a lists them")
    found = []
    for word in given.containers:
        entry = containers.find(store, word)
        row = ps.look(entry)
        checks = {"healthcheck": dict(entry.health())} if entry.health() else {}
        found.append({**row.to_json(), **checks, "request": dict(entry.config.request), "path": str(entry.path)})
    print_json(found)
    return 0
