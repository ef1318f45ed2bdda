"""What prune deletes: all that nothing needs, and never anything else."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.stores import Maker

from orca.errors import StoreError
from orca.oci import image
from orca.store import gc
from orca.store.layout import Image
from orca.store.store import base_snapshot


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker.at(tmp_path / "store")


def blobs_of(found: Image) -> set[str]:
    """The digests that an image consists of, told from its values alone."""
    return {found.descriptor.digest, found.manifest.config.digest, *(layer.digest for layer in found.manifest.layers)}


def there(maker: Maker) -> set[str]:
    return {f"sha256:{name}" for name in os.listdir(maker.store.images.blobs)}


def prune(maker: Maker, *, everything: bool = False) -> gc.Garbage:
    garbage = gc.find(maker.store, everything=everything)
    gc.delete(maker.store, garbage)
    return garbage


layers = st.lists(st.sampled_from("abcdef"), max_size=4)


@st.composite
def stores(draw: st.DrawFn) -> dict[str, list]:
    """What is put into a store, as data."""
    images = draw(st.lists(layers, min_size=1, max_size=6))
    number = st.integers(0, len(images) - 1)
    return {
        "images": images,
        "tags": draw(st.lists(number, max_size=4)),
        "indexes": draw(st.lists(st.lists(number, min_size=1, max_size=3), max_size=2)),
        "steps": draw(st.lists(st.tuples(number, st.lists(st.sampled_from("stuv"), max_size=3)), max_size=5)),
        "snapshots": draw(st.lists(st.sampled_from("stuvw"), unique=True)),
        "untag": draw(st.lists(st.integers(0, 5), max_size=3)),
        "lost": draw(st.lists(st.sampled_from("abcdef"), max_size=2, unique=True)),
    }


@settings(max_examples=60, deadline=None)
@given(stores(), st.booleans())
def test_exactly_what_nothing_needs_is_deleted(what: dict[str, list], everything: bool) -> None:
    top = Path(tempfile.mkdtemp(prefix="orca-gc-"))
    try:
        maker = Maker.at(top / "store")
        images = [maker.image(*texts) for texts in what["images"]]
        roots: dict[str, set[str]] = {}
        for number, chosen in enumerate(what["tags"]):
            maker.store.tag((f"localhost/t{number}:latest",), images[chosen].descriptor)
            roots[f"localhost/t{number}:latest"] = blobs_of(images[chosen])
        for number, several in enumerate(what["indexes"]):
            index = maker.index([images[n] for n in several], [f"localhost/i{number}:latest"])
            below = [blobs_of(images[n]) for n in several]
            roots[f"localhost/i{number}:latest"] = {index.digest}.union(*below)
        for name in what["snapshots"]:
            maker.snapshot(name * 8)
        steps = [
            maker.step(f"step {n}", images[chosen], [letter * 8 for letter in stack])
            for n, (chosen, stack) in enumerate(what["steps"])
        ]
        for number in what["untag"]:
            maker.store.untag(f"localhost/t{number}:latest")
            roots.pop(f"localhost/t{number}:latest", None)
        lost = {image.digest_of(text.encode()) for text in what["lost"]}
        for digest in lost:
            maker.store.images.blob_path(digest).unlink(missing_ok=True)
        _check(maker, images, what, roots, steps, lost, everything=everything)
    finally:
        shutil.rmtree(top)


def _check(maker, images, what, roots, steps, lost, *, everything: bool) -> None:  # type: ignore[no-untyped-def]
    needed = set().union(*roots.values()) if roots else set()
    usable = []
    for record, (chosen, _) in zip(steps, what["steps"], strict=True):
        if not everything and not blobs_of(images[chosen]) & lost:
            usable.append(record)
            needed |= blobs_of(images[chosen])
    names = {letter * 8 for letter in what["snapshots"]}
    kept = {name for record in usable if set(record.snapshots) <= names for name in record.snapshots}
    before = there(maker)
    garbage = prune(maker, everything=everything)
    assert there(maker) == before & needed
    assert set(os.listdir(maker.store.root / "snapshots")) == kept
    assert {record.key for record in maker.store.steps()} == {record.key for record in usable}
    assert len(list((maker.store.root / "steps").glob("*/*"))) == len(usable)
    assert garbage.steps_kept == len(usable)
    assert prune(maker, everything=everything).items == ()


def test_the_bytes_are_those_of_what_went(maker: Maker) -> None:
    maker.image("one", tags=["localhost/kept:latest"])
    gone = maker.image("two and more")
    garbage = gc.find(maker.store)
    assert sum(item.size for item in garbage.items) == sum(
        maker.store.images.blob_path(digest).stat().st_size for digest in blobs_of(gone)
    )


@pytest.mark.parametrize("text", ["", "{", "[]", '{"manifests": 7}'])
def test_nothing_is_deleted_when_the_index_is_damaged(maker: Maker, text: str) -> None:
    maker.image("one", tags=["localhost/app:latest"])
    (maker.store.images.path / "index.json").write_text(text)
    with pytest.raises(StoreError, match="damaged"):
        gc.find(maker.store)


def test_an_image_without_a_name_in_the_index_is_kept(maker: Maker) -> None:
    found = maker.image("one")
    index = {"schemaVersion": 2, "manifests": [found.descriptor.to_json()]}
    (maker.store.images.path / "index.json").write_text(json.dumps(index))
    assert gc.find(maker.store).items == ()


def test_layers_of_an_unknown_kind_are_kept(maker: Maker) -> None:
    """An attestation in an index: its manifest is not an image's."""
    statement = maker.store.images.put(b"{}", "application/vnd.in-toto+json")
    config = maker.store.images.put(b'{"a": 1}', image.CONFIG)
    value = {"schemaVersion": 2, "config": config.to_json(), "layers": [statement.to_json()]}
    manifest = maker.store.images.put(image.canonical(value), image.MANIFEST)
    maker.store.tag(("localhost/odd:latest",), manifest)
    assert gc.find(maker.store).items == ()


def test_a_damaged_manifest_is_told(maker: Maker) -> None:
    found = maker.image("one", tags=["localhost/app:latest"])
    maker.store.images.blob_path(found.descriptor.digest).write_text("rubbish")
    garbage = gc.find(maker.store)
    assert garbage.damaged == (found.descriptor.digest,)
    assert found.descriptor.digest not in {f"sha256:{item.path.name}" for item in garbage.items}


def test_the_unpacked_base_of_an_image_with_a_name_stays(maker: Maker) -> None:
    found = maker.image("one", tags=["localhost/base:latest"])
    name = base_snapshot(found.config.diff_ids)
    maker.snapshot(name)
    assert gc.find(maker.store).items == ()
    maker.store.untag("localhost/base:latest")
    assert maker.store.root / "snapshots" / name in {item.path for item in gc.find(maker.store).items}


def test_a_stack_with_a_part_missing_keeps_nothing(maker: Maker) -> None:
    maker.step("RUN x", maker.image("one"), ["a" * 8, "b" * 8])
    maker.snapshot("a" * 8)
    assert [item.path.name for item in gc.find(maker.store).items] == ["a" * 8]
    maker.snapshot("b" * 8)
    assert gc.find(maker.store).items == ()


def test_all_takes_caches_and_records_too_and_leaves_the_images(maker: Maker) -> None:
    found = maker.image("one", tags=["localhost/app:latest"])
    maker.step("RUN x", found, ["a" * 8])
    maker.snapshot("a" * 8)
    (maker.store.root / "cache/stat-0.json").write_text("{}")
    (maker.store.root / "cache/downloads").mkdir()
    (maker.store.root / "cache/downloads/0.blob").write_text("x")
    (maker.store.root / "builds/b1").mkdir()
    (maker.store.root / "builds/b1/events.jsonl").write_text("{}\n")
    assert gc.find(maker.store).items == ()
    assert {item.kind for item in prune(maker, everything=True).items} == {
        "snapshots",
        "steps",
        "stat-caches",
        "downloads",
        "builds",
    }
    assert there(maker) == blobs_of(found)
    assert os.listdir(maker.store.root / "work") == []


def test_a_scratch_directory_of_a_killed_process_goes(maker: Maker) -> None:
    (maker.store.root / "work/dead").mkdir()
    (maker.store.root / "work/dead/file").write_text("12345")
    garbage = prune(maker)
    assert [(item.kind, item.size) for item in garbage.items] == [("scratch", 5)]
    assert not (maker.store.root / "work/dead").exists()


def test_being_killed_while_snapshots_go_leaves_no_half_of_one(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    place = maker.snapshot("a" * 8)

    def die(path: Path) -> None:
        raise KeyboardInterrupt

    garbage = gc.find(maker.store)
    monkeypatch.setattr("orca.store.files.remove_tree", die)
    with pytest.raises(KeyboardInterrupt):
        gc.delete(maker.store, garbage)
    assert not place.exists()
