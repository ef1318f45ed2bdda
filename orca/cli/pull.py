"""orca pull."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from orca.cli import access, storage
from orca.cli.options import Parser
from orca.executor import sandbox
from orca.oci import platform as platforms
from orca.oci.platform import Platform
from orca.sources import registries
from orca.sources.images import Puller
from orca.store.layout import Image
from orca.store.store import Store
from orca.tools.command import Runner
from orca.ui import Terminal, human
from orca.ui.escape import visible

EXAMPLES = """\
  orca pull debian:12                         the registry is the one that registries.conf says
  orca pull --platform linux/arm64 debian:12  for another machine
  orca pull --tls-verify=false 127.0.0.1:5000/app
  orca pull --storage=ostree debian:12        into an OSTree repository, each layer once
  id=$(orca pull -q debian:12)                the digest is all that goes to standard output"""


def make_parser() -> Parser:
    """The options of `orca pull`."""
    parser = Parser(
        "pull", "Get images from registries into the store.", EXAMPLES, usage="orca pull [options] IMAGE ..."
    )  # fmt: skip
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="[registry/]name[:tag][@digest]")
    parser.add_argument("--platform", metavar="OS/ARCH", help="the platform to get it for (default: this machine's)")
    storage.add_option(parser.add_argument)
    access.add_options(parser)
    return parser


def run(arguments: Sequence[str]) -> int:
    """Pull each; prints the digests, in the order of the images."""
    given = make_parser().parse(arguments)
    platform = platforms.parse(given.platform) if given.platform else platforms.host()
    for text in given.images:
        registries.candidates(text)  # a bad name is told before anything is done
    registry_access = access.read(given, given.images)
    if storage.wanted(given):
        from orca.cli import ostree

        return ostree.pull(given, platform, registry_access)
    store = Store.open()
    sandbox.catch_signals()
    store.sweep()
    with store.in_use(), store.scratch() as scratch:
        for text in given.images:
            with access.shown(given) as emit:
                found = Puller(store, Runner(emit), scratch, registry_access).ensure(text, platform, "always")
            print(found.descriptor.digest, flush=True)
            if not given.quiet:
                _tell(text, found, platform, given, store)
    return 0


def _tell(text: str, found: Image, platform: Platform, given: argparse.Namespace, store: Store) -> None:
    """The name that the image now has in the store, its size, and whether it is for another platform."""
    tags = store.tags()
    names = [str(name) for name in registries.candidates(text)]
    name = next((name for name in names if name in tags and tags[name].digest == found.descriptor.digest), text)
    terminal = Terminal(sys.stderr)
    size = f"{human.size(found.manifest.size)} in {human.count(len(found.manifest.layers), 'layer')}"
    terminal.line(f"{visible(name)}  {size}")
    actual = platforms.normalize(found.config.os, found.config.architecture, found.config.variant)
    if actual != platform:
        terminal.line(f"warning: this image is for {visible(str(actual))}, not for {platform}")
