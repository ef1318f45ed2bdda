"""ssh-agent's and ssh-add's command lines. Pure."""

from __future__ import annotations

from orca.tools.command import Command


def agent(socket: str) -> Command:
    """An agent in the foreground that listens at `socket`."""
    return Command(("ssh-agent", "-D", "-a", socket), "hold the keys of --ssh for this RUN")


def add(socket: str) -> Command:
    """Give the agent at `socket` the key on standard input; never asks anybody for a passphrase."""
    env = (("SSH_AUTH_SOCK", socket), ("SSH_ASKPASS_REQUIRE", "never"))
    return Command(("ssh-add", "-q", "-"), "give the agent a key", env)
