"""What is in an image, read from made-up layers, hostile ones too."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from orca.cli import blame, cat, diff
from orca.cli import files as files_verb
from orca.errors import ImageError, OrcaError, UsageError
from orca.executor import contents
from orca.executor.contents import Tree
from orca.oci import image
from orca.oci.image import Descriptor, ImageConfig, Manifest
from orca.store.layout import Image
from orca.store.store import Store

Member = tuple[str, bytes, str]
FILE, DIR, LINK, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("ORCA_ROOT", str(tmp_path / "store"))
    (tmp_path / "registries.conf").write_text("")
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(tmp_path / "registries.conf"))
    return Store.open(tmp_path / "store")


def archive(members: Sequence[Member]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, text in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.mtime = kind, 0o755 if kind == DIR else 0o644, 1000
            if kind == FILE:
                entry.size = len(text.encode())
            else:
                entry.linkname = text
            tar.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def put(store: Store, *layers: Sequence[Member], name: str = "app", packed: bool = True) -> Image:
    """An image of such layers, named `name`."""
    tars = [archive(members) for members in layers]
    kind = f"{image.LAYER}+gzip" if packed else image.LAYER
    blobs = tuple(store.images.put(gzip.compress(tar, mtime=0) if packed else tar, kind) for tar in tars)
    config = ImageConfig(architecture="amd64", diff_ids=tuple(map(image.digest_of, tars)))
    found = store.images.put_image(Manifest(Descriptor("", "sha256:" + "0" * 64, 0), blobs), config)
    store.tag((f"localhost/{name}:latest",), found.descriptor)
    return found


def tree(store: Store, *layers: Sequence[Member]) -> Tree:
    return contents.tree(contents.listings(put(store, *layers), store))


def paths(found: Tree) -> list[str]:
    return [placed.path for placed in found.walk()]


BASE = (("d/", DIR, ""), ("d/a", FILE, "a"), ("d/e/f", FILE, "ff"), ("l", LINK, "/d"), ("h", HARD, "d/a"))


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ([("d/.wh.a", FILE, "")], ["d", "d/e", "d/e/f", "h", "l"]),
        ([(".wh.d", FILE, "")], ["h", "l"]),
        ([("d/.wh..wh..opq", FILE, ""), ("d/n", FILE, "")], ["d", "d/n", "h", "l"]),
        ([("d", FILE, "now a file")], ["d", "h", "l"]),
        ([("d", FILE, "x"), ("d/below", FILE, "x")], ["d", "h", "l"]),
        ([("l/through", FILE, "x")], ["d", "d/a", "d/e", "d/e/f", "h", "l"]),
        ([("l/", DIR, ""), ("l/x", FILE, "")], ["d", "d/a", "d/e", "d/e/f", "h", "l", "l/x"]),
        ([("../../up", FILE, ""), ("/abs", FILE, "")], ["abs", "d", "d/a", "d/e", "d/e/f", "h", "l", "up"]),
        ([("n/e/w", FILE, "")], ["d", "d/a", "d/e", "d/e/f", "h", "l", "n", "n/e", "n/e/w"]),
    ],
)  # fmt: skip
def test_layers_lie_over_each_other(store: Store, second: list[Member], expected: list[str]) -> None:
    assert paths(tree(store, BASE, second)) == expected


def test_a_hard_link_is_its_file(store: Store) -> None:
    found = tree(store, BASE, [("d/.wh.a", FILE, "")])
    assert (found.nodes["h"].entry.size, found.nodes["h"].same) == (1, "d/a")


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/d/a", "d/a"), ("l/a", "d/a"), ("/l/../d/./a", "d/a"), ("../../d", "d"), ("/", ""), ("up/d/a", "d/a"),
        ("d/a/below", None), ("nothing", None), ("hang", None),
    ],
)  # fmt: skip
def test_links_are_followed_inside(store: Store, path: str, place: str | None) -> None:
    found = tree(store, [*BASE, ("up", LINK, "../../.."), ("hang", LINK, "/host/file")]).resolve(path)
    assert (found.path if found else None) == place


def test_links_in_circles(store: Store) -> None:
    found = tree(store, [("a", LINK, "b"), ("b", LINK, "a")])
    with pytest.raises(ImageError, match="links"):
        found.resolve("a/x")
    assert found.resolve("a", last=False) is not None


def test_the_second_time_no_layer_is_read(store: Store) -> None:
    found = put(store, BASE, [(f"\udcff{'x' * 200}", FILE, "")])
    first = contents.listings(found, store)
    for layer in found.manifest.layers:
        path = store.images.blob_path(layer.digest)
        path.write_bytes(b"x" * path.stat().st_size)
    assert contents.listings(found, store) == first
    (store.root / "cache").joinpath("toc-" + found.config.diff_ids[0][7:]).write_text("{}")
    with pytest.raises(ImageError, match="cannot be read"):
        contents.listings(found, store)


def test_a_layer_that_is_not_what_the_config_says(store: Store) -> None:
    found = put(store, BASE)
    config = ImageConfig(architecture="amd64", diff_ids=("sha256:" + "1" * 64,))
    with pytest.raises(ImageError, match="does not match its diff id"):
        contents.listings(store.images.put_image(found.manifest, config), store)
    assert not list((store.root / "cache").glob("toc-*"))


def test_a_layer_that_unpacks_to_too_much(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCA_MAX_UNPACK", "20K")
    with pytest.raises(ImageError, match="unpacks to more"):
        contents.listings(put(store, [("big", FILE, "x" * 100_000)]), store)
    with pytest.raises(ImageError, match="unpacks to more"):
        contents.listings(put(store, [(f"f{n}", DIR, "") for n in range(60)]), store)


def test_diff_says_what_is_different(store: Store) -> None:
    one = tree(store, BASE)
    two = tree(store, BASE, [("d/a", FILE, "b"), ("d/.wh.e", FILE, ""), ("new", FILE, "new"), ("h", LINK, "d/a")])
    found = {(change.kind, change.path): (change.size, change.fields) for change in contents.diff(one, two)}
    assert found == {
        ("A", "new"): (3, ()),
        ("C", "d/a"): (1, ("content",)),
        ("D", "d/e"): (2, ()),
        ("C", "h"): (0, ("kind",)),
    }
    assert [change.path for change in contents.diff(one, two, whole=True) if change.kind == "D"] == ["d/e", "d/e/f"]
    assert list(contents.diff(one, one)) == []


class TestVerbs:
    def test_files(self, store: Store, capsys: Capture) -> None:
        put(store, [*BASE, ("\x1b[2Jname", FILE, "")])
        files_verb.run(["app", "/l"])
        assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == ["/d/a", "/d/e"]
        files_verb.run(["-R", "app"])
        text = capsys.readouterr().out
        assert "\x1b" not in text and "/\\x1b[2Jname" in text
        assert "/l -> /d" in text and "/h = /d/a" in text
        files_verb.run(["--json", "-d", "app", "/d/a"])
        (row,) = json.loads(capsys.readouterr().out)
        assert (row["path"], row["mode"], row["size"], row["kind"]) == ("/d/a", "0644", 1, "file")

    @pytest.mark.parametrize("packed", [True, False])
    def test_cat(self, store: Store, capfdbinary: pytest.CaptureFixture[bytes], packed: bool) -> None:
        put(store, [("f", FILE, "old")], [("f", FILE, "new"), ("h", HARD, "f"), ("l", LINK, "../../h")], packed=packed)
        cat.run(["app", "/f", "/l"])
        assert capfdbinary.readouterr().out == b"newnew"

    @pytest.mark.parametrize(
        ("path", "message"),
        [("/d", "is a directory"), ("/no", "is not in the image"), ("/hang", "is not in the image")],
    )
    def test_cat_of_what_is_no_file(self, store: Store, capsys: Capture, path: str, message: str) -> None:
        put(store, [*BASE, ("hang", LINK, "/etc/hostname")])
        with pytest.raises(UsageError, match=message):
            cat.run(["app", "/d/a", path])
        assert capsys.readouterr().out == ""

    def test_on_a_terminal_only_text_and_escaped(self, capsys: Capture) -> None:
        cat.print_text("/f", iter([b"a\tb\x1b[2", b"J\nlast \xff"]))
        assert capsys.readouterr().out == "a\tb\\x1b[2J\nlast \\xff\n"
        with pytest.raises(UsageError, match="is no text"):
            cat.print_text("/f", iter([b"a\0b"]))

    def test_diff(self, store: Store, capsys: Capture) -> None:
        put(store, BASE, name="one")
        put(store, BASE, [("d/a", FILE, "bb"), ("\x1bx", FILE, "")], name="two")
        diff.run(["one", "two"])
        said = capsys.readouterr()
        assert said.out.splitlines() == ["A /\\x1bx", "C /d/a  2 B (content)"]
        assert "1 added" in said.err and "1 changed (2 B)" in said.err
        diff.run(["two"])
        assert len(capsys.readouterr().out.splitlines()) == 2
        diff.run(["--json", "two", "one"])
        assert {row["kind"] for row in json.loads(capsys.readouterr().out)} == {"removed", "changed"}
        diff.run(["one", "one"])
        assert "no difference" in capsys.readouterr().err

    def test_blame(self, store: Store, capsys: Capture) -> None:
        put(store, BASE, [("d/a", FILE, "bb")], [(".wh.d", FILE, "")])
        blame.run(["--json", "app", "/d/a"])
        assert [row["change"] for row in json.loads(capsys.readouterr().out)] == ["removed", "changed", "added"]
        blame.run(["app", "/l"])
        assert len(capsys.readouterr().out.splitlines()) == 2
        with pytest.raises(UsageError, match="is not in the image"):
            blame.run(["app", "/never"])


@pytest.mark.parametrize("verb", [files_verb.run, cat.run, diff.run, blame.run])
def test_a_damaged_layer_is_told(store: Store, verb: Callable[[list[str]], int]) -> None:
    found = put(store, BASE)
    path = store.images.blob_path(found.manifest.layers[0].digest)
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(OrcaError):
        verb(["app"] if verb in (files_verb.run, diff.run) else ["app", "/d/a"])
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(OrcaError):
        verb(["app"] if verb in (files_verb.run, diff.run) else ["app", "/d/a"])
