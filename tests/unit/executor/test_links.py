"""COPY --link: whose owner must be looked up, and a layer put on an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from orca.dispatch.ops import FileOp
from orca.executor import links
from orca.oci import image
from orca.oci.image import Descriptor, History, ImageConfig, Manifest
from orca.store.layout import Image, Layout
from orca.tools import umoci


@pytest.mark.parametrize(
    ("chown", "expected"),
    [(None, False), ("5", False), ("5:6", False), ("app", True), ("5:app", True), ("app:5", True), ("5:", True)],
)
def test_names_are_looked_up(chown: str | None, expected: bool) -> None:
    assert links.names_owner(FileOp(("a",), "/", chown=chown)) is expected


def test_the_key_knows_nothing_of_what_is_below() -> None:
    op = FileOp(("a",), "/", chown="5", link=True)
    one = links.describe(op, {**op.ingredients(), "files": "1"}, None)
    assert one.key == links.describe(op, {**op.ingredients(), "files": "1"}, None).key
    assert one.key != links.describe(op, {**op.ingredients(), "files": "2"}, None).key
    assert one.owner is None


def layered(images: Layout, *names: str, **config: object) -> Image:
    layers = tuple(image.descriptor_of(name.encode(), image.LAYER) for name in names)
    ids = tuple(layer.digest for layer in layers)
    nothing = Descriptor(image.CONFIG, "sha256:" + "0" * 64, 0)
    return images.put_image(Manifest(nothing, layers, {"a": "b"}), ImageConfig(diff_ids=ids, **config))  # type: ignore[arg-type]


def test_put_on(tmp_path: Path) -> None:
    images = Layout(tmp_path / "images").create()
    below = layered(images, "one", "two", user="app", history=(History(created_by="FROM"),))
    entry = umoci.Entry("COPY a /", "then")
    made = links.put_on(below, layered(images, "three", user="other"), entry, images)
    assert made.manifest.layers == layered(images, "one", "two", "three").manifest.layers
    assert made.manifest.annotations == {"a": "b"}
    assert made.config.diff_ids == tuple(layer.digest for layer in made.manifest.layers)
    assert made.config.user == "app"
    assert made.config.history == (History(created_by="FROM"), History("then", "COPY a /", None, entry.comment))
    assert images.image(made.descriptor).manifest == made.manifest


def test_put_nothing_on(tmp_path: Path) -> None:
    images = Layout(tmp_path / "images").create()
    made = links.put_on(layered(images, "one"), layered(images), umoci.Entry("COPY none* /", "then"), images)
    assert len(made.manifest.layers) == 1
    assert made.config.history[-1].empty_layer
