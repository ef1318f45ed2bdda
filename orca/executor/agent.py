"""An ssh agent for RUN --mount=type=ssh: its socket passed on, so that any user of the container may be let in."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from orca.errors import OrcaError, ToolMissing
from orca.tools import ssh
from orca.tools.command import Runner, find

TARGET = "/run/buildkit/ssh_agent"
CHUNK = 64 * 1024
SOCKET = "agent.sock"
WAIT = 5.0


@contextlib.contextmanager
def forwarded(agent: str, place: Path, owner: tuple[int, int], mode: int) -> Iterator[None]:
    """A socket at `place` whose connections go to the socket `agent`, for as long as the block lasts."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as listener:
        _bind(listener, place)
        os.chown(place, *owner)
        os.chmod(place, mode)
        listener.listen(8)
        thread = threading.Thread(target=_serve, args=(listener, agent), name="ssh-agent", daemon=True)
        thread.start()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(2)


@contextlib.contextmanager
def holding(keys: Sequence[bytes], directory: Path, runner: Runner, step: int | None) -> Iterator[str]:
    """An agent of our own that holds `keys`, for as long as the block lasts; yields its socket.

    `directory` is one that nobody else sees. Raises ToolMissing, OrcaError for what is no key.
    """
    _check_tools()
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(runner.running(ssh.agent(SOCKET), step=step, cwd=directory))
        deadline = time.monotonic() + WAIT
        while not (directory / SOCKET).is_socket():
            if time.monotonic() > deadline or not os.path.exists(f"/proc/{process.pid}"):
                raise OrcaError("ssh-agent did not start")
            time.sleep(0.002)
        for key in keys:
            file = stack.enter_context(open(os.memfd_create("key"), "r+b", buffering=0))
            file.write(key)
            file.seek(0)
            done = runner.run(ssh.add(SOCKET), step=step, stdin=file, cwd=directory, check=False)
            if done.exit_code:
                said = (done.stderr.strip().splitlines() or ["no message"])[-1]
                raise OrcaError(f"ssh-add does not take a key of --ssh: {said}")
        # By way of a descriptor: a socket's path may have 107 bytes only.
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, fd)
        yield f"/proc/self/fd/{fd}/{SOCKET}"


def _check_tools() -> None:
    for name in ("ssh-agent", "ssh-add"):
        try:
            find(name)
        except ToolMissing as error:
            hint = "keys for --ssh need OpenSSH's client (openssh-client, openssh); --ssh NAME=SOCKET does without"
            raise ToolMissing(error.message, hint=hint) from error


def _bind(listener: socket.socket, place: Path) -> None:
    """Bind by way of a descriptor: a socket's path may have 107 bytes only."""
    fd = os.open(place.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{fd}/{place.name}")
    finally:
        os.close(fd)


def _serve(listener: socket.socket, agent: str) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_relay, args=(client, agent), name="ssh-agent", daemon=True).start()


def _relay(client: socket.socket, agent: str) -> None:
    """Pass bytes both ways until both sides have ended; one that ends may still be answered."""
    upstream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    with client, upstream, selectors.DefaultSelector() as selector, contextlib.suppress(OSError):
        upstream.connect(agent)
        selector.register(client, selectors.EVENT_READ, upstream)
        selector.register(upstream, selectors.EVENT_READ, client)
        while selector.get_map():
            for key, _ in selector.select():
                data = os.read(key.fd, CHUNK)
                if data:
                    key.data.sendall(data)
                else:
                    selector.unregister(key.fileobj)
                    key.data.shutdown(socket.SHUT_WR)
