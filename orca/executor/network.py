"""The network of a RUN: a namespace of its own, and slirp4netns to reach the world from it.

The namespace is made by a thread (namespaces belong to threads) and kept by a bind mount; it and
the helper vanish with the sandbox, however that ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orca.errors import OrcaError
from orca.tools import kernel
from orca.tools import slirp4netns
from orca.tools.command import Runner, pipe

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1


@dataclass(frozen=True)
class Network:
    """What a container needs to use a network: `netns` None is the host's, `resolvers` go to resolv.conf."""

    netns: Path | None
    resolv_conf: str


def make_namespace(path: Path) -> None:
    """Make a network namespace whose loopback is up, kept at `path`. Raises OSError."""
    path.touch()
    failed: list[OSError] = []

    def work() -> None:
        try:
            kernel.unshare(kernel.CLONE_NEWNET)
            _loopback_up()
            kernel.mount(f"/proc/self/task/{threading.get_native_id()}/ns/net", path, None, kernel.MS_BIND)
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=work, name="netns")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        request = struct.pack("16sH22x", b"lo", 0)
        flags = struct.unpack("16sH22x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags | _IFF_UP))


@contextlib.contextmanager
def network(mode: str, directory: Path, runner: Runner, step: int | None = None) -> Iterator[Network]:
    """A network for one container: "default", "none" or "host"; files go to `directory`.

    Raises OrcaError when it cannot be had.
    """
    if mode == "host":
        yield Network(None, host_resolv_conf())
        return
    namespace = directory / "netns"
    try:
        make_namespace(namespace)
    except OSError as error:
        hint = "RUN --network=host does without; orca doctor says what is missing"
        raise OrcaError(f"cannot make a network namespace: {error.strerror}", hint=hint) from error
    try:
        with contextlib.ExitStack() as stack:
            if mode == "default":
                stack.enter_context(_slirp(namespace, runner, step))
            yield Network(namespace, resolv_conf(mode))
    finally:
        with contextlib.suppress(OSError):
            kernel.umount(namespace)
            namespace.unlink()


@contextlib.contextmanager
def _slirp(namespace: Path, runner: Runner, step: int | None) -> Iterator[None]:
    with pipe() as (ready_r, ready_w), pipe() as (exit_r, exit_w), pipe() as (log_r, log_w):
        command = slirp4netns.attach(namespace, ready_w.fileno(), exit_r.fileno())
        fds = (ready_w.fileno(), exit_r.fileno())
        with runner.running(command, step=step, pass_fds=fds, stderr=log_w):
            ready_w.close()
            exit_r.close()
            log_w.close()
            if ready_r.read(1) != b"1":
                raise OrcaError(
                    f"slirp4netns did not start: {_last_line(log_r.read(8192) or b'')}",
                    hint="it needs /dev/net/tun to be open to you: chmod 0666 /dev/net/tun, as root",
                )
            yield
            exit_w.close()  # the helper's sign to end


def _last_line(text: bytes) -> str:
    lines = text.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "no message"


def host_resolv_conf() -> str:
    """The host's resolv.conf as it is."""
    try:
        return Path("/etc/resolv.conf").read_text("utf-8", "replace")[: 64 * 1024]
    except OSError:
        return ""


def resolv_conf(mode: str) -> str:
    """What RUN sees: the helper's resolver, and the host's search list and options."""
    if mode == "none":
        return ""
    kept = [line for line in host_resolv_conf().splitlines() if line.startswith(("search ", "options ", "domain "))]
    return "\n".join([f"nameserver {slirp4netns.RESOLVER}", *kept, ""])


def hosts(hostname: str, pairs: tuple[tuple[str, str], ...]) -> str:
    """/etc/hosts of a container: localhost, its own name, --add-host."""
    lines = [
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        f"127.0.0.1\t{hostname}",
        *(f"{address}\t{name}" for name, address in pairs),
    ]
    return "\n".join(lines) + "\n"


