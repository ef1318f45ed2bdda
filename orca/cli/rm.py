"""orca rm."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from orca.cli import storage
from orca.cli.options import Parser
from orca.errors import StoreError, UsageError
from orca.oci.image import Descriptor
from orca.sources import names as images
from orca.store import containers, files, gc
from orca.store.store import Store
from orca.ui import human
from orca.ui.escape import visible
from orca.ui.terminal import Terminal

EXAMPLES = """\
  orca rm app                    the name localhost/app:latest
  orca rm 6f0c12                 all names of the image with this digest
  orca rm --all && orca prune    everything"""


def make_parser() -> Parser:
    """The options of `orca rm`."""
    parser = Parser(
        "rm", "Take names off images, then delete what nothing needs any more of those that have none left.", EXAMPLES,
        usage="orca rm [options] IMAGE ...",
    )  # fmt: skip
    add = parser.add_argument
    add("images", metavar="IMAGE", nargs="*", help="a name; a digest or its beginning means all names of the image")
    add("-a", "--all", action="store_true", help="take off every name")
    storage.add_option(add)
    add("-f", "--force", action="store_true", help="do not mind a name that is not there")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Take the names off, all or none; prints those that are gone."""
    given = make_parser().parse(arguments)
    if bool(given.images) == given.all:
        raise UsageError("say which images, or --all", hint="orca images lists them")
    store = storage.open_store(given)
    names = list(store.tags()) if given.all else names_of(store, given.images, force=given.force)
    nameless: list[str] = []

    def change(tags: dict[str, Descriptor]) -> None:
        gone = {tags.pop(name).digest for name in names if name in tags}
        nameless.extend(gone - {found.digest for found in tags.values()})

    store.edit_tags(change)
    for name in names:
        print(visible(name))
    if nameless:
        later = "orca prune --storage=ostree frees the space"
        Terminal(sys.stderr).line(later if storage.wanted(given) else _told(collect(store, nameless)))
    return 0


def _told(freed: int | None) -> str:
    if freed is None:
        return "the store is in use: orca prune frees the space later"
    rest = "orca prune frees more, with --all also what the step cache keeps"
    return f"freed {human.size(freed)}; {rest}" if freed else rest


def collect(store: Store, digests: Sequence[str]) -> int | None:
    """Delete the blobs of these images that nothing else needs; returns the bytes. None when the store is in use.

    What is unpacked of them belongs to subordinate ids, and is left to prune. Raises StoreError.
    """
    with files.lock(store.root / "locks/use", wait=False) as alone:
        if not alone:
            return None
        reach = gc.Reach(store.images)
        theirs = {store.images.blob_path(blob) for digest in digests for blob in reach.below(digest)}
        found = gc.find(store)
        items = tuple(item for item in found.items if item.kind == "blobs" and item.path in theirs)
        gc.delete(store, replace(found, items=items))
        return sum(item.size for item in items)


def names_of(store: Store, words: Sequence[str], *, force: bool) -> list[str]:
    """The full names that `words` mean. Raises StoreError for one that is not there, unless `force`."""
    tags = store.tags()
    found: dict[str, None] = {}
    for word in words:
        found |= dict.fromkeys(_names(store, tags, word, force=force))
    return list(found)


def _perhaps_a_container(store: Store, word: str) -> None:
    """Raises StoreError with a hint for somebody who means one."""
    if any(entry.config.name == word for entry in containers.listing(store)):
        hint = f"orca container rm {word} deletes the container"
        raise StoreError(f"no image {word!r} in the store", hint=hint)


def _names(store: Store, tags: Mapping[str, Descriptor], word: str, *, force: bool) -> list[str]:
    # A name that is in the index as it is may be taken off even if it is none by today's grammar.
    there = (word, tags[word]) if word in tags else images.lookup(store, word)
    if there is None:
        if not force:
            _perhaps_a_container(store, word)
            store.find(word)  # raises, with near names
        return []
    name, descriptor = there
    if name is not None:
        return [name]
    names = [name for name, tagged in tags.items() if tagged.digest == descriptor.digest]
    if not names and not force:
        raise StoreError(f"{word} has no name", hint="orca prune deletes it, unless the step cache needs it")
    return names
