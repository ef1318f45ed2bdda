"""`orca save`: images as one archive that docker, podman and skopeo load, or as an OCI layout.

An archive is an OCI layout in a tar; the one for docker also has docker's own manifest.json. Bytes of manifests,
configs and layers are as in the store, so digests stay the same, and the same images give the same archive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from orca.executor import outputs
from orca.executor.outputs import CONTAINERD_NAME, Means, Product
from orca.oci import image, reference
from orca.store import files
from orca.store.layout import Layout
from orca.tools import tar

FORMATS = ("docker-archive", "oci-archive", "oci-dir")


@dataclass(frozen=True)
class Item:
    """One image or index, and the full names that it shall have where it is loaded."""

    product: Product
    names: tuple[str, ...]


def save(items: Sequence[Item], dest: str, kind: str, means: Means) -> None:
    """Write `items` to `dest` (`outputs.STDOUT`, or a path) in one of FORMATS. Raises OrcaError, OSError."""
    layout = Layout(means.scratch / "layout").create()
    blobs: dict[str, None] = {}
    for item in items:
        blobs |= dict.fromkeys(outputs.assemble(item.product, layout, means.store))
        if kind == "oci-dir":
            for name in item.names or (f"{reference.LOCAL}/{item.product.descriptor.digest[7:19]}:latest",):
                outputs.copy(item.product, layout, f"oci:{dest}:{name}", means, why="write the image as an OCI layout")
    if kind == "oci-dir":
        return
    value = {"schemaVersion": 2, "mediaType": image.INDEX, "manifests": _entries(items)}
    files.write_json(layout.path / "index.json", value)
    members = ["oci-layout", "index.json"]
    if kind == "docker-archive":
        files.write_json(layout.path / "manifest.json", [_dockers(item) for item in items])
        members.append("manifest.json")
    members += sorted(_blob(digest) for digest in blobs)
    with outputs.opened(dest) as file:
        outputs.run_into(means.runner, tar.archive(layout.path, members), file)


def _entries(items: Sequence[Item]) -> list[dict[str, Any]]:
    """index.json's manifests: an entry for each name. Where there are several, a tag alone would name none of them."""
    entries = []
    for item in items:
        for name in item.names or (None,):
            notes = {}
            if name is not None:
                tag = reference.parse(name).tag or "latest"
                notes = {CONTAINERD_NAME: name, image.REF_NAME: name if len(items) > 1 else tag}
            entries.append(replace(item.product.descriptor, annotations=notes, platform=None).to_json())
    return entries


def _dockers(item: Item) -> dict[str, object]:
    (found,) = item.product.images
    paths = [_blob(blob.digest) for blob in (found.manifest.config, *found.manifest.layers)]
    return {"Config": paths[0], "RepoTags": list(item.names) or None, "Layers": paths[1:]}


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"
