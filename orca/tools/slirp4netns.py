"""slirp4netns' command line. Pure."""

from __future__ import annotations

from pathlib import Path

from orca.tools.command import Command

RESOLVER = "10.0.2.3"
GATEWAY = "10.0.2.2"


def attach(netns: Path, ready_fd: int, exit_fd: int, *, api_socket: Path | None = None) -> Command:
    """A user-mode network on device tap0 of the namespace `netns`, which cannot reach the host's loopback.

    It writes `1` to `ready_fd` when the device is up and ends when `exit_fd` is closed by its owner.
    """
    api = ("--api-socket", str(api_socket)) if api_socket else ()
    return Command(
        (
            "slirp4netns", "--configure", "--mtu=65520", "--disable-host-loopback", "--enable-sandbox",
            "--enable-seccomp", f"--ready-fd={ready_fd}", f"--exit-fd={exit_fd}", *api,
            "--netns-type=path", str(netns), "tap0",
        ),
        "give the container a network of its own",
    )  # fmt: skip
