"""OSTree storage without ostree: what is listed, what nothing needs, what it weighs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.stores import Maker

from orca.cli import images, pull
from orca.errors import ImageError, StoreError, ToolMissing
from orca.oci.image import Descriptor
from orca.store import ostree as kept
from orca.store.layout import Image
from orca.store.ostree import OstreeStore
from orca.store.store import base_snapshot
from orca.tools import ostree

NAME = "localhost/app:latest"


@pytest.fixture
def store(tmp_path: Path) -> OstreeStore:
    return OstreeStore.open(tmp_path / "store")


def branch(store: OstreeStore, name: str) -> None:
    path = store.repo / "refs/heads" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("commit")


def add(store: OstreeStore, *layers: str, name: str = NAME) -> Image:
    """An image as an import leaves it."""
    found = Maker(store).image(*layers, tags=[name])
    for layer, diff_id in zip(found.manifest.layers, found.config.diff_ids, strict=True):
        branch(store, ostree.layer_branch(diff_id))
        store.remember(layer, diff_id)
        store.branches.blob_path(layer.digest).unlink()
    branch(store, ostree.image_branch(name))
    store.snapshot(base_snapshot(found.config.diff_ids)).mkdir(parents=True)
    return found


def test_nobody_else_gets_in(store: OstreeStore) -> None:
    store.place.chmod(0o755)
    assert OstreeStore.open(store.root).place.stat().st_mode & 0o777 == 0o700
    store.place.chmod(0o777)
    with pytest.raises(StoreError, match="can be written by others"):
        OstreeStore.open(store.root)


def test_the_storages_do_not_see_each_other(store: OstreeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    Maker.at(store.root).image("other", tags=["localhost/other:latest"])
    add(store, "a")
    assert list(store.tags()) == [NAME]
    assert list(Maker.at(store.root).store.tags()) == ["localhost/other:latest"]
    assert not list(store.steps())
    assert store.snapshot("b123").is_relative_to(store.place)


def test_an_image_is_whole_as_long_as_its_layers_are_branches(
    store: OstreeStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ORCA_ROOT", str(store.root))
    found = add(store, "a", "b")
    store.branches.verify(found)
    assert images.run(["--storage=ostree"]) == 0
    assert "damaged" not in capsys.readouterr().out
    (store.repo / "refs/heads" / ostree.layer_branch(found.config.diff_ids[1])).unlink()
    with pytest.raises(ImageError, match="is not in the OSTree repository"):
        store.branches.verify(found)
    assert images.run(["--storage=ostree"]) == 0
    assert "damaged" in capsys.readouterr().out


def test_layers_that_were_imported(store: OstreeStore) -> None:
    found = add(store, "a")
    (layer,), (diff_id,) = found.manifest.layers, found.config.diff_ids
    assert store.imported() == {layer.digest: (diff_id, layer.size)}
    assert store.imported_as(layer.digest) == diff_id
    for junk in ("x", f"{'a' * 64}"):
        (store.place / "layers" / junk).write_text('{"diffId": 1}')
    assert store.imported() == {layer.digest: (diff_id, layer.size)}
    assert store.imported_as(f"sha256:{'a' * 64}") is None
    (store.repo / "refs/heads" / ostree.layer_branch(diff_id)).unlink()
    assert store.imported() == {}
    assert store.imported_as(layer.digest) is None


def test_garbage(store: OstreeStore) -> None:
    one, two = add(store, "shared", "one", name="localhost/one:latest"), add(store, "shared", "two")
    assert kept.find_garbage(store) == kept.Garbage((), ())
    store.untag("localhost/one:latest")
    found = kept.find_garbage(store)
    gone = one.config.diff_ids[1]
    assert set(found.branches) == {ostree.layer_branch(gone), ostree.image_branch("localhost/one:latest")}
    assert {path.relative_to(store.place).parts[-1] for path in found.paths} == {
        one.manifest.layers[1].digest[7:], one.descriptor.digest[7:], one.manifest.config.digest[7:],
        base_snapshot(one.config.diff_ids),
    }  # fmt: skip
    assert ostree.layer_branch(two.config.diff_ids[0]) not in found.branches


def test_nothing_is_garbage_while_an_image_cannot_be_read(store: OstreeStore) -> None:
    store.tag((NAME,), Descriptor("x", f"sha256:{'a' * 64}", 3))
    with pytest.raises(StoreError, match=f"{NAME} cannot be read") as caught:
        kept.find_garbage(store)
    assert "nothing was deleted" in str(caught.value.hint)


def test_usage_counts_each_file_once(store: OstreeStore) -> None:
    found = add(store, "a")
    data = store.repo / "object"
    data.write_bytes(os.urandom(100_000))
    os.link(data, store.snapshot(base_snapshot(found.config.diff_ids)) / "file")
    add(store, "a", "b", name="localhost/b:latest")
    before = kept.usage(store)
    assert (before.images, before.layers, before.checkouts) == (2, 2, 2)
    assert before.separate > 100_000
    (other,) = (path for path in (store.place / "checkouts").glob("*/fs") if not any(path.iterdir()))
    os.link(data, other / "file")
    after = kept.usage(store)
    assert after.separate - before.separate >= 100_000
    assert after.bytes == before.bytes


def test_without_ostree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCA_ROOT", str(tmp_path / "store"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="ostree is not installed") as caught:
        pull.run(["--storage=ostree", "busybox"])
    assert "ostree" in str(caught.value.hint) or "orca doctor" in str(caught.value.hint)
    assert not (tmp_path / "store").exists()
