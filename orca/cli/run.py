"""orca run."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from orca.cli import access, storage
from orca.cli.options import Parser
from orca.errors import NotYet, UsageError
from orca.events import Emit
from orca.executor import container, sandbox
from orca.executor.container import Request
from orca.executor.network import parse_port
from orca.oci import platform as platforms
from orca.tools.command import Runner
from orca.ui import one_at_a_time, open_view

EXAMPLES = """\
  orca run app                            the image's ENTRYPOINT and CMD, until they end
  orca run -p 8080:80 web                 port 8080 of this machine is port 80 of the container
  orca run -p 127.0.0.1:8080:80 web       the same, for this machine only
  orca run -e DEBUG=1 -e LANG app env     one variable set, one taken from here
  orca run --entrypoint sh app -c 'id'    another program instead of the image's
  tar c . | orca run app tar t            standard input and output are the container's
  orca run --network none app test        without any network

The exit code is the command's; 127: not found, 126: cannot be executed, 125: orca failed.
Ctrl-C sends the image's stop signal, and SIGKILL after ten seconds or at the second Ctrl-C.
What the container changes in its file system is thrown away when it ends."""

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")


def make_parser() -> Parser:
    """The options of `orca run`."""
    parser = Parser(
        "run", "Run a command in a container of an image.", EXAMPLES, usage="orca run [options] IMAGE [COMMAND ...]"
    )
    add = parser.add_argument
    add("image", metavar="IMAGE", help="an image in the store, or in a registry")
    add("command", metavar="COMMAND", nargs=argparse.REMAINDER, help="what to run instead of the image's CMD")
    add("-p", "--publish", action="append", default=[], metavar="[IP:]HOST:CONTAINER[/PROTO]",
        help="make a port of the container reachable at a port of this machine (may be given again)")  # fmt: skip
    add("-e", "--env", action="append", default=[], metavar="NAME[=VALUE]",
        help="set a variable; without =VALUE, as it is here")  # fmt: skip
    add("--network", default="default", metavar="MODE", choices=["default", "none", "host"],
        help="default (its own, through slirp4netns), none, host")  # fmt: skip
    add("-w", "--workdir", metavar="DIRECTORY", help="where to start, instead of the image's WORKDIR")
    add("-u", "--user", metavar="USER[:GROUP]", help="who to be, instead of the image's USER")
    add("--entrypoint", metavar="WORD", help="run this instead of the image's ENTRYPOINT and CMD; '' for none")
    add("--name", metavar="NAME", help="the container's host name")
    add("--platform", metavar="OS/ARCH", help="the platform, where an image is there for several")
    storage.add_option(add)
    add("-i", "--interactive", action="store_true", help="accepted: standard input is always connected")
    add("-t", "--tty", action="store_true", help=argparse.SUPPRESS)
    access.add_registry_options(add)
    add("--rm", action="store_true", help="accepted: nothing is ever left")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Run a container; returns its exit code."""
    given = make_parser().parse(arguments)
    request = replace(make_request(given, os.environ), stdin=not in_background())
    platform = platforms.parse(given.platform) if given.platform else None
    store = storage.open_store(given)
    with store.in_use():
        import sh  # noqa: F401  # loaded here once, not again on each side of the fork

        runner = Runner()
        sandbox.enter(runner)
        return container.run(request, platform, store, runner, view)


def in_background() -> bool:
    """Does the terminal that is our standard input belong to another job, which ought to get what is typed?

    Ask outside the sandbox: inside, neither job has a number.
    """
    try:
        return os.tcgetpgrp(0) != os.getpgrp()
    except OSError:
        return False


@contextlib.contextmanager
def view() -> Iterator[Emit]:
    """How a pull is shown before the container has the terminal."""
    with open_view("auto") as show, one_at_a_time(show) as emit:
        yield emit


def make_request(given: argparse.Namespace, environ: Mapping[str, str]) -> Request:
    """The container that a command line asks for. Raises UsageError, NotYet."""
    if given.tty:
        raise NotYet("a terminal in the container (-t) is not supported yet", hint="leave -t away; pipes work")
    if given.publish and given.network != "default":
        raise UsageError(
            f"--publish has no meaning with --network {given.network}",
            hint="with the host's network every port is the host's own" if given.network == "host" else None,
        )
    if given.name is not None and not _NAME.fullmatch(given.name):
        raise UsageError(f"bad name {given.name[:80]!r}", hint="letters, digits, dots, dashes; not more than 63")
    if given.workdir is not None and not given.workdir.startswith("/"):
        raise UsageError(f"--workdir {given.workdir!r} is not absolute", hint="begin it with /")
    return Request(
        given.image,
        tuple(given.command),
        given.entrypoint,
        environment(given.env, environ),
        given.workdir,
        given.user,
        given.network,
        tuple(parse_port(word) for word in given.publish),
        given.name or Request.name,
        access=access.read(given, [given.image] if given.creds else ()),
    )


def environment(words: Sequence[str], environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """`NAME=VALUE` words, and `NAME` ones as `environ` has them; those it has not are left out. Raises UsageError."""
    result = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name:
            raise UsageError(f"--env {word!r} has no name", hint="write NAME=VALUE")
        if equals:
            result[name] = value
        elif name in environ:
            result[name] = environ[name]
    return tuple(result.items())
