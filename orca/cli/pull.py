"""orca pull."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from orca.cli import access, storage
from orca.cli.options import Parser, print_json
from orca.errors import OrcaError, UsageError
from orca.events import ignore
from orca.executor import sandbox
from orca.oci import platform as platforms
from orca.oci.image import Descriptor
from orca.oci.platform import Platform
from orca.sources import registries
from orca.sources.images import Puller
from orca.sources.names import lookup, platform_of
from orca.store import files
from orca.store.store import Store
from orca.tools.command import Runner
from orca.ui import Terminal, human
from orca.ui.escape import visible

EXAMPLES = """\
  orca pull debian:12                         the registry is the one that registries.conf says
  orca pull --platform linux/arm64 debian:12  for another machine
  orca pull --all-platforms debian:12         the whole index, with its images for every platform
  orca pull --all-tags registry.example/app   all that the repository has
  orca pull --tls-verify=false 127.0.0.1:5000/app
  orca pull --storage=ostree debian:12        into an OSTree repository, each layer once
  id=$(orca pull -q debian:12)                the digest is all that goes to standard output"""


def make_parser() -> Parser:
    """The options of `orca pull`."""
    parser = Parser(
        "pull", "Get images from registries into the store.", EXAMPLES, usage="orca pull [options] IMAGE ..."
    )  # fmt: skip
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="[registry/]name[:tag][@digest]")
    add = parser.add_argument
    storage.add_option(add)
    add("--platform", action="append", default=[], metavar="OS/ARCH",
        help="the platform to get it for (default: this machine's); several make an index")  # fmt: skip
    add("--all-platforms", action="store_true", help="of an index all images, and the index itself")
    add("-a", "--all-tags", action="store_true", help="every tag of the repository")
    add("--json", action="store_true", help="print JSON: what is in the store now, with digests, sizes, platforms")
    add("--digestfile", metavar="FILE", help="write the digests to FILE too, one a line")
    access.add_options(parser)
    return parser


def run(arguments: Sequence[str]) -> int:
    """Pull each; prints the digests, in the order of the images."""
    given = make_parser().parse(arguments)
    wanted = _platforms(given)
    for text in given.images:
        registries.candidates(text)  # a bad name is told before anything is done
    registry_access = access.read(given, given.images)
    if storage.wanted(given):
        from orca.cli import ostree

        if given.all_platforms or given.all_tags or given.json or given.digestfile or len(wanted) > 1:
            raise UsageError(
                "--storage=ostree gets one image for one platform of each name",
                hint="leave out --all-platforms, --all-tags, --json, --digestfile and further platforms",
            )
        return ostree.pull(given, (wanted or [platforms.host()])[0], registry_access)
    store = Store.open()
    sandbox.catch_signals()
    store.sweep()
    pulled = []
    with store.in_use(), store.scratch() as scratch:
        puller = Puller(store, Runner(), scratch, registry_access)
        for text in given.images:
            with _shown(puller, given):
                names = _names(puller, text) if given.all_tags else [text]
            for name in names:
                with _shown(puller, given):
                    found = _pull(puller, name, wanted, everything=given.all_platforms)
                pulled.append(_tell(name, found, wanted, given, store))
    if given.digestfile:
        write_digests(given.digestfile, [str(each["digest"]) for each in pulled])
    if given.json:
        print_json(pulled)
    return 0


def _platforms(given: argparse.Namespace) -> list[Platform]:
    """The platforms that are asked for; none means this machine's. Raises UsageError."""
    if given.platform and given.all_platforms:
        raise UsageError("--platform and --all-platforms exclude each other", hint="give one of them")
    words = [word for each in given.platform for word in each.split(",")]
    return list(dict.fromkeys(map(platforms.parse, words)))


@contextlib.contextmanager
def _shown(puller: Puller, given: argparse.Namespace) -> Iterator[None]:
    """What the puller does is shown until the block is left."""
    with access.shown(given) as emit:
        puller.runner.emit = emit
        try:
            yield
        finally:
            puller.runner.emit = ignore


def write_digests(path: str, digests: Sequence[str]) -> None:
    """Digests into a file, one a line. Raises OrcaError."""
    try:
        Path(path).write_text("".join(f"{digest}\n" for digest in digests))
    except OSError as error:
        raise files.explain(error, f"writing {path}") from error


def _names(puller: Puller, text: str) -> list[str]:
    """The images of a repository, one for each tag. Raises OrcaError, also when it has none."""
    from orca.sources import several

    name, tags = several.tags(puller, text)
    if not tags:
        raise OrcaError(f"{name} has no tags")
    return [f"{name}:{tag}" for tag in tags]


def _pull(puller: Puller, text: str, wanted: Sequence[Platform], *, everything: bool) -> Descriptor:
    """What the name stands for afterwards. Raises OrcaError."""
    if everything:
        from orca.sources import several

        return several.all_platforms(puller, text)[1]
    found = puller.ensure(text, (wanted or [platforms.host()])[0], "always")
    for platform in wanted[1:]:
        puller.ensure(text, platform, "always", beside=True)
    there = lookup(puller.store, text) if wanted[1:] else None
    return there[1] if there else found.descriptor


def _tell(
    text: str, descriptor: Descriptor, wanted: Sequence[Platform], given: argparse.Namespace, store: Store
) -> dict[str, Any]:
    """Say what the image is called in the store now, and its size; returns the same for --json."""
    tags = store.tags()
    names = [str(name) for name in registries.candidates(text)]
    name = next((name for name in names if name in tags and tags[name].digest == descriptor.digest), text)
    index, images = store.images.whole(descriptor)
    layers = {layer.digest: layer.size for each in images for layer in each.manifest.layers}
    there = [platform for each in images if (platform := platform_of(each))]
    if not given.json:
        print(descriptor.digest, flush=True)
    if not given.quiet:
        terminal = Terminal(sys.stderr)
        many = f"  an index: {', '.join(map(str, there))}" if index else ""
        size = f"{human.size(sum(layers.values()))} in {human.count(len(layers), 'layer')}"
        terminal.line(visible(f"{name}  {size}{many}"))
        expected = (wanted or [platforms.host()])[0]
        if index is None and not given.all_platforms and there and there[0] != expected:
            terminal.line(f"warning: this image is for {visible(str(there[0]))}, not for {expected}")
    return {
        "name": name,
        "digest": descriptor.digest,
        "size": sum(layers.values()),
        "layers": len(layers),
        "platforms": [str(platform) for platform in there],
    }
