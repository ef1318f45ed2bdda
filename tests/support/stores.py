"""Stores of our own making, without any tool: images out of small made-up blobs, step records, snapshots."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orca.oci import image
from orca.oci.image import Descriptor, History, ImageConfig, Manifest
from orca.store.layout import Image
from orca.store.store import StepRecord, Store

Files = Mapping[str, bytes | str | None]
"""A tree by its paths: bytes are a file's content, a string is a link's target, None makes a directory."""


def archive(files: Files) -> bytes:
    """A tar archive of a tree."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            else:
                member.type = tarfile.DIRTYPE if content is None else tarfile.SYMTYPE
                member.linkname = content or ""
                tar.addfile(member)
    return out.getvalue()


def write(root: Path, files: Files) -> None:
    """A tree as files below `root`."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is None:
            path.mkdir(exist_ok=True)
        else:
            path.symlink_to(content)


@dataclass(frozen=True)
class Maker:
    """Puts things into `store`."""

    store: Store
    contents: dict[str, Files] = field(default_factory=dict)
    """What `real` put into layers, by their digests."""

    @classmethod
    def at(cls, root: Path) -> Maker:
        return cls(Store.open(root))

    def image(
        self,
        *layers: str,
        tags: Sequence[str] = (),
        config: ImageConfig | None = None,
        history: Sequence[History] | None = None,
    ) -> Image:
        """An image whose layers hold these texts, named `tags` (full names)."""
        blobs = tuple(self.store.images.put(text.encode(), f"{image.LAYER}+gzip") for text in layers)
        written = config or ImageConfig(architecture="amd64", created="2024-01-02T03:04:05Z", env=(("PATH", "/bin"),))
        entries = tuple(History(created_by=f"COPY {text}") for text in layers) if history is None else tuple(history)
        written = ImageConfig(**{**vars(written), "diff_ids": tuple(map(diff_id, layers)), "history": entries})
        found = self.store.images.put_image(Manifest(image.Descriptor("", "sha256:" + "0" * 64, 0), blobs), written)
        self.store.tag(tuple(tags), found.descriptor)
        return found

    def index(self, images: Sequence[Image], tags: Sequence[str] = ()) -> Descriptor:
        """An index of images, the first for linux/amd64, the others for linux/arm64."""
        value = {
            "schemaVersion": 2,
            "mediaType": image.INDEX,
            "manifests": [
                {**found.descriptor.to_json(), "platform": {"os": "linux", "architecture": name}}
                for found, name in zip(images, ("amd64", *["arm64"] * len(images)), strict=False)
            ],
        }
        descriptor = self.store.images.put(image.canonical(value), image.INDEX)
        self.store.tag(tuple(tags), descriptor)
        return descriptor

    def step(self, text: str, found: Image, snapshots: Sequence[str] = ()) -> StepRecord:
        """A record of the step cache: `found` is the image after the step."""
        key = hashlib.sha256(text.encode()).hexdigest()
        layer = found.manifest.layers[-1] if found.manifest.layers else None
        record = StepRecord(key, text, found.descriptor, tuple(snapshots), {}, {}, layer)
        self.store.put_step(record)
        return record

    def real(self, *layers: Files, tags: Sequence[str] = ()) -> Image:
        """An image whose layers are archives, named `tags` (full names)."""
        tars = [archive(files) for files in layers]
        blobs = [self.store.images.put(gzip.compress(tar, mtime=0), f"{image.LAYER}+gzip") for tar in tars]
        self.contents.update({blob.digest: files for blob, files in zip(blobs, layers, strict=True)})
        config = ImageConfig(architecture="amd64", diff_ids=tuple(image.digest_of(tar) for tar in tars))
        found = self.store.images.put_image(Manifest(Descriptor("", "sha256:" + "0" * 64, 0), tuple(blobs)), config)
        self.store.tag(tuple(tags), found.descriptor)
        return found

    def snapshot_of(self, name: str, files: Files) -> None:
        """A snapshot with these files."""
        root = self.store.snapshot(name)
        root.mkdir(parents=True, exist_ok=True)
        write(root, files)

    def snapshot(self, name: str, text: str = "x") -> Path:
        """A snapshot with one file."""
        root = self.store.snapshot(name)
        root.mkdir(parents=True, exist_ok=True)
        (root / "file").write_text(text)
        return root.parent


def diff_id(text: str) -> str:
    return image.digest_of(b"tar " + text.encode())
