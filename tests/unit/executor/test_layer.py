"""From an upper directory to a layer: whiteouts, order, names that try to be something else."""

from __future__ import annotations

import os
import socket
import tarfile
from pathlib import Path

import pytest

from orca.errors import ImageError
from orca.executor import layer
from orca.executor.layer import Change
from orca.tools import tar
from orca.tools.command import Runner


@pytest.fixture
def upper(tmp_path: Path) -> Path:
    path = tmp_path / "upper"
    path.mkdir()
    return path


def whiteout(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mknod(path, 0o20000, os.makedev(0, 0))


def opaque(path: Path, name: str, value: bytes = b"y") -> None:
    path.mkdir(parents=True, exist_ok=True)
    try:
        os.setxattr(path, name, value)
    except OSError:
        pytest.skip(f"no {name} here")


def paths(upper: Path) -> list[str]:
    return [change.path + (" *" if change.marker else "") for change in layer.changes(upper)]


def test_directories_come_before_their_content_sorted(upper: Path) -> None:
    for name in ("b/z", "b/a/q", "a", "c/x", "b.txt"):
        (upper / name).parent.mkdir(parents=True, exist_ok=True)
        (upper / name).touch()
    (upper / "link").symlink_to("/etc")
    os.mkfifo(upper / "pipe")
    assert paths(upper) == ["a", "b.txt", "link", "pipe", "b", "b/z", "b/a", "b/a/q", "c", "c/x"]


@pytest.mark.root
def test_whiteouts(upper: Path) -> None:
    whiteout(upper / "gone")
    whiteout(upper / "etc/passwd")
    os.mknod(upper / "null", 0o20666, os.makedev(1, 3))  # any other device is just a device
    assert paths(upper) == [".wh.gone *", "null", "etc", "etc/.wh.passwd *"]


@pytest.mark.root
@pytest.mark.parametrize("name", ["user.overlay.opaque", "trusted.overlay.opaque", "user.fuseoverlayfs.opaque"])
def test_opaque_directories(name: str, upper: Path) -> None:
    opaque(upper / "d", name)
    (upper / "d/new").touch()
    assert list(layer.changes(upper)) == [Change("d"), Change("d/.wh..wh..opq", marker=True), Change("d/new")]


@pytest.mark.root
def test_another_value_makes_nothing_opaque(upper: Path) -> None:
    opaque(upper / "d", "trusted.overlay.opaque", b"x")
    assert paths(upper) == ["d"]


def test_sockets_are_left_out(upper: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(upper / "s"))
    assert paths(upper) == []
    assert not layer.is_empty(upper)


@pytest.mark.parametrize("name", [".wh.x", ".wh.", "d/.wh..wh..opq", ".wh..wh.plnk/x"])
def test_names_that_mean_whiteouts_are_refused(name: str, upper: Path) -> None:
    (upper / name).parent.mkdir(parents=True, exist_ok=True)
    (upper / name).touch()
    with pytest.raises(ImageError, match=r"cannot be in a layer"):
        paths(upper)


def test_where_whiteouts_are_files_they_mean_what_they_say(upper: Path) -> None:
    (upper / "d").mkdir()
    (upper / "e").mkdir()
    for name in (".wh.gone", "d/.wh.x", "d/.wh..wh..opq", "d/.wh..opq", "e/.wh..opq"):
        (upper / name).touch()
    found = list(layer.changes(upper, named_whiteouts=True))
    assert [change.path for change in found if change.marker] == [
        ".wh.gone", "d/.wh..wh..opq", "d/.wh.x", "e/.wh..wh..opq",
    ]  # fmt: skip
    assert [change.path for change in found if not change.marker] == ["d", "e"]


def test_is_empty(upper: Path) -> None:
    assert layer.is_empty(upper)
    (upper / "x").touch()
    assert not layer.is_empty(upper)


# -- packed by the real tar

NAMES = [
    "plain", "-dash", "--checkpoint-action=exec=sh", "-C..", "sp ace", "new\nline", "tab\t", "back\\slash", "a\\nb",
    "a\\tb", "*", "[x]", "?", "\\", "quote'\"", "ü", "#", "~", "$HOME", "@x", "!x", "x" * 200,
]  # fmt: skip


def pack(upper: Path, scratch: Path, *, root: bool = False, clamp: int | None = None) -> dict[str, tarfile.TarInfo]:
    scratch.mkdir()
    listing = layer.write_listing(upper, scratch, root=root)
    with open(scratch / "out.tar", "wb") as out:
        command = tar.create(upper, listing, clamp=clamp)
        Runner().run(command, on_output=lambda data, stream: out.write(data) if stream == "stdout" else None)
    with tarfile.open(scratch / "out.tar") as archive:
        members = archive.getmembers()
    assert len(members) == len({member.name for member in members})
    return {member.name.removeprefix("./"): member for member in members}


def test_no_name_is_an_option(upper: Path, tmp_path: Path) -> None:
    for name in [*NAMES, os.fsdecode(b"\xff\xfe")]:
        (upper / name).write_text(name, errors="surrogateescape")
        (upper / "dir" / name).mkdir(parents=True)
    members = pack(upper, tmp_path / "scratch")
    expected = {*NAMES, os.fsdecode(b"\xff\xfe"), "dir"}
    assert {name for name in members if not name.startswith("dir/")} == expected
    assert {name.removeprefix("dir/") for name in members if name.startswith("dir/")} == expected - {"dir"}


@pytest.mark.root
def test_whiteouts_become_empty_files(upper: Path, tmp_path: Path) -> None:
    whiteout(upper / "a/gone")
    whiteout(upper / "-x")
    whiteout(upper / "new\nline")
    (upper / "a/kept").write_text("1")
    (upper / "z").write_text("2")
    members = pack(upper, tmp_path / "scratch")
    assert set(members) == {"a", "a/.wh.gone", "a/kept", "z", ".wh.-x", ".wh.new\nline"}
    for name in ("a/.wh.gone", ".wh.-x"):
        assert members[name].isreg() and members[name].size == 0 and members[name].mtime == 0


@pytest.mark.root
def test_facts_are_kept(upper: Path, tmp_path: Path) -> None:
    (upper / "f").write_text("x")
    os.chown(upper / "f", 1234, 4_000_000)
    (upper / "f").chmod(0o4755)
    os.link(upper / "f", upper / "g")
    os.utime(upper / "f", ns=(10**9 + 5, 1234567890_500000000))
    member = pack(upper, tmp_path / "scratch")
    assert (member["f"].uid, member["f"].gid, member["f"].mode, member["f"].mtime) == (
        1234,
        4_000_000,
        0o4755,
        1234567890,
    )
    assert member["f"].uname == member["f"].gname == ""
    assert member["g"].islnk() and member["g"].linkname == "f"
    assert not {"atime", "ctime", "mtime"} & member["f"].pax_headers.keys()


def test_the_root_itself_when_it_changed(upper: Path, tmp_path: Path) -> None:
    (upper / "f").touch()
    members = pack(upper, tmp_path / "scratch", root=True, clamp=1000)
    assert set(members) == {".", "f"}
    assert {member.mtime for member in members.values()} == {1000}


def test_the_same_tree_gives_the_same_bytes(upper: Path, tmp_path: Path) -> None:
    for name in ("b", "a", "c/d"):
        (upper / name).parent.mkdir(exist_ok=True)
        (upper / name).write_text(name)
    pack(upper, tmp_path / "1", clamp=0)
    (upper / "a").unlink()
    (upper / "a").write_text("a")
    pack(upper, tmp_path / "2", clamp=0)
    assert (tmp_path / "1/out.tar").read_bytes() == (tmp_path / "2/out.tar").read_bytes()


def test_overlays_own_marks_stay_out(upper: Path, tmp_path: Path) -> None:
    (upper / "d").mkdir()
    try:
        for name in ("user.overlay.opaque", "user.overlay.impure", "user.mine"):
            os.setxattr(upper / "d", name, b"x")
    except OSError:
        pytest.skip("no user.* attributes here")
    headers = pack(upper, tmp_path / "scratch")["d"].pax_headers
    assert [name for name in headers if "xattr" in name] == ["SCHILY.xattr.user.mine"]
