"""orca step."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from orca.cli import scripted
from orca.cli.options import Parser

EXAMPLES = """\
  orca step $b RUN apt-get update               words are words, as in a shell
  orca step $b RUN 'make && make install'       one word stands as in a Dockerfile
  orca step $b RUN --network=none make test     an instruction's own flags come after its name
  orca step $b ENV MODE=fast GREETING='good day'
  orca step $b CMD '["nginx", "-g", "daemon off;"]'
  orca step $b COPY --from=$other /out/app /usr/bin/
  orca step --context ../site $b COPY . /srv    another context than this directory
  orca step --secret id=key,src=key $b RUN --mount=type=secret,id=key fetch
  orca step $b RUN <<EOF                        a script on standard input
  orca step $b - < instruction                  a whole instruction there

A step that fails leaves the scripted build where it was. One that was done before comes from the cache.
The exit code is the RUN's own; 125: orca failed."""


def make_parser() -> Parser:
    """The options of `orca step`."""
    parser = Parser("step", "Carry out one instruction of a Dockerfile in a scripted build.", EXAMPLES,
                    usage="orca step [options] ID INSTRUCTION [WORD ...]")  # fmt: skip
    add = parser.add_argument
    add("id", metavar="ID", help="what orca from has printed")
    add("words", metavar="INSTRUCTION", nargs=argparse.REMAINDER,
        help="its name, its flags, its arguments; - reads it from standard input")  # fmt: skip
    scripted.declare_step(parser.add_argument_group)
    parser.set_defaults(rewrite_timestamp=False)
    return parser


def run(arguments: Sequence[str]) -> int:
    """Do it; prints nothing on standard output."""
    given = make_parser().parse(arguments)
    scripted.step(given, given.id, scripted.text_of(given.words))
    return 0
