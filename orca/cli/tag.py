"""orca tag."""

from __future__ import annotations

from collections.abc import Sequence

from orca.cli.options import Parser
from orca.oci import reference
from orca.sources import names as images
from orca.store.store import Store

EXAMPLES = """\
  orca tag app app:1.0                      another name for localhost/app:latest
  orca tag app registry.example:5000/app:1  the name under which orca push sends it there
  orca tag sha256:6f0c… app                 a name for what has none"""


def make_parser() -> Parser:
    """The options of `orca tag`."""
    parser = Parser(
        "tag", "Give an image more names. A name that another image had moves to this one.", EXAMPLES,
        usage="orca tag IMAGE NAME ...",
    )  # fmt: skip
    parser.add_argument("image", metavar="IMAGE", help="a name, a digest, or the beginning of a digest")
    parser.add_argument("names", metavar="NAME", nargs="+", help="new names; without a registry: localhost/NAME")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Name the image; prints the full names."""
    given = make_parser().parse(arguments)
    names = tuple(dict.fromkeys(str(reference.local(name)) for name in given.names))
    store = Store.open()
    with store.in_use():
        # The image is read, so that no name is given to what is none.
        store.tag(names, images.find(store, given.image)[1])
    print("\n".join(names))
    return 0
