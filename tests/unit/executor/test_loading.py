"""orca load: OCI archives that anybody may have written, without any tool."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.stores import Maker

from orca.errors import ImageError, OrcaError
from orca.events import Event, Warned
from orca.executor import loading
from orca.executor.loading import Loaded
from orca.oci import image
from orca.store.layout import Image
from orca.tools.command import Runner

NAME = "org.opencontainers.image.ref.name"


@pytest.fixture
def source(tmp_path: Path) -> Maker:
    return Maker.at(tmp_path / "source")


@pytest.fixture
def target(tmp_path: Path) -> Maker:
    return Maker.at(tmp_path / "target")


def write(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def blobs_of(maker: Maker, *found: Image) -> dict[str, bytes]:
    digests = {each.digest for one in found for each in (one.descriptor, one.manifest.config, *one.manifest.layers)}
    paths = [maker.store.images.blob_path(digest) for digest in digests]
    return {f"blobs/sha256/{path.name}": path.read_bytes() for path in paths}


def index(*entries: dict[str, Any]) -> dict[str, bytes]:
    value = {"schemaVersion": 2, "manifests": list(entries)}
    return {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(value).encode()}


def entry(found: Image, **notes: str) -> dict[str, Any]:
    return {**found.descriptor.to_json(), "annotations": {NAME: "app", **notes}}


def load(path: Path, target: Maker, events: list[Event] | None = None) -> list[Loaded]:
    runner = Runner((events if events is not None else []).append)
    with target.store.scratch() as scratch:
        return loading.load(path, target.store, runner, scratch)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_a_whole_image_whatever_the_compression(
    source: Maker, target: Maker, tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    found = source.image("a", "b")
    # More than any buffer holds, also when it is packed: nothing read ahead may be read again, or be lost.
    padding = {"padding": random.Random(1).randbytes(300_000)}
    path = write(tmp_path / "x", {**padding, **index(entry(found)), **blobs_of(source, found)})
    path.write_bytes(pack(path.read_bytes()))
    assert load(path, target) == [Loaded(("localhost/app:latest",), found.descriptor)]
    assert target.store.find("app")[1] == found
    target.store.images.verify(found)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("cut", [False, True])
def test_damaged_compression(target: Maker, tmp_path: Path, pack: Callable[[bytes], bytes], cut: bool) -> None:
    data = bytearray(pack(random.Random(2).randbytes(50_000)))
    data[len(data) // 2 :] = b"" if cut else bytes(len(data) - len(data) // 2)
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(ImageError, match="x is no archive of images, or damaged"):
        load(path, target)


def test_a_layout_and_several_names(source: Maker, target: Maker) -> None:
    found = source.image("a", tags=["localhost/one:1", "reg.example/two:2"])
    assert load(source.store.images.path, target)[0].names == ("localhost/one:1", "reg.example/two:2")
    assert target.store.find("one:1")[1] == found


def test_containerds_name_counts_and_bad_ones_are_told(source: Maker, target: Maker, tmp_path: Path) -> None:
    found, events = source.image("a"), list[Event]()
    words = entry(found, **{"io.containerd.image.name": "reg.example/app:1"}), entry(found, **{NAME: "\x1bBAD"})
    (loaded,) = load(write(tmp_path / "x", {**index(*words), **blobs_of(source, found)}), target, events)
    assert loaded.names == ("reg.example/app:1",)
    assert [event for event in events if isinstance(event, Warned)]


def test_of_an_index_what_is_there(source: Maker, target: Maker, tmp_path: Path) -> None:
    pair = [source.image("a"), source.image("b")]
    both = source.index(pair)
    data = {f"blobs/sha256/{both.digest[7:]}": source.store.images.blob_path(both.digest).read_bytes()}
    files = {**index({**both.to_json(), "annotations": {NAME: "app"}}), **data}
    load(write(tmp_path / "x", {**files, **blobs_of(source, *pair)}), target)
    assert target.store.tags()["localhost/app:latest"].digest == both.digest
    load(write(tmp_path / "x", {**files, **blobs_of(source, pair[1])}), target)
    assert target.store.tags()["localhost/app:latest"].digest == pair[1].descriptor.digest
    with pytest.raises(ImageError, match="none of the images"):
        load(write(tmp_path / "x", files), target)


@pytest.mark.parametrize("which", ["manifest", "config", "layer"])
@pytest.mark.parametrize("how", ["missing", "changed", "longer", "shorter"])
def test_a_blob_that_is_not_what_its_digest_says(
    source: Maker, target: Maker, tmp_path: Path, which: str, how: str
) -> None:
    found = source.image("layer")
    parts = {"manifest": found.descriptor, "config": found.manifest.config, "layer": found.manifest.layers[0]}
    files, name = blobs_of(source, found), f"blobs/sha256/{parts[which].digest[7:]}"
    data = files.pop(name)
    changed = {"changed": b"X" + data[1:], "longer": data + b"x", "shorter": data[:-1]}
    files |= {name: changed[how]} if how != "missing" else {}
    with pytest.raises(ImageError):
        load(write(tmp_path / "x", {**index(entry(found)), **files}), target)
    assert target.store.tags() == {}


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"other": b"x"},
        {"index.json": b"[]"},
        {"index.json": b'{"manifests":[]}'},
        {"index.json": b'{"manifests":[{"digest":"sha256:../../../x","size":3}]}'},
        {"index.json": b'{"manifests":[{"digest":"sha256:' + b"1" * 64 + b'","size":99999999999}]}'},
        {"index.json": b"[" * 100_000},
        {"manifest.json": b"{}"},
        {"manifest.json": b"[3]"},
    ],
)
def test_what_is_no_image(target: Maker, tmp_path: Path, files: dict[str, bytes]) -> None:
    with pytest.raises(OrcaError):
        load(write(tmp_path / "x", files), target)
    assert target.store.tags() == {}


def test_links_and_devices_in_an_archive_are_nothing(source: Maker, target: Maker, tmp_path: Path) -> None:
    found = source.image("a")
    path = write(tmp_path / "x", index(entry(found)))
    with tarfile.open(path, "a") as tar:
        for name in blobs_of(source, found):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(member)
    with pytest.raises(ImageError, match="missing in the archive"):
        load(path, target)


def test_links_and_fifos_in_a_layout(source: Maker, target: Maker) -> None:
    found = source.image("a", tags=["localhost/app:latest"])
    path = source.store.images.blob_path(found.manifest.layers[0].digest)
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(ImageError, match="missing in"):
        load(source.store.images.path, target)
    path.unlink()
    import os

    os.mkfifo(path)
    with pytest.raises(ImageError, match="not a regular file"):
        load(source.store.images.path, target)


def test_a_bomb(target: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCA_MAX_UNPACK", "1M")
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(bytes(5 << 20)))
    with pytest.raises(ImageError, match="unpacks to more"):
        load(path, target)
    path.write_bytes(b"no archive at all" * 100)
    with pytest.raises(ImageError, match="no archive"):
        load(path, target)
    assert image.digest_of(b"")
