"""Outputs: what the words mean, how layers become one tree, what is written and with which bytes."""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
import tarfile
from pathlib import Path

import pytest
from pytest_mock import MockerFixture
from support.fake_tools import FakeTools

from orca.cli.flags import annotations
from orca.cli.flags import outputs as words
from orca.errors import ImageError, OrcaError, ToolError, UsageError
from orca.events import Event, Warned
from orca.executor import annotate, layers, outputs, shapes, trees
from orca.executor.layers import Merged
from orca.executor.options import STDOUT, Annotation, Naming, Output
from orca.executor.squash import _emptied
from orca.oci import image
from orca.oci.image import LAYER, Descriptor, History, ImageConfig, Manifest
from orca.oci.index import Index
from orca.sources.access import Access
from orca.store.layout import Image, Layout
from orca.store.store import Store
from orca.tools.command import Runner

Entry = tuple[str, bytes, str]  # name, type, link or content


def info(name: str, kind: bytes = tarfile.REGTYPE, text: str = "", **more: object) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.mode, found.mtime = kind, 0o755 if kind == tarfile.DIRTYPE else 0o644, 7
    if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        found.linkname = text
    elif kind == tarfile.REGTYPE:
        found.size = len(text)
    for field, value in more.items():
        setattr(found, field, value)
    return found


def layer(path: Path, *entries: tuple[tarfile.TarInfo, str]) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for each, text in entries:
            archive.addfile(each, io.BytesIO(text.encode()))
    return path


def f(name: str, text: str = "x", **more: object) -> tuple[tarfile.TarInfo, str]:
    return info(name, text=text, **more), text


def d(name: str, **more: object) -> tuple[tarfile.TarInfo, str]:
    return info(name, tarfile.DIRTYPE, **more), ""


def link(name: str, target: str) -> tuple[tarfile.TarInfo, str]:
    return info(name, tarfile.LNKTYPE, target), ""


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, str]:
    return info(name, tarfile.SYMTYPE, target), ""


def merged(tmp_path: Path, *contents: list[tuple[tarfile.TarInfo, str]], whiteouts: bool = False) -> Merged:
    return Merged([layer(tmp_path / str(n), *each) for n, each in enumerate(contents)], whiteouts=whiteouts)


def packed(tree: Merged, *, root: bool = False) -> bytes:
    file = io.BytesIO()
    with trees.Archive(file) as archive:
        trees.write_archive(tree, archive, root=root)
    return file.getvalue()


def unpacked(data: bytes) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = {}
        for each in archive:
            content = archive.extractfile(each) if each.isreg() else None
            found[each.name] = (each, content.read() if content else b"")
        return found


class TestWords:
    @pytest.mark.parametrize(
        ("word", "wanted"),
        [
            ("out", Output("local", "{cwd}/out")),
            ("-", Output("tar", STDOUT)),
            ("type=tar", Output("tar", STDOUT)),
            ("type=local,dest=out", Output("local", "{cwd}/out")),
            ("type=cacheonly", Output("cacheonly")),
            ("type=oci,dest=x.tar,compression=zstd,compression-level=19,force-compression=true",
             Output("oci", "{cwd}/x.tar", compression="zstd", level=19, force=True)),
            ("type=docker,dest=x.tar,name=a", Output("docker", "{cwd}/x.tar", names=("localhost/a:latest",))),
            ('type=registry,"name=r.io/a,r.io/b:2"', Output("registry", names=("r.io/a:latest", "r.io/b:2"))),
            ("type=image,push=1,name=r.io/a,oci-mediatypes=false,registry.insecure=true",
             Output("image", names=("r.io/a:latest",), push=True, docker=True, insecure=True)),
            ("type=oci,annotation-index[x].a=b", None),
            ("type=oci,annotation.a.b=c=d,annotation-manifest-descriptor[linux/arm64].k=v",
             Output("oci", STDOUT, annotations=(Annotation("manifest", "a.b", "c=d"),
                                                Annotation("manifest-descriptor", "k", "v", "linux/arm64")))),
            ("oci:dir:tag", Output("transport", "oci:{cwd}/dir:tag")),
            ("oci:dir", Output("transport", "oci:{cwd}/dir:latest")),
            ("dir:a:b", Output("transport", "dir:{cwd}/a:b")),
            ("docker-archive:f:n:1", Output("transport", "docker-archive:{cwd}/f:n:1")),
            ("docker://r.io/x", Output("transport", "docker://r.io/x:latest")),
            ("docker-daemon:x:1", Output("transport", "docker-daemon:x:1")),
            ("oci:", None), ("bogus:x", None), ("type=bogus", None), ("type=oci,bogus=1", None), ("dest=x", None),
            ("type=local", None), ("type=oci,dest=x,compression=xz", None), ("type=oci,tar=false", None),
            ("type=oci,dest=x,compression-level=10", None), ("type=oci,dest=x,compression-level=-1", None),
            ("type=oci,tar=maybe", None), ("type=oci,dest=a,dest=b", None), ('type=oci,"dest=x', None),
            ("type=oci,dest=no/such/x", None), ("type=oci,dest=.", None), ("type=registry,push=true", None),
            ("docker://r.io/x@sha256:" + "0" * 64, None), ("docker://Bad Name", None), ("type=cacheonly,dest=x", None),
        ],
    )  # fmt: skip
    def test_one(self, word: str, wanted: Output | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        if wanted is None:
            with pytest.raises(UsageError):
                words.parse(word)
            return
        found = words.parse(word)
        assert found == Output(**{**vars(wanted), "dest": wanted.dest.replace("{cwd}", str(tmp_path))})

    def test_not_over_this_machine(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("/")
        for word in ("/", "//", "type=local,dest=/", "/tmp/..", f"{tmp_path}/link", "oci:/:x", "dir:/",
                     "type=oci,tar=false,dest=/"):  # fmt: skip
            with pytest.raises(UsageError, match="this machine's own") as caught:
                words.parse(word)
            assert caught.value.hint == "name a directory for them"

    @pytest.mark.parametrize("name", ["index.json", "oci-layout"])
    def test_not_into_a_layout_for_which_skopeo_would_wait(self, name: str, tmp_path: Path) -> None:
        place = tmp_path / "out"
        place.mkdir()
        asked = (f"oci:{place}:x", f"type=oci,tar=false,dest={place}", f"dest={place},tar=false,type=oci")
        (place / name).write_text("{}")
        for word in asked:
            assert str(place) in words.parse(word).dest
        (place / name).unlink()
        os.mkfifo(place / name)
        for word in asked:
            with pytest.raises(UsageError, match=f"{name} is not a regular file"):
                words.parse(word)
        assert words.parse(str(place)).kind == "local"  # there it is a file like any other

    def test_not_to_a_terminal(self, mocker: MockerFixture) -> None:
        mocker.patch("sys.stdout.isatty", return_value=True)
        with pytest.raises(UsageError, match="terminal"):
            words.parse("-")

    def test_a_push_goes_where_the_names_say(self) -> None:
        naming = Naming(tags=("r.io/a:1",))
        assert words.outputs([], naming, push=True) == (Output("registry", names=("r.io/a:1",)),)
        assert words.outputs(["type=image"], naming, push=True) == (Output("image", names=("r.io/a:1",), push=True),)
        for tags in ((), ("localhost/a:1",)):
            with pytest.raises(UsageError, match=r"name|registry"):
                words.outputs([], Naming(tags=tags), push=True)

    def test_what_does_not_go_together(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(words, "DOCKER_SOCKET", "/no/such/socket")
        for given, said in ((["-", "type=oci"], "only one"), (["type=oci,rewrite-timestamp=true"], "which time"),
                            (["type=docker"], "needs a name")):  # fmt: skip
            with pytest.raises(UsageError, match=said):
                words.outputs(given, Naming(), push=False)
        for word in ("type=docker,name=a", "docker-daemon:a:1"):
            with pytest.raises(OrcaError, match="daemon is not running here"):
                words.outputs([word], Naming(), push=False)
        assert words.outputs(["type=oci,rewrite-timestamp=true"], Naming(epoch=1), push=False)[0].rewrite_timestamp

    def test_annotations(self) -> None:
        assert annotations.parse(["a=b", "index,manifest[linux/arm64]:k=v:w", "a:b=c"]) == (
            Annotation("manifest", "a", "b"),
            Annotation("index", "k", "v:w"),
            Annotation("manifest", "k", "v:w", "linux/arm64"),
            Annotation("manifest", "a:b", "c"),
        )
        for bad in ("a", "=b", "manifest[no]:a=b", "index[linux/arm64]:a=b"):
            with pytest.raises(UsageError):
                annotations.parse([bad])


class TestMerged:
    def test_what_is_above_wins_and_hides(self, tmp_path: Path) -> None:
        tree = merged(
            tmp_path,
            [d("a"), f("a/old"), f("a/both", "1"), d("gone"), f("gone/x"), d("anew"), f("anew/old"), f("was-dir/x")],
            [f("a/both", "2"), f(".wh.gone", ""), d("anew"), f("anew/.wh..wh..opq", ""), f("anew/new"), f("was-dir")],
        )  # fmt: skip
        assert [node.path for node in tree.nodes] == ["a", "a/both", "a/old", "anew", "anew/new", "was-dir"]
        assert unpacked(packed(tree))["a/both"][1] == b"2"

    def test_a_whiteout_and_what_came_after_it(self, tmp_path: Path) -> None:
        tree = merged(tmp_path, [f("x", "1"), f("y")], [f(".wh.x", ""), f(".wh.y", "")], [f("x", "3")])
        assert {name: data for name, (_, data) in unpacked(packed(tree)).items()} == {"x": b"3"}

    def test_hard_links_keep_their_content_when_the_first_name_goes(self, tmp_path: Path) -> None:
        tree = merged(tmp_path, [f("a", "1"), link("b", "a"), link("c", "b")], [f("a", "2")])
        found = unpacked(packed(tree))
        assert (found["a"][1], found["b"][1]) == (b"2", b"1")
        assert (found["c"][0].type, found["c"][0].linkname) == (tarfile.LNKTYPE, "b")

    def test_a_link_to_nothing_is_refused(self, tmp_path: Path) -> None:
        for target in ("nowhere", "b"):
            with pytest.raises(ImageError, match="hard link /b"):
                merged(tmp_path, [link("b", target)])

    def test_whiteouts_stay_for_what_is_below(self, tmp_path: Path) -> None:
        tree = merged(
            tmp_path,
            [f(".wh.gone", ""), f(".wh.back", ""), f(".wh.dir", ""), f("x", "file")],
            [f("back"), d("dir"), f("dir/n"), f(".wh.x", ""), d("x"), d("o"),
             f("o/.wh..wh..opq", ""), f("o/.wh.in", "")],
            whiteouts=True,
        )  # fmt: skip
        assert [node.path for node in tree.nodes if node.marker] == [
            ".wh.gone", "dir/.wh..wh..opq", "o/.wh..wh..opq", "x/.wh..wh..opq",
        ]  # fmt: skip

    def test_names_stay_below_the_root(self, tmp_path: Path) -> None:
        tree = merged(tmp_path, [f("../../out"), f("/abs"), d("."), f("file"), f("file/below"), link("l", "/../abs")])
        assert [node.path for node in tree.nodes] == ["", "abs", "file", "l", "out"]

    def test_damage(self, tmp_path: Path) -> None:
        (tmp_path / "bad").write_bytes(b"x" * 2048)
        with pytest.raises(ImageError, match="damaged archive"):
            Merged([tmp_path / "bad"])


class TestArchive:
    def test_what_a_header_cannot_hold(self, tmp_path: Path) -> None:
        long = "d/" + "n" * 150
        value = b"\x01\x00\xff=\n"
        headers = {
            "SCHILY.xattr.user.a": value.decode("utf-8", "surrogateescape"),
            "SCHILY.xattr.user.overlay.opaque": "y",
        }
        tree = merged(
            tmp_path,
            [d("d"), f(long, "1", uid=3_000_000, pax_headers=headers), f("\udcff", "2"), symlink("s", "é" * 80),
             (info("dev", tarfile.CHRTYPE, devmajor=5, devminor=1, mtime=-5), ""), f("old", mtime=1.75)],
        )  # fmt: skip
        found = unpacked(packed(tree))
        assert (found[long][0].uid, found[long][1]) == (3_000_000, b"1")
        kept = {name: text for name, text in found[long][0].pax_headers.items() if "xattr" in name}
        assert {name: text.encode("utf-8", "surrogateescape") for name, text in kept.items()} == {
            "SCHILY.xattr.user.a": value
        }
        assert found["\udcff"][1] == b"2"
        assert found["s"][0].linkname == "é" * 80
        assert (found["dev"][0].devmajor, found["dev"][0].devminor, found["dev"][0].mtime) == (5, 1, -5)
        assert found["old"][0].mtime == 1

    def test_the_same_bytes_each_time(self, tmp_path: Path) -> None:
        one, two = (tmp_path / name for name in "12")
        one.mkdir(), two.mkdir()
        first = merged(one, [d("a"), f("a/x"), f("b")])
        second = merged(two, [f("b")], [f("a/x"), d("a")])
        assert packed(first) == packed(second)

    def test_the_root(self, tmp_path: Path) -> None:
        tree = merged(tmp_path, [d("./", mode=0o700), f("x")])
        assert unpacked(packed(tree)).keys() == {"x"}
        assert unpacked(packed(tree, root=True))["."][0].mode == 0o700


class TestDirectory:
    def write(self, tree: Merged, place: Path) -> list[Event]:
        told: list[Event] = []
        trees.write_directory(tree, place, told.append)
        return told

    def test_what_cannot_be_ours_is_left_out(self, tmp_path: Path) -> None:
        place = tmp_path / "place"
        place.mkdir()
        tree = merged(
            tmp_path,
            [
                d("d", mode=0o2555),
                f("d/x", mode=0o6755, uid=77),
                (info("dev", tarfile.BLKTYPE), ""),
                link("d/y", "dev"),
            ],
        )
        (told,) = self.write(tree, place)
        assert isinstance(told, Warned)
        assert "2 devices" in told.message
        found = (place / "d/x").stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_mtime) == (0o755, os.getuid(), 7)
        assert stat.S_IMODE((place / "d").stat().st_mode) == 0o555
        assert not (place / "dev").exists()

    def test_kinds_that_change(self, tmp_path: Path) -> None:
        place = tmp_path / "place"
        (place / "empty").mkdir(parents=True)
        (place / "file").write_text("old")
        (place / "hard").write_text("old")
        os.link(place / "hard", tmp_path / "elsewhere")
        tree = merged(tmp_path, [f("empty", "new"), d("file"), f("file/in", "new"), f("hard", "new")])
        self.write(tree, place)
        assert ((place / "empty").read_text(), (place / "file/in").read_text()) == ("new", "new")
        assert (tmp_path / "elsewhere").read_text() == "old"
        assert not [path for path in place.rglob("*") if path.name.startswith(".orca")]


class TestShapes:
    @pytest.fixture
    def made(self, tmp_path: Path) -> tuple[Store, Image]:
        store = Store.open(tmp_path / "store")
        plain = layer(tmp_path / "plain", f("x")).read_bytes()
        blob = store.images.put(gzip.compress(plain), f"{LAYER}+gzip")
        config = ImageConfig(architecture="arm64", diff_ids=(image.digest_of(plain),), history=(History(),))
        return store, store.images.put_image(Manifest(Descriptor("", "sha256:" + "0" * 64, 0), (blob,)), config)

    def shape(self, made: tuple[Store, Image], tmp_path: Path, output: Output) -> Image:
        store, found = made
        layout = Layout(tmp_path / "layout").create()
        _, (shaped,) = shapes.shape(output, found.descriptor, [found], layout, store, Runner())
        return shaped

    def test_nothing_asked_nothing_done(self, made: tuple[Store, Image], tmp_path: Path) -> None:
        assert self.shape(made, tmp_path, Output("oci", compression="gzip")) == made[1]

    def test_without_compression(self, made: tuple[Store, Image], tmp_path: Path) -> None:
        shaped = self.shape(made, tmp_path, Output("oci", compression="uncompressed"))
        assert [each.digest for each in shaped.manifest.layers] == list(made[1].config.diff_ids)
        assert shaped.manifest.layers[0].media_type == LAYER
        assert (tmp_path / "layout/blobs/sha256" / made[1].config.diff_ids[0].removeprefix("sha256:")).is_file()

    def test_gzip_anew_is_the_same_anywhere(self, made: tuple[Store, Image], tmp_path: Path) -> None:
        first = self.shape(made, tmp_path, Output("oci", level=9))
        assert first.manifest.layers != made[1].manifest.layers
        assert self.shape(made, tmp_path / "again", Output("oci", level=9)) == first

    def test_dockers_format(self, made: tuple[Store, Image], tmp_path: Path) -> None:
        shaped = self.shape(made, tmp_path, Output("oci", docker=True))
        assert shaped.descriptor.media_type == shaped.manifest.to_json()["mediaType"] == image.DOCKER_MANIFEST
        assert shaped.manifest.layers[0].media_type == "application/vnd.docker.image.rootfs.diff.tar.gzip"
        assert Manifest.from_json(shaped.manifest.to_json()).as_oci() == made[1].manifest
        with pytest.raises(UsageError, match="no annotations"):
            self.shape(made, tmp_path, Output("oci", docker=True, annotations=(Annotation("manifest", "a", "b"),)))
        zstd = Manifest(made[1].manifest.config, (Descriptor(f"{LAYER}+zstd", "sha256:" + "1" * 64, 1),))
        with pytest.raises(ImageError, match="zstd"):
            zstd.as_docker()

    def test_damaged_layers(self, made: tuple[Store, Image], tmp_path: Path) -> None:
        store, found = made
        path = store.images.blob_path(found.manifest.layers[0].digest)
        path.write_bytes(path.read_bytes()[:-9])
        pairs = list(zip(found.manifest.layers, found.config.diff_ids, strict=True))
        with pytest.raises(ImageError, match="damaged"):
            layers.unpack(pairs, store.images, tmp_path, Runner())
        path.write_bytes(gzip.compress(b"other"))
        with pytest.raises(ImageError, match="diff id"):
            layers.unpack(pairs, store.images, tmp_path, Runner())

    def test_a_skopeo_without_zstd_is_told(
        self, made: tuple[Store, Image], tmp_path: Path, fake_tools: FakeTools, mocker: MockerFixture
    ) -> None:
        fake_tools.answer("skopeo", "copy")
        mocker.patch.object(Layout, "index", return_value={"image": made[1].descriptor})
        mocker.patch.object(Layout, "image", return_value=made[1])
        mocker.patch.object(Layout, "verify")
        with pytest.raises(OrcaError, match="does not pack layers with zstd"):
            self.shape(made, tmp_path, Output("oci", compression="zstd", level=3))
        assert {"--dest-compress-format=zstd", "--dest-compress-level=3"} <= set(fake_tools.calls[0])

    def test_an_index(self, made: tuple[Store, Image], tmp_path: Path) -> None:
        store, found = made
        entry = Descriptor(image.MANIFEST, found.descriptor.digest, found.descriptor.size,
                           platform={"os": "linux", "architecture": "arm64"})  # fmt: skip
        index = store.images.put_index(Index((entry,)))
        layout = Layout(tmp_path / "layout").create()
        output = Output("oci", docker=True, annotations=())
        descriptor, _ = shapes.shape(output, index, [found], layout, store, Runner())
        assert descriptor.media_type == image.DOCKER_INDEX
        same, _ = shapes.shape(Output("oci"), index, [found], layout, store, Runner())
        assert same == index
        noted = annotate.index(
            Index((entry,)), annotations.parse(["index:a=b", "manifest-descriptor[linux/amd64]:c=d"])
        )
        assert (noted.annotations, noted.manifests[0].annotations) == ({"a": "b"}, {})

    def test_the_history_of_squashed_layers(self) -> None:
        entries = [History(created_by=name, empty_layer=name.isupper()) for name in "aBcDe"]
        assert [entry.empty_layer for entry in _emptied(tuple(entries), 1)] == [False, True, True, True, True]


class TestWriting:
    def test_a_failing_output_says_where_the_image_is(self, tmp_path: Path, mocker: MockerFixture) -> None:
        store = Store.open(tmp_path)
        product = outputs.Product(Descriptor(image.MANIFEST, "sha256:" + "1" * 64, 1), ())
        for error in (OSError(28, "No space left on device"), OrcaError("failed"), ToolError("failed")):
            mocker.patch("orca.executor.outputs._write", side_effect=error)
            with pytest.raises(OrcaError, match="the image itself is in the store: sha256:1111"):
                outputs.write_all([Output("oci")], product, store, Runner(), Access())

    def test_a_file_appears_when_it_is_whole(self, tmp_path: Path) -> None:
        place = tmp_path / "x"
        place.write_text("old")
        with pytest.raises(KeyError), outputs.opened(str(place)) as file:
            file.write(b"half")
            raise KeyError
        assert (place.read_text(), os.listdir(tmp_path)) == ("old", ["x"])
        with outputs.opened(str(place)) as file:
            file.write(b"new")
        assert (place.read_text(), os.listdir(tmp_path)) == ("new", ["x"])

    def test_a_fifo_is_written_to_as_it_is(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
        with outputs.opened(str(tmp_path / "fifo")) as file:
            file.write(b"data")
        assert os.read(reader, 10) == b"data"
        os.close(reader)


class TestAccess:
    def test_every_option_on_its_side(self, tmp_path: Path) -> None:
        access = Access("/a", None, tls_verify=True, cert_dir="/c")
        assert access.options("r", tmp_path) == ["--tls-verify=true", "--cert-dir=/c", "--authfile=/a"]
        assert access.copy_options("r", tmp_path, "dest") == [
            "--dest-tls-verify=true", "--dest-cert-dir=/c", "--dest-authfile=/a",
        ]  # fmt: skip

    def test_credentials_by_registry_and_never_shown(self, tmp_path: Path) -> None:
        access = Access(creds="me:secret", creds_for=frozenset({"a.example"}))
        assert "secret" not in repr(access)
        (one,) = access.options("a.example", tmp_path)
        assert access.options("b.example", tmp_path) == []
        path = Path(one.removeprefix("--authfile="))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert json.loads(path.read_text())["auths"].keys() == {"a.example"}
        assert access.options("", tmp_path) == []

    @pytest.mark.parametrize(
        ("said", "calls"),
        [("received unexpected HTTP status: 503", 3), ("connection reset by peer", 3), ("manifest unknown", 1),
         ("connection refused", 1)],
    )  # fmt: skip
    def test_again_for_what_may_pass(self, said: str, calls: int, mocker: MockerFixture) -> None:
        slept = mocker.patch("time.sleep")
        attempt = mocker.Mock(side_effect=ToolError("no", stderr=said))
        told: list[Event] = []
        with pytest.raises(ToolError):
            Access(retries=2, delay=0.5).again(attempt, told.append)
        assert attempt.call_count == calls
        assert [call.args for call in slept.call_args_list] == [(0.5,)] * (calls - 1)
        assert len(told) == calls - 1
