"""slirp4netns' command line, and the requests it takes. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orca.tools.command import Command

RESOLVER = "10.0.2.3"
GATEWAY = "10.0.2.2"


def attach(
    netns: Path, ready_fd: int, exit_fd: int, *, api_socket: str | None = None, host_loopback: bool = False
) -> Command:
    """A user-mode network on device tap0 of the namespace `netns`, which cannot reach the host's loopback
    unless `host_loopback` lets it (as 10.0.2.2).

    It writes `1` to `ready_fd` when the device is up and ends when `exit_fd` is closed by its owner.
    `api_socket` is where it takes requests (`publish`); a relative path is short enough for any socket.
    """
    api = (f"--api-socket={api_socket}",) if api_socket else ()
    closed = () if host_loopback else ("--disable-host-loopback",)
    return Command(
        (
            "slirp4netns", "--configure", "--mtu=65520", *closed, "--enable-sandbox",
            "--enable-seccomp", f"--ready-fd={ready_fd}", f"--exit-fd={exit_fd}", *api,
            "--netns-type=path", str(netns), "tap0",
        ),
        "give the container a network of its own",
    )  # fmt: skip


def publish(protocol: str, address: str, host: int, guest: int) -> dict[str, Any]:
    """The request, as JSON on the API socket, that passes a port of the host on to the namespace."""
    arguments = {"proto": protocol, "host_addr": address, "host_port": host, "guest_port": guest}
    return {"execute": "add_hostfwd", "arguments": arguments}
