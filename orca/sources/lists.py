"""Manifest lists: image indexes with a name in the store, that users put together from images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orca.errors import StoreError, UsageError
from orca.oci import image, reference
from orca.oci import platform as platforms
from orca.oci.image import Descriptor
from orca.oci.index import Index
from orca.oci.platform import Platform
from orca.oci.reference import Reference
from orca.sources import names, registries
from orca.sources.images import Puller
from orca.sources.names import entry_of
from orca.store.layout import Image
from orca.store.store import Store

DOCKER = "docker://"


@dataclass(frozen=True)
class Description:
    """What a user says of an entry; what is None or empty stays as the image has it."""

    os: str | None = None
    architecture: str | None = None
    variant: str | None = None
    os_version: str | None = None
    os_features: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)

    def wanted(self) -> Platform:
        """The platform to choose out of an index: this machine's but for what is said."""
        host = platforms.host()
        architecture = self.architecture or host.architecture
        variant = self.variant if self.variant or self.architecture else host.variant
        return platforms.normalize(self.os or host.os, architecture, variant)

    def of(self, entry: Descriptor) -> Descriptor:
        """`entry`, described so. Raises UsageError when nobody says what it is for."""
        said: dict[str, Any] = {
            "os": self.os,
            "architecture": self.architecture,
            "variant": self.variant,
            "os.version": self.os_version,
            "os.features": list(self.os_features),
            "features": list(self.features),
        }
        platform = {**(entry.platform or {}), **{name: value for name, value in said.items() if value}}
        if self.architecture and not self.variant:
            platform.pop("variant", None)
        if not platform.get("architecture") or not platform.get("os"):
            raise UsageError(f"{entry.digest} does not say for which platform it is", hint="--os and --arch say it")
        return replace(entry, platform=platform, annotations={**entry.annotations, **self.annotations})


def create(store: Store, text: str, *, amend: bool = False) -> str:
    """A new empty list; returns its full name. Raises StoreError when the name is taken, unless by a list to amend."""
    name = str(reference.local(text))

    def make(tags: dict[str, Descriptor]) -> None:
        if name not in tags:
            tags[name] = store.images.put_index(Index())
        elif store.images.entries(tags[name]) is None:
            raise StoreError(f"{name} is an image, not a manifest list", hint="choose another name, or orca rm it")
        elif not amend:
            raise StoreError(f"{name} is there already", hint="--amend goes on with it; orca manifest rm removes it")

    store.edit_tags(make)
    return name


def find(store: Store, text: str) -> tuple[str, Index]:
    """The full name and the content of a list. Raises StoreError when there is none, or it is an image."""
    name, descriptor = store.lookup(text) or (None, None)
    if descriptor is None:
        store.find(text)  # raises, with near names
        raise AssertionError(text)
    index = store.images.entries(descriptor)
    if index is None:
        raise _no_list(text)
    if name is None:
        tagged = [other for other, found in store.tags().items() if found.digest == descriptor.digest]
        if len(tagged) != 1:
            raise StoreError(f"the list {text} has {len(tagged)} names", hint="say which: NAME[:TAG]")
        name = tagged[0]
    return name, index


def edit(store: Store, text: str, change: Callable[[Index], Index]) -> Descriptor:
    """Change a list under the lock of the tags; returns its new descriptor. Raises what `find` and `change` raise."""
    name, _ = find(store, text)
    made: list[Descriptor] = []

    def put(tags: dict[str, Descriptor]) -> None:
        index = store.images.entries(tags[name]) if name in tags else None
        if index is None:
            raise StoreError(f"{name} is gone: somebody else removed it")
        tags[name] = store.images.put_index(change(index))
        made.append(tags[name])

    store.edit_tags(put)
    return made[0]


def join(store: Store, text: str, built: Sequence[tuple[Platform | None, Image]]) -> None:
    """Put what a build has made into a list, made if it is missing; each image replaces that of its platform."""
    create(store, text, amend=True)
    entries = [entry_of(found, platform) for platform, found in built]
    edit(store, str(reference.local(text)), lambda index: index.beside(entries))


def entries(puller: Puller, text: str, said: Description, *, everything: bool) -> list[Descriptor]:
    """The images that `text` names, in the store then if they were not, as entries of a list.

    `everything` takes all images of an index; else it is the one for the platform that is said.
    Raises OrcaError.
    """
    found = None if text.startswith(DOCKER) else names.lookup(puller.store, text)
    if found is not None:
        return [said.of(entry) for entry in _stored(puller.store, found[1], said, everything=everything)]
    images = _fetched(puller, text.removeprefix(DOCKER), said, everything=everything)
    return [said.of(entry_of(image, platform)) for platform, image in images]


def _stored(store: Store, descriptor: Descriptor, said: Description, *, everything: bool) -> Sequence[Descriptor]:
    index = store.images.entries(descriptor)
    if index is None:
        chosen: Sequence[Descriptor] = [entry_of(store.images.image(descriptor))]
    else:
        chosen = index.images() if everything else [index.choose(said.wanted())]
    for entry in chosen:
        store.images.verify(store.images.image(entry.plain()), layers=False)
    return chosen


def _fetched(puller: Puller, text: str, said: Description, *, everything: bool) -> list[tuple[Platform | None, Image]]:
    name = registries.candidates(text)[0]
    if name.registry == reference.LOCAL:
        puller.store.find(text)  # raises, with near names
    value = image.load_object(puller.manifest(name), "the manifest") if everything else {}
    if not isinstance(value.get("manifests"), list):
        return [(None, puller.fetch(name, said.wanted()))]
    found: list[tuple[Platform | None, Image]] = []
    for entry in Index.from_json(value).images():
        platform = platforms.of(entry.platform)
        pinned = Reference(name.registry, name.path, None, entry.digest)
        found.append((platform, puller.fetch(pinned, platform or said.wanted(), under=name)))
    return found


def one_of(index: Index, store: Store, text: str) -> Descriptor:
    """The entry that a user means by a digest, its beginning, or an image's name. Raises StoreError."""
    digest = text if text.startswith("sha256:") else f"sha256:{text}"
    matching = [entry for entry in index.manifests if entry.digest.startswith(digest)] if len(digest) > 12 else []
    if not matching and not text.startswith("sha256:") and (found := names.lookup(store, text)):
        matching = [entry for entry in index.manifests if entry.digest == found[1].digest]
    if len(matching) != 1:
        many = "several entries begin with" if matching else "the list has no entry"
        raise StoreError(f"{many} {text}", hint="orca manifest inspect shows their digests")
    return matching[0]


def raw(puller: Puller, text: str) -> bytes:
    """A list as it is: in the store, else in a registry. Raises OrcaError; also for an image."""
    found = None if text.startswith(DOCKER) else puller.store.lookup(text)
    if found is not None:
        if puller.store.images.entries(found[1]) is None:
            raise _no_list(text)
        return puller.store.images.read(found[1], "the manifest list")
    name = registries.candidates(text.removeprefix(DOCKER))[0]
    if name.registry == reference.LOCAL:
        puller.store.find(text)  # raises, with near names
    data = puller.manifest(name)
    if not isinstance(image.load_object(data, "the manifest").get("manifests"), list):
        raise _no_list(str(name))
    return data


def _no_list(text: str) -> StoreError:
    return StoreError(f"{text} is an image, not a manifest list", hint="orca manifest create makes a list")
