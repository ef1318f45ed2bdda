"""orca from."""

from __future__ import annotations

from collections.abc import Sequence

from orca.cli import scripted
from orca.cli.flags import registry, showing
from orca.cli.options import Parser
from orca.store import sessions

EXAMPLES = """\
  b=$(orca from debian:12)                begin a scripted build; its id is printed
  orca step $b RUN apt-get update         any instruction of a Dockerfile
  orca step $b COPY site /srv             from the directory where you are
  orca commit $b -t site                  make an image of it; the digest is printed
  orca from --name web scratch            an id of your choice; it begins anew if it is there
  orca from $b                            another one that goes on from there, as FROM STAGE does"""


PULL = ("always", "missing", "newer", "never")


def make_parser() -> Parser:
    """The options of `orca from`."""
    parser = Parser("from", "Begin a scripted build: orca step goes on, orca commit ends it.", EXAMPLES,
                    usage="orca from [options] IMAGE|SESSION|scratch")  # fmt: skip
    add = parser.add_argument
    add("base", metavar="IMAGE", help="the base image, another scripted build, or scratch for nothing")
    add("--name", metavar="NAME", help="the id; a scripted build that has it begins anew")
    add("--platform", metavar="OS/ARCH", help="the platform to build for")
    add("--pull", nargs="?", const="always", default="missing", metavar="POLICY", choices=PULL,
        help="when to ask the registry: always, missing, newer, never")  # fmt: skip
    add("--context", metavar="CONTEXT", default=".",
        help="what the base's ONBUILD COPY reads (default: this directory), as of orca step")  # fmt: skip
    scripted.declare_epoch(add)
    for group in (registry, showing):
        group.declare(parser.add_argument_group(group.TITLE).add_argument)
    parser.set_defaults(rewrite_timestamp=False, build_arg=[], ignorefile=None)
    return parser


def run(arguments: Sequence[str]) -> int:
    """Begin; prints the id."""
    given = make_parser().parse(["--pull=always" if word == "--pull" else word for word in arguments])
    scripted.check_base(given.base)
    with scripted.place_of(given) as place, scripted.store_in_use() as store:
        name = scripted.check_name(given.name) if given.name else scripted.new_name(store, given.base)
        with sessions.locked(store, name):
            scripted.begin(given, name, store, place)
    print(name, flush=True)
    return 0
