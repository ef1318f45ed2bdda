"""Entering a container that runs: signals for its processes, and further commands in it.

Whoever enters goes through the namespaces of the container's sandbox first, where its processes have numbers and
runc its state. Nothing of the container is executed or believed on the way.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca.errors import ImageError, OrcaError
from orca.executor import bundle, sandbox, stopping, streams, users
from orca.store.containers import Entry, State
from orca.tools import runc
from orca.tools.command import Process, Runner

MOST = 1 << 20
"""Bytes of the bundle's config.json: we wrote it."""


PATIENCE = 2.0
"""Seconds for a container that is being made."""


@dataclass(frozen=True)
class Exec:
    """A command for a running container. What is None is as the container's own first process has it."""

    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    directory: str | None = None
    user: str | None = None
    stdin: bool = False
    terminal: bool = False


def running(entry: Entry) -> State:
    """How a container is that runs. Raises OrcaError for one that does not."""
    deadline = time.monotonic() + PATIENCE
    while (state := entry.state()).status == "created" and entry.alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    if state.status != "running" or not entry.alive():
        status = entry.status()
        hint = "orca start starts it again" if status in ("exited", "dead") else "try again in a moment"
        raise OrcaError(f"the container {entry.config.name} is not running: it is {status}", hint=hint)
    return state


def tell(entry: Entry, choose: Callable[[int], int]) -> None:
    """Send the container's first process the signal that `choose` makes of its pid. Raises OrcaError."""
    state = running(entry)
    child = os.fork()
    if child == 0:
        code = 125
        with contextlib.suppress(OrcaError, OSError):
            sandbox.join(state.pid, entry.alive)
            stopping.send(state.first, choose(state.first))
            code = 0
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code and entry.alive():
        raise OrcaError(f"cannot send a signal to the container {entry.config.name}")


def stop(entry: Entry, number: int, grace: float) -> None:
    """Ask a container to end; after `grace` seconds it has to. Returns when it has."""

    def choose(first: int) -> int:
        return number if grace and stopping.listens(first, number) else signal.SIGKILL

    with contextlib.suppress(OrcaError):  # one that has ended meanwhile has what it is to have
        tell(entry, choose)
        if entry.wait(grace):
            return
        tell(entry, lambda first: signal.SIGKILL)
    if not entry.wait(stopping.GRACE):
        raise OrcaError(f"the container {entry.config.name} does not end")


def execute(request: Exec, entry: Entry, runner: Runner) -> int:
    """Run a command in a container with our own standard streams; returns its exit code. Raises OrcaError.

    The calling process moves into the sandbox for it.
    """
    state = running(entry)
    sandbox.join(state.pid, entry.alive, terminal=request.terminal, groups=state.groups)
    place = Path(state.bundle) / f"exec-{os.urandom(4).hex()}"
    log, pid_file = place.with_suffix(".log"), place.with_suffix(".pid")
    config = json.loads((Path(state.bundle) / "config.json").read_bytes()[:MOST])
    try:
        place.write_text(json.dumps(_process(request, config["process"], state.first)))
        command = runc.exec_(Path(state.runtime), state.name, place, log, pid_file=pid_file, terminal=request.terminal)
        given = {"stdin": streams.own(0) if request.stdin else None, "stdout": streams.own(1), "stderr": streams.own(2)}
        with runner.running(command, **given) as process:
            _pass_on(process)
            code = process.wait()
        bundle.check_runc(log, request.argv[0], code, "exec")
        return code
    finally:
        for file in (place, log, pid_file):
            file.unlink(missing_ok=True)


def _pass_on(process: Process) -> None:
    """What comes to us goes to runc, and from there to the command; of a new size of the terminal it learns so too."""
    for number in sandbox.PASSED_ON:
        signal.signal(number, lambda received, _: stopping.send(process.pid, received))


def _process(request: Exec, own: Mapping[str, Any], first: int) -> dict[str, Any]:
    """The process to run: the container's own with another command, and what the request changes.

    User and directory are looked up in the file system as the container sees it, every link resolved there.
    """
    made = {**own, "args": list(request.argv), "terminal": request.terminal}
    environment = dict(word.split("=", 1) for word in own["env"])
    if request.terminal:
        environment.setdefault("TERM", "xterm")
    root = os.open(f"/proc/{first}/root", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        users.check_files(root)  # runc reads them, whoever the user is
        if request.user is not None:
            who = users.identity(root, request.user)
            environment["HOME"] = who.home
            made["user"] = {**own["user"], "uid": who.uid, "gid": who.gid,
                            "additionalGids": list(dict.fromkeys((who.gid, *who.groups)))}  # fmt: skip
            bounding = own["capabilities"]["bounding"]
            held = bounding if who.uid == 0 else []
            made["capabilities"] = {"bounding": bounding, "effective": held, "permitted": held}
        directory = own["cwd"] if request.directory is None else request.directory
        made["cwd"] = bundle.working_directory(root, directory, _is_missing)
    finally:
        os.close(root)
    made["env"] = [f"{name}={text}" for name, text in {**environment, **dict(request.environment)}.items()]
    return made


def _is_missing(path: str) -> None:
    raise ImageError(f"there is no directory {path} in the container")
