"""The network of a container: a namespace of its own, and slirp4netns to reach the world from it.

The namespace is made by a thread (namespaces belong to threads) and kept by a bind mount; it and
the helper vanish with the sandbox, however that ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orca.errors import OrcaError, ToolMissing, UsageError
from orca.tools import kernel, pasta, slirp4netns
from orca.tools.command import Runner, find, pipe

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1


@dataclass(frozen=True)
class Network:
    """What a container needs to use a network: `netns` None is the host's, `resolvers` go to resolv.conf."""

    netns: Path | None
    resolv_conf: str


@dataclass(frozen=True)
class Port:
    """A port of the container that can be reached at a port of the host."""

    address: str
    host: int
    container: int
    protocol: str = "tcp"

    def __str__(self) -> str:
        return f"{self.address}:{self.host}/{self.protocol}"


_PORT = re.compile(
    r"(?:(?P<address>\[[^\]]*\]|[^:/\[\]]*):)?(?P<host>[0-9]{1,5}):(?P<container>[0-9]{1,5})(?:/(?P<protocol>\w+))?"
)
EVERYWHERE = "0.0.0.0"
API_SOCKET = "api.sock"
API_WAIT = 5.0
_REFUSALS: dict[int, tuple[str, str]] = {
    errno.EADDRINUSE: ("it is already in use", "end what uses it, or publish at another port of this machine"),
    errno.EACCES: ("ports below 1024 are for root", "publish at a port from 1024 on"),
    errno.EADDRNOTAVAIL: ("this machine does not have the address", "ip address lists those that it has"),
}


def parse_port(text: str) -> Port:
    """`[IP:]HOST:CONTAINER[/tcp|udp]`. Raises UsageError."""
    match = _PORT.fullmatch(text)
    if match is None:
        raise UsageError(f"bad port {text[:80]!r}", hint="write [IP:]HOST:CONTAINER[/tcp|udp], as in 8080:80")
    host, container, protocol = int(match["host"]), int(match["container"]), match["protocol"] or "tcp"
    if not (0 < host < 65536 and 0 < container < 65536):
        raise UsageError(f"bad port {text!r}", hint="ports go from 1 to 65535")
    if protocol not in ("tcp", "udp"):
        raise UsageError(f"bad port {text!r}", hint="the protocol is tcp or udp")
    return Port(_address(match["address"], text), host, container, protocol)


_PORTS = re.compile(
    r"(?:(?P<address>\[[^\]]*\]|[^:/\[\]]*):)??(?:(?P<host>[0-9]{0,5}(?:-[0-9]{1,5})?):)?"
    r"(?P<container>[0-9]{1,5}(?:-[0-9]{1,5})?)(?:/(?P<protocol>\w+))?"
)


def parse_ports(text: str) -> tuple[Port, ...]:
    """What --publish takes: `[[IP:]HOST:]CONTAINER[/tcp|udp]`, where HOST and CONTAINER may be ranges (8000-8010).

    Without HOST the port of this machine is 0: any that is free. Raises UsageError.
    """
    match = _PORTS.fullmatch(text)
    hint = "write [[IP:]HOST:]CONTAINER[/tcp|udp], as in 8080:80 or 8000-8010:80-90"
    if match is None:
        raise UsageError(f"bad port {text[:80]!r}", hint=hint)
    inner = _range(match["container"], text)
    outer = _range(match["host"], text) if match["host"] else range(0)
    protocol = match["protocol"] or "tcp"
    if protocol not in ("tcp", "udp"):
        raise UsageError(f"bad port {text!r}", hint="the protocol is tcp or udp")
    if outer and len(outer) != len(inner):
        raise UsageError(f"bad port {text!r}", hint="both ranges must be as long")
    address = _address(match["address"], text)
    return tuple(Port(address, outer[number] if outer else 0, port, protocol) for number, port in enumerate(inner))


def _range(word: str, text: str) -> range:
    first, _, last = word.partition("-")
    found = range(int(first or 0), int(last or first or 0) + 1)
    if not (found and found[0] > 0 and found[-1] < 65536):
        raise UsageError(f"bad port {text!r}", hint="ports go from 1 to 65535, and ranges upwards")
    return found


def free_port(port: Port) -> Port:
    """The port itself, or one that is free for one that does not say which. Raises OrcaError."""
    if port.host:
        return port
    kind = socket.SOCK_STREAM if port.protocol == "tcp" else socket.SOCK_DGRAM
    try:
        with socket.socket(socket.AF_INET, kind) as test:
            test.bind((port.address, 0))
            return replace(port, host=test.getsockname()[1])
    except OSError as error:
        raise OrcaError(f"cannot publish at {port.address}: {error.strerror}") from error


def _address(word: str | None, text: str) -> str:
    import ipaddress

    if not word:
        return EVERYWHERE
    try:
        return str(ipaddress.IPv4Address(word))
    except ValueError as error:
        hint = (
            "slirp4netns publishes on IPv4 addresses only"
            if ":" in word
            else "write an IPv4 address: 127.0.0.1:8080:80"
        )
        raise UsageError(f"bad address in the port {text[:80]!r}", hint=hint) from error


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
def network(
    mode: str,
    directory: Path,
    runner: Runner,
    step: int | None = None,
    *,
    ports: Sequence[Port] = (),
    host_loopback: bool = False,
) -> Iterator[Network]:
    """A network for one container: "default", "none" or "host"; files go to `directory`.

    In mode default `ports` are published and with `host_loopback` the host's loopback is reachable.
    Raises OrcaError when it cannot be had.
    """
    if mode == "host":
        yield Network(None, host_resolv_conf())
        return
    namespace = directory / "netns"
    try:
        make_namespace(namespace)
    except OSError as error:
        hint = "--network=host does without; orca doctor says what is missing"
        raise OrcaError(f"cannot make a network namespace: {error.strerror}", hint=hint) from error
    try:
        with contextlib.ExitStack() as stack:
            if mode == "default" and helper() == "pasta":
                stack.enter_context(_pasta(namespace, runner, step, ports))
            elif mode == "default":
                stack.enter_context(_slirp(namespace, runner, step, api=bool(ports), host_loopback=host_loopback))
                for port in ports:
                    publish(directory / API_SOCKET, port)
            yield Network(namespace, resolv_conf(mode))
    finally:
        with contextlib.suppress(OSError):
            kernel.umount(namespace)
            namespace.unlink()


def helper() -> str:
    """Which network helper serves: slirp4netns, else pasta; ORCA_NETWORK_HELPER says which one to prefer."""
    wanted = os.environ.get("ORCA_NETWORK_HELPER", "slirp4netns")
    other = {"slirp4netns": "pasta", "pasta": "slirp4netns"}.get(wanted)
    if other is None:
        raise UsageError(f"ORCA_NETWORK_HELPER={wanted!r} is unknown", hint="choose slirp4netns or pasta")
    for name in (wanted, other):
        with contextlib.suppress(ToolMissing):
            find(name)
            return name
    return wanted  # starting it will say that it is missing


@contextlib.contextmanager
def _pasta(namespace: Path, runner: Runner, step: int | None, ports: Sequence[Port]) -> Iterator[None]:
    """The same by pasta, which runs until it is ended."""
    with pipe() as (ready_r, ready_w), pipe() as (log_r, log_w):
        words = {
            kind: [f"{port.address}/{port.host}:{port.container}" for port in ports if port.protocol == kind]
            for kind in ("tcp", "udp")
        }
        command = pasta.attach(namespace, ready_w.fileno(), tcp=words["tcp"], udp=words["udp"])
        with runner.running(command, step=step, pass_fds=(ready_w.fileno(),), stderr=log_w):
            ready_w.close()
            log_w.close()
            if not ready_r.read(1):
                raise OrcaError(
                    f"pasta did not start: {_last_line(log_r.read(8192) or b'')}",
                    hint="it needs /dev/net/tun to be open to you: chmod 0666 /dev/net/tun, as root",
                )
            yield


@contextlib.contextmanager
def _slirp(
    namespace: Path, runner: Runner, step: int | None, *, api: bool = False, host_loopback: bool = False
) -> Iterator[None]:
    with pipe() as (ready_r, ready_w), pipe() as (exit_r, exit_w), pipe() as (log_r, log_w):
        command = slirp4netns.attach(
            namespace, ready_w.fileno(), exit_r.fileno(),
            api_socket=API_SOCKET if api else None, host_loopback=host_loopback,
        )  # fmt: skip
        fds = (ready_w.fileno(), exit_r.fileno())
        with runner.running(command, step=step, pass_fds=fds, stderr=log_w, cwd=namespace.parent) as process:
            ready_w.close()
            exit_r.close()
            log_w.close()
            if ready_r.read(1) != b"1":
                raise OrcaError(
                    f"slirp4netns did not start: {_last_line(log_r.read(8192) or b'')}",
                    hint="it needs /dev/net/tun to be open to you: chmod 0666 /dev/net/tun, as root",
                )
            try:
                yield
            finally:
                # The helper's sign to end. Its device takes the kernel tens of milliseconds to take down.
                exit_w.close()
                process.retire()


def publish(api: Path, port: Port) -> None:
    """Have the helper behind the socket `api` pass `port` on. Raises OrcaError."""
    answer = _request(api, slirp4netns.publish(port.protocol, port.address, port.host, port.container))
    if "error" in answer:
        told = answer["error"].get("desc", "") if isinstance(answer["error"], dict) else ""
        why, hint = _why_not(port)
        raise OrcaError(f"cannot publish port {port}: {why or told or 'slirp4netns refuses'}", hint=hint)


def _request(api: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Ask slirp4netns; the socket is there a moment after it is ready."""
    directory = os.open(api.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        # The socket's own path may be longer than the 107 bytes that an address has room for.
        place, deadline = f"/proc/self/fd/{directory}/{api.name}", time.monotonic() + API_WAIT
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.settimeout(API_WAIT)
                    connection.connect(place)
                    connection.sendall(json.dumps(request).encode())
                    connection.shutdown(socket.SHUT_WR)
                    answer = json.loads(b"".join(iter(lambda: connection.recv(4096), b"")))
                    return answer if isinstance(answer, dict) else {}
            except (OSError, ValueError) as error:
                if time.monotonic() > deadline:
                    raise OrcaError(f"slirp4netns does not take requests: {error}") from error
                time.sleep(0.005)
    finally:
        os.close(directory)


def _why_not(port: Port) -> tuple[str | None, str | None]:
    """Why the host does not give a port away, and what to do: slirp4netns does not tell."""
    kind = socket.SOCK_STREAM if port.protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as test:
        try:
            test.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            test.bind((port.address, port.host))
            if kind == socket.SOCK_STREAM:
                test.listen(1)
        except OSError as error:
            return _REFUSALS.get(error.errno or 0, (error.strerror, None))
    return None, None


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
