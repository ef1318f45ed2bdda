"""orca push."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from orca.cli import access
from orca.cli.options import Parser, print_json
from orca.cli.pull import write_digests
from orca.errors import StoreError, UsageError
from orca.executor import outputs, sandbox
from orca.oci import image, reference
from orca.oci import platform as platforms
from orca.oci.image import Descriptor
from orca.oci.platform import Platform
from orca.sources import names, registries
from orca.sources.access import Access
from orca.store.store import Store
from orca.tools.command import Runner
from orca.ui import Terminal
from orca.ui.escape import visible

EXAMPLES = """\
  orca push registry.example:5000/app          under its own name
  orca push app registry.example:5000/app:1.0  under another
  orca push --all-tags registry.example/app    all tags of the repository that are here
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
    add = parser.add_argument
    add("--all", "--all-platforms", action="store_true", help="accepted: of an index all images are sent")
    add("-a", "--all-tags", action="store_true", help="every tag that the store has of the repository IMAGE")
    add("--json", action="store_true", help="print JSON: where each image is now, and its digest there")
    add("--digestfile", metavar="FILE", help="write the digests to FILE too, one a line")
    add("--sign-by", metavar="FINGERPRINT", help="sign it with this GPG key (see docs/trust.md)")
    add("--sign-by-sigstore-private-key", metavar="FILE", help="sign it with this sigstore key")
    add("--sign-passphrase-file", metavar="FILE", help="the passphrase of the key that signs")
    access.add_options(parser)
    return parser


def run(arguments: Sequence[str]) -> int:
    """Push; prints the digest of the manifest as it arrived."""
    given, sent = make_parser().parse(arguments), []
    store = Store.open()
    for image_name, place in _tagged(given, store) if given.all_tags else [(given.image, given.destination)]:
        given.image, given.destination = image_name, place
        sent.append(deliver(given, store))
    if given.digestfile:
        write_digests(given.digestfile, [each["digest"] for each in sent])
    if given.json:
        print_json(sent)
    return 0


def _tagged(given: argparse.Namespace, store: Store) -> list[tuple[str, str | None]]:
    """Each image of a repository that the store has, and where to. Raises UsageError, StoreError."""
    texts = [given.image, *([given.destination.removeprefix(REGISTRY)] if given.destination else [])]
    for text in texts:
        found = reference.parse(text)
        if found.tag or found.digest:
            raise UsageError(f"--all-tags: {text} names one image", hint=f"leave it at {found.name}")
    repositories = {reference.local(texts[0]).name, *(each.name for each in registries.candidates(texts[0]))}
    named = [name for name in map(reference.parse, store.tags()) if name.name in repositories and name.tag]
    if not named:
        raise StoreError(f"the store has no image of the repository {texts[0]}", hint="orca images lists them")
    return [(str(name), f"{texts[1]}:{name.tag}" if texts[1:] else None) for name in sorted(named, key=str)]


def signing(given: argparse.Namespace) -> list[str]:
    """How skopeo copy is told to sign, by the options that a verb has. Raises UsageError."""
    words = []
    for option in ("sign-by", "sign-by-sigstore-private-key", "sign-passphrase-file"):
        value = getattr(given, option.replace("-", "_"), None)
        if value is not None:
            words.append(f"--{option}={value if option == 'sign-by' else os.path.abspath(value)}")
    if len(words) == 1 and words[0].startswith("--sign-passphrase-file"):
        raise UsageError("--sign-passphrase-file without a key", hint="--sign-by names one")
    return words


def deliver(given: argparse.Namespace, store: Store) -> dict[str, str]:
    """Send what the options name; prints the digest of the manifest as it arrived, and returns it with the place."""
    words = signing(given)
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
            digest = send(store, descriptor, target, registry_access, Runner(emit), name=name, options=words)
    place = str(target).removeprefix(REGISTRY)
    if not getattr(given, "json", False):
        print(digest, flush=True)
    if not given.quiet:
        Terminal(sys.stderr).line(f"{visible(given.image)} is at {visible(place)}")
    return {"image": given.image, "place": place, "digest": digest}


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
    options: Sequence[str] = (),
) -> str:
    """Copy it; returns the digest of what was written. Raises ToolError with what the other side said."""
    words = list(options)
    if target.transport == "docker-archive" and name and ":" not in target.place:
        words.append(f"--additional-tag={name}")  # so that docker load names it
    why = "send the image to the registry" if target.transport == "docker" else "write the image there"
    return outputs.send(descriptor, str(target), store, runner, registry_access, words, why=why)
