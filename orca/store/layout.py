"""An OCI image layout: blobs by digest, and an index that names some of them.

Nothing read from a layout is believed: sizes and digests are checked, blobs must be regular files,
and JSON has a limit. See the image-layout chapter of the OCI image spec.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orca.errors import ImageError, StoreError, UsageError
from orca.oci import image
from orca.oci.image import Descriptor, ImageConfig, Manifest
from orca.oci.index import Index
from orca.oci.platform import Platform
from orca.store import files

CHUNK = 1 << 20


@dataclass(frozen=True)
class Image:
    """One image of one platform: the descriptor of its manifest, the manifest, the config."""

    descriptor: Descriptor
    manifest: Manifest
    config: ImageConfig


class Layout:
    """The OCI image layout at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blobs = path / "blobs" / "sha256"

    def create(self, *, blobs: Path | None = None) -> Layout:
        """Make an empty layout; with `blobs`, its blobs are kept there (a relative symbolic link)."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if blobs is not None:
            (self.path / "blobs").symlink_to(os.path.relpath(blobs, self.path))
        else:
            self.blobs.mkdir(parents=True, exist_ok=True)
        (self.path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self.write_index({})
        return self

    def blob_path(self, digest: str) -> Path:
        """Where the blob is. Raises ImageError for anything but a sha256 digest."""
        return self.blobs / image.check_digest(digest).removeprefix("sha256:")

    def has(self, descriptor: Descriptor) -> bool:
        """Is there a regular file of the right size? (Its content is not read.)"""
        try:
            found = self.blob_path(descriptor.digest).lstat()
        except OSError:
            return False
        return stat.S_ISREG(found.st_mode) and found.st_size == descriptor.size

    def read(self, descriptor: Descriptor, what: str) -> bytes:
        """A small blob, checked. Raises StoreError when missing, ImageError when wrong or too large."""
        if descriptor.size > image.JSON_LIMIT:
            raise ImageError(f"{what} is larger than {image.JSON_LIMIT} bytes")
        try:
            fd = os.open(self.blob_path(descriptor.digest), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            hint = "orca pull or orca build makes it again"
            raise StoreError(f"{what} {descriptor.digest} is missing", hint=hint) from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise ImageError(f"{what} {descriptor.digest} is not a regular file")
        with open(fd, "rb") as file:
            data = file.read(image.JSON_LIMIT + 1)
        if len(data) != descriptor.size or image.digest_of(data) != descriptor.digest:
            raise ImageError(f"{what} does not match its digest {descriptor.digest}")
        return data

    def put(self, data: bytes, media_type: str) -> Descriptor:
        """Store a blob; returns its descriptor."""
        descriptor = image.descriptor_of(data, media_type)
        if not self.has(descriptor):
            files.write_atomically(self.blob_path(descriptor.digest), data)
        return descriptor

    def index(self) -> dict[str, Descriptor]:
        """The named manifests: reference → descriptor. Entries without a name are left out."""
        value = files.read_json(self.path / "index.json")
        manifests = value.get("manifests") if isinstance(value, dict) else None
        result = {}
        for entry in manifests if isinstance(manifests, list) else ():
            descriptor = Descriptor.from_json(entry)
            name = descriptor.annotations.get(image.REF_NAME)
            if isinstance(name, str):
                result[name] = descriptor
        return result

    def write_index(self, names: Mapping[str, Descriptor]) -> None:
        """Replace the index."""
        manifests = [
            replace(found, annotations={**found.annotations, image.REF_NAME: name}).to_json()
            for name, found in sorted(names.items())
        ]
        files.write_json(
            self.path / "index.json", {"schemaVersion": 2, "mediaType": image.INDEX, "manifests": manifests}
        )

    def image(self, descriptor: Descriptor, platform: Platform | None = None) -> Image:
        """The image that `descriptor` names; out of an index, the one for `platform`."""
        value = image.load_object(self.read(descriptor, "the manifest"), "the manifest")
        if isinstance(value.get("manifests"), list):
            if descriptor.platform is not None:
                raise ImageError("an index of images holds another index")
            chosen = Index.from_json(value).choose(platform)
            return self.image(replace(chosen, platform=chosen.platform or {}), None)
        return self._image(descriptor, value)

    def _image(self, descriptor: Descriptor, value: Mapping[str, Any]) -> Image:
        manifest = Manifest.from_json(value)
        config = image.load_object(self.read(manifest.config, "the image config"), "the image config")
        return Image(descriptor.plain(), manifest, ImageConfig.from_json(config))

    def entries(self, descriptor: Descriptor) -> Index | None:
        """The index that `descriptor` names; None when it names an image. Raises StoreError, ImageError."""
        value = image.load_object(self.read(descriptor, "the manifest"), "the manifest")
        return Index.from_json(value) if isinstance(value.get("manifests"), list) else None

    def all_images(self, descriptor: Descriptor) -> tuple[Image, ...]:
        """Every image that `descriptor` names: one, or all of an index."""
        return self.whole(descriptor)[1]

    def whole(self, descriptor: Descriptor) -> tuple[Index | None, tuple[Image, ...]]:
        """The index that `descriptor` names, if it is one, and all images, each manifest and config read once."""
        value = image.load_object(self.read(descriptor, "the manifest"), "the manifest")
        if not isinstance(value.get("manifests"), list):
            return None, (self._image(descriptor, value),)
        index = Index.from_json(value)
        return index, tuple(self.image(replace(entry, platform=entry.platform or {})) for entry in index.images())

    def put_index(self, index: Index) -> Descriptor:
        """Store an index."""
        return self.put(image.document(index.to_json()), index.media_type)

    def put_image(self, manifest: Manifest, config: ImageConfig) -> Image:
        """Store a config and a manifest that points to it."""
        data = image.document(config.to_json())
        kind = image.DOCKER_CONFIG if manifest.docker else image.CONFIG
        changed = replace(manifest, config=self.put(data, kind))
        return Image(self.put(image.document(changed.to_json()), changed.media_type), changed, config)

    def put_manifest(self, found: Image, manifest: Manifest) -> Image:
        """Store another manifest for the same config; `found` itself where nothing differs."""
        if manifest == found.manifest:
            return found
        return Image(self.put(image.document(manifest.to_json()), manifest.media_type), manifest, found.config)

    def oci(self, found: Image) -> Image:
        """`found` in OCI's format: umoci knows no other."""
        return self.put_manifest(found, found.manifest.as_oci()) if found.manifest.docker else found

    def verify(self, found: Image, *, layers: bool = True) -> None:
        """Check the whole chain below a manifest: sizes, and with `layers` every layer's digest.

        Raises ImageError. (Diff ids are checked by whoever unpacks.)
        """
        if len(found.config.diff_ids) != len(found.manifest.layers):
            raise ImageError(
                f"the image has {len(found.manifest.layers)} layers and {len(found.config.diff_ids)} diff ids"
            )
        for layer in found.manifest.layers:
            if not self.has(layer):
                raise ImageError(f"layer {layer.digest} is missing or has the wrong size")
            if layers and self.hash(layer.digest) != layer.digest:
                raise ImageError(f"layer {layer.digest} does not match its digest")

    def hash(self, digest: str) -> str:
        """The digest that the blob's content really has."""
        with open(self.blob_path(digest), "rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"

    def adopt(self, blob: Path, digest: str) -> None:
        """Move a verified blob in from elsewhere on the same file system."""
        target = self.blob_path(digest)
        with contextlib.suppress(FileNotFoundError):
            os.rename(blob, target)


def check_place(path: Path) -> None:
    """Whether an OCI layout may be written to `path`, or be added to there. Raises UsageError.

    A tool would wait at a FIFO for ever, and write through a link to somewhere else.
    """
    for file in (path / "index.json", path / "oci-layout"):
        if os.path.lexists(file) and not stat.S_ISREG(file.lstat().st_mode):
            raise UsageError(
                f"{file} is not a regular file, so {path} is no OCI layout",
                hint="name another directory, or one that is not there yet",
            )
