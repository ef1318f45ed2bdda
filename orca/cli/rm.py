"""orca rm."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from orca.cli.options import Parser
from orca.errors import StoreError, UsageError
from orca.oci.image import Descriptor
from orca.sources import names as images
from orca.store.store import Store
from orca.ui.escape import visible
from orca.ui.terminal import Terminal

EXAMPLES = """\
  orca rm app                    the name localhost/app:latest
  orca rm 6f0c12                 all names of the image with this digest
  orca rm --all && orca prune    everything"""


def make_parser() -> Parser:
    """The options of `orca rm`."""
    parser = Parser(
        "rm", "Take names off images. What then has no name is deleted by orca prune.", EXAMPLES,
        usage="orca rm [options] IMAGE ...",
    )  # fmt: skip
    add = parser.add_argument
    add("images", metavar="IMAGE", nargs="*", help="a name; a digest or its beginning means all names of the image")
    add("-a", "--all", action="store_true", help="take off every name")
    add("-f", "--force", action="store_true", help="do not mind a name that is not there")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Take the names off, all or none; prints those that are gone."""
    given = make_parser().parse(arguments)
    if bool(given.images) == given.all:
        raise UsageError("say which images, or --all", hint="orca images lists them")
    store = Store.open()
    names = list(store.tags()) if given.all else names_of(store, given.images, force=given.force)
    nameless: list[str] = []

    def change(tags: dict[str, Descriptor]) -> None:
        gone = {tags.pop(name).digest for name in names if name in tags}
        nameless.extend(gone - {found.digest for found in tags.values()})

    store.edit_tags(change)
    for name in names:
        print(visible(name))
    if nameless:
        Terminal(sys.stderr).line("orca prune frees the space; with --all also what the step cache keeps")
    return 0


def names_of(store: Store, words: Sequence[str], *, force: bool) -> list[str]:
    """The full names that `words` mean. Raises StoreError for one that is not there, unless `force`."""
    tags = store.tags()
    found: dict[str, None] = {}
    for word in words:
        found |= dict.fromkeys(_names(store, tags, word, force=force))
    return list(found)


def _names(store: Store, tags: Mapping[str, Descriptor], word: str, *, force: bool) -> list[str]:
    # A name that is in the index as it is may be taken off even if it is none by today's grammar.
    there = (word, tags[word]) if word in tags else images.lookup(store, word)
    if there is None:
        if not force:
            store.find(word)  # raises, with near names
        return []
    name, descriptor = there
    if name is not None:
        return [name]
    names = [name for name, tagged in tags.items() if tagged.digest == descriptor.digest]
    if not names and not force:
        raise StoreError(f"{word} has no name", hint="orca prune deletes it, unless the step cache needs it")
    return names
