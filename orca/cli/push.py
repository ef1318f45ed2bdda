"""orca push."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from orca.cli import access
from orca.cli.options import Parser
from orca.errors import ToolError, UsageError
from orca.executor import outputs, sandbox
from orca.oci import image, reference
from orca.oci.image import Descriptor
from orca.sources import names
from orca.sources.images import explain
from orca.sources.registries import DEFAULT_REGISTRY
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
# These can hold any manifest as it is; the others make one of their own.
_EXACT = ("docker", "oci", "oci-archive", "dir")
_WHOLE_INDEX = ("docker", "oci", "dir")


@dataclass(frozen=True)
class Destination:
    """Where to, as skopeo spells it: `transport` and what follows it."""

    transport: str
    place: str

    def __str__(self) -> str:
        return f"{self.transport}:{self.place}"

    @property
    def registry(self) -> str:
        """Whose credentials are asked for; empty where there is no registry."""
        if self.transport != "docker":
            return ""
        return reference.parse(self.place.removeprefix("//")).registry or DEFAULT_REGISTRY


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
    access.add_options(parser)
    return parser


def run(arguments: Sequence[str]) -> int:
    """Push; prints the digest of the manifest as it arrived."""
    given = make_parser().parse(arguments)
    store = Store.open()
    sandbox.catch_signals()
    store.sweep()
    with store.in_use(), store.scratch() as scratch:
        name, descriptor, several = _what(store, given.image)
        target = destination(given.destination, name, _names_of(store, descriptor))
        options = access.skopeo_options(given, [target.registry], scratch)
        with access.shown(given) as emit:
            digest = send(store, descriptor, target, options, Runner(emit), name=name, several=several)
    print(digest, flush=True)
    if not given.quiet:
        Terminal(sys.stderr).line(f"{visible(given.image)} is at {visible(str(target).removeprefix(REGISTRY))}")
    return 0


def _what(store: Store, text: str) -> tuple[str | None, Descriptor, bool]:
    """The image's name, its manifest or index, and whether it is an index. Raises OrcaError for a damaged one."""
    name, descriptor = names.lookup(store, text) or names.find(store, text)[:2]
    value = image.load_object(store.images.read(descriptor, "the manifest"), "the manifest")
    several = isinstance(value.get("manifests"), list)
    if not several:
        store.images.verify(store.images.image(descriptor), layers=False)
    return name, descriptor, several


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
    options: Sequence[str],
    runner: Runner,
    *,
    name: str | None,
    several: bool,
) -> str:
    """Copy it; returns the digest of what was written. Raises ToolError with what the other side said."""
    words = [f"--dest-{word.removeprefix('--')}" if word.startswith("--tls") else word for word in options]
    if target.transport in _EXACT:
        words.append("--preserve-digests")
    if several and target.transport in _WHOLE_INDEX:
        words.append("--all")
    if target.transport == "docker-archive" and name and ":" not in target.place:
        words.append(f"--additional-tag={name}")  # so that docker load names it
    why = "send the image to the registry" if target.transport == "docker" else "write the image there"
    try:
        digest = outputs.send(descriptor, str(target), store, runner, words, why=why)
    except ToolError as error:
        raise explain(error, str(target).removeprefix(REGISTRY)) from error
    if target.transport in _EXACT and digest != descriptor.digest:
        raise ToolError(f"{target} got {digest}, not the image's own digest {descriptor.digest}")
    return digest
