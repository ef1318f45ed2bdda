"""orca exec."""

from __future__ import annotations

import os
from collections.abc import Sequence

from orca.cli.flags.containers import environment
from orca.cli.options import Parser
from orca.errors import UsageError
from orca.executor import inside
from orca.executor.inside import Exec
from orca.store import containers
from orca.store.store import Store
from orca.tools.command import Runner

EXAMPLES = """\
  orca exec web ps              a command in the running container
  orca exec -it web sh          a shell
  orca exec -u root -w /etc web ls
                                by another user, in another directory
  orca exec -i db psql < dump   -i connects standard input

The exit code is the command's; 127: not found, 126: cannot be executed, 125: orca failed.
What is started so ends when the container ends."""


def make_parser() -> Parser:
    """The options of `orca exec`."""
    parser = Parser(
        "exec", "Run a command in a running container.", EXAMPLES, usage="orca exec [options] CONTAINER COMMAND ..."
    )
    add = parser.add_argument
    add("container", metavar="CONTAINER", help="a name, an id or its beginning")
    add("command", metavar="COMMAND", nargs="...", help="the command and its arguments")
    add("-i", "--interactive", action="store_true", help="connect standard input")
    add("-t", "--tty", action="store_true", help="give it a terminal")
    add("-e", "--env", action="append", default=[], metavar="NAME[=VALUE]", help="set a variable")
    add("--env-file", action="append", default=[], metavar="FILE", help="set variables, one a line")
    add("-u", "--user", metavar="USER[:GROUP]", help="who to be, instead of the container's user")
    add("-w", "--workdir", metavar="DIRECTORY", help="where to start, instead of the container's directory")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Run it; returns its exit code."""
    given = make_parser().parse(arguments)
    if not given.command:
        raise UsageError("which command?", hint=f"orca exec {given.container} COMMAND")
    if given.workdir is not None and not given.workdir.startswith("/"):
        raise UsageError(f"--workdir {given.workdir!r} is not absolute", hint="begin it with /")
    if given.tty and not os.isatty(0):
        raise UsageError("-t needs a terminal", hint="leave -t away: pipes work")
    request = Exec(
        tuple(given.command),
        environment(given.env_file, given.env, os.environ),
        given.workdir,
        given.user,
        stdin=given.interactive or given.tty,
        terminal=given.tty,
    )
    entry = containers.find(Store.open(), given.container)
    import sh  # noqa: F401  # loaded here once, not again in the sandbox

    return inside.execute(request, entry, Runner())
