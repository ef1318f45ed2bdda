"""orca push."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from orca.cli import access
from orca.cli.options import Parser
from orca.errors import UsageError
from orca.executor import outputs, sandbox
from orca.oci import image, reference
from orca.oci import platform as platforms
from orca.oci.image import Descriptor
from orca.oci.platform import Platform
from orca.sources import names
from orca.sources.access import Access
from orca.store.store import Store
from orca.tools.command import Runner
from orca.ui import Terminal
from orca.ui.escape import visible

EXAMPLES = """\
  orca push registry.example:5000/app          under its own name
  orca push app registry.example:5000/app:1.0  under another
  orca push app oci:out:app                    into an OCI layout
  orca push app docker-archive:app.tar         into a file for docker load"""

REGISTRY = "docker://"
_FILES = ("oci", "oci-archive", "docker-archive", "docker-daemon", "dir", "containers-storage")


@dataclass(frozen=True)
class Destination:
    """Where to, as skopeo spells it: `transport` and what follows it."""

    transport: str
    place: str

    def __str__(self) -> str:
        return f"{self.transport}:{self.place}"


def make_parser() -> Parser:
    """The options of `orca push`."""
    parser = Parser(
        "push",
        "Send an image to a registry, or write it where skopeo can: oci:DIR:TAG, oci-archive:FILE,\n"
        "docker-archive:FILE, dir:DIR, docker-daemon:NAME, containers-storage:NAME.",
        EXAMPLES,
        usage="orca push [options] IMAGE [DESTINATION]",
    )
    parser.add_argument("image", metavar="IMAGE", help="a name, a digest, or the beginning of a digest")
    parser.add_argument(
        "destination", metavar="DESTINATION", nargs="?", help="where to (default: the image's full name)"
    )
    parser.add_argument("--platform", metavar="OS/ARCH", help="of an index, only the image for this platform")
    parser.add_argument("--all", action="store_true", help="accepted: of an index all images are sent")
    access.add_options(parser)
    return parser


def run(arguments: Sequence[str]) -> int:
    """Push; prints the digest of the manifest as it arrived."""
    deliver(make_parser().parse(arguments), Store.open())
    return 0


def deliver(given: argparse.Namespace, store: Store) -> str:
    """Send what the options name, print and return the digest of the manifest as it arrived."""
    wanted = platforms.parse(given.platform) if getattr(given, "platform", None) else None
    sandbox.catch_signals()
    store.sweep()
    with store.in_use():
        name, descriptor = _what(store, given.image)
        target = destination(given.destination, name, _names_of(store, descriptor))
        registry = outputs.registry_of(str(target))
        registry_access = access.read(given, [f"{registry}/x"] if registry else ())
        descriptor = _chosen(store, descriptor, wanted, target)
        with access.shown(given) as emit:
            digest = send(store, descriptor, target, registry_access, Runner(emit), name=name)
    print(digest, flush=True)
    if not given.quiet:
        Terminal(sys.stderr).line(f"{visible(given.image)} is at {visible(str(target).removeprefix(REGISTRY))}")
    return digest


def _chosen(store: Store, descriptor: Descriptor, wanted: Platform | None, target: Destination) -> Descriptor:
    """The whole index, or the image out of it that is asked for. Raises UsageError where only one has room."""
    index = store.images.entries(descriptor)
    if index is None or (wanted is None and target.transport in outputs.WHOLE_INDEX):
        for entry in index.images() if index else ():
            store.images.verify(store.images.image(entry.plain()), layers=False)
        return descriptor
    if wanted is None:
        hint = f"choose one with --platform: {index.listed()}"
        raise UsageError(f"{target.transport} takes one image, not an index of several", hint=hint)
    found = store.images.image(index.choose(wanted).plain())
    store.images.verify(found, layers=False)
    return replace(found.descriptor, media_type=found.manifest.media_type)


def _what(store: Store, text: str) -> tuple[str | None, Descriptor]:
    """The image's name, and its manifest or index. Raises OrcaError for a damaged one."""
    name, descriptor = names.lookup(store, text) or names.find(store, text)[:2]
    value = image.load_object(store.images.read(descriptor, "the manifest"), "the manifest")
    if isinstance(value.get("manifests"), list):
        kind = image.DOCKER_INDEX if value.get("mediaType") == image.DOCKER_INDEX else image.INDEX
        return name, replace(descriptor, media_type=kind)
    found = store.images.image(descriptor)
    store.images.verify(found, layers=False)
    return name, replace(descriptor, media_type=found.manifest.media_type)


def _names_of(store: Store, descriptor: Descriptor) -> list[str]:
    return [name for name, found in store.tags().items() if found.digest == descriptor.digest]


def destination(text: str | None, name: str | None, others: Sequence[str]) -> Destination:
    """Where `text` means; without it, the registry of the image's own name. Raises UsageError."""
    if text is None:
        return _own(name, others)
    transport, colon, place = text.partition(":")
    if colon and transport in _FILES:
        if not place:
            raise UsageError(f"{text} does not say where", hint="orca push --help shows examples")
        return Destination(transport, place)
    text = text.removeprefix(REGISTRY)
    found = reference.parse(text)
    if found.digest:
        raise UsageError(f"a digest cannot be chosen: {text}", hint="write NAME:TAG; the digest stays what it is")
    return Destination("docker", f"//{found.tagged()}")


def _own(name: str | None, others: Sequence[str]) -> Destination:
    if name is None and len(others) == 1:
        name = others[0]
    if name is None:
        raise UsageError("which name shall the image get there?", hint="orca push IMAGE REGISTRY/NAME:TAG")
    if reference.parse(name).registry in (reference.LOCAL, None):
        raise UsageError(
            f"{name} is a name of this machine only", hint=f"say where to: orca push {name} REGISTRY/NAME:TAG"
        )
    return Destination("docker", f"//{name.partition('@')[0]}")


def send(
    store: Store,
    descriptor: Descriptor,
    target: Destination,
    registry_access: Access,
    runner: Runner,
    *,
    name: str | None,
) -> str:
    """Copy it; returns the digest of what was written. Raises ToolError with what the other side said."""
    words = []
    if target.transport == "docker-archive" and name and ":" not in target.place:
        words.append(f"--additional-tag={name}")  # so that docker load names it
    why = "send the image to the registry" if target.transport == "docker" else "write the image there"
    return outputs.send(descriptor, str(target), store, runner, registry_access, words, why=why)
