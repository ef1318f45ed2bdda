"""orca run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from orca.cli import access, launch, storage
from orca.cli.flags import containers as flags
from orca.cli.flags import limits
from orca.cli.options import Parser
from orca.store import containers
from orca.store.containers import Held

EXAMPLES = """\
  orca run app                            the image's ENTRYPOINT and CMD, until they end
  orca run -it debian:12 bash             a shell
  orca run -d --name web -p 8080:80 web   in the background; port 8080 of this machine is port 80 of the container
  orca run -p 127.0.0.1:8080:80 web       the same for this machine only, in the foreground
  orca run -v "$PWD:/src:ro" -w /src app make test
                                          a directory of this machine, read-only
  orca run -e DEBUG=1 -e LANG app env     one variable set, one taken from here
  orca run --entrypoint sh app -c 'id'    another program instead of the image's
  orca run app@3 sh                       a look into the image as it was after its build's step 3
  tar c . | orca run app tar t            standard input and output are the container's
  orca run --network none app test        without any network

The exit code is the command's; 127: not found, 126: cannot be executed, 125: orca failed.
Ctrl-C sends the image's stop signal, and SIGKILL after ten seconds or at the second Ctrl-C.
What the container changes is thrown away when it ends, unless --keep is given. With -d it is kept
until orca container rm deletes it, unless --rm is given. orca ps lists containers."""


def make_parser() -> Parser:
    """The options of `orca run`."""
    parser = Parser(
        "run", "Run a command in a container of an image.", EXAMPLES, usage="orca run [options] IMAGE [COMMAND ...]"
    )
    parser.add_argument("image", metavar="IMAGE", help="an image in the store, or in a registry")
    parser.add_argument("command", metavar="COMMAND", nargs="...", help="what to run instead of the image's CMD")
    flags.declare(parser.add_argument)
    for title, declare in (
        ("surroundings", flags.declare_surroundings), ("limits", limits.declare), ("health", flags.declare_health),
    ):  # fmt: skip
        declare(parser.add_argument_group(title).add_argument)
    storage.add_option(parser.add_argument)
    access.add_registry_options(parser.add_argument_group("registries").add_argument)
    return parser


def run(arguments: Sequence[str]) -> int:
    """Run a container; returns its exit code, or 0 once a detached one runs."""
    flags.refuse(arguments)
    given = make_parser().parse(arguments)
    request = flags.read(given, os.environ)
    if not given.detach:
        launch.check_terminal(request)
        request = replace(request, stdin=not launch.in_background())
    labels, cidfile = flags.labels(given.label), flags.cidfile(given.cidfile)
    kept = given.keep or (given.detach and not given.rm)
    store = storage.open_store(given)

    def make() -> Held:
        held = containers.make(store, given.name, given.image, kept=kept, detached=given.detach, storage=given.storage)
        held.configure(labels=labels)
        if cidfile is not None:
            cidfile.write_text(f"{held.entry.id}")
        return held

    registries = access.read(given, [given.image] if given.creds else ())
    job = launch.Job(store, request, make, new=True, quiet=given.quiet, access=registries)
    return launch.detached(job, lambda entry: entry.id) if given.detach else launch.foreground(job)
