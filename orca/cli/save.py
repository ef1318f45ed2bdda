"""orca save."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from orca.cli.options import Parser
from orca.errors import UsageError
from orca.executor import sandbox, saving
from orca.executor.options import STDOUT
from orca.executor.outputs import Means, Product
from orca.executor.saving import FORMATS, Item
from orca.oci import platform as platforms
from orca.oci.platform import Platform
from orca.sources import names
from orca.store.layout import Image
from orca.store.store import Store
from orca.tools.command import Runner
from orca.ui import Mode, Terminal, one_at_a_time, open_view
from orca.ui.escape import visible

EXAMPLES = """\
  orca save -o app.tar app           for orca load, docker load, podman load
  orca save app db | ssh host orca load
  orca save --format oci-archive -o app.tar app
  orca save --format oci-dir -o layout app"""


def make_parser() -> Parser:
    """The options of `orca save`."""
    parser = Parser(
        "save", "Write images into one archive, or into an OCI layout.", EXAMPLES, usage="orca save [options] IMAGE ..."
    )
    add = parser.add_argument
    add("images", metavar="IMAGE", nargs="+", help="a name, a digest, or the beginning of a digest")
    add("-o", "--output", metavar="FILE", help="where to (default: standard output, if it is no terminal)")
    add("--format", choices=FORMATS, default=FORMATS[0], help=f"(default {FORMATS[0]})")
    add("--platform", metavar="OS/ARCH", help="of an index only this image (docker-archive: default this machine's)")
    add("-q", "--quiet", action="store_true", help="print errors only")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Save; nothing but the archive goes to standard output."""
    given = make_parser().parse(arguments)
    dest = given.output or STDOUT
    if dest == STDOUT and given.format == "oci-dir":
        raise UsageError("a directory cannot go to standard output", hint="say where: -o DIRECTORY")
    if dest == STDOUT and sys.stdout.isatty():
        raise UsageError("an archive would garble the terminal", hint="-o FILE, or send it to a file or a pipe")
    if given.format != "oci-dir" and os.path.isdir(dest):
        raise UsageError(f"{dest} is a directory", hint="name a file, or add --format oci-dir")
    wanted = platforms.parse(given.platform) if given.platform else None
    if wanted is None and given.format == "docker-archive":
        wanted = platforms.host()
    sandbox.catch_signals()
    store = Store.open()
    store.sweep()
    mode: Mode = "quiet" if given.quiet else "auto"
    with store.in_use(), store.scratch() as scratch:
        items = chosen(store, given.images, wanted)
        with open_view(mode) as show, one_at_a_time(show) as emit:
            saving.save(items, dest, given.format, Means(store, Runner(emit), scratch))
    if dest != STDOUT and not given.quiet:
        Terminal(sys.stderr).line(f"{visible(dest)} has {', '.join(visible(text) for text in given.images)}")
    return 0


def chosen(store: Store, words: Sequence[str], wanted: Platform | None) -> list[Item]:
    """The images, each once, with the names by which they were asked for."""
    found: dict[str, Item] = {}
    for word in words:
        name, tagged, image = names.find(store, word, wanted)
        index = store.images.entries(tagged)
        images: tuple[Image, ...] = (image,)
        if index is not None and wanted is None:
            images = tuple(store.images.all_images(tagged))
        for each in images:
            store.images.verify(each, layers=False)
        descriptor = tagged.plain() if index is not None and wanted is None else image.descriptor
        before = found[descriptor.digest].names if descriptor.digest in found else ()
        named = (name.partition("@")[0],) if name else ()
        found[descriptor.digest] = Item(Product(descriptor, images), tuple(dict.fromkeys((*before, *named))))
    return list(found.values())
