"""Two images compared: config, history, layers."""

from __future__ import annotations

import gzip
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from orca.errors import ImageError
from orca.executor.compare import Difference, compare, read_layer
from orca.oci import image
from orca.oci.image import Descriptor, History, ImageConfig, Manifest
from orca.store.layout import Image, Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout").create()


def archive(*members: tuple[str, bytes], mtime: int = 5, level: int = 6, **fields: object) -> tuple[bytes, str]:
    """A layer's blob and its diff id."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), mtime
            for field, value in fields.items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(data))
    plain = buffer.getvalue()
    return gzip.compress(plain, level, mtime=0), image.digest_of(plain)


def made(layout: Layout, *layers: tuple[bytes, str], config: ImageConfig | None = None) -> Image:
    blobs = tuple(layout.put(data, f"{image.LAYER}+gzip") for data, _ in layers)
    written = replace(config or ImageConfig(architecture="amd64"), diff_ids=tuple(diff_id for _, diff_id in layers))
    return layout.put_image(Manifest(Descriptor("", "sha256:" + "0" * 64, 0), blobs), written)


def told(found: list[Difference]) -> list[tuple[str, str, str, list[str]]]:
    return [(each.place, each.what, each.kind, sorted(each.fields)) for each in found]


def test_the_same(layout: Layout) -> None:
    one = made(layout, archive(("a", b"1")))
    assert compare(one, layout, one, layout) == []


def test_config_and_history(layout: Layout) -> None:
    base = ImageConfig(architecture="amd64", env=(("A", "1"), ("B", "2")), labels=(("l", "1"),), created="x", user="u")
    first = made(layout, config=replace(base, history=(History("t", "RUN a"), History("t", "RUN b"))))
    other = replace(base, env=(("A", "2"), ("C", "3")), cmd=("sh",), created="y", history=(History("u", "RUN a"),))
    found = compare(first, layout, made(layout, config=other), layout)
    assert told(found) == [
        ("config", "Cmd=['sh']", "added", []),
        ("config", "Env.A", "changed", ["Env.A"]),
        ("config", "Env.B=2", "missing", []),
        ("config", "Env.C=3", "added", []),
        ("config", "created", "changed", ["created"]),
        ("history 1", "RUN a", "changed", ["created"]),
        ("history 2", "RUN b", "missing", []),
    ]
    assert dict(found[1].fields) == {"Env.A": ("1", "2")}
    rest = [each.timeless() for each in found]
    assert [each is None for each in rest] == [False, False, False, False, True, True, False]


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"mode": 0o600}, ["mode"]),
        ({"uid": 7}, ["owner"]),
        ({"mtime": 6}, ["mtime"]),
        ({"type": tarfile.SYMTYPE, "linkname": "x", "size": 0}, ["content", "kind", "size"]),
        ({"pax_headers": {"SCHILY.xattr.user.x": "y"}}, ["xattrs"]),
    ],
)
def test_what_of_a_path(layout: Layout, change: dict[str, object], fields: list[str]) -> None:
    first = made(layout, archive(("./a", b"1"), ("b", b"2")))
    rebuilt = made(layout, archive(("a", b"1"), ("b", b"2"), **change))
    found = told(compare(first, layout, rebuilt, layout))
    assert found == [("layer 1", "/a", "changed", fields), ("layer 1", "/b", "changed", fields)]


def test_paths_and_layers_that_only_one_has(layout: Layout) -> None:
    first = made(layout, archive(("a", b"1"), ("b", b"1")), archive(("x", b"")))
    rebuilt = made(layout, archive(("b", b"22"), ("c", b"1")))
    assert told(compare(first, layout, rebuilt, layout)) == [
        ("layer 1", "/a", "missing", []),
        ("layer 1", "/b", "changed", ["content", "size"]),
        ("layer 1", "/c", "added", []),
        ("layer 2", first.manifest.layers[1].digest, "missing", []),
    ]
    assert told(compare(rebuilt, layout, first, layout))[-1][2] == "added"


def test_same_files_other_bytes(layout: Layout) -> None:
    one, two = ("a", b"1" * 5000), ("b", b"2")
    first = made(layout, archive(one, two))
    for other, what in (
        (archive(one, two, level=1), "the same archive, compressed differently"),
        (archive(two, one), "the same files in another order"),
        (archive(one, two, uname="root"), "the same files, archived differently"),
    ):
        assert [each.what for each in compare(first, layout, made(layout, other), layout)] == [what]


def test_manifests_that_say_the_same(layout: Layout) -> None:
    first = made(layout, archive(("a", b"1")))
    noted = layout.put_image(replace(first.manifest, annotations={"k": "v"}), first.config)
    assert told(compare(first, layout, noted, layout)) == [("annotations", "k=v", "added", [])]
    text = layout.read(first.descriptor, "it") + b"\n"
    other = replace(first, descriptor=layout.put(text, image.MANIFEST))
    assert compare(first, layout, other, layout)[0].place == "manifest"


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (b"\x1f\x8bgarbage", "+gzip", "cannot be read"),
        (b"no tar at all", "", "cannot be read"),
        (gzip.compress(bytes(3 << 20)), "+gzip", "unpacks to more than"),
        (b"x", "+zstd", "zstd, which cannot be looked into"),
    ],
)
def test_layers_that_are_none(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, data: bytes, kind: str, message: str
) -> None:
    if "more than" in message:
        data = gzip.compress(gzip.decompress(archive(("a", bytes(3 << 20)))[0]))
    monkeypatch.setenv("ORCA_MAX_UNPACK", "1M")
    with pytest.raises(ImageError, match=message):
        read_layer(layout.put(data, image.LAYER + kind), layout)
