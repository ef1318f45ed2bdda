"""--annotation: what is added to manifests, to an index and to its entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from orca.executor.options import Annotation
from orca.oci import platform as platforms
from orca.oci.image import Descriptor, ImageConfig, Manifest
from orca.oci.index import Index
from orca.oci.platform import Platform


def chosen(annotations: Sequence[Annotation], level: str, platform: Platform | None) -> dict[str, str]:
    """Those of one level that are for `platform`."""
    wanted = None if platform is None else str(platform)
    return {each.name: each.value for each in annotations if each.level == level and each.platform in (None, wanted)}


def manifest(value: Manifest, annotations: Sequence[Annotation], config: ImageConfig) -> Manifest:
    """The manifest of the image with this config, annotated."""
    platform = platforms.normalize(config.os, config.architecture, config.variant)
    return replace(value, annotations={**value.annotations, **chosen(annotations, "manifest", platform)})


def index(value: Index, annotations: Sequence[Annotation]) -> Index:
    """The index, and each of its entries, annotated."""

    def entry(found: Descriptor) -> Descriptor:
        more = chosen(annotations, "manifest-descriptor", platforms.of(found.platform))
        return replace(found, annotations={**found.annotations, **more})

    return Index(tuple(entry(found) for found in value.manifests), _joined(value.annotations, annotations))


def _joined(before: Mapping[str, str], annotations: Sequence[Annotation]) -> dict[str, str]:
    return {**before, **chosen(annotations, "index", None)}
