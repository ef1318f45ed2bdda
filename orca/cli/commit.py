"""orca commit."""

from __future__ import annotations

import os
from collections.abc import Sequence

from orca.cli import scripted
from orca.cli.flags import naming, registry, results, showing
from orca.cli.flow import carried_out, deliver
from orca.cli.options import Parser
from orca.errors import UsageError
from orca.executor.options import Caching, Contexts, Options
from orca.executor.scripted import Committed, nothing
from orca.oci import platform as platforms
from orca.store import sessions

EXAMPLES = """\
  orca commit $b -t app                     name it; the digest is printed
  orca commit $b -t registry.example/app --push
  orca commit --rm $b -o oci:out:app        write it there too, and end the scripted build
  orca commit --squash $b                   one layer of all its steps

It is the image that orca build makes of the same instructions (orca dockerfile shows them)."""

GROUPS = (naming, results, registry, showing)


def make_parser() -> Parser:
    """The options of `orca commit`."""
    parser = Parser("commit", "Make an image of a scripted build, which can then go on.", EXAMPLES,
                    usage="orca commit [options] ID")  # fmt: skip
    parser.add_argument("id", metavar="ID", help="what orca from has printed")
    parser.add_argument("--rm", action="store_true", help="end the scripted build when the image is made")
    for group in GROUPS:
        group.declare(parser.add_argument_group(group.TITLE).add_argument)
    parser.set_defaults(build_arg=[])
    return parser


def run(arguments: Sequence[str]) -> int:
    """Make the image; prints its digest."""
    given = make_parser().parse(arguments)
    if given.env:
        raise UsageError("--env comes too late for an image whose steps are done", hint="orca step ID ENV NAME=VALUE")
    named = naming.read(given, os.environ)
    outputs = results.read(given, named)
    with scripted.store_in_use() as store, sessions.locked(store, given.id):
        session = sessions.get(store, given.id)
        platform = platforms.parse(session.platform)
        access = registry.read(given, named, outputs, Caching(), Contexts())
        options = Options(nothing(session), None, platform=platform, naming=named, outputs=outputs,
                          access=access, in_order=given.explain)  # fmt: skip
        result = carried_out(Committed(options, store, session), given, [], of_file=False)
        deliver(given, options, result, store)
        if given.rm:
            sessions.remove(store, session.name)
    return 0
