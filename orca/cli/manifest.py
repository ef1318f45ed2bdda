"""orca manifest: lists of images for several platforms, as buildah's manifest verbs make them."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from orca.cli import access, push
from orca.cli.options import Parser, pairs, print_json
from orca.errors import StoreError, UsageError
from orca.executor import sandbox
from orca.oci import image
from orca.oci.index import Index
from orca.sources import lists
from orca.sources.images import Puller
from orca.sources.lists import Description
from orca.store import files
from orca.store.store import Store
from orca.tools.command import Runner
from orca.ui.escape import visible

EXAMPLES = """\
  orca manifest create app app-amd64 app-arm64             a list of two images
  orca manifest add app docker://registry.example/app:arm  one more, from a registry
  orca manifest annotate --variant v7 app app-arm          say more of one
  orca manifest inspect app                                what is in it
  orca manifest push app docker://registry.example/app:1   the list and all its images
  orca manifest rm app                                     take its name off
  orca build --platform linux/arm64 --manifest app .       a build whose image joins the list

orca manifest VERB --help explains a verb. orca build --platform linux/amd64,linux/arm64 makes such a list at once."""


def make_parser() -> Parser:
    """The options of `orca manifest`."""
    parser = Parser(
        "manifest", "Make and change lists of images for several platforms (image indexes).", EXAMPLES,
        usage="orca manifest VERB [options] LIST ...",
    )  # fmt: skip
    parser.add_argument("verb", metavar="VERB", choices=sorted(VERBS), help=", ".join(sorted(VERBS)))
    parser.add_argument("rest", metavar="ARGUMENT", nargs=argparse.REMAINDER, help="what the verb takes")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Carry out a verb."""
    given = make_parser().parse(arguments)
    return VERBS[given.verb](given.rest)


def _parser(verb: str, about: str, example: str, usage: str) -> Parser:
    return Parser(f"manifest {verb}", about, f"  {example}", usage=f"orca manifest {verb} {usage}")


def _describing(parser: Parser) -> None:
    """The options that say what an entry is for."""
    add = parser.add_argument
    add("--os", metavar="OS", help="the operating system of the image")
    add("--arch", metavar="ARCH", help="its architecture")
    add("--variant", metavar="VARIANT", help="the variant of the architecture")
    add("--os-version", metavar="VERSION", help="the version of the operating system")
    add("--os-features", action="append", default=[], metavar="NAME", help="a feature of the operating system it needs")
    add("--features", action="append", default=[], metavar="NAME", help="a feature of the CPU it needs")
    add("--annotation", action="append", default=[], metavar="NAME=VALUE", help="an annotation of the entry")


def _description(given: argparse.Namespace) -> Description:
    return Description(
        given.os, given.arch, given.variant, given.os_version,
        tuple(word for each in given.os_features for word in each.split(",")),
        tuple(word for each in given.features for word in each.split(",")),
        pairs(given.annotation, "--annotation"),
    )  # fmt: skip


@contextlib.contextmanager
def _puller(given: argparse.Namespace) -> Iterator[Puller]:
    """What gets images from registries into the store."""
    names = getattr(given, "images", None) or [getattr(given, "image", None) or given.list]
    registry_access = access.read(given, names)
    store = Store.open()
    sandbox.catch_signals()
    store.sweep()
    with store.in_use(), store.scratch() as scratch, access.shown(given) as emit:
        yield Puller(store, Runner(emit), scratch, registry_access)


def create(arguments: Sequence[str]) -> int:
    """Make a list; prints its digest."""
    parser = _parser(
        "create",
        "Make a list, empty or of the images named.",
        "orca manifest create app app-amd64 docker://registry.example/app:arm",
        "[options] LIST [IMAGE ...]",
    )
    parser.add_argument("list", metavar="LIST", help="the name of the new list")
    parser.add_argument("images", metavar="IMAGE", nargs="*", help="an image in the store, or in a registry")
    parser.add_argument("--all", action="store_true", help="of an image that is a list itself, all its images")
    parser.add_argument("-a", "--amend", action="store_true", help="go on with the list if it is there already")
    access.add_options(parser)
    given = parser.parse(arguments)
    with _puller(given) as puller:
        # The images first: a list that could not be filled is not made.
        found = [
            each for text in given.images for each in lists.entries(puller, text, Description(), everything=given.all)
        ]
        name = lists.create(puller.store, given.list, amend=given.amend)
        made = lists.edit(puller.store, name, lambda index: index.with_entries(found))
    print(made.digest)
    return 0


def add(arguments: Sequence[str]) -> int:
    """Add images to a list; prints its new digest."""
    parser = _parser(
        "add",
        "Add an image to a list. A registry's image is got into the store.",
        "orca manifest add --variant v7 app docker://registry.example/app:arm",
        "[options] LIST IMAGE",
    )
    parser.add_argument("list", metavar="LIST", help="the list")
    parser.add_argument("image", metavar="IMAGE", help="an image in the store, or in a registry (docker://NAME)")
    parser.add_argument("--all", action="store_true", help="if the image is a list itself, all its images")
    _describing(parser)
    access.add_options(parser)
    given = parser.parse(arguments)
    said = _description(given)
    if given.all and (given.os or given.arch or given.variant):
        raise UsageError("--all adds images for several platforms: --os, --arch and --variant say of one what it is")
    with _puller(given) as puller:
        lists.find(puller.store, given.list)
        found = lists.entries(puller, given.image, said, everything=given.all)
        made = lists.edit(puller.store, given.list, lambda index: index.with_entries(found))
    print(made.digest)
    return 0


def annotate(arguments: Sequence[str]) -> int:
    """Describe an entry of a list; prints the list's new digest."""
    parser = _parser(
        "annotate",
        "Say what an entry of a list is for.",
        "orca manifest annotate --arch arm --variant v7 app sha256:6f0c…",
        "[options] LIST DIGEST|IMAGE",
    )
    parser.add_argument("list", metavar="LIST", help="the list")
    parser.add_argument("image", metavar="IMAGE", help="an entry: its digest or the beginning, or the image's name")
    _describing(parser)
    given = parser.parse(arguments)
    said, store = _description(given), Store.open()
    if said == Description():
        raise UsageError("nothing to say of the entry", hint="orca manifest annotate --help shows what can be said")
    with store.in_use():
        made = lists.edit(
            store, given.list, lambda index: index.with_entries([said.of(lists.one_of(index, store, given.image))])
        )
    print(made.digest)
    return 0


def inspect(arguments: Sequence[str]) -> int:
    """Print a list as JSON."""
    parser = _parser(
        "inspect",
        "Show a list of the store or of a registry, as JSON.",
        "orca manifest inspect app | jq -r '.manifests[].platform.architecture'",
        "[options] LIST",
    )
    parser.add_argument("list", metavar="LIST", help="a list in the store, or in a registry (docker://NAME)")
    access.add_options(parser)
    given = parser.parse(arguments)
    with _puller(given) as puller:
        data = lists.raw(puller, given.list)
    print_json(image.load_object(data, "the manifest list"))
    return 0


def remove(arguments: Sequence[str]) -> int:
    """Take entries out of a list; prints its new digest."""
    parser = _parser(
        "remove",
        "Take images out of a list. They stay in the store.",
        "orca manifest remove app sha256:6f0c…",
        "LIST DIGEST|IMAGE ...",
    )
    parser.add_argument("list", metavar="LIST", help="the list")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="digests of entries, or names of images")
    given = parser.parse(arguments)
    store = Store.open()

    def without(index: Index) -> Index:
        return index.without(lists.one_of(index, store, text).digest for text in given.images)

    with store.in_use():
        made = lists.edit(store, given.list, without)
    print(made.digest)
    return 0


def send(arguments: Sequence[str]) -> int:
    """Push a list with all its images; prints its digest."""
    parser = _parser(
        "push",
        "Send a list and all its images to a registry, or write them as OCI layout or directory.",
        "orca manifest push --rm app docker://registry.example/app:1",
        "[options] LIST [DESTINATION]",
    )
    parser.add_argument("list", metavar="LIST", help="the list")
    parser.add_argument("destination", metavar="DESTINATION", nargs="?", help="where to (default: the list's name)")
    parser.add_argument("--all", action="store_true", help="accepted: the images always go with the list")
    parser.add_argument("--rm", action="store_true", help="take the list's name off afterwards")
    parser.add_argument("--digestfile", metavar="FILE", help="write the list's digest to FILE")
    parser.add_argument("--sign-by", metavar="FINGERPRINT", help="sign its images with this GPG key")
    access.add_options(parser)
    given = parser.parse(arguments)
    store = Store.open()
    name, index = lists.find(store, given.list)
    if not index.manifests:
        raise StoreError(f"the list {given.list} is empty", hint="orca manifest add adds images to it")
    given.image = name
    digest = push.deliver(given, store)["digest"]
    if given.digestfile:
        try:
            Path(given.digestfile).write_text(digest)
        except OSError as error:
            raise files.explain(error, f"writing {given.digestfile}") from error
    if given.rm:
        store.untag(name)
    return 0


def rm(arguments: Sequence[str]) -> int:
    """Take the names off lists; prints them."""
    parser = _parser(
        "rm",
        "Take the names off lists. orca prune then deletes what nothing else needs.",
        "orca manifest rm app",
        "LIST ...",
    )
    parser.add_argument("lists", metavar="LIST", nargs="+", help="lists")
    given = parser.parse(arguments)
    store = Store.open()
    for name in [lists.find(store, text)[0] for text in given.lists]:
        store.untag(name)
        sys.stdout.write(f"{visible(name)}\n")
    return 0


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "add": add,
    "annotate": annotate,
    "create": create,
    "inspect": inspect,
    "push": send,
    "remove": remove,
    "rm": rm,
}
