"""A layer as a tree that OSTree can hold: names resolved in memory, the rest as marks."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from support import hostile
from support.hostile import Member, directory, file, hard_link, link, special

from orca.errors import ImageError
from orca.executor import branches
from orca.executor.branches import IMPLIED, MARK, Mark

ROOT = directory("./")


def converted(tmp_path: Path, *members: Member) -> dict[str, tarfile.TarInfo | bytes]:
    """What ostree gets to read: name → header, for files → content."""
    layer = tmp_path / "layer.tar"
    layer.write_bytes(hostile.tar(*members))
    out = io.BytesIO()
    branches.convert(layer, out)
    out.seek(0)
    result: dict[str, tarfile.TarInfo | bytes] = {}
    with tarfile.open(fileobj=out, errors="surrogateescape") as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.isreg() else None
            result[member.name] = member if stream is None else stream.read()
    return result


def marks(found: dict[str, tarfile.TarInfo | bytes], below: str = "") -> list[Mark]:
    beginning = f"{below}{MARK}"
    return [
        Mark.from_bytes(data)
        for name, data in found.items()
        if name.startswith(beginning) and not name.endswith(".d") and isinstance(data, bytes)
    ]


def test_plain_things(tmp_path: Path) -> None:
    found = converted(tmp_path, ROOT, directory("d", mode=0o1777), file("d/f", b"data"), link("d/l", "/x"))
    assert list(found) == [".", "d", "d/f", "d/l"]
    assert found["d/f"] == b"data"
    below, symlink = found["d"], found["d/l"]
    assert isinstance(below, tarfile.TarInfo) and below.mode == 0o1777
    assert isinstance(symlink, tarfile.TarInfo) and symlink.linkname == "/x"


def test_directories_that_the_layer_does_not_speak_of(tmp_path: Path) -> None:
    found = converted(tmp_path, file("a/b/f"), directory("a/b"))
    assert f"{IMPLIED}" in found
    assert f"a/{IMPLIED}" in found
    assert f"a/b/{IMPLIED}" not in found


def test_the_last_word_counts(tmp_path: Path) -> None:
    found = converted(
        tmp_path, ROOT, file("f", b"1"), file("f", b"2"), directory("d"), file("d/x"), file("d", b"now a file"),
        file("e", b"was a file"), directory("e"), file("e/x", b"3"),
    )  # fmt: skip
    assert (found["f"], found["d"], found["e/x"]) == (b"2", b"now a file", b"3")
    assert "d/x" not in found


def test_names_stay_inside(tmp_path: Path) -> None:
    found = converted(tmp_path, ROOT, file("../../a"), file("/b"), file("./c/../d"), file("x/../../../e"))
    assert {"a", "b", "d", "e"} <= set(found)


def test_links_of_the_layer_are_followed_inside(tmp_path: Path) -> None:
    members = [ROOT, directory("usr"), directory("usr/bin"), link("bin", "usr/bin"), link("up", "../../../usr")]
    found = converted(tmp_path, *members, file("bin/f", b"1"), file("up/g", b"2"), hard_link("h", "bin/f"))
    assert (found["usr/bin/f"], found["usr/g"]) == (b"1", b"2")
    assert marks(found) == [Mark("link", "h", "usr/bin/f")]


def test_whiteouts_stay_and_other_reserved_names_go(tmp_path: Path) -> None:
    names = ("d/.wh.x", "d/.wh..wh..opq", ".wh..wh.plnk", ".wh..wh..orca", ".wh..wh..orca.0", ".wh.", ".wh..", ".wh...")
    found = converted(tmp_path, ROOT, *(Member(name) for name in names))
    assert set(found) == {".", "d", "d/.wh.x", "d/.wh..wh..opq", f"d/{IMPLIED}"}


def test_what_ostree_cannot_hold(tmp_path: Path) -> None:
    bad = b"\xff".decode("utf-8", "surrogateescape")
    found = converted(
        tmp_path, ROOT, special("fifo", tarfile.FIFOTYPE), special("dev", tarfile.CHRTYPE, (1, 3)),
        file(f"n{bad}", b"x"), link("to", f"t{bad}"), hard_link("late", "below/f"), Member(f".wh.{bad}"),
    )  # fmt: skip
    assert found["dev"] == b""
    assert {(mark.kind, mark.name, mark.target) for mark in marks(found)} == {
        ("fifo", "fifo", ""), ("name", f"n{bad}", ""), ("symlink", "to", f"t{bad}"), ("link", "late", "below/f"),
        ("whiteout", bad, ""),
    }  # fmt: skip
    for name in found:
        name.encode()
    (kept,) = (data for name, data in found.items() if name.endswith(".d"))
    assert kept == b"x"


def test_attributes(tmp_path: Path) -> None:
    wanted = {"SCHILY.xattr.user.a": "b", "SCHILY.xattr.security.capability": "c"}
    dropped = ("user.overlay.opaque", "user.fuseoverlayfs.opaque", "trusted.overlay.opaque", "security.selinux")
    headers = {**wanted, **{f"SCHILY.xattr.{name}": "y" for name in dropped}, "comment": "x"}
    assert branches.attributes(headers) == wanted
    assert converted(tmp_path, ROOT, file("f", b"", **headers))["f"] == b""


def test_the_order_of_members_is_no_difference(tmp_path: Path) -> None:
    members = [directory("d"), file("d/f", b"1"), file("a", b"2"), Member(".wh.x")]
    assert list(converted(tmp_path, *members).items())[1:] != []
    texts = []
    for order in (members, members[::-1]):
        layer, out = tmp_path / "layer", io.BytesIO()
        layer.write_bytes(hostile.tar(*order))
        branches.convert(layer, out)
        texts.append(out.getvalue())
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ((link(".", "/x"),), "root is not a directory"),
        ((file("x" * 256),), "name of more than 255 bytes"),
        ((file("a"), file("a/b")), "below something that is not a directory"),
        ((link("l", "l"), file("l/x")), "too many symbolic links"),
        ((directory("d"), hard_link("h", "d")), "hard link to a directory"),
        ((hard_link("h", "h"),), "hard link to itself"),
        ((file("d/" * 300 + "f"),), "levels deep"),
        ((link("l", ""),), "no system can hold"),
        ((Member("x", kind=b"Z"),), "unknown kind"),
    ],
)
def test_what_no_root_could_hold(tmp_path: Path, members: tuple[Member, ...], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        converted(tmp_path, *members)


def test_an_owner_out_of_range(tmp_path: Path) -> None:
    info = tarfile.TarInfo("f")
    info.uid = 1 << 32
    layer = tmp_path / "layer.tar"
    with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info)
    with pytest.raises(ImageError, match="owner out of range"):
        branches.convert(layer, io.BytesIO())


def test_a_damaged_archive(tmp_path: Path) -> None:
    layer = tmp_path / "layer.tar"
    layer.write_bytes(hostile.tar(file("f", b"x" * 5000))[:2000])
    with pytest.raises(ImageError, match="damaged"):
        branches.convert(layer, io.BytesIO())


@pytest.mark.parametrize("data", [b"", b"[]", b'{"kind": 1}', json.dumps({"kind": "fifo", "more": 1}).encode()])
def test_a_damaged_mark(data: bytes) -> None:
    with pytest.raises(ImageError, match="mark"):
        Mark.from_bytes(data)
