"""An image out of somebody's OCI layout, into the store. Nothing in it is believed before it is hashed."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from orca.errors import ImageError, UsageError
from orca.oci import image
from orca.oci.image import Descriptor
from orca.oci.platform import Platform
from orca.store import files
from orca.store.layout import CHUNK, Image, Layout
from orca.store.store import Store


@dataclass(frozen=True)
class Found:
    """An image and the layout that has it."""

    layout: Layout
    image: Image


def find(word: str, platform: Platform, *, what: str) -> Found:
    """The image that `DIRECTORY[:TAG|@DIGEST]` names; `what` is for errors. Raises UsageError, ImageError."""
    path, tag, digest = _parts(word)
    layout = Layout(path)
    if not (path / "index.json").is_file():
        raise UsageError(f"{what}: there is no OCI layout", hint="a layout has a file index.json")
    if digest:
        descriptor = _by_digest(layout, digest, what)
    else:
        named, entries = layout.index(), _entries(layout)
        if tag and tag not in named:
            raise UsageError(f"{what}: the layout has no tag {tag!r}", hint=f"it has: {', '.join(named) or 'none'}")
        if not tag and "latest" not in named and len(entries) != 1:
            raise UsageError(f"{what}: which image of the layout?", hint=f"name a tag: {', '.join(named) or 'none'}")
        descriptor = named[tag or "latest"] if tag or "latest" in named else entries[0]
    return Found(layout, layout.image(descriptor.plain(), platform))


def _parts(word: str) -> tuple[Path, str, str]:
    """Directory, tag, digest."""
    path, at, digest = word.partition("@")
    if at:
        return Path(path), "", digest
    if not os.path.isdir(word):
        path, colon, tag = word.rpartition(":")
        if colon and "/" not in tag:
            return Path(path), tag, ""
    return Path(word), "", ""


def _by_digest(layout: Layout, digest: str, what: str) -> Descriptor:
    try:
        found = layout.blob_path(digest).lstat()
    except (OSError, ImageError) as error:
        raise UsageError(f"{what}: the layout has no {digest}") from error
    return Descriptor(image.MANIFEST, digest, found.st_size)


def _entries(layout: Layout) -> list[Descriptor]:
    value = files.read_json(layout.path / "index.json")
    found = value.get("manifests") if isinstance(value, dict) else None
    return [Descriptor.from_json(entry) for entry in found] if isinstance(found, list) else []


def bring(found: Found, store: Store) -> None:
    """Copy what the store lacks of the image. Raises ImageError for a blob that is not what its digest says."""
    manifest = found.image.manifest
    for descriptor in (*manifest.layers, manifest.config, found.image.descriptor):
        if not store.images.has(descriptor):
            _copy(found.layout, descriptor, store)


def _copy(layout: Layout, descriptor: Descriptor, store: Store) -> None:
    try:
        fd = os.open(layout.blob_path(descriptor.digest), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ImageError(f"blob {descriptor.digest} of {layout.path} cannot be read: {error.strerror}") from error
    temporary = store.images.blobs / f".{os.urandom(8).hex()}"
    digest, size = hashlib.sha256(), 0
    try:
        with open(fd, "rb") as source, temporary.open("xb") as copy:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ImageError(f"blob {descriptor.digest} of {layout.path} is not a regular file")
            while size <= descriptor.size and (data := source.read(CHUNK)):
                size += len(data)
                digest.update(data)
                copy.write(data)
        if size != descriptor.size or f"sha256:{digest.hexdigest()}" != descriptor.digest:
            raise ImageError(f"blob {descriptor.digest} of {layout.path} does not match its digest")
        os.rename(temporary, store.images.blob_path(descriptor.digest))
    finally:
        temporary.unlink(missing_ok=True)
