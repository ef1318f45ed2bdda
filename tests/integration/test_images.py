"""unpack and prune with the real tools: hostile layers, being killed, ordinary users, bundles that runc starts."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import signal
import stat
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from support.images import Layout
from support.leftovers import Leftovers
from support.orca import Orca
from support.proc import run
from support.users import User

from orca.oci import image
from orca.oci.image import ImageConfig, Manifest
from orca.store.store import Store

Members = Sequence[tuple[str, bytes, str]]
"""Name, kind (of tarfile), and content or link target of each entry of a layer."""


def layer(members: Members) -> bytes:
    """A tar archive with exactly these names, however bad they are."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, text in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = kind, 0o755
            if kind == tarfile.REGTYPE:
                entry.size = len(text)
            else:
                entry.linkname = text
            tar.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def put_image(root: Path, name: str, *layers: Members) -> str:
    """An image of such layers, in the store at `root`."""
    store = Store.open(root)
    tars = [layer(members) for members in layers]
    blobs = tuple(store.images.put(gzip.compress(tar, mtime=0), f"{image.LAYER}+gzip") for tar in tars)
    config = ImageConfig(
        architecture="amd64",
        cmd=("/bin/sh",),
        diff_ids=tuple(f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars),
    )
    placeholder = image.Descriptor("", "sha256:" + "0" * 64, 0)
    store.tag((name,), store.images.put_image(Manifest(placeholder, blobs), config).descriptor)
    return name


def owned_by(user: User, root: Path) -> None:
    """Give a store to a user."""
    if user.ids:
        for path in (root, *root.rglob("*")):
            os.chown(path, *user.ids, follow_symlinks=False)


class TestUnpack:
    def test_the_tree_is_the_image(self, orca: Orca, busybox: str, open_path: Path, leftovers: Leftovers) -> None:
        result = orca("unpack", "busybox", open_path / "root")
        assert result.stdout == ""
        assert (open_path / "root/bin/busybox").read_bytes()[:4] == b"\x7fELF"
        assert os.readlink(open_path / "root/bin/sh") == "busybox"
        assert stat.S_IMODE((open_path / "root/tmp").stat().st_mode) == 0o1777
        assert [path.name for path in open_path.glob(".root*")] == []
        leftovers.assert_none()

    @pytest.mark.root
    def test_owners_are_the_images(self, orca: Orca, busybox: str, open_path: Path) -> None:
        orca("unpack", "busybox", open_path / "root")
        assert (open_path / "root/home/app").stat().st_uid == 1000

    def test_into_an_empty_directory_but_no_other(self, orca: Orca, busybox: str, open_path: Path) -> None:
        (open_path / "empty").mkdir()
        orca("unpack", "busybox", "empty", cwd=open_path)
        assert (open_path / "empty/bin/busybox").exists()
        again = orca("unpack", "busybox", "empty", cwd=open_path, check=False)
        assert again.returncode == 2 and "is not empty" in again.stderr
        (open_path / "file").touch()
        assert orca("unpack", "busybox", open_path / "file", check=False).returncode == 2
        lost = orca("unpack", "busybox", open_path / "no/such", check=False)
        assert lost.returncode == 2 and "hint: mkdir -p" in lost.stderr

    def test_an_image_without_layers(self, orca: Orca, open_path: Path) -> None:
        put_image(orca.store, "localhost/nothing:latest")
        orca("unpack", "nothing", open_path / "root")
        assert os.listdir(open_path / "root") == []

    def test_a_missing_layer_is_told_before_anything_is_written(
        self, orca: Orca, busybox: str, open_path: Path
    ) -> None:
        manifest = json.loads(orca("inspect", "--raw", "busybox").stdout)
        digest = manifest["layers"][0]["digest"].removeprefix("sha256:")
        (orca.store / "images/blobs/sha256" / digest).unlink()
        failed = orca("unpack", "busybox", open_path / "root", check=False)
        assert failed.returncode == 125 and "missing" in failed.stderr
        assert not (open_path / "root").exists()

    @pytest.mark.parametrize(
        "layers",
        [
            [[("../../escape", tarfile.REGTYPE, "x")]],
            [[("/../../../../../../{outside}/escape", tarfile.REGTYPE, "x")]],
            [[("out", tarfile.SYMTYPE, "{outside}"), ("out/escape", tarfile.REGTYPE, "x")]],
            [[("out", tarfile.SYMTYPE, "{outside}")], [("out/escape", tarfile.REGTYPE, "x")]],
            [[("out", tarfile.SYMTYPE, "../../../../../../../..{outside}"), ("out/escape", tarfile.REGTYPE, "x")]],
            [[("out", tarfile.SYMTYPE, "{outside}")], [("out/.wh.precious", tarfile.REGTYPE, "")]],
            [[("out", tarfile.SYMTYPE, "{outside}")], [("out/.wh..wh..opq", tarfile.REGTYPE, "")]],
            [[(".wh...", tarfile.REGTYPE, "")]],
            [[("hard", tarfile.LNKTYPE, "{outside}/precious"), ("hard", tarfile.REGTYPE, "changed")]],
            [[("out", tarfile.SYMTYPE, "{outside}/precious"), ("hard", tarfile.LNKTYPE, "out")]],
            [[(".", tarfile.SYMTYPE, "{outside}")], [("escape", tarfile.REGTYPE, "x")]],
        ],
        ids=lambda layers: "+".join(name for members in layers for name, _, _ in members).replace("/", "|"),
    )
    def test_a_hostile_layer_reaches_nothing_outside(
        self, layers: Sequence[Members], orca: Orca, open_path: Path
    ) -> None:
        outside = open_path / "outside"
        outside.mkdir()
        (outside / "precious").write_text("gold")
        filled = [
            [(name.replace("{outside}", str(outside)), kind, text.replace("{outside}", str(outside)))
             for name, kind, text in members]
            for members in layers
        ]  # fmt: skip
        put_image(orca.store, "localhost/evil:latest", *filled)
        target = open_path / "target"
        target.mkdir()
        done = orca("unpack", "evil", target / "root", check=False)
        assert done.returncode in (0, 125) and "Traceback" not in done.stderr
        assert os.listdir(outside) == ["precious"]
        assert (outside / "precious").read_text() == "gold"
        assert (outside / "precious").stat().st_nlink == 1
        assert set(os.listdir(target)) <= {"root"}
        assert "escape" not in os.listdir(open_path)

    def test_killed_in_the_middle(self, orca: Orca, busybox: str, open_path: Path, leftovers: Leftovers) -> None:
        slow = open_path / "slow"
        slow.mkdir()
        (slow / "umoci").write_text(
            '#!/bin/sh\nfor last; do :; done\nmkdir "$last"\necho half > "$last/half"\nsleep 100\n'
        )
        (slow / "umoci").chmod(0o755)
        path = f"{slow}:{os.environ['PATH']}"
        for number in (signal.SIGKILL, signal.SIGTERM):
            process = orca.start("unpack", "busybox", open_path / "root", env={"PATH": path})
            deadline = time.monotonic() + 20
            while not list(open_path.glob(".root*/new/half")) and time.monotonic() < deadline:
                time.sleep(0.05)
            assert list(open_path.glob(".root*/new/half")), orca.log.read_text()
            process.send_signal(number)
            process.wait(20)
            assert not (open_path / "root").exists()
        orca("unpack", "busybox", open_path / "root")
        assert not (open_path / "root/half").exists()
        assert list(open_path.glob(".root*")) == []
        leftovers.assert_none()


class TestBundle:
    DOCKERFILE = """FROM busybox
RUN mkdir -p /data && chown app /data
ENV GREETING=hello
WORKDIR /data
USER app
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["echo $GREETING $(pwd) $(id -un) $HOME; touch here && echo written; grep -c . /proc/net/dev"]
"""

    def build(self, orca: Orca, user: User, layout: Layout, context: Path) -> None:
        orca.load(layout, "localhost/busybox:latest", user)
        orca("build", "-q", "-t", "app", context, user=user)

    def check(self, said: str) -> None:
        lines = said.splitlines()
        assert lines[:2] == ["hello /data app /home/app", "written"]
        assert lines[2] == "3", "its own network has a loopback device and nothing else"

    @pytest.mark.root
    def test_root_and_plain_runc(
        self, orca: Orca, busybox: str, dockerfile_context: Callable[..., Path], open_path: Path
    ) -> None:
        orca("build", "-q", "-t", "app", dockerfile_context(self.DOCKERFILE))
        told = orca("unpack", "--bundle", "app", open_path / "box")
        assert f"runc run --bundle {open_path}/box" in told.stderr
        assert stat.S_IMODE((open_path / "box").stat().st_mode) == 0o700
        self.check(
            run("runc", "--root", open_path / "state", "run", "--bundle", open_path / "box", f"t{os.getpid()}").out
        )
        config = json.loads((open_path / "box/config.json").read_text())
        assert len(config["process"]["capabilities"]["bounding"]) == 14
        assert config["linux"]["resources"]["devices"] == [{"allow": False, "access": "rwm"}]
        assert {"type": "network"} in config["linux"]["namespaces"]

    @pytest.mark.user
    def test_an_ordinary_user_and_plain_runc(
        self,
        orca: Orca,
        ordinary_user: User,
        busybox_layout: Layout,
        dockerfile_context: Callable[..., Path],
        open_path: Path,
    ) -> None:
        self.build(orca, ordinary_user, busybox_layout, dockerfile_context(self.DOCKERFILE))
        mine = ordinary_user.own_directory(open_path / "mine")
        told = orca("unpack", "--bundle", "app", mine / "box", user=ordinary_user)
        assert "subordinate ids" in told.stderr
        state = ordinary_user.own_directory(open_path / "state")
        said = ordinary_user.run("runc", "--root", state, "run", "--bundle", mine / "box", f"u{os.getpid()}")
        self.check(said.out)
        assert (mine / "box/rootfs/data/here").lstat().st_uid not in (0, 1000)

    def test_a_terminal_only_when_asked_for(self, orca: Orca, busybox: str, open_path: Path) -> None:
        for options, wanted in (((), False), (("--tty",), True)):
            place = open_path / f"box{wanted}"
            orca("unpack", "--bundle", *options, "busybox", place)
            assert json.loads((place / "config.json").read_text())["process"]["terminal"] is wanted

    @pytest.mark.parametrize("name", ["dev", "proc", "sys"])
    def test_mount_points_that_lead_elsewhere_are_refused(self, name: str, orca: Orca, open_path: Path) -> None:
        put_image(orca.store, "localhost/evil:latest", [(name, tarfile.SYMTYPE, "/etc")])
        failed = orca("unpack", "--bundle", "evil", open_path / "box", check=False)
        assert failed.returncode == 125 and f"/{name} in the image is not a directory" in failed.stderr
        assert not (open_path / "box").exists()
        assert list(open_path.glob(".box*")) == []

    def test_users_are_the_images_own(
        self, orca: Orca, busybox: str, dockerfile_context: Callable[..., Path], open_path: Path
    ) -> None:
        """A passwd that is a link to a path of the host is looked up in the image."""
        text = "FROM busybox\nRUN rm /etc/passwd && ln -s /etc/hostname-not-there /etc/passwd\nUSER app\n"
        orca("build", "-q", "-t", "app", dockerfile_context(text))
        failed = orca("unpack", "--bundle", "app", open_path / "box", check=False)
        assert failed.returncode == 125 and "no user 'app' in the image" in failed.stderr


class TestPrune:
    def test_a_build_is_as_cached_as_before_and_the_image_as_whole(
        self, orca: Orca, busybox: str, dockerfile_context: Callable[..., Path], open_path: Path, leftovers: Leftovers
    ) -> None:
        context = dockerfile_context("FROM busybox\nRUN echo one > /one\nRUN echo two > /two\n")
        first = orca("build", "-q", "-t", "app", context).out
        orca("prune")
        again = orca("build", "--progress", "plain", "-t", "app", context)
        assert again.out == first and again.stderr.count("CACHED") == 3
        orca("prune", "--all")
        assert os.listdir(orca.store / "snapshots") == []
        orca("unpack", "app", open_path / "root")
        assert (open_path / "root/two").read_text() == "two\n"
        run("skopeo", "copy", f"oci:{orca.store}/images:localhost/app:latest", f"oci:{open_path}/copy:app")
        orca("rm", "--all")
        orca("prune", "--all")
        assert os.listdir(orca.store / "images/blobs/sha256") == []
        leftovers.assert_none()

    @pytest.mark.user
    def test_an_ordinary_users_snapshots(
        self, orca: Orca, ordinary_user: User, busybox_layout: Layout, dockerfile_context: Callable[..., Path]
    ) -> None:
        """They belong to subordinate ids and may be closed even to their owner."""
        orca.load(busybox_layout, "localhost/busybox:latest", ordinary_user)
        deep = "/".join(["d"] * 700)
        text = (
            f"FROM busybox\nRUN mkdir -p /secret/in /{deep} && chown -R 33:33 /secret && chmod 0 /secret/in /secret\n"
        )
        orca("build", "-q", "-t", "app", dockerfile_context(text), user=ordinary_user)
        store = orca.store_of(ordinary_user)
        assert os.listdir(store / "snapshots")
        value = json.loads(orca("prune", "--all", "--json", user=ordinary_user).stdout)
        assert value["kinds"]["snapshots"]["count"] >= 2 and value["bytes"] > 1_000_000
        assert os.listdir(store / "snapshots") == [] == os.listdir(store / "work")
        assert orca("images", "-q", user=ordinary_user).out
