"""COPY --link: a layer that is made as if into an empty root, and put on whatever image is below it.

It is kept as an image of this one layer, under a key that no instruction above it has a part in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from orca.dispatch.ops import FileOp
from orca.executor import layer, users
from orca.oci import image
from orca.oci.image import Descriptor, History, ImageConfig, Manifest
from orca.plan.cachekey import step_key
from orca.store.layout import Image, Layout
from orca.store.store import StepRecord
from orca.tools import kernel, umoci

if TYPE_CHECKING:
    from orca.executor.options import Naming
    from orca.executor.rootfs import RootFs, Upper, Workshop

_NUMBERS = re.compile(r"[0-9]+(:[0-9]+)?")


@dataclass(frozen=True)
class Link:
    """A step whose layer needs nothing below it: `key` is the layer's, `owner` what --chown means in numbers.

    `record` is what the step cache has under the key.
    """

    key: str
    ingredients: dict[str, Any]
    owner: tuple[int, int] | None
    record: StepRecord | None = None


def names_owner(op: FileOp) -> bool:
    """Must --chown be looked up in the image below?"""
    return op.chown is not None and not _NUMBERS.fullmatch(op.chown)


def describe(op: FileOp, ingredients: Mapping[str, Any], rootfs: RootFs | None) -> Link:
    """The step's own key. `rootfs` is what is below, where names are looked up: their numbers are in the key."""
    owner = None
    if rootfs is not None and op.chown is not None:
        with rootfs.readable() as root, kernel.directory(root) as fd:
            owner = users.owner(fd, op.chown)
    found = {**ingredients, "chown": list(owner) if owner else op.chown}
    return Link(step_key("", {"link": found}), found, owner)


def pack(
    upper: Upper | None, link: Link, text: str, shop: Workshop, entry: umoci.Entry, naming: Naming, step: int
) -> Image:
    """Make the image of this one layer, or of none when nothing was copied, and remember it."""
    layout = shop.layout()
    nothing = Manifest(image.descriptor_of(b"{}", image.CONFIG), ())
    alone = shop.store.images.put_image(nothing, ImageConfig(os="linux"))
    made: Descriptor | None = None
    if upper is not None:
        layout.write_index({umoci.TAG: alone.descriptor})
        made = layer.commit(
            upper.fs, upper.place / "pack", layout, entry, shop.runner,
            root=not upper.rootless, clamp=naming.epoch, exact=naming.exact_times, step=step,
        )  # fmt: skip
        alone = layout.image(layout.index()[umoci.TAG])
    names = (upper.name,) if upper else ()
    shop.store.put_step(
        StepRecord(link.key, text, alone.descriptor.plain(), names, {}, link.ingredients, made, entry.created)
    )
    return alone


def put_on(below: Image, alone: Image, entry: umoci.Entry, images: Layout) -> Image:
    """The image `below` with the layer of `alone` on top: nothing is packed, only described."""
    history = History(entry.created, entry.created_by, None, entry.comment, not alone.manifest.layers)
    config = replace(
        below.config,
        diff_ids=(*below.config.diff_ids, *alone.config.diff_ids),
        history=(*below.config.history, history),
    )
    return images.put_image(replace(below.manifest, layers=(*below.manifest.layers, *alone.manifest.layers)), config)
