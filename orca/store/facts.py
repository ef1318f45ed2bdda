"""What a list of images shows of each, remembered by digest: manifests do not change, so each is read once.

`cache/facts.json` may be lost or damaged at any time; it is then made again.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from orca.errors import ImageError, OrcaError, StoreError
from orca.oci.image import MANIFEST, Descriptor, check_digest
from orca.oci.platform import of
from orca.store import files
from orca.store.layout import Layout

VERSION = 1
LABELS_LIMIT = 4096
"""Bytes of labels that are remembered; an image with more of them is read each time."""


@dataclass(frozen=True)
class Facts:
    """What an image says of itself. `error` is why it cannot be read, or None; then the rest is empty.

    `platforms` are those of an index, whose `size` and `layers` count each layer of all its images once; an image
    has none of them.
    """

    created: str | None = None
    size: int = 0
    layers: int = 0
    platform: str = ""
    platforms: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None


def look(layout: Layout, descriptor: Descriptor) -> tuple[Facts, dict[str, int]]:
    """What the image says, and the sizes of all blobs that it needs; for a damaged one, what is wrong with it."""
    try:
        index, images = layout.whole(descriptor)
        for image in images:
            layout.verify(image, layers=False)
    except OrcaError as error:
        return Facts(error=error.message), {}
    blobs = {descriptor.digest: descriptor.size}
    for image in images:
        parts = (image.descriptor, image.manifest.config, *image.manifest.layers)
        blobs |= {blob.digest: blob.size for blob in parts}
    if index is not None:
        layers = {layer.digest: layer.size for image in images for layer in image.manifest.layers}
        created = max((image.config.created or "" for image in images), default="") or None
        names = tuple(str(of(entry.platform) or "-") for entry in index.images())
        labels = dict(images[0].config.labels) if images else {}
        return Facts(created, sum(layers.values()), len(layers), ", ".join(names), names, labels), blobs
    (found,) = images
    config = found.config
    platform = "/".join(part for part in (config.os, config.architecture, config.variant) if part)
    layers_of = found.manifest.layers
    facts = Facts(config.created, found.manifest.size, len(layers_of), platform, (), dict(config.labels))
    return facts, blobs


class Known:
    """The facts of many images; `path` is where they are remembered, None for nowhere."""

    def __init__(self, layout: Layout, path: Path | None) -> None:
        self._layout = layout
        self._path = path
        self._there: dict[str, bool] = {}
        self._blobs = f"{layout.blobs}{os.sep}"
        value: Any = files.read_json(path) if path else None
        right = isinstance(value, dict) and value.get("version") == VERSION and isinstance(value.get("images"), dict)
        self._old: dict[str, Any] = value["images"] if value and right else {}
        self._new: dict[str, Any] = {}
        self._changed = False

    def of(self, descriptor: Descriptor) -> Facts:
        """The facts of one image, whose blobs are all there (by their sizes) if they say no error."""
        known: Any = self._old.get(descriptor.digest, {})
        with contextlib.suppress(KeyError, TypeError, AttributeError, ValueError):
            if all(self._has(digest, size) for digest, size in known["blobs"].items()):
                self._new[descriptor.digest] = known
                facts = known["facts"]
                return Facts(**{**facts, "platforms": tuple(facts["platforms"])})
        facts, blobs = look(self._layout, descriptor)
        self._changed = True
        if facts.error is None and len(json.dumps(dict(facts.labels))) <= LABELS_LIMIT:
            self._new[descriptor.digest] = {"facts": asdict(facts), "blobs": blobs}
        return facts

    def _has(self, digest: str, size: int) -> bool:
        """`Layout.has` without its objects: it is asked thousands of times."""
        if digest not in self._there:
            self._there[digest] = False
            with contextlib.suppress(OSError, ImageError):
                found = os.lstat(self._blobs + check_digest(digest).removeprefix("sha256:"))
                self._there[digest] = stat.S_ISREG(found.st_mode) and found.st_size == size
        return self._there[digest]

    def remember(self, *, others: bool) -> None:
        """Write what is new. `others` says that there are images that nobody asked about: theirs are kept."""
        if self._path and (self._changed or (not others and len(self._new) != len(self._old))):
            with contextlib.suppress(StoreError):  # a store that cannot be written can be listed
                kept = {**self._old, **self._new} if others else self._new
                files.write_json(self._path, {"version": VERSION, "images": kept}, durable=False)


def nameless(chains: Path, layout: Layout, named: Iterable[str]) -> Iterator[Descriptor]:
    """Finished images that have no name (any more)."""
    known = set(named)
    for path in sorted(chains.iterdir()):
        digest = f"sha256:{path.name}"
        with contextlib.suppress(ImageError, OSError):
            blob = layout.blob_path(digest)
            if digest not in known:
                yield Descriptor(MANIFEST, digest, blob.stat().st_size)
