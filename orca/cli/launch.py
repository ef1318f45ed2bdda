"""How `orca run` and `orca start` begin: in the foreground, or as processes that nobody waits for."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from orca.errors import UsageError
from orca.events import Emit
from orca.executor import cgroups, container, sandbox
from orca.executor.container import Request, Surroundings
from orca.sources.access import Access
from orca.store import containers
from orca.store.containers import Entry, Held
from orca.store.store import Store
from orca.tools.command import Runner
from orca.ui import one_at_a_time, open_view


@dataclass(frozen=True)
class Job:
    """A container to run: `make` gets its directory, `new` says that there is nothing of it to keep if it fails."""

    store: Store
    request: Request
    make: Callable[[], Held]
    new: bool
    quiet: bool = False
    access: Access | None = None


def foreground(job: Job) -> int:
    """Run it to its end; returns its exit code."""
    return _run(job, lambda entry: None, detached=False)


def detached(job: Job, word: Callable[[Entry], str]) -> int:
    """Have it run in a session of its own; returns 0 when it runs, having printed a word about it.

    Until then the caller's standard error is its own: that is where a pull and errors show.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        return _await(child, read)
    os.close(read)
    os.setsid()
    _leave(0, 1)

    def started(entry: Entry) -> None:
        sandbox.let_go_of_streams()
        with contextlib.suppress(BrokenPipeError):
            os.write(write, f"{word(entry)}\n".encode())
        os.close(write)

    return _run(job, started, detached=True)


def _leave(*streams: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for fd in streams:
        os.dup2(null, fd)
    os.close(null)


def _await(child: int, pipe: int) -> int:
    """Print what the container's processes say when it runs; if they end before that, end as they do."""
    try:
        with open(pipe, "rb", buffering=0) as stream:
            word = stream.readline()
        if word:
            print(word.decode().rstrip("\n"), flush=True)
            return 0
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255
    except KeyboardInterrupt:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
        raise


def _run(job: Job, started: Callable[[Entry], None], *, detached: bool) -> int:
    request, runs = job.request, False
    with job.store.in_use() as release:
        held = job.make()
        try:
            import sh  # noqa: F401  # loaded here once, not again on each side of the fork

            runner = Runner()
            claim = cgroups.claim(request.groups or {}, request.group_parent)
            if detached:
                os.chdir("/")
            sandbox.enter(runner, detached=detached)
            containers.sweep(job.store)

            def running() -> None:
                nonlocal runs
                runs = True
                started(held.entry)

            view = _quiet if job.quiet else _view
            return container.run(
                request, held, Surroundings(job.store, runner, view, release, running, claim, job.access)
            )
        finally:
            if not held.entry.config.kept or (job.new and not runs):
                containers.remove(job.store, held.entry)


@contextlib.contextmanager
def _view() -> Iterator[Emit]:
    """How a pull is shown before the container has the terminal."""
    with open_view("auto") as show, one_at_a_time(show) as emit:
        yield emit


@contextlib.contextmanager
def _quiet() -> Iterator[Emit]:
    with open_view("quiet") as show, one_at_a_time(show) as emit:
        yield emit


def check_terminal(request: Request) -> None:
    """Raises UsageError where a terminal is asked for whose keys nobody can press."""
    if request.terminal and not os.isatty(0) and not _closed(0):
        raise UsageError("-t needs a terminal to type on", hint="leave -t away: pipes work; </dev/null gives no input")


def _closed(fd: int) -> bool:
    """Is a stream /dev/null, or none at all?"""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(os.devnull))
    except OSError:
        return True


def in_background() -> bool:
    """Does the terminal that is our standard input belong to another job, which ought to get what is typed?

    Ask outside the sandbox: inside, neither job has a number.
    """
    try:
        return os.tcgetpgrp(0) != os.getpgrp()
    except OSError:
        return False
