"""orca inspect."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from orca.cli.options import Parser, print_json
from orca.errors import UsageError
from orca.oci import image
from orca.oci import platform as platforms
from orca.oci.platform import Platform
from orca.store.store import Store

EXAMPLES = """\
  orca inspect app                               everything about an image, as JSON
  orca inspect app | jq '.[0].config.config.Env' one thing out of it
  orca inspect --raw app | sha256sum             the bytes of its manifest: their hash is the digest"""


def make_parser() -> Parser:
    """The options of `orca inspect`."""
    parser = Parser(
        "inspect",
        "Show digest, names, platform, size, manifest and config of images: a JSON list, one object for each.",
        EXAMPLES,
        usage="orca inspect [options] IMAGE ...",
    )
    add = parser.add_argument
    add("images", metavar="IMAGE", nargs="+", help="a name, a digest, or the beginning of a digest")
    add("--platform", metavar="OS/ARCH", help="which image of an index of several (default: this machine's)")
    add("--raw", action="store_true", help="print the bytes of the manifest (or index) as they are")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Print the JSON."""
    given = make_parser().parse(arguments)
    wanted = platforms.parse(given.platform) if given.platform else platforms.host()
    store = Store.open()
    if given.raw:
        return _raw(store, given.images)
    print_json([describe(store, text, wanted) for text in given.images])
    return 0


def _raw(store: Store, names: Sequence[str]) -> int:
    if len(names) > 1:
        raise UsageError("--raw shows one manifest", hint="ask for the images one by one")
    found = store.lookup(names[0])
    # What is not there is told by find, with near names.
    descriptor = found[1] if found else store.find(names[0])[1].descriptor
    data = store.images.read(descriptor, "the manifest")
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    return 0


def describe(store: Store, text: str, wanted: Platform) -> dict[str, Any]:
    """All that is known of an image. Manifest and config are as stored, with every field they have.

    `index` is the digest of the index that the image was chosen from, if it was.
    """
    _, found = store.find(text, wanted)
    looked_up = store.lookup(text)
    tagged = looked_up[1].digest if looked_up else found.descriptor.digest
    config = found.config
    return {
        "digest": found.descriptor.digest,
        "index": tagged if tagged != found.descriptor.digest else None,
        "names": [name for name, other in store.tags().items() if other.digest == tagged],
        "platform": "/".join(part for part in (config.os, config.architecture, config.variant) if part),
        "created": config.created,
        "size": found.manifest.size,
        "layers": len(found.manifest.layers),
        "mediaType": found.descriptor.media_type,
        "manifest": image.load_object(store.images.read(found.descriptor, "the manifest"), "the manifest"),
        "config": image.load_object(store.images.read(found.manifest.config, "the image config"), "the image config"),
    }
