"""Attacks on outputs: directories prepared by others, layers that lie, names that lead elsewhere."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from support.images import Layout, layout_from_tar
from support.kitchen import Kitchen
from support.orca import Orca
from support.proc import run

HOST = "localhost/hostile:latest"


@pytest.fixture
def canary(open_path: Path) -> Path:
    place = open_path / "canary"
    place.mkdir()
    (place / "file").write_text("untouched")
    return place


def unharmed(canary: Path) -> bool:
    return os.listdir(canary) == ["file"] and (canary / "file").read_text() == "untouched"


def hostile(orca: Orca, open_path: Path, *entries: tuple[str, bytes, str, str]) -> None:
    """A base image of one layer with these entries: name, type, link, content."""
    with tarfile.open(open_path / "layer.tar", "w") as archive:
        for name, kind, target, text in entries:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size, info.mode = kind, target, len(text), 0o6777
            archive.addfile(info, io.BytesIO(text.encode()))
    layout = layout_from_tar(open_path / "layer.tar", Layout(open_path / "layout", "x"), ["--config.cmd=x"])
    orca.load(layout, HOST)


def test_links_in_the_destination_are_not_followed(orca: Orca, canary: Path, open_path: Path) -> None:
    tree = open_path / "tree"
    (tree / "real").mkdir(parents=True)
    (tree / "dir").symlink_to(canary)
    (tree / "file").symlink_to(canary / "file")
    (tree / "real/loop").symlink_to("..")
    os.link(canary / "file", tree / "hard")
    files: dict[str, str | bytes | Path] = {
        "Dockerfile": "FROM scratch\nCOPY . /\n", "dir/file": "new", "file": "new", "real/loop/x": "new", "hard": "new",
    }  # fmt: skip
    orca("build", "-q", "-o", tree, Kitchen(orca).context(files))
    assert unharmed(canary)
    assert (tree / "dir/file").read_text() == (tree / "hard").read_text() == (tree / "real/loop/x").read_text() == "new"


def test_links_in_the_image_are_written_as_they_are(orca: Orca, canary: Path, open_path: Path) -> None:
    """A link, and below its name a file: what was meant to go through it."""
    hostile(
        orca, open_path,
        ("a", tarfile.SYMTYPE, str(canary), ""), ("a/file", tarfile.REGTYPE, "", "harm"),
        ("../../../up", tarfile.REGTYPE, "", "harm"), (str(canary / "abs"), tarfile.REGTYPE, "", "harm"),
        ("h", tarfile.LNKTYPE, "up", ""), ("dev", tarfile.BLKTYPE, "", ""),
        ("esc\x1b]0;x\x07", tarfile.FIFOTYPE, "", ""),
    )  # fmt: skip
    context = Kitchen(orca).context(f"FROM {HOST}\n")
    done = orca("build", "-o", open_path / "tree", "-o", f"type=tar,dest={open_path}/t.tar", context)
    assert unharmed(canary)
    assert os.readlink(open_path / "tree/a") == str(canary)
    assert (open_path / "tree/up").stat().st_mode & 0o7777 == 0o777
    assert not (open_path / "tree/dev").exists()
    assert "\x1b" not in done.stderr
    assert "2 devices, FIFOs" in done.stderr
    with tarfile.open(open_path / "t.tar") as archive:
        names = archive.getnames()
    assert not [name for name in names if name.startswith(("/", "..")) or name == "a/file"]


def test_a_hard_link_out_of_the_image(orca: Orca, canary: Path, open_path: Path) -> None:
    hostile(orca, open_path, ("x", tarfile.LNKTYPE, str(canary / "file"), ""))
    failed = orca("build", "-o", open_path / "tree", Kitchen(orca).context(f"FROM {HOST}\n"), check=False)
    assert failed.returncode == 125
    assert "hard link /x, whose target is not in it" in failed.stderr
    assert unharmed(canary)


def test_a_layer_that_becomes_too_much(orca: Orca, open_path: Path) -> None:
    hostile(orca, open_path, ("zeros", tarfile.REGTYPE, "", "\0" * (4 << 20)))
    context = Kitchen(orca).context(f"FROM {HOST}\n")
    limit = {"ORCA_MAX_UNPACK": "1M"}
    failed = orca("build", "-o", f"type=tar,dest={open_path}/t.tar", context, env=limit, check=False)
    assert failed.returncode == 125
    assert "unpacks to more than 1 MiB" in " ".join(failed.stderr.split())
    assert not [path.name for path in open_path.iterdir() if "t.tar" in path.name]


def test_a_layer_that_is_not_what_its_manifest_says(orca: Orca, busybox: str, open_path: Path) -> None:
    manifest = json.loads(run("skopeo", "inspect", "--raw", f"oci:{orca.store}/images:{busybox}").stdout)
    blob = orca.store / "images/blobs" / manifest["layers"][0]["digest"].replace(":", "/")
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 255
    blob.chmod(0o600)
    blob.write_bytes(data)
    context = Kitchen(orca).context(f"FROM {busybox}\n")
    for word in (f"type=tar,dest={open_path}/t.tar", f"oci-archive:{open_path}/a.tar"):
        failed = orca("build", "-o", word, context, check=False)
        assert failed.returncode == 125, word
        assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    "word", ["docker://--authfile=/etc/passwd", "docker://x/../y", "type=registry,name=-v", "docker://a b"]
)
def test_names_are_no_options(word: str, orca: Orca, busybox: str) -> None:
    failed = orca("build", "-o", word, Kitchen(orca).context(f"FROM {busybox}\n"), check=False)
    assert failed.returncode == 2
    assert "bad image name" in failed.stderr
