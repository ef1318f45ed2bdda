"""Names, short digests, the step cache, scratch directories."""

from __future__ import annotations

import json
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.stores import Maker

from orca.errors import StoreError, UsageError
from orca.oci import image
from orca.oci.image import Descriptor
from orca.oci.platform import Platform
from orca.store import store as stores
from orca.store.store import DIRECTORIES, StepRecord, Store


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker.at(tmp_path / "store")


def descriptor(number: int) -> Descriptor:
    return Descriptor(image.MANIFEST, f"sha256:{number:064x}", 1)


# -- opening


def test_opening_makes_what_is_missing(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "a" / "store")
    assert sorted(os.listdir(store.root)) == sorted(DIRECTORIES)
    assert store.tags() == {}
    assert Store.open(store.root).root == store.root


def test_a_store_that_others_can_write_is_refused(maker: Maker) -> None:
    maker.store.root.chmod(0o777)
    with pytest.raises(StoreError, match="can be written by others"):
        Store.open(maker.store.root)


@pytest.mark.parametrize(
    ("environment", "uid", "expected"),
    [
        ({"ORCA_ROOT": "/x/y"}, 0, "/x/y"),
        ({"ORCA_ROOT": "/x/y", "XDG_DATA_HOME": "/d"}, 1000, "/x/y"),
        ({}, 0, "/var/lib/orca"),
        ({"XDG_DATA_HOME": "/d"}, 0, "/var/lib/orca"),
        ({"XDG_DATA_HOME": "/d", "HOME": "/h"}, 1000, "/d/orca"),
        ({"HOME": "/h"}, 1000, "/h/.local/share/orca"),
        ({"HOME": "/h", "XDG_DATA_HOME": "", "ORCA_ROOT": ""}, 1000, "/h/.local/share/orca"),
    ],
)
def test_default_root(environment: dict[str, str], uid: int, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ORCA_ROOT", "XDG_DATA_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert str(stores.default_root()) == expected


def test_a_relative_root_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORCA_ROOT", "here")
    assert stores.default_root() == tmp_path / "here"


# -- names

TAGS = {
    "localhost/app:latest": 0xAAAAAA << 232,
    "localhost/app:1": 0xAAAABB << 232,
    "localhost/cafe12:latest": 3,
    "docker.io/library/debian:12": 4,
    "quay.example/team/tool:latest": 5,
    "debian:12": 6,
}


@pytest.fixture
def tagged(maker: Maker) -> Store:
    maker.store.edit_tags(lambda tags: tags.update({name: descriptor(number) for name, number in TAGS.items()}))
    return maker.store


@pytest.mark.parametrize(
    ("text", "name", "number"),
    [
        ("app", "localhost/app:latest", TAGS["localhost/app:latest"]),
        ("app:latest", "localhost/app:latest", TAGS["localhost/app:latest"]),
        ("app:1", "localhost/app:1", TAGS["localhost/app:1"]),
        ("localhost/app", "localhost/app:latest", TAGS["localhost/app:latest"]),
        ("quay.example/team/tool", "quay.example/team/tool:latest", 5),
        ("debian:12", "debian:12", 6),
        ("cafe12", "localhost/cafe12:latest", 3),  # looks like a digest, and none begins so
        ("aaaaaa", None, TAGS["localhost/app:latest"]),
        ("aaaabb", None, TAGS["localhost/app:1"]),
        ("sha256:aaaabb", None, TAGS["localhost/app:1"]),
        (f"{4:064x}", None, 4),
        (f"sha256:{5:064x}", None, 5),
    ],
)
def test_lookup(text: str, name: str | None, number: int, tagged: Store) -> None:
    found = tagged.lookup(text)
    assert found is not None
    assert (found[0], found[1].digest) == (name, descriptor(number).digest)


@pytest.mark.parametrize("text", ["tool", "app:2", "debian", "sha256:bbbbbb", "bbbbbb", f"sha256:{99:064x}", "aaaa"])
def test_lookup_of_what_is_not_there(text: str, tagged: Store) -> None:
    assert tagged.lookup(text) is None


def test_a_short_digest_that_fits_several(tagged: Store) -> None:
    with pytest.raises(StoreError, match="the beginning of 4 digests"):
        tagged.lookup("000000")


@pytest.mark.parametrize("text", ["", "App", "a b", "sha256:xyz!"])
def test_lookup_of_no_name(text: str, tagged: Store) -> None:
    with pytest.raises(UsageError):
        tagged.lookup(text)


def test_two_names_of_one_image_are_no_ambiguity(maker: Maker) -> None:
    found = maker.image("x", tags=["localhost/a:latest", "localhost/b:latest"])
    looked_up = maker.store.lookup(found.descriptor.digest[7:15])
    assert looked_up is not None and looked_up[1].plain() == found.descriptor


def test_a_manifest_without_a_name_is_found_by_its_whole_digest(maker: Maker) -> None:
    found = maker.image("x")
    assert maker.store.find(found.descriptor.digest) == (None, found)


def test_find_offers_near_names(maker: Maker) -> None:
    maker.image("x", tags=["localhost/webserver:latest"])
    with pytest.raises(StoreError, match="no image 'webservr' in the store") as caught:
        maker.store.find("webservr")
    assert caught.value.hint == "did you mean webserver?"
    with pytest.raises(StoreError) as caught:
        maker.store.find("nothing-like-it")
    assert caught.value.hint == "orca images lists what is there; orca pull gets more"


def test_find_chooses_a_platform(maker: Maker) -> None:
    amd, arm = maker.image("amd"), maker.image("arm")
    maker.index([amd, arm], tags=["localhost/multi:latest"])
    assert maker.store.find("multi", Platform("linux", "arm64")) == ("localhost/multi:latest", arm)


def test_tag_moves_names_and_untag_forgets_them(maker: Maker) -> None:
    one, two = maker.image("1"), maker.image("2")
    maker.store.tag(("a:1", "b:1"), one.descriptor)
    maker.store.tag(("b:1",), replace(two.descriptor, annotations={"x": "y"}))
    assert {name: found.digest for name, found in maker.store.tags().items()} == {
        "a:1": one.descriptor.digest,
        "b:1": two.descriptor.digest,
    }
    maker.store.untag("a:1")
    maker.store.untag("never:there")
    assert list(maker.store.tags()) == ["b:1"]


def test_a_tag_that_is_there_already_writes_nothing(maker: Maker) -> None:
    found = maker.image("1", tags=["a:1"])
    before = (maker.store.images.path / "index.json").stat().st_ino
    maker.store.tag(("a:1",), found.descriptor)
    assert (maker.store.images.path / "index.json").stat().st_ino == before


def _tag_many(root: Path, worker: int) -> None:
    store = Store(root)
    for number in range(12):
        store.tag((f"localhost/w{worker}:{number}",), descriptor(worker * 100 + number))
    store.untag(f"localhost/w{worker}:0")


def test_processes_that_tag_at_once_lose_nothing(maker: Maker) -> None:
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=_tag_many, args=(maker.store.root, worker)) for worker in range(5)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        json.loads((maker.store.images.path / "index.json").read_bytes())  # a reader sees a whole file, always
    assert [worker.exitcode for worker in workers] == [0] * 5
    expected = {f"localhost/w{worker}:{number}" for worker in range(5) for number in range(1, 12)}
    assert set(maker.store.tags()) == expected


# -- steps


def test_a_step_comes_back(maker: Maker) -> None:
    found = maker.image("x")
    record = StepRecord(
        "ab" * 32, "RUN x", found.descriptor, ("s1234", "b1234"), {"args": [["A", None]]}, {"run": ["\udcff"]},
        found.manifest.layers[0], "now",
    )  # fmt: skip
    maker.store.put_step(record)
    assert maker.store.step("ab" * 32) == record
    assert list(maker.store.steps()) == [record]
    maker.store.put_step(replace(record, text="RUN y"))
    assert [each.text for each in maker.store.steps()] == ["RUN y"]


@pytest.mark.parametrize(
    "change",
    [
        {"key": "cd" * 32}, {"manifest": None}, {"manifest": {"digest": "x", "size": 1}}, {"snapshots": 7},
        {"layer": "x"}, {"more": 1},
        {"manifest": {"digest": "sha256:" + "0" * 64, "size": 1}},
    ],
)  # fmt: skip
def test_a_damaged_record_is_none(change: dict[str, Any], maker: Maker) -> None:
    record = maker.step("x", maker.image("one"))
    path = maker.store.root / "steps" / record.key[:2] / record.key
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert maker.store.step(record.key) is None
    assert list(maker.store.steps()) == []


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "{}"])
def test_a_record_that_is_no_object_is_none(text: str, maker: Maker) -> None:
    record = maker.step("x", maker.image("one"))
    (maker.store.root / "steps" / record.key[:2] / record.key).write_text(text)
    assert maker.store.step(record.key) is None


@pytest.mark.parametrize("which", ["manifest", "config", "layer"])
def test_a_record_whose_blobs_are_gone_is_none(which: str, maker: Maker) -> None:
    found = maker.image("one")
    record = maker.step("x", found)
    parts = {"manifest": found.descriptor, "config": found.manifest.config, "layer": found.manifest.layers[0]}
    maker.store.images.blob_path(parts[which].digest).unlink()
    assert maker.store.step(record.key) is None


@pytest.mark.parametrize("key", ["", "ab", "../../../etc/passwd", "AB" * 32, "ab" * 33, "ab" * 31 + "a/"])
def test_a_key_is_no_path(key: str, maker: Maker) -> None:
    with pytest.raises(StoreError, match="bad step key"):
        maker.store.step(key)


@pytest.mark.parametrize("name", ["", "..", "a/b", "ABCD", "abc", "a" * 33, "abcd\n"])
def test_a_snapshots_name_is_no_path(name: str, maker: Maker) -> None:
    with pytest.raises(StoreError, match="bad snapshot name"):
        maker.store.snapshot(name)


def test_snapshots_are_there_all_or_not_at_all(maker: Maker) -> None:
    maker.snapshot("aaaa")
    assert maker.store.has_snapshots(("aaaa",)) and maker.store.has_snapshots(())
    assert not maker.store.has_snapshots(("aaaa", "bbbb"))


def test_base_snapshot_depends_on_the_layers_and_their_order() -> None:
    names = {stores.base_snapshot(ids) for ids in ((), ("a",), ("a", "b"), ("b", "a"))}
    assert len(names) == 4
    assert all(len(name) == 32 and name.startswith("b") for name in names)


# -- scratch, locks


def test_scratch_vanishes(maker: Maker) -> None:
    with maker.store.scratch() as one, maker.store.scratch() as two:
        assert one != two
        (one / "deep" / "er").mkdir(parents=True)
        maker.store.sweep()  # what is in use stays
        assert (one / "deep").is_dir() and two.is_dir()
    with pytest.raises(ValueError, match="x"), maker.store.scratch():
        raise ValueError("x")
    assert os.listdir(maker.store.root / "work") == []


def test_a_full_disk_is_explained(maker: Maker) -> None:
    with pytest.raises(StoreError, match="no space left on the device while building"), maker.store.scratch():
        raise OSError(28, "No space left on device")
    with pytest.raises(PermissionError), maker.store.scratch():
        raise PermissionError(13, "Permission denied")


def test_what_a_killed_process_left_is_swept(maker: Maker) -> None:
    child = os.fork()
    if child == 0:
        with maker.store.scratch() as path:
            (path / "file").touch()
            os._exit(0)  # as kill -9: nothing is put away
    os.waitpid(child, 0)
    assert len(os.listdir(maker.store.root / "work")) == 2
    maker.store.sweep()
    assert os.listdir(maker.store.root / "work") == []


def test_alone_waits_for_builders(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    with maker.store.in_use(), maker.store.in_use():
        clock = iter(range(0, 1000, 6))
        monkeypatch.setattr(stores.time, "monotonic", lambda: next(clock))
        with pytest.raises(StoreError, match="in use by a running build or container"), maker.store.alone():
            pytest.fail("not alone")
    with maker.store.alone():
        pass
