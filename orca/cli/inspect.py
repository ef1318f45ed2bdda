"""orca inspect."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from orca.cli import choice
from orca.cli.imagefilters import split_name
from orca.cli.options import Parser, print_json
from orca.errors import UsageError
from orca.oci import image
from orca.oci import platform as platforms
from orca.oci.platform import Platform
from orca.sources import names as images
from orca.store.store import Store
from orca.ui.template import parse

EXAMPLES = """\
  orca inspect app                               everything about an image, as JSON
  orca inspect app | jq '.[0].config.config.Env' one thing out of it
  orca inspect -f '{{json .Config.Env}}' app     the same, as docker spells it
  orca inspect app@3                             the image as it was after step 3 of its build
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
    choice.add_option(add)
    add("-f", "--format", metavar="TEMPLATE", help="print this for each: '{{.Digest}}', '{{json .Config.Env}}', json")
    add("--type", choices=["image"], help="accepted: what is inspected are images")
    add("--raw", action="store_true", help="print the bytes of the manifest (or index) as they are")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Print the JSON."""
    given = make_parser().parse(arguments)
    wanted = choice.wanted(given)
    store = Store.open()
    if given.raw:
        if given.format:
            raise UsageError("--raw and --format do not go together")
        return _raw(store, given.images)
    if given.format not in (None, "json"):
        template = parse(given.format)
        for text in given.images:
            found = template.render(fields(describe(store, text, wanted)))
            print(found, end="" if found.endswith("\n") else "\n")
        return 0
    print_json([describe(store, text, wanted) for text in given.images])
    return 0


def _raw(store: Store, names: Sequence[str]) -> int:
    if len(names) > 1:
        raise UsageError("--raw shows one manifest", hint="ask for the images one by one")
    # A damaged image has bytes too, hence lookup first; what is not there is told by find, with near names.
    found = images.lookup(store, names[0]) or images.find(store, names[0])
    data = store.images.read(found[1], "the manifest")
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    return 0


def describe(store: Store, text: str, wanted: Platform) -> dict[str, Any]:
    """All that is known of an image. Manifest and config are as stored, with every field they have.

    `index` is the digest of the index that the image was chosen from, if it was; `platforms` are then what it has.
    """
    _, tagged, found = images.find(store, text, wanted)
    config = found.config
    index = store.images.entries(tagged)
    return {
        "digest": found.descriptor.digest,
        "index": tagged.digest if tagged.digest != found.descriptor.digest else None,
        "platforms": [str(platforms.of(entry.platform)) for entry in index.images()] if index else None,
        "names": [name for name, other in store.tags().items() if other.digest == tagged.digest],
        "platform": "/".join(part for part in (config.os, config.architecture, config.variant) if part),
        "created": config.created,
        "size": found.manifest.size,
        "layers": len(found.manifest.layers),
        "mediaType": found.descriptor.media_type,
        "manifest": image.load_object(store.images.read(found.descriptor, "the manifest"), "the manifest"),
        "config": image.load_object(store.images.read(found.manifest.config, "the image config"), "the image config"),
    }


def fields(found: dict[str, Any]) -> dict[str, Any]:
    """What --format can name: docker's words for it, then our own."""
    config, manifest = found["config"], found["manifest"]
    names = found["names"]
    theirs = {
        "Id": found["digest"],
        "Digest": found["digest"],
        "RepoTags": names,
        "RepoDigests": [f"{split_name(name)[0]}@{found['digest']}" for name in names],
        "Created": config.get("created"),
        "Author": config.get("author") or "",
        "Architecture": config.get("architecture"),
        "Variant": config.get("variant") or "",
        "Os": config.get("os"),
        "Size": found["size"],
        "Config": config.get("config") or {},
        "RootFS": {"Type": "layers", "Layers": (config.get("rootfs") or {}).get("diff_ids") or []},
        "History": config.get("history") or [],
        "Labels": (config.get("config") or {}).get("Labels") or {},
        "Annotations": manifest.get("annotations") or {},
        "Manifest": manifest,
    }
    taken = {name.lower() for name in theirs}
    return theirs | {name: value for name, value in found.items() if name.lower() not in taken}
