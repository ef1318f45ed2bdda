"""What orca fsck finds, and what --repair drops: everything that is broken, and never an image."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.stores import Files, Maker, archive, write

from orca.cli import fsck as command
from orca.errors import StoreError
from orca.oci import image
from orca.oci.image import ImageConfig
from orca.store import containers, contents, files, fsck, sessions
from orca.store.layout import Image
from orca.store.store import StepRecord, base_snapshot

NAME = "localhost/app:latest"


def real(maker: Maker, *layers: Files, name: str = NAME) -> Image:
    return maker.real(*layers, tags=(name,) if name else ())


def step(maker: Maker, found: Image, *snapshots: str) -> StepRecord:
    record = StepRecord("ab" * 32, "RUN x", found.descriptor, snapshots, {}, {}, found.manifest.layers[-1])
    maker.store.put_step(record)
    return record


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker.at(tmp_path / "store")


def check(maker: Maker, *, quick: bool = False) -> fsck.Report:
    with maker.store.alone():
        return fsck.Check(type(maker.store)(maker.store.root), fsck.leftovers(maker.store), quick).run()


def found(maker: Maker, **how: bool) -> list[tuple[str, str, str]]:
    """The findings, with the store's own directories cut off."""
    return [(each.kind, each.where.rpartition("/")[2], each.problem) for each in check(maker, **how).findings]


def repaired(maker: Maker) -> list[tuple[str, str, str]]:
    """What is still found after a repair."""
    findings = check(maker).findings
    with maker.store.alone():
        fsck.repair(maker.store, tuple(each for each in findings if each.repairable))
    return found(maker)


FILES = {"etc": None, "etc/os": b"here", "bin": "etc"}


@pytest.fixture
def whole(maker: Maker) -> Image:
    """A store that has one of everything, and is in order."""
    made = real(maker, FILES, {"data": b"1" * 5000})
    step(maker, made, "aaaa", base_snapshot(made.config.diff_ids[:1]))
    real(maker, FILES, name="")
    write(maker.store.snapshot("aaaa"), {"data": b"1" * 5000})
    write(maker.store.snapshot(base_snapshot(made.config.diff_ids)), {**FILES, "data": b"1" * 5000})
    write(maker.store.snapshot(base_snapshot(made.config.diff_ids[:1])), FILES)
    files.write_json(maker.store.root / "cache" / "stat-1.json", {})
    build = maker.store.root / "builds" / "20260101T000000-0000"
    build.mkdir()
    (build / "events.jsonl").write_text('{"event":"build-started"}\n')
    return made


def test_a_store_in_order_is_clean(maker: Maker, whole: Image) -> None:
    report = check(maker)
    assert report.findings == ()
    assert report.checked == {"blobs": 6, "names": 1, "images": 1, "steps": 1, "snapshots": 3, "snapshots in use": 2,
                              "caches": 1, "builds": 1}  # fmt: skip
    assert report.hashed == sum(path.stat().st_size for path in maker.store.images.blobs.iterdir())


def flip(path: Path) -> None:
    """Change one bit, not the size."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def layer(maker: Maker, made: Image) -> Path:
    return maker.store.images.blob_path(made.manifest.layers[-1].digest)


def test_a_flipped_bit_is_found_and_the_image_keeps_its_name(maker: Maker, whole: Image) -> None:
    flip(layer(maker, whole))
    kinds = [kind for kind, _, _ in found(maker)]
    assert kinds == ["image", "blob", "step"]
    assert [each.kind for each in check(maker).findings if not each.repairable] == ["image"]
    remaining = repaired(maker)
    assert [(kind, name) for kind, name, _ in remaining] == [("image", "app:latest")]
    assert "is missing" in remaining[0][2]
    assert NAME in maker.store.tags()
    # What pulls or builds it again makes the store clean.
    real(maker, FILES, {"data": b"1" * 5000})
    assert found(maker) == []


def test_a_flipped_bit_of_a_layer_goes_unseen_when_it_shall_be_quick(maker: Maker, whole: Image) -> None:
    big = layer(maker, real(maker, {"noise": os.urandom(image.JSON_LIMIT + 1)}, name="localhost/big:latest"))
    flip(big)
    assert found(maker, quick=True) == []
    assert ("blob", big.name) in [each[:2] for each in found(maker)]


BREAKS: dict[str, tuple[Callable[[Maker, Image], object], list[tuple[str, str]], bool]] = {
    "a missing layer": (
        lambda maker, made: layer(maker, made).unlink(),
        [("image", "is missing or has the wrong size"), ("step", "something is missing")], False,
    ),
    "a link for a blob": (
        lambda maker, made: (maker.store.images.blobs / ("0" * 64)).symlink_to("/etc/passwd"),
        [("blob", "is not a regular file")], True,
    ),
    "half a blob": (
        lambda maker, made: (maker.store.images.blobs / ".x.12345678").write_text("x"),
        [("scratch", "left by a process")], True,
    ),
    "a record that is no JSON": (
        lambda maker, made: (maker.store.root / "steps" / "ab" / ("ab" * 32)).write_text("{"),
        [("step", "cannot be read")], True,
    ),
    "a record of another key": (
        lambda maker, made: (maker.store.root / "steps/ab" / ("ab" * 32)).rename(
            maker.store.root / "steps/ab" / ("ac" * 32)),
        [("step", "not under its own key")], True,
    ),
    "a record with strange fields": (
        lambda maker, made: (maker.store.root / "steps" / "ab" / ("ab" * 32)).write_text("[1]"),
        [("step", "cannot be read")], True,
    ),
    "a snapshot cut short": (
        lambda maker, made: (maker.store.snapshot("aaaa") / "data").write_bytes(b"1" * 10),
        [("step", "snapshot aaaa is missing or damaged"), ("snapshot", "data: has 10 bytes instead of 5000")], True,
    ),
    "a snapshot with zeros": (
        lambda maker, made: (maker.store.snapshot("aaaa") / "data").write_bytes(bytes(5000)),
        [("step", "aaaa"), ("snapshot", "data: has another content")], True,
    ),
    "a snapshot without its root": (
        lambda maker, made: maker.store.snapshot("aaaa").rename(maker.store.snapshot("aaaa").with_name("gone")),
        [("step", "aaaa"), ("snapshot", "has no directory fs")], True,
    ),
    "a lost snapshot": (
        lambda maker, made: files.remove_tree(maker.store.snapshot("aaaa").parent),
        [("step", "its snapshot aaaa is missing")], True,
    ),
    "scratch": (
        lambda maker, made: (maker.store.root / "work" / "deadbeef").mkdir(),
        [("scratch", "left by a process")], True,
    ),
    "a stat cache": (
        lambda maker, made: (maker.store.root / "cache" / "stat-1.json").write_text("{"),
        [("cache", "is no JSON")], True,
    ),
    "an event that is none": (
        lambda maker, made: (maker.store.root / "builds/20260101T000000-0000/events.jsonl").write_text("{\n{}\n"),
        [("build", "has a line that is no JSON")], True,
    ),
    "the layout's version": (
        lambda maker, made: (maker.store.images.path / "oci-layout").write_text("{}"),
        [("index", "does not say version")], False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BREAKS)
def test_what_is_broken_is_found_and_what_can_be_made_again_is_dropped(maker: Maker, whole: Image, case: str) -> None:
    damage, expected, mended = BREAKS[case]
    damage(maker, whole)
    there = found(maker)
    assert sorted(kind for kind, _, _ in there) == sorted(kind for kind, _ in expected)
    for kind, words in expected:
        assert any(words in problem for other, _, problem in there if other == kind), there
    assert (repaired(maker) == []) is mended
    assert list(maker.store.tags()) == [NAME]


def test_scripted_builds(maker: Maker, whole: Image) -> None:
    other = real(maker, {"more": b"1"}, name="")
    step_ = sessions.Done("FROM x", "k", other.descriptor, {})
    sessions.put(maker.store, sessions.Session("mine", "linux/amd64", 0.0, 0, (step_,)))
    assert check(maker).findings == ()
    assert check(maker).checked["sessions"] == 1
    flip(layer(maker, other))
    assert [(kind, where) for kind, where, _ in found(maker)] == [("session", "mine"),
                                                                  ("blob", layer(maker, other).name)]  # fmt: skip
    assert [kind for kind, _, _ in repaired(maker)] == ["session"]
    (maker.store.root / "sessions" / "mine").write_text("{")
    (finding,) = check(maker).findings
    assert (finding.kind, finding.repairable) == ("session", False)
    assert "orca abandon mine" in finding.remedy


def test_containers(maker: Maker, whole: Image) -> None:
    base = base_snapshot(whole.config.diff_ids)
    for name, kept in (("mine", True), ("passing", False)):
        held = containers.make(maker.store, name, "app", kept=kept, detached=True)
        held.configure(manifest=whole.descriptor.digest, snapshots=(base,))
        if kept:
            assert check(maker).findings == ()
        os.close(held.fd)
    # Nobody holds the lock of one that was to go at its end.
    assert [(kind, problem) for kind, _, problem in found(maker)] == [
        ("scratch", "was left by a process that was stopped")
    ]
    assert repaired(maker) == []
    assert [entry.config.name for entry in containers.listing(maker.store)] == ["mine"]
    files.remove_tree(maker.store.snapshot(base).parent)
    assert [(kind, name) for kind, name, _ in found(maker)] == [("container", "mine")]
    (containers.find(maker.store, "mine").path / "config.json").write_text("{")
    (finding,) = check(maker).findings
    assert (finding.kind, finding.repairable) == ("container", False)
    assert "is missing or damaged" in finding.problem


def test_the_last_line_of_a_killed_build_may_be_cut_off(maker: Maker, whole: Image) -> None:
    with (maker.store.root / "builds/20260101T000000-0000/events.jsonl").open("a") as file:
        file.write('{"event":"too')
    assert found(maker) == []


def test_a_step_forgets_snapshots_that_are_gone_and_stays(maker: Maker, whole: Image) -> None:
    files.remove_tree(maker.store.snapshot("aaaa").parent)
    assert repaired(maker) == []
    record = maker.store.step("ab" * 32)
    assert record is not None
    assert record.snapshots == ()


def test_a_wrong_diff_id_is_found(maker: Maker) -> None:
    made = real(maker, FILES, name="")
    wrong = ImageConfig(architecture="amd64", diff_ids=("sha256:" + "1" * 64,))
    lie = maker.store.images.put_image(made.manifest, wrong)
    maker.store.tag((NAME,), lie.descriptor)
    (finding,) = check(maker).findings
    assert (finding.kind, finding.repairable) == ("image", False)
    assert f"says sha256:{'1' * 64}" in finding.problem


def test_a_damaged_index_stops_everything(maker: Maker, whole: Image) -> None:
    (maker.store.images.path / "index.json").write_text("{")
    with pytest.raises(StoreError, match=r"index\.json is missing or damaged"):
        check(maker)
    assert len(list(maker.store.images.blobs.iterdir())) == 6


def test_bad_entries_of_the_index_are_told(maker: Maker, whole: Image) -> None:
    path = maker.store.images.path / "index.json"
    value = json.loads(path.read_text())
    value["manifests"] += [value["manifests"][0], {"digest": "sha256:../../etc"}]
    path.write_text(json.dumps(value))
    problems = [problem for kind, _, problem in found(maker) if kind == "index"]
    assert any("is there twice" in problem for problem in problems)
    assert any("has a bad entry" in problem for problem in problems)


def test_a_download_has_its_digest(maker: Maker, whole: Image) -> None:
    place = maker.store.root / "cache" / "downloads"
    place.mkdir()
    (place / hashlib.sha256(b"x").hexdigest()).write_bytes(b"x")
    assert found(maker) == []
    (place / hashlib.sha256(b"x").hexdigest()).write_bytes(b"y")
    assert [each[0] for each in found(maker)] == ["cache"]
    assert repaired(maker) == []


# -- snapshots of several layers

SEVERAL: dict[str, tuple[list[Files], Files, str | None]] = {
    "the upper file counts": ([{"a": b"1"}, {"a": b"2"}], {"a": b"2"}, None),
    "the lower file is not enough": ([{"a": b"1"}, {"a": b"2"}], {"a": b"1"}, "a: has another content"),
    "a whiteout takes away": ([{"a": b"1"}, {".wh.a": b""}], {}, None),
    "a whiteout takes a tree away": ([{"d": None, "d/a": b"1"}, {".wh.d": b""}], {}, None),
    "an opaque directory hides": ([{"d": None, "d/a": b"1"}, {"d": None, "d/.wh..wh..opq": b""}], {"d": None}, None),
    "a file in the place of a directory": ([{"d": None, "d/a": b"1"}, {"d": b"file"}], {"d": b"file"}, None),
    "what is missing is told": ([{"a": b"1"}, {"b": b"2"}], {"b": b"2"}, "a: No such file or directory"),
    "a link that leads out": ([{"out": "/etc", "out/passwd": b"x"}], {"out": "/etc"},
                              "out/passwd: No such file or directory"),
    "another link": ([{"l": "a"}], {"l": "b"}, "l: is another link"),
    "a directory for a file": ([{"a": b"1"}], {"a": None}, "a: is no file"),
    "a file for a directory": ([{"a": None}], {"a": b"1"}, "a: is no directory"),
}  # fmt: skip


@pytest.mark.parametrize("case", SEVERAL)
def test_a_tree_is_compared_with_all_layers(tmp_path: Path, case: str) -> None:
    layers, tree, expected = SEVERAL[case]
    blobs = []
    for number, entries in enumerate(layers):
        blobs.append(tmp_path / f"{number}.tar")
        blobs[-1].write_bytes(archive(entries))
    root = tmp_path / "root"
    root.mkdir()
    write(root, tree)
    assert contents.differs(root, blobs) == expected


# -- the command


@pytest.fixture
def ours(maker: Maker, whole: Image, monkeypatch: pytest.MonkeyPatch) -> Maker:
    """The store is that of the command."""
    monkeypatch.setenv("ORCA_ROOT", str(maker.store.root))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(files, "own_directory", lambda path: None)
    monkeypatch.setattr(files, "close_directory", lambda path: None)
    return maker


def test_the_command_says_clean_and_ends_with_0(ours: Maker, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run([]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "clean"
    assert command.run(["--json", "--quick"]) == 0
    assert json.loads(capsys.readouterr().out)["clean"] is True


def test_the_command_ends_with_1_while_something_is_wrong(ours: Maker, capsys: pytest.CaptureFixture[str]) -> None:
    (ours.store.root / "work" / "deadbeef").mkdir()
    assert command.run([]) == 1
    said = capsys.readouterr().out
    assert "scratch work/deadbeef: was left by a process that was stopped" in said
    assert said.splitlines()[-1] == "1 finding"
    assert command.run(["--repair"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "clean now: 1 finding repaired"
    assert not (ours.store.root / "work" / "deadbeef").exists()


def test_what_somebody_else_does_is_no_leftover(ours: Maker, capsys: pytest.CaptureFixture[str]) -> None:
    with ours.store.in_use(), ours.store.scratch():
        assert command.run(["--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["alone"], value["findings"]) == (False, [])
