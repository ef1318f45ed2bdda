"""OCI image layouts that may be wrong in every way."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.stores import Maker

from orca.errors import ImageError, OrcaError, StoreError
from orca.oci import image
from orca.oci.image import Descriptor, ImageConfig
from orca.oci.platform import Platform
from orca.store.layout import Image, Layout


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker.at(tmp_path / "store")


@pytest.fixture
def found(maker: Maker) -> Image:
    return maker.image("one", "two", tags=["localhost/app:latest"])


def test_a_layout_as_the_spec_has_it(maker: Maker, found: Image) -> None:
    root = maker.store.images.path
    assert json.loads((root / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((root / "index.json").read_text())
    assert index == {
        "schemaVersion": 2,
        "mediaType": image.INDEX,
        "manifests": [
            {
                "mediaType": image.MANIFEST,
                "digest": found.descriptor.digest,
                "size": found.descriptor.size,
                "annotations": {image.REF_NAME: "localhost/app:latest"},
            }
        ],
    }
    manifest = json.loads((root / "blobs/sha256" / found.descriptor.digest[7:]).read_bytes())
    assert manifest["mediaType"] == image.MANIFEST
    assert manifest["config"] == found.manifest.config.to_json()


def test_an_image_comes_back(maker: Maker, found: Image) -> None:
    layout = maker.store.images
    again = layout.image(layout.index()["localhost/app:latest"])
    assert again == found
    layout.verify(again)


def test_blobs_can_be_kept_elsewhere(maker: Maker, found: Image, tmp_path: Path) -> None:
    private = Layout(tmp_path / "deep" / "private").create(blobs=maker.store.images.path / "blobs")
    private.write_index({"step": found.descriptor})
    assert not os.path.isabs(os.readlink(private.path / "blobs"))
    assert private.image(private.index()["step"]) == found


# Each way a chain can be wrong: what to do to the layout, what is then said.

Break = Callable[[Layout, Image], None]


def blob(layout: Layout, descriptor: Descriptor) -> Path:
    return layout.blob_path(descriptor.digest)


def _replace_by(path: Path, how: Callable[[Path], object]) -> None:
    path.unlink()
    how(path)


def _outside(path: Path) -> None:
    content = path.parent.parent.parent / "outside"
    content.write_bytes(b"one")
    path.symlink_to(content)


READING: dict[str, tuple[Break, str]] = {
    "no manifest": (lambda at, it: blob(at, it.descriptor).unlink(), "the manifest sha256:.* is missing"),
    "no config": (lambda at, it: blob(at, it.manifest.config).unlink(), "the image config sha256:.* is missing"),
    "a longer manifest": (lambda at, it: _append(blob(at, it.descriptor)), "the manifest does not match its digest"),
    "another config": (
        lambda at, it: _flip(blob(at, it.manifest.config)),
        "the image config does not match its digest",
    ),
    "a link": (lambda at, it: _replace_by(blob(at, it.manifest.config), _outside), "is missing"),
    "a FIFO": (lambda at, it: _replace_by(blob(at, it.manifest.config), os.mkfifo), "is not a regular file"),
    "a directory": (lambda at, it: _replace_by(blob(at, it.manifest.config), os.mkdir), "is not a regular file"),
    "a device": (
        lambda at, it: _replace_by(blob(at, it.manifest.config), lambda path: path.symlink_to("/dev/zero")),
        "is missing",
    ),
}
VERIFYING: dict[str, tuple[Break, str]] = {
    "no layer": (lambda at, it: blob(at, it.manifest.layers[0]).unlink(), "is missing or has the wrong size"),
    "a longer layer": (lambda at, it: _append(blob(at, it.manifest.layers[0])), "is missing or has the wrong size"),
    "an empty layer": (lambda at, it: blob(at, it.manifest.layers[1]).write_bytes(b""), "wrong size"),
    "another layer": (lambda at, it: _flip(blob(at, it.manifest.layers[1])), "does not match its digest"),
    "a link": (lambda at, it: _replace_by(blob(at, it.manifest.layers[0]), _outside), "is missing"),
}


def _append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("case", READING)
def test_reading_a_broken_chain(case: str, maker: Maker, found: Image) -> None:
    damage, message = READING[case]
    damage(maker.store.images, found)
    with pytest.raises(OrcaError, match=message):
        maker.store.images.image(found.descriptor)


@pytest.mark.parametrize("case", VERIFYING)
def test_verifying_a_broken_chain(case: str, maker: Maker, found: Image) -> None:
    damage, message = VERIFYING[case]
    damage(maker.store.images, found)
    read = maker.store.images.image(found.descriptor)
    with pytest.raises(ImageError, match=message):
        maker.store.images.verify(read)


def test_a_flipped_bit_is_found_only_by_hashing(maker: Maker, found: Image) -> None:
    _flip(blob(maker.store.images, found.manifest.layers[0]))
    maker.store.images.verify(found, layers=False)


def test_diff_ids_and_layers_must_be_as_many(maker: Maker, found: Image) -> None:
    short = replace(found, config=replace(found.config, diff_ids=found.config.diff_ids[:1]))
    with pytest.raises(ImageError, match="2 layers and 1 diff ids"):
        maker.store.images.verify(short, layers=False)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the manifest is not JSON"),
        (b"[]", "the manifest is not a JSON object"),
        (b"{}", "not an OCI image manifest"),
        (b'{"schemaVersion":1,"layers":[]}', "not an OCI image manifest"),
        (b'{"manifests":[]}', "the image is not there"),
        (b'{"manifests":[7]}', "a descriptor is not a JSON object"),
    ],
)
def test_blobs_that_are_no_manifests(data: bytes, message: str, maker: Maker) -> None:
    layout = maker.store.images
    with pytest.raises(ImageError, match=message):
        layout.image(layout.put(data, image.MANIFEST))


def test_a_size_too_large_is_not_read(maker: Maker, found: Image) -> None:
    huge = replace(found.descriptor, size=image.JSON_LIMIT + 1)
    with pytest.raises(ImageError, match="is larger than"):
        maker.store.images.image(huge)


@pytest.mark.parametrize(
    ("platform", "chosen"), [(None, "amd"), ("linux/amd64", "amd"), ("linux/arm64", "arm"), ("linux/arm64/v8", "arm")]
)
def test_the_index_is_asked_for_a_platform(platform: str | None, chosen: str, maker: Maker) -> None:
    from orca.oci import platform as platforms

    images = {"amd": maker.image("amd"), "arm": maker.image("arm")}
    index = maker.index(list(images.values()))
    wanted = platforms.parse(platform) if platform else None
    assert maker.store.images.image(index, wanted) == images[chosen]


def test_a_platform_that_is_not_there(maker: Maker) -> None:
    index = maker.index([maker.image("amd"), maker.image("arm")])
    with pytest.raises(ImageError, match="not there for linux/s390x") as caught:
        maker.store.images.image(index, Platform("linux", "s390x"))
    assert caught.value.hint == "it has: linux/amd64, linux/arm64"


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ({}, []),
        ([], []),
        ({"manifests": {}}, []),
        ({"manifests": [{"digest": "sha256:" + "0" * 64, "size": 1}]}, []),  # has no name
        ({"manifests": [{"digest": "sha256:" + "0" * 64, "size": 1, "annotations": {image.REF_NAME: 7}}]}, []),
        ({"manifests": [{"digest": "sha256:" + "0" * 64, "size": 1, "annotations": {image.REF_NAME: "x"}}]}, ["x"]),
    ],
)
def test_odd_indexes(value: Any, names: list[str], maker: Maker) -> None:
    (maker.store.images.path / "index.json").write_text(json.dumps(value))
    assert list(maker.store.images.index()) == names


def test_an_index_with_a_bad_digest_is_an_error(maker: Maker) -> None:
    bad = {"manifests": [{"digest": "sha256:../../x", "size": 1, "annotations": {image.REF_NAME: "x"}}]}
    (maker.store.images.path / "index.json").write_text(json.dumps(bad))
    with pytest.raises(ImageError, match="not a digest"):
        maker.store.images.index()


def test_a_missing_blob_says_what_to_do(maker: Maker) -> None:
    with pytest.raises(StoreError) as caught:
        maker.store.images.read(Descriptor("", "sha256:" + "0" * 64, 1), "the manifest")
    assert caught.value.hint


def test_has_looks_at_kind_and_size(maker: Maker, found: Image) -> None:
    layout, layer = maker.store.images, found.manifest.layers[0]
    assert layout.has(layer)
    assert not layout.has(replace(layer, size=layer.size + 1))
    assert not layout.has(replace(layer, digest="sha256:" + "0" * 64))


def test_put_writes_a_blob_again_that_was_cut_short(maker: Maker) -> None:
    layout = maker.store.images
    descriptor = layout.put(b"content", image.LAYER)
    layout.blob_path(descriptor.digest).write_bytes(b"con")
    layout.put(b"content", image.LAYER)
    assert layout.hash(descriptor.digest) == descriptor.digest


def test_adopt(maker: Maker, tmp_path: Path) -> None:
    blob_ = tmp_path / "store" / "work" / "blob"
    blob_.write_bytes(b"x")
    maker.store.images.adopt(blob_, image.digest_of(b"x"))
    maker.store.images.adopt(blob_, image.digest_of(b"x"))  # somebody else was faster
    assert maker.store.images.blob_path(image.digest_of(b"x")).read_bytes() == b"x"


def test_a_config_with_bytes_that_are_no_text_can_be_read_again(maker: Maker) -> None:
    found = maker.image("one", config=ImageConfig(labels=(("a", "\udcff"),)))
    again = maker.store.images.image(found.descriptor)
    assert again.config.labels == (("a", "\N{REPLACEMENT CHARACTER}"),)
