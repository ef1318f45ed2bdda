"""Cached steps in a place that others can reach: a registry's repository, or an OCI layout.

Each step is an ordinary image there, the one after the step, under the tag PREFIX-KEY. Two annotations of
its manifest hold what an image does not say: the store's own manifest and config, byte by byte, and a record
of the step. Any tool can copy such an image; nothing that is read back is believed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from orca.errors import ImageError, OrcaError, StoreError, ToolError
from orca.oci import image
from orca.oci.image import Descriptor, ImageConfig, Manifest
from orca.oci.platform import Platform
from orca.sources.access import Access
from orca.sources.images import Puller, explain
from orca.sources.places import Place
from orca.store import files
from orca.store.layout import Image, Layout
from orca.store.store import StepRecord, Store
from orca.tools import skopeo
from orca.tools.command import Command, Runner

STEP = "orca.cache.step"
MANIFEST = "orca.cache.manifest"
CONFIG = "orca.cache.config"
VERSION = 1
LARGEST = 3 << 20
"""Bytes of an entry's manifest: registries take no more than four MiB."""
MOST_TAGS = 64 << 20
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@dataclass(frozen=True)
class Entry:
    """A cached step as it was found in a place, checked as far as it says of itself.

    `data` are the bytes of its manifest there; `manifest` and `config` those that the store will have.
    """

    key: str
    data: bytes
    manifest: bytes
    config: bytes
    created: str

    @property
    def found(self) -> Image:
        """The image after the step. Raises ImageError."""
        manifest = Manifest.from_json(image.load_object(self.manifest, "a cached manifest"))
        config = ImageConfig.from_json(image.load_object(self.config, "a cached config"))
        return Image(image.descriptor_of(self.manifest, image.MANIFEST), manifest, config)


def entry_of(record: StepRecord, store: Store) -> bytes:
    """The manifest under which a place keeps the step. Raises ImageError when it is too large for a registry."""
    found = store.images.image(record.manifest)
    manifest = store.images.read(record.manifest, "the manifest").decode()
    config = store.images.read(found.manifest.config, "the image config").decode()
    step = {"version": VERSION, "key": record.key, "text": record.text, "created": record.created}
    step |= {"ingredients": record.ingredients, "state": record.state}
    step |= {"layer": record.layer.to_json() if record.layer else None}
    notes = {STEP: image.document(step).decode(), MANIFEST: manifest, CONFIG: config}
    data = image.document(replace(found.manifest, annotations=notes).to_json())
    if len(data) > LARGEST:
        raise ImageError(f"a step is too large for a shared cache: its record has {len(data)} bytes")
    return data


def parse_entry(key: str, data: bytes) -> Entry:
    """The step `key` out of what a place has under its tag. Raises ImageError for all that cannot be right."""
    outer = image.load_object(data, "a cached step")
    kept = Manifest.from_json(outer)
    texts = [kept.annotations.get(name) for name in (STEP, MANIFEST, CONFIG)]
    if not all(isinstance(text, str) for text in texts):
        raise ImageError("this is an image, not a cached step")
    if any(layer.get("urls") for layer in outer["layers"]):
        raise ImageError("a layer of a cached step is to come from elsewhere (urls), which is not done")
    step_text, manifest, config = (str(text).encode() for text in texts)
    step = image.load_object(step_text, "the record of a cached step")
    if step.get("version") != VERSION or step.get("key") != key:
        raise ImageError("the record is another step's, or of another version of orca")
    created = step.get("created")
    found = Entry(key, data, manifest, config, _time(created))
    own = found.found
    same = [own.manifest.config.digest, *_blobs(own.manifest)] == [kept.config.digest, *_blobs(kept)]
    if not same or image.digest_of(config) != own.manifest.config.digest or len(config) != own.manifest.config.size:
        raise ImageError("the image and the record of a cached step do not belong together")
    if len(own.config.diff_ids) != len(own.manifest.layers):
        raise ImageError("a cached step does not have one diff id for each layer")
    return found


def _time(value: Any) -> str:
    """`value` if it is a time as records have it, else nothing."""
    return value if isinstance(value, str) and _TIME.fullmatch(value) else ""


def _blobs(manifest: Manifest) -> list[tuple[str, str, int]]:
    return [(layer.media_type, layer.digest, layer.size) for layer in manifest.layers]


class Shelf(Protocol):
    """A place, opened. All raise OrcaError with what the other side said."""

    place: Place

    def keys(self) -> frozenset[str]:
        """The keys of all steps that are there."""

    def entry(self, key: str) -> bytes:
        """What is kept under a key that is there; not checked."""

    def fetch(self, entry: Entry, platform: Platform) -> None:
        """Bring the layers of a step into the store, each checked by size and digest."""

    def send(self, entries: Sequence[tuple[str, bytes]]) -> None:
        """Add steps (key and manifest), whose other blobs the store has. The first has every layer of the others."""


def open_shelf(place: Place, store: Store, runner: Runner, scratch: Path, access: Access) -> Shelf:
    """The place, ready to be asked. Nothing is asked yet."""
    if place.local:
        return LocalShelf(place, store, scratch)
    return RegistryShelf(place, store, runner, scratch, access)


class RegistryShelf:
    """A repository of a registry, by skopeo: the tags are listed once, a step is one request for its manifest."""

    def __init__(self, place: Place, store: Store, runner: Runner, scratch: Path, access: Access) -> None:
        self.place = place
        self._store = store
        self._runner = runner
        self._scratch = scratch
        self._access = access
        self._registry = place.where.partition("/")[0]
        self._options = tuple(access.options(self._registry, scratch))

    def keys(self) -> frozenset[str]:
        command = skopeo.list_tags(f"docker://{self.place.where}", *self._options)
        try:
            listed = json.loads(self._ask(command, MOST_TAGS))
        except ToolError as error:
            raise explain(error, self.place) from error
        except (ValueError, RecursionError) as error:
            raise ImageError(f"{self.place}: the list of tags is not JSON") from error
        tags = listed.get("Tags") if isinstance(listed, dict) else None
        return keys_among(self.place, [tag for tag in tags or () if isinstance(tag, str)])

    def entry(self, key: str) -> bytes:
        command = skopeo.inspect_raw(f"docker://{self.place.where}:{self.place.tag(key)}", *self._options)
        try:
            return self._ask(command, image.JSON_LIMIT)
        except ToolError as error:
            raise explain(error, self.place) from error

    def _ask(self, command: Command, limit: int) -> bytes:
        return self._access.again(lambda: self._runner.run(command, limit=limit).stdout, self._runner.emit)

    def fetch(self, entry: Entry, platform: Platform) -> None:
        puller = Puller(self._store, self._runner, self._scratch, self._access)
        source = f"docker://{self.place.where}@{image.digest_of(entry.data)}"
        try:
            puller.blobs(source, entry.data, platform)
        except ToolError as error:
            raise explain(error, self.place) from error

    def send(self, entries: Sequence[tuple[str, bytes]]) -> None:
        from concurrent.futures import ThreadPoolExecutor

        if not entries:
            return
        layout = self._layout(entries)
        self._copy(layout, entries[0][0])  # all the layers: the others find them there
        with ThreadPoolExecutor(4, "cache-to") as pool:
            list(pool.map(lambda entry: self._copy(layout, entry[0]), entries[1:]))

    def _layout(self, entries: Sequence[tuple[str, bytes]]) -> Layout:
        """A layout of its own, whose blobs are links: what is sent never becomes an image of the store."""
        layout = Layout(self._scratch / f"cache-{os.urandom(4).hex()}").create()
        names = {}
        for key, data in entries:
            manifest = Manifest.from_json(image.load_object(data, "a step"))
            names[self.place.tag(key)] = layout.put(data, image.MANIFEST)
            for blob in (manifest.config, *manifest.layers):
                with contextlib.suppress(FileExistsError):
                    layout.blob_path(blob.digest).symlink_to(self._store.images.blob_path(blob.digest))
        layout.write_index(names)
        return layout

    def _copy(self, layout: Layout, key: str) -> None:
        tag = self.place.tag(key)
        words = self._access.copy_options(self._registry, self._scratch, "dest")
        why = "send a cached step to the shared cache"
        target = f"docker://{self.place.where}:{tag}"
        source = f"oci:{layout.path}:{tag}"
        command = skopeo.copy(source, target, "--preserve-digests", *words, why=why, overrides=skopeo.OURS)
        try:
            self._access.again(lambda: self._runner.run(command), self._runner.emit)
        except ToolError as error:
            raise explain(error, self.place) from error


class LocalShelf:
    """An OCI image layout in a directory. No tool is needed: files are read, checked and written."""

    def __init__(self, place: Place, store: Store, scratch: Path) -> None:
        self.place = place
        self._store = store
        self._scratch = scratch
        self._layout = Layout(Path(place.where))
        self._names: dict[str, Descriptor] = {}

    def keys(self) -> frozenset[str]:
        if not (self._layout.path / "index.json").is_file():
            raise StoreError(f"{self.place}: there is no cache", hint="--cache-to type=local,dest=DIR writes one")
        with self._told():
            self._names = self._layout.index()
        return keys_among(self.place, list(self._names))

    def entry(self, key: str) -> bytes:
        with self._told():
            return self._layout.read(self._names[self.place.tag(key)], "a cached step")

    def fetch(self, entry: Entry, platform: Platform) -> None:
        with self._told():
            for layer in entry.found.manifest.layers:
                if not self._store.images.has(layer):
                    self._fetch(layer)

    def _fetch(self, blob: Descriptor) -> None:
        """One blob into the store, hashed on the way. Raises ImageError, StoreError."""
        temporary = self._scratch / f"blob-{os.urandom(4).hex()}"
        try:
            with _opened(self._layout.blob_path(blob.digest)) as source, temporary.open("xb") as target:
                _copy_checked(source, target, blob)
            self._store.images.adopt(temporary, blob.digest)
        finally:
            temporary.unlink(missing_ok=True)

    def send(self, entries: Sequence[tuple[str, bytes]]) -> None:
        with self._told():
            if not (self._layout.path / "index.json").exists():
                self._layout.create()
            with files.lock(self._layout.path / "oci-layout"):
                names = {self.place.tag(key): self._put(data) for key, data in entries}
                index = files.read_json(self._layout.path / "index.json")
                others = index.get("manifests") if isinstance(index, dict) else None
                if not isinstance(others, list):
                    raise ImageError(f"{self.place}: index.json is not that of an OCI layout")
                _write_index(self._layout.path, index, others, names)

    def _put(self, data: bytes) -> Descriptor:
        """A step's blobs into the layout, those first that its manifest names."""
        manifest = Manifest.from_json(image.load_object(data, "a step"))
        for blob in (manifest.config, *manifest.layers):
            path = self._layout.blob_path(blob.digest)
            if not self._layout.has(blob):
                temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
                try:
                    with _opened(self._store.images.blob_path(blob.digest)) as source, temporary.open("xb") as target:
                        _copy_checked(source, target, blob)
                    temporary.rename(path)
                finally:
                    temporary.unlink(missing_ok=True)
        return self._layout.put(data, image.MANIFEST)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Errors say which cache they are about."""
        try:
            yield
        except OSError as error:
            raise files.explain(error, f"using the cache {self.place}") from error
        except OrcaError as error:
            raise StoreError(
                f"{self.place}: {error.message.removeprefix(f'{self.place}: ')}", hint=error.hint
            ) from error


def keys_among(place: Place, tags: Sequence[str]) -> frozenset[str]:
    """The keys of the tags that name steps of this place."""
    pattern = re.compile(re.escape(place.prefix) + "-([0-9a-f]{64})")
    return frozenset(match[1] for tag in tags if (match := pattern.fullmatch(tag)))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A regular file to read, and nothing else."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ImageError(f"blob {path.name} is not a regular file")
        yield file


def _copy_checked(source: Any, target: Any, blob: Descriptor) -> None:
    """Copy a blob; raises ImageError, whatever has been written, when size or digest are not the descriptor's."""
    import hashlib

    digest, left = hashlib.sha256(), blob.size
    while data := source.read(min(1 << 20, left + 1)):
        left -= len(data)
        if left < 0:
            break
        digest.update(data)
        target.write(data)
    if left or f"sha256:{digest.hexdigest()}" != blob.digest:
        raise ImageError(f"blob {blob.digest} does not match its size or digest")


def _write_index(path: Path, index: dict[str, Any], others: list[Any], names: dict[str, Descriptor]) -> None:
    """`names` into an index.json, beside what others have there."""

    def name_of(entry: Any) -> Any:
        notes = entry.get("annotations") if isinstance(entry, dict) else None
        return notes.get(image.REF_NAME) if isinstance(notes, dict) else None

    kept = [entry for entry in others if name_of(entry) not in names]
    ours = [replace(found, annotations={image.REF_NAME: name}).to_json() for name, found in sorted(names.items())]
    files.write_json(path / "index.json", {**index, "manifests": kept + ours})
