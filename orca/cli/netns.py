"""orca-netns: the network helper as a tool of its own."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from orca.cli.main import guarded
from orca.cli.options import Parser
from orca.errors import UsageError
from orca.executor import netcommand
from orca.executor.netcommand import Request
from orca.executor.network import parse_port
from orca.ui import Terminal

EXAMPLES = """\
  orca-netns -- ip address                          a network namespace with a device tap0, 10.0.2.100
  orca-netns -- curl http://example.com/            it reaches the world; names resolve
  orca-netns -p 8080:80 -- busybox httpd -f -p 80   port 80 in there is port 8080 of this machine
  orca-netns --network none -- make test            nothing but a loopback
  orca-netns -- runc run --bundle B NAME            a container with this network

runc gives a container the network around it when B/config.json has no {"type": "network"} among its
namespaces. An ordinary user also takes out "user" (and uidMappings, gidMappings), being root of a user
namespace already, and writes: orca-netns -- runc --rootless=true --root DIRECTORY run --bundle B NAME

Root stays root of this machine, in mount and network namespaces of the command's own. An ordinary
user becomes root of a user namespace around them, with all subordinate ids. Mounts that the command
makes are its own. /etc/resolv.conf names the helper's resolver, 10.0.2.3.
The command's exit code is handed through (128 + N after signal N); 127: not found, 126: cannot be
executed, 125: orca-netns failed. Signals are passed on to it."""


def make_parser() -> Parser:
    """The options of `orca-netns`."""
    about = "Run a command in a network namespace of its own that slirp4netns connects to the world."
    parser = Parser("netns", about, EXAMPLES, usage="orca-netns [options] [--] COMMAND ...")
    parser.prog = "orca-netns"
    add = parser.add_argument
    add("command", metavar="COMMAND", nargs=argparse.REMAINDER, help="the command and its arguments")
    add("-p", "--publish", action="append", default=[], metavar="[IP:]HOST:PORT[/PROTO]",
        help="make a port in there reachable at a port of this machine (may be given again)")  # fmt: skip
    add("--network", default="default", metavar="MODE", choices=["default", "none"],
        help="default (through slirp4netns) or none (a loopback only)")  # fmt: skip
    add("--allow-host-loopback", action="store_true",
        help="let the command reach what listens on this machine's 127.0.0.1, at 10.0.2.2")  # fmt: skip
    return parser


def run(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    request = make_request(make_parser().parse(arguments))
    if request.mode == "default" and not os.path.exists(netcommand.RESOLV_CONF):
        Terminal(sys.stderr).line(f"warning: {netcommand.RESOLV_CONF} is not there, so names may not resolve")
    return netcommand.run(request)


def make_request(given: argparse.Namespace) -> Request:
    """What a command line asks for. Raises UsageError."""
    command = given.command[1:] if given.command[:1] == ["--"] else given.command
    if not command:
        raise UsageError("which command shall run?", hint="orca-netns -- COMMAND; orca-netns --help has examples")
    if given.network != "default" and (given.publish or given.allow_host_loopback):
        option = "--publish" if given.publish else "--allow-host-loopback"
        raise UsageError(f"{option} has no meaning with --network {given.network}")
    ports = tuple(parse_port(word) for word in given.publish)
    return Request(tuple(command), given.network, ports, given.allow_host_loopback)


def main() -> None:
    """Run the command line and exit."""
    sys.exit(guarded(run, sys.argv[1:]))
