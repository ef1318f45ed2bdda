"""--squash: one layer that does what several did."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orca.executor import layers, trees
from orca.oci.image import History
from orca.store.layout import Image
from orca.tools import umoci

if TYPE_CHECKING:
    from orca.executor.rootfs import Workshop


def squash(image: Image, keep: int, shop: Workshop, created: str) -> Image:
    """`image` with its layers above the first `keep` ones as one. The history stays, and tells of it.

    Raises ImageError, ToolError.
    """
    above = list(zip(image.manifest.layers, image.config.diff_ids, strict=True))[keep:]
    if len(above) < 2:
        return image
    place = shop.directory("squash")
    tree = layers.Merged(layers.unpack(above, shop.store.images, place, shop.runner), whiteouts=keep > 0)
    packed = place / "squashed.tar"
    with packed.open("wb") as file, trees.Archive(file) as archive:
        trees.write_archive(tree, archive, root=True)
    manifest = replace(image.manifest, layers=image.manifest.layers[:keep])
    history = _emptied(image.config.history, keep)
    config = replace(image.config, diff_ids=image.config.diff_ids[:keep], history=history)
    layout = shop.layout()
    layout.write_index({umoci.TAG: layout.put_image(manifest, config).descriptor})
    entry = umoci.Entry(f"squash {len(above)} layers", created)
    with packed.open("rb") as source:
        shop.runner.run(umoci.add_layer(layout.path, entry), stdin=source)
    return layout.image(layout.index()[umoci.TAG].plain())


def _emptied(history: tuple[History, ...], keep: int) -> tuple[History, ...]:
    """The history after the entries of the first `keep` layers makes no layers any more."""
    result = []
    for entry in history:
        result.append(entry if keep > 0 else replace(entry, empty_layer=True))
        keep -= not entry.empty_layer
    return tuple(result)
