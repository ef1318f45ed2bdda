"""Options: what RUN gets."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from orca.cli.flags import secrets
from orca.errors import UsageError
from orca.executor.options import Running

TITLE = "RUN"


def declare(add: Callable[..., Any]) -> None:
    """Add the options to a parser's group."""
    add("--network", default="default", metavar="MODE", choices=["default", "none", "host"],
        help="the network of RUN: default (its own, through slirp4netns), none, host")  # fmt: skip
    add("--secret", action="append", default=[], metavar="SPEC",
        help="a secret for RUN --mount=type=secret: id=NAME[,src=FILE|,env=VARIABLE]")  # fmt: skip
    add("--ssh", action="append", default=[], metavar="SPEC",
        help="an agent for RUN --mount=type=ssh: default, or NAME=SOCKET")  # fmt: skip
    add("--add-host", action="append", default=[], metavar="NAME:IP", help="a line for RUN's /etc/hosts")


def read(given: argparse.Namespace, environ: Mapping[str, str]) -> Running:
    """The options as a value. Raises UsageError."""
    return Running(
        network=given.network,
        hosts=tuple(_host(word) for word in given.add_host),
        secrets=secrets.secrets(given.secret, environ),
        agents=secrets.agents(given.ssh, environ),
    )


def _host(word: str) -> tuple[str, str]:
    import ipaddress

    name, colon, address = word.partition("=") if "=" in word else word.partition(":")
    try:
        ipaddress.ip_address(address.strip("[]"))
    except ValueError as error:
        raise UsageError(f"--add-host {word!r} is not NAME:IP") from error
    if not colon or not name or any(char.isspace() for char in name):
        raise UsageError(f"--add-host {word!r} is not NAME:IP")
    return name, address.strip("[]")
