"""Hostile layers in OSTree storage: nothing outside the repository changes, trees are as in the other storage."""

from __future__ import annotations

import json
import os
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import need
from security.conftest import BOUND, Attack, harmless
from security.test_base_images import MARKS, _whole
from support.hostile import HostileRegistry, Image, directory, file, hard_link, link, special, tar
from support.listing import listing
from support.proc import Result
from support.users import User

Base = Callable[..., str]
OSTREE = "--storage=ostree"
CAP_NET_RAW = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0).decode("utf-8", "surrogateescape")


@pytest.fixture(autouse=True)
def _ostree() -> None:
    need("ostree")


def call(attack: Attack, *argv: str | os.PathLike[str], user: User | None = None) -> Result:
    result = attack.orca(*argv, user=user, check=False, timeout=BOUND)
    harmless(result)
    assert result.returncode in (0, 1, 2, 125, 126, 127), str(result)
    return result


def trees(attack: Attack, image: str, place: Path, user: User | None) -> list[Path]:
    """The image unpacked from both storages."""
    place.mkdir()
    place.chmod(0o777)
    for command in (("pull", "-q", OSTREE), ("pull", "-q")):
        assert call(attack, *command, image, user=user).returncode == 0
    result = []
    for name, options in (("ostree", (OSTREE,)), ("oci", ())):
        done = call(attack, "unpack", "-q", *options, image, place / name, user=user)
        assert done.returncode == 0, str(done)
        result.append(place / name)
    return result


@pytest.mark.parametrize("name", list(_whole(Path("/x"))))
def test_layer(attack: Attack, base: Base, canary: Path, name: str) -> None:
    """Imported or refused with a reason; what is imported runs, and writes where it should."""
    image = base(tar(*_whole(canary)[name]))
    pulled = call(attack, "pull", OSTREE, image)
    assert (pulled.returncode == 0) == ("error:" not in pulled.stderr), str(pulled)
    script = "ls -la / /l/; cat /h /l/file 2>/dev/null; echo PWN >/h; echo PWN >/l/PWN; true"
    ran = call(attack, "run", "--network=none", OSTREE, image, "sh", "-c", script)
    assert "4242" not in ran.stdout + ran.stderr
    assert (pulled.returncode == 0) or ran.returncode == 125


def test_the_same_tree_for_everybody(attack: Attack, base: Base, canary: Path, who: User | None) -> None:
    """Oddities of several layers: kinds that change, links across layers, attributes, names that are not UTF-8."""
    bad = b"\xff\xfe".decode("utf-8", "surrogateescape")
    marks = {f"SCHILY.xattr.{name}": value for name, value in MARKS.items()}
    one = tar(
        directory("d", mode=0o2751), file("d/a", b"a", mode=0o4711), file("d/b"), link("usr/l", "/d"),
        directory("becomes-file"), file("becomes-file/x"), file("becomes-directory"), link("becomes-d", "d"),
        special("fifo", tarfile.FIFOTYPE), special("device", tarfile.CHRTYPE, (1, 3)),
        special("null", tarfile.CHRTYPE, (0, 0)), file("hidden/x"), directory("opaque"), file("opaque/x"),
        file("capable", mode=0o755, **{"SCHILY.xattr.security.capability": CAP_NET_RAW}),
        file("attributes", **{"SCHILY.xattr.user.a": "b\x01"}), directory("marked", pax=marks), file("marked/x"),
        file("empty", b""), hard_link("empty2", "empty"), hard_link("d/h", "d/a"), file("-x\n\x1b[0m"),
    )  # fmt: skip
    two = tar(
        file("becomes-file", b"f"), directory("becomes-directory"), file("becomes-directory/y"),
        directory("becomes-d", mode=0o700), file("usr/l/through"), hard_link("late", "d/a"), directory("d", mode=0o711),
        file("missing/.wh.x"), file("usr/l/.wh.b"), link("dangling", "nowhere"), file("dangling/.wh..wh..opq"),
        file("hidden/.wh.x"), file("opaque/.wh..wh..opq"), file("opaque/z"), file(".wh.fifo"), file("d/.wh.none"),
    )  # fmt: skip
    three = tar(file("hidden", b"now a file"), special("d/fifo", tarfile.FIFOTYPE), link("device", canary / "file"))
    names = tar(file(f"n{bad}", b"x"), link(f"l{bad}", f"to{bad}"), directory(f"d{bad}"), file(f"d{bad}/f"))
    place = attack.orca.top / "trees"
    ostree, oci = trees(attack, base(one, two, three, names), place, who)
    assert listing(ostree, who) == listing(oci, who)
    found = listing(ostree, who)
    attributes = {name for facts in found.values() for part in facts if isinstance(part, dict) for name in part}
    assert attributes == {"user.a", "security.capability"}
    assert not any("/.wh." in name for name in found)


def test_a_layer_that_is_not_what_the_config_says(attack: Attack, evil: HostileRegistry, busybox_tar: bytes) -> None:
    """Diff ids are checked at the import, and again for a layer that is there under another image's name."""
    first = evil.add("right", Image((busybox_tar, tar(file("x")))))
    assert call(attack, "pull", OSTREE, first).returncode == 0

    def lie(config: dict[str, object], manifest: dict[str, object]) -> None:
        config["rootfs"] = {"type": "layers", "diff_ids": [f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"]}

    for layers in ((busybox_tar, tar(file("x"))), (tar(file("y")), tar(file("z")))):
        image = evil.add("lies", Image(layers, edit=lie))
        done = call(attack, "pull", OSTREE, image)
        assert done.returncode == 125
        assert "does not match its diff id" in done.stderr
    assert len(json.loads(call(attack, "images", OSTREE, "--json").stdout)) == 1


@pytest.mark.parametrize(
    ("diff_ids", "message"),
    [(["sha256:../../../x"], "digest"), ([], "diff ids"), (["sha256:" + "A" * 64], "digest")],
)
def test_bad_diff_ids(attack: Attack, evil: HostileRegistry, diff_ids: list[str], message: str) -> None:
    def lie(config: dict[str, object], manifest: dict[str, object]) -> None:
        config["rootfs"] = {"type": "layers", "diff_ids": diff_ids}

    done = call(attack, "pull", OSTREE, evil.add("bad", Image((tar(file("x")),), edit=lie)))
    assert done.returncode == 125
    assert message in done.stderr


def test_a_bomb(attack: Attack, base: Base) -> None:
    attack.orca.env["ORCA_MAX_UNPACK"] = "3M"
    done = call(attack, "pull", OSTREE, base(tar(file("zeros", bytes(8 << 20)))))
    assert done.returncode == 125
    assert "unpacks to more than" in done.stderr
    assert call(attack, "images", OSTREE, "-q").stdout == ""


def test_a_container_cannot_reach_the_repository(attack: Attack, base: Base, who: User | None) -> None:
    """Root in the container owns the files that are hard links into the repository: what it writes is copied first."""
    image = base(tar(file("bin/s", b"#!/bin/sh\n", mode=0o4755), file("x", b"same"), file("y", b"same")))
    for _ in (1, 2):
        script = "cat /x /y; echo PWN >>/x; chmod 777 /bin/s; chown 7 /y; ln /x /z; setfattr -n user.a -v b /y; true"
        done = call(attack, "run", "--network=none", OSTREE, image, "sh", "-c", script, user=who)
        assert done.stdout == "samesame", str(done)
    repo = attack.orca.store_of(who) / "ostree/repo"
    inside = ("unshare", "--map-root-user", "--map-auto") if who else ()
    from support.users import myself

    (who or myself()).run(*inside, "ostree", "fsck", f"--repo={repo}")


def test_the_repository_is_out_of_reach(attack: Attack, base: Base, ordinary_user: User) -> None:
    """A set-uid file of an image is nobody's way to another user's rights."""
    image = base(tar(file("bin/s", mode=0o4755)))
    assert call(attack, "run", "--network=none", OSTREE, image, "true").returncode == 0
    store = attack.orca.store / "ostree"
    found = [path for path in store.rglob("*") if path.is_file() and path.stat().st_mode & 0o4000]
    assert len(found) >= 2
    for path in found:
        assert ordinary_user.run("ls", path, check=False).returncode != 0
