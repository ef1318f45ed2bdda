"""pasta's command line (of the package passt). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orca.tools.command import Command

RESOLVER = "10.0.2.3"


def attach(netns: Path, ready_fd: int, *, tcp: Sequence[str] = (), udp: Sequence[str] = ()) -> Command:
    """A user-mode network in the namespace `netns`, which cannot reach the host's loopback.

    `tcp` and `udp` are ports to publish, as pasta writes them (`ADDRESS/HOST:CONTAINER`). It writes its
    pid to `ready_fd` when the device is up, and runs until it is ended. Look-ups sent to RESOLVER go to
    the host's resolver, wherever that is.
    """
    published = [word for flag, ports in (("-t", tcp), ("-u", udp)) for word in (flag, ",".join(ports) or "none")]
    return Command(
        (
            "pasta", "-f", "-q", "--config-net", "-4", *published, "-T", "none", "-U", "none", "--no-map-gw",
            "--dns-forward", RESOLVER, "-P", f"/proc/self/fd/{ready_fd}", "--runas", "0:0", "--netns", str(netns),
        ),
        "give the container a network of its own (slirp4netns is not installed)",
    )  # fmt: skip
