"""Cached steps as images: what is written, and what is read back of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.fake_tools import FakeTools
from support.stores import Maker

from orca.errors import ImageError, OrcaError, StoreError
from orca.oci import platform
from orca.sources.access import Access
from orca.sources.places import Place
from orca.sources.shared import STEP, entry_of, keys_among, open_shelf, parse_entry
from orca.store.store import StepRecord
from orca.tools.command import Runner

KEY = "a" * 64


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker.at(tmp_path / "store")


@pytest.fixture
def record(maker: Maker) -> StepRecord:
    return maker.step("RUN x", maker.image("one", "two"))


def test_there_and_back(maker: Maker, record: StepRecord) -> None:
    data = entry_of(record, maker.store)
    found = parse_entry(record.key, data)
    assert found.found == maker.store.images.image(record.manifest)
    assert found.found.descriptor == record.manifest, "byte by byte"
    value = json.loads(data)
    assert [layer["digest"] for layer in value["layers"]] == [x.digest for x in found.found.manifest.layers]
    assert json.loads(value["annotations"][STEP])["text"] == "RUN x"
    assert entry_of(record, maker.store) == data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.pop("annotations"), "not a cached step"),
        (lambda v: v["annotations"].pop("orca.cache.config"), "not a cached step"),
        (lambda v: v["annotations"].update({STEP: "{}"}), "another step's, or of another version"),
        (lambda v: v["annotations"].update({STEP: "no"}), "is not JSON"),
        (lambda v: v["layers"].pop(), "do not belong together"),
        (lambda v: v["layers"][0].update(size=1), "do not belong together"),
        (lambda v: v["layers"][0].update(urls=["http://x"]), "is to come from elsewhere"),
        (lambda v: v["config"].update(digest="sha256:" + "0" * 64), "do not belong together"),
        (lambda v: v["annotations"].update({"orca.cache.config": "{}"}), "rootfs"),
        (lambda v: v.update(layers=None), "not an OCI image manifest"),
    ],
)
def test_what_cannot_be_right(
    maker: Maker, record: StepRecord, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    value = json.loads(entry_of(record, maker.store))
    change(value)
    with pytest.raises(ImageError, match=message):
        parse_entry(record.key, json.dumps(value).encode())


def test_another_key(maker: Maker, record: StepRecord) -> None:
    with pytest.raises(ImageError, match="another step's"):
        parse_entry(KEY, entry_of(record, maker.store))


def test_too_large_for_a_registry(maker: Maker, record: StepRecord) -> None:
    large = StepRecord(**{**vars(record), "ingredients": {"contents": "x" * (4 << 20)}})
    with pytest.raises(ImageError, match="too large for a shared cache"):
        entry_of(large, maker.store)


def test_keys_of_a_place() -> None:
    place = Place("r.example/c", prefix="a.b")
    assert place.tag(KEY) == f"a.b-{KEY}"
    assert str(place) == "r.example/c:a.b"
    assert keys_among(place, [f"a.b-{KEY}", f"axb-{'b' * 64}", f"orca-{KEY}", "a.b-x", f"a.b-{KEY}x"]) == {KEY}


def test_a_directory(maker: Maker, record: StepRecord, tmp_path: Path) -> None:
    place = Place(str(tmp_path / "cache"), local=True)
    shelf = open_shelf(place, maker.store, Runner(), tmp_path, Access())
    with pytest.raises(StoreError, match="there is no cache"):
        shelf.keys()
    shelf.send([(record.key, entry_of(record, maker.store))])
    assert shelf.keys() == {record.key}
    other = Maker.at(tmp_path / "other")
    fetching = open_shelf(place, other.store, Runner(), tmp_path, Access())
    assert fetching.keys() == {record.key}
    entry = parse_entry(record.key, fetching.entry(record.key))
    fetching.fetch(entry, platform.host())
    assert all(other.store.images.has(layer) for layer in entry.found.manifest.layers)


def test_a_registry_is_asked_with_credentials(
    maker: Maker, fake_tools: FakeTools, tmp_path: Path, record: StepRecord
) -> None:
    fake_tools.answer("skopeo", "list-tags", stdout=json.dumps({"Tags": [f"orca-{KEY}", "latest"]}))
    fake_tools.answer("skopeo", "inspect", stdout="{}")
    access = Access(creds="u:secret", creds_for=frozenset({"r.example"}), tls_verify=False)
    shelf = open_shelf(Place("r.example/c"), maker.store, Runner(), tmp_path, access)
    assert shelf.keys() == {KEY}
    assert shelf.entry(KEY) == b"{}"
    words = [word for call in fake_tools.calls for word in call]
    assert "docker://r.example/c" in words
    assert f"docker://r.example/c:orca-{KEY}" in words
    assert "--tls-verify=false" in words
    assert any(word.startswith("--authfile=") for word in words)
    assert not any("secret" in word for word in words)


def test_a_registry_that_answers_nonsense(maker: Maker, fake_tools: FakeTools, tmp_path: Path) -> None:
    shelf = open_shelf(Place("r.example/c"), maker.store, Runner(), tmp_path, Access())
    fake_tools.answer("skopeo", "list-tags", stdout="[" * 50_000)
    with pytest.raises(OrcaError, match="not JSON"):
        shelf.keys()
