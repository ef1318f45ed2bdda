"""`orca-netns`: a command of the caller's in a network namespace of its own, reached through slirp4netns.

Root gets a mount and a network namespace and stays the machine's root. Anybody else gets a user
namespace around them, and is root in there. The command keeps the caller's terminal, process group,
environment, files and process ids: it is a child that runs as if it had been called directly.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from orca.errors import OrcaError
from orca.executor import sandbox
from orca.executor.network import Port, network
from orca.tools import kernel
from orca.tools.command import Runner

# Where our own tmpfs lies, in our mount namespace and for a moment in the command's: nothing that we or
# slirp4netns look at is below /sys.
PLACE = Path("/sys")
RESOLV_CONF = "/etc/resolv.conf"

_SENT_BY_KERNEL = 0x80  # si_code SI_KERNEL
_PASSED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True)
class Request:
    """What to run, and the network that it gets."""

    argv: tuple[str, ...]
    mode: str = "default"
    ports: tuple[Port, ...] = ()
    host_loopback: bool = False


def run(request: Request) -> int:
    """Run the command to its end; returns its exit code, 128 + N for signal N. Raises OrcaError.

    This process moves into the namespaces itself: call it once, before any thread is started.
    """
    _enter()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*_PASSED, signal.SIGCHLD})
    (go_r, go_w), (told_r, told_w) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go_w)
        os.close(told_r)
        _become(request.argv, go_r, told_w, mask)
    os.close(go_r)
    os.close(told_w)
    # The helper's threads come after the fork, and inherit that signals are blocked: they come to us alone.
    with network(request.mode, PLACE, Runner(), ports=request.ports, host_loopback=request.host_loopback) as net:
        (PLACE / "resolv.conf").write_text(net.resolv_conf)
        os.write(go_w, b"1")
        with open(told_r, "rb") as told:
            if trouble := told.read():
                os.waitpid(child, 0)
                raise _error(json.loads(trouble))
        return _wait(child)


def _enter() -> None:
    """Move this process into a mount namespace, and into a user namespace unless it is root's."""
    if os.geteuid():
        _enter_user_namespace()
    else:
        kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_SLAVE)
    kernel.mount("tmpfs", PLACE, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755")


def _enter_user_namespace() -> None:
    """As an ordinary user. The maps are written from outside, by a child that stays there."""
    (go_r, go_w), (told_r, told_w) = os.pipe(), os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(go_w)
        _write_maps(go_r, told_w)
    os.close(told_w)
    try:
        kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS)
    except OSError as error:
        os.close(go_w)
        os.waitpid(helper, 0)
        raise OrcaError(f"cannot make a user namespace: {error.strerror}", hint="orca doctor says why") from error
    os.write(go_w, b"1")
    with open(told_r, "rb") as told:
        trouble = told.read()
    os.waitpid(helper, 0)
    if trouble:
        raise _error(json.loads(trouble))
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _write_maps(go: int, told: int) -> NoReturn:
    """The helper's whole life: nothing said means done."""
    try:
        if os.read(go, 1):
            sandbox.write_maps(os.getppid(), Runner())
    except (OrcaError, OSError) as error:
        os.write(told, _trouble(str(error), getattr(error, "hint", None), 125))
    os._exit(0)


def _become(argv: tuple[str, ...], go: int, told: int, mask: set[signal.Signals] | set[int]) -> NoReturn:
    """The child: wait for the network, take it, become the command."""
    try:
        kernel.die_with_parent()
        if not os.read(go, 1):
            os._exit(125)
        netns = os.open(PLACE / "netns", os.O_RDONLY | os.O_CLOEXEC)
        kernel.setns(netns, kernel.CLONE_NEWNET)
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_SLAVE)
        with contextlib.suppress(FileNotFoundError):
            kernel.mount(str(PLACE / "resolv.conf"), RESOLV_CONF, None, kernel.MS_BIND)
        kernel.umount(PLACE)
    except OSError as error:
        os.write(told, _trouble(f"cannot prepare the network: {error}", "orca doctor says what is missing", 125))
        os._exit(125)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)  # python had its own way with these
    try:
        os.execvp(argv[0], argv)
    except (OSError, ValueError) as error:
        os.write(told, _not_executed(argv[0], error))
    os._exit(125)


def _not_executed(name: str, error: Exception) -> bytes:
    """A directory of PATH that is closed to us is no reason to say that the command may not be executed."""
    if isinstance(error, FileNotFoundError) or ("/" not in name and shutil.which(name) is None):
        return _trouble(f"{name}: not found", None, 127)
    return _trouble(f"{name}: {getattr(error, 'strerror', error)}", None, 126)


def _trouble(message: str, hint: str | None, code: int) -> bytes:
    return json.dumps({"message": message, "hint": hint, "code": code}).encode()


def _error(told: dict[str, Any]) -> OrcaError:
    error = OrcaError(told["message"], hint=told["hint"])
    error.exit_code = told["code"]
    return error


def _wait(child: int) -> int:
    """Wait for the command, and pass on what is sent to us alone: what a terminal sends, it sends to both."""
    while True:
        got = signal.sigwaitinfo({*_PASSED, signal.SIGCHLD})
        if got.si_signo == signal.SIGCHLD:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
        elif got.si_code != _SENT_BY_KERNEL:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, got.si_signo)
