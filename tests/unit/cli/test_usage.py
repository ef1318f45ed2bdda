"""orca du: what the store takes, and that prune frees what du says."""

from __future__ import annotations

import json

import pytest
from support.stores import Maker

from orca.cli import du
from orca.store import chains, gc, usage
from orca.store.store import base_snapshot

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def full(maker: Maker) -> Maker:
    """Two images that share a layer, a cached step, a nameless image, snapshots, a cache mount, a record."""
    one = maker.image("shared" * 100, "one" * 50, tags=["localhost/one:1", "localhost/also:1"])
    maker.image("shared" * 100, "two" * 20, tags=["localhost/two:1"])
    maker.step("RUN x", maker.image("cached" * 40), ["aaaa1111"])
    nameless = maker.image("nameless" * 30)
    chains.write(maker.store.root, nameless.descriptor.digest, [])
    maker.snapshot(base_snapshot(one.config.diff_ids), "base" * 100)
    maker.snapshot("aaaa1111", "upper" * 10)
    maker.snapshot("bbbb2222", "gone" * 10)
    place = maker.store.root / "cache/mount-x"
    (place / "fs").mkdir(parents=True)
    (place / "id").write_text("/root/\x1bcache")
    (place / "fs/file").write_text("c" * 77)
    (maker.store.root / "builds/b1").mkdir()
    (maker.store.root / "builds/b1/events.jsonl").write_text("{}")
    return maker


def test_every_file_counts_once(full: Maker) -> None:
    found = usage.of(full.store)
    sizes = {use.kind: use.size for use in found.kinds}
    others = sum(path.stat().st_size for path in (full.store.root / "images").glob("*") if path.is_file())
    assert sum(sizes.values()) + others == gc.size(full.store.root) - gc.size(full.store.root / "locks")
    assert sizes["cache mounts"] >= 77
    assert sizes["snapshots"] == 400 + 50 + 40


@pytest.mark.parametrize("everything", [False, True])
def test_prune_frees_what_du_says(full: Maker, everything: bool) -> None:
    found = usage.of(full.store)
    told = sum(use.prune_all if everything else use.prune for use in found.kinds)
    before = gc.size(full.store.root)
    gc.delete(full.store, gc.find(full.store, everything=everything))
    assert told == before - gc.size(full.store.root) > 0
    after = usage.of(full.store)
    assert sum(use.prune_all if everything else use.prune for use in after.kinds) == 0
    left = {use.kind: use.size for use in after.kinds}
    assert left["images"] == {use.kind: use.size for use in found.kinds}["images"]


def test_shared_and_unique_bytes(full: Maker) -> None:
    one, two = sorted(usage.of(full.store).images, key=lambda each: each.names)
    assert (one.names, two.names) == (("localhost/also:1", "localhost/one:1"), ("localhost/two:1",))
    assert one.size - one.unique == two.size - two.unique == 600
    assert one.unique > 150 and (one.snapshot, two.snapshot) == (400, 0)


@pytest.mark.root
def test_the_tables(full: Maker, capsys: Capture) -> None:
    du.run([])
    text = capsys.readouterr().out
    assert text.splitlines()[0].split("  ")[0] == "KIND" and "total" in text and "IMAGE" not in text
    du.run(["-v"])
    text = capsys.readouterr().out
    assert "localhost/also:1, localhost/one:1" in text and "/root/\\x1bcache" in text
    du.run(["--json"])
    value = json.loads(capsys.readouterr().out)
    assert value["total"]["size"] == sum(row["size"] for row in value["kinds"])
    assert value["cacheMounts"][0]["id"] == "/root/\x1bcache"
    assert value["images"][0]["shared"] == 600


@pytest.mark.root
def test_an_empty_store(maker: Maker, capsys: Capture) -> None:
    assert du.run(["-v"]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("KIND")
