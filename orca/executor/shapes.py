"""The shape of what an output gets: compression, media types, annotations. The store's own image stays as it is."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from orca.errors import OrcaError, UsageError
from orca.executor import annotate, layers
from orca.executor.options import Output
from orca.oci.image import LAYER, Descriptor, Manifest
from orca.store.layout import CHUNK, Image, Layout
from orca.store.store import Store
from orca.tools import bounds, skopeo
from orca.tools.command import Runner

_SUFFIXES = {"gzip": "+gzip", "zstd": "+zstd", "uncompressed": ""}


def shape(
    output: Output, descriptor: Descriptor, images: Sequence[Image], layout: Layout, store: Store, runner: Runner
) -> tuple[Descriptor, tuple[Image, ...]]:
    """The image, or the index of `images`, in the shape that `output` asks for; what is new is put into `layout`.

    Raises UsageError for shapes that there are none of, ToolError.
    """
    made = tuple(_image(output, each, layout, store, runner) for each in images)
    if len(images) == 1 and images[0].descriptor.digest == descriptor.digest:
        if any(each.level == "index" for each in output.annotations):
            raise UsageError(
                "one image has no index to annotate", hint="annotations of an index need several platforms"
            )
        return made[0].descriptor, made
    return _index(output, descriptor, images, made, layout, store), made


def _index(
    output: Output,
    descriptor: Descriptor,
    before: Sequence[Image],
    after: Sequence[Image],
    layout: Layout,
    store: Store,
) -> Descriptor:
    """The index with the images that it has now."""
    index = store.images.entries(descriptor)
    assert index is not None
    entries = {old.descriptor.digest: new.descriptor for old, new in zip(before, after, strict=True)}
    changed = tuple(
        replace(entries.get(entry.digest, entry), annotations=entry.annotations, platform=entry.platform)
        for entry in index.manifests
    )
    made = annotate.index(replace(index, manifests=changed), output.annotations)
    return descriptor if made == index else layout.put_index(made)


def _image(output: Output, found: Image, layout: Layout, store: Store, runner: Runner) -> Image:
    manifest = found.manifest.as_oci()
    if output.compression is not None or output.level is not None or output.force:
        manifest = replace(manifest, layers=_compress(output, manifest, found, layout, store, runner))
    manifest = annotate.manifest(manifest, output.annotations, found.config)
    if found.manifest.docker if output.docker is None else output.docker:
        if any(each.level == "manifest" for each in output.annotations):
            raise UsageError("Docker's format has no annotations", hint="oci-mediatypes=true, or --format oci")
        manifest = manifest.as_docker()
    return layout.put_manifest(found, manifest)


# -- compression


def _compress(
    output: Output, manifest: Manifest, found: Image, layout: Layout, store: Store, runner: Runner
) -> tuple[Descriptor, ...]:
    """The layers with the compression that `output` names, gzip without one."""
    wanted = output.compression or "gzip"
    media_type = LAYER + _SUFFIXES[wanted]
    again = output.force or output.level is not None
    if not again and all(layer.media_type == media_type for layer in manifest.layers):
        return manifest.layers
    if wanted == "zstd":
        return _zstd(output.level, store.images.put_manifest(found, manifest), layout, store, runner)
    most = bounds.limit(manifest.size)
    return tuple(
        layer if layer.media_type == media_type and not (again and wanted == "gzip")
        else _one(layer, wanted, output.level, layout, store, runner, most)
        for layer in manifest.layers
    )  # fmt: skip


def _one(
    layer: Descriptor, wanted: str, level: int | None, layout: Layout, store: Store, runner: Runner, most: int
) -> Descriptor:
    """A layer unpacked, or packed anew by gzip with nothing of this machine in it."""
    plain = layout.path / f"plain-{os.urandom(4).hex()}"
    digest, size = layers.unpack_one(layer, store.images.blob_path(layer.digest), plain, runner, most)
    if wanted == "gzip":
        packed = plain.with_name(f"{plain.name}.gz")
        quality = 6 if level is None else level
        with (
            plain.open("rb") as source,
            packed.open("wb") as raw,
            gzip.GzipFile("", "wb", quality, raw, mtime=0) as target,
        ):
            while data := source.read(CHUNK):
                target.write(data)
        plain.unlink()
        plain, size = packed, packed.stat().st_size
        digest = _digest(packed)
    layout.adopt(plain, digest)
    return Descriptor(LAYER + _SUFFIXES[wanted], digest, size)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _zstd(level: int | None, found: Image, layout: Layout, store: Store, runner: Runner) -> tuple[Descriptor, ...]:
    """skopeo packs all layers anew, whatever they were packed with."""
    place = layout.path / f"zstd-{os.urandom(4).hex()}"
    source = Layout(place / "from").create(blobs=store.images.path / "blobs")
    source.write_index({"image": found.descriptor})
    options = ["--dest-compress-format=zstd", *([f"--dest-compress-level={level}"] if level is not None else [])]
    target = Layout(place / "to")
    places = (f"oci:{source.path}:image", f"oci:{target.path}:image")
    runner.run(skopeo.copy(*places, *options, why="pack the layers with zstd", overrides=skopeo.OURS))
    made = target.image(target.index()["image"])
    target.verify(made, layers=False)
    if any(layer.media_type != f"{LAYER}+zstd" for layer in made.manifest.layers):
        raise OrcaError("this skopeo does not pack layers with zstd", hint="compression=gzip, or a newer skopeo")
    for layer in made.manifest.layers:
        layout.adopt(target.blob_path(layer.digest), layer.digest)
    return made.manifest.layers
