"""orca cat."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from orca.cli import choice
from orca.cli.options import Parser
from orca.errors import UsageError
from orca.executor import contents
from orca.sources import names
from orca.store.store import Store
from orca.ui.escape import visible

EXAMPLES = """\
  orca cat app /etc/os-release       a file of an image; links are followed inside the image
  orca cat app@3 /srv/page           as it was after step 3 of the build
  orca cat app /bin/busybox > out    anything that is no text must go to a file or a pipe"""


def make_parser() -> Parser:
    """The options of `orca cat`."""
    parser = Parser("cat", "Print files of an image.", EXAMPLES, usage="orca cat [options] IMAGE PATH ...")
    add = parser.add_argument
    add("image", metavar="IMAGE", help="a name, a digest, or the id of a scripted build")
    add("paths", metavar="PATH", nargs="+", help="regular files")
    choice.add_option(add)
    return parser


def run(arguments: Sequence[str]) -> int:
    """Print the bytes; on a terminal only of text, with what could drive the terminal escaped."""
    given = make_parser().parse(arguments)
    wanted = choice.wanted(given)
    store = Store.open()
    with store.in_use():
        found = names.look(store, given.image, wanted)
        tree = contents.tree(contents.listings(found, store))
        there = [contents.must_be_there(tree.resolve(path), path) for path in given.paths]
        for path, each in zip(given.paths, there, strict=True):
            if each.entry.kind != "file":
                raise UsageError(f"{path} is a {each.entry.kind}, no regular file", hint="orca files lists directories")
        for path, each in zip(given.paths, there, strict=True):
            data = contents.chunks(found, store, each)
            if sys.stdout.isatty():
                print_text(path, data)
            else:
                for chunk in data:
                    sys.stdout.buffer.write(chunk)
        sys.stdout.flush()
    return 0


def print_text(path: str, data: Iterator[bytes]) -> None:
    """Text on a terminal. Raises UsageError for what is none."""
    rest = b""
    for chunk in data:
        if b"\0" in chunk:
            raise UsageError(f"{path} is no text, which would garble the terminal", hint="send it to a file or a pipe")
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            print(_shown(line))
        if len(rest) > 1 << 20:  # a line without an end
            print(_shown(rest), end="")
            rest = b""
    print(_shown(rest), end="\n" if rest else "")


def _shown(line: bytes) -> str:
    text = line.decode("utf-8", "surrogateescape")
    return "\t".join(visible(part) for part in text.split("\t"))
