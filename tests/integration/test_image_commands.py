"""save, load, files, cat, diff, blame, history with the real tools, as root and as an ordinary user."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.images import Layout
from support.kitchen import BASE, Kitchen
from support.orca import Orca
from support.proc import run
from support.users import User

DOCKERFILE = f"""\
FROM {BASE}
HEALTHCHECK CMD /bin/true
RUN echo a > /a && ln -s /a /l && mkdir /d && echo f > /d/f
RUN rm -r /d && echo b > /b && chmod 600 /a
"""


def test_what_is_in_an_image(fresh: Kitchen) -> None:
    fresh.build(DOCKERFILE, "-t", "app")
    orca = fresh.orca
    assert orca("cat", "app", "/l").stdout == "a\n"
    assert orca("cat", "app@3", "d/f").stdout == "f\n"
    assert [line.split()[-1] for line in orca("files", "app@3", "/d").stdout.splitlines()] == ["/d/f"]
    assert orca("diff", "app@3", "app").stdout.splitlines() == ["C /a  2 B (mode)", "A /b  2 B", "D /d  2 B"]
    rows = json.loads(orca("blame", "--json", "app", "/d/f").stdout)
    assert [(row["step"], row["change"]) for row in rows] == [(4, "removed"), (3, "added")]
    rows = json.loads(orca("history", "--json", "app").stdout)
    assert "runc" in rows[0]["tools"] and "umoci raw add-layer" in rows[0]["tools"]
    for words in (("cat", "app", "/d"), ("cat", "app", "/d/f"), ("files", "app", "/no"), ("blame", "app", "/no")):
        result = orca(*words, check=False)
        assert (result.returncode, result.stdout) == (2, "")


@pytest.mark.parametrize("compress", ["", "zstd"])
def test_saved_and_loaded_again(fresh: Kitchen, open_path: Path, compress: str) -> None:
    built = fresh.build(DOCKERFILE, "-t", "app")
    archive, other = open_path / "app.tar", {"ORCA_ROOT": str(open_path / "other")}
    fresh.orca("save", "-q", "-o", archive, "app", BASE)
    if compress:
        run(compress, "-q", archive)
        archive = archive.with_suffix(".tar.zst")
    assert fresh.orca("load", "-i", archive, env=other).stdout.split() == ["localhost/app:latest", BASE]
    assert json.loads(fresh.orca("inspect", "app", env=other).stdout)[0]["digest"] == built.digest


def test_what_others_save_and_load(fresh: Kitchen, open_path: Path) -> None:
    built = fresh.build(DOCKERFILE, "-t", "app")
    fresh.orca("save", "-o", open_path / "docker.tar", "app")
    fresh.orca("save", "--format", "oci-archive", "-o", open_path / "oci.tar", "app")
    fresh.orca("save", "--format", "oci-dir", "-o", open_path / "layout", "app")
    inspected = run("skopeo", "inspect", "--raw", f"oci-archive:{open_path}/oci.tar").stdout
    assert json.loads(inspected) == built.manifest
    run("skopeo", "inspect", f"oci:{open_path}/layout:localhost/app:latest")
    # skopeo writes docker's older kind, whose layers have no compression.
    old = open_path / "old.tar"
    run("skopeo", "copy", "-q", f"docker-archive:{open_path}/docker.tar", f"docker-archive:{old}:short:1")
    other = {"ORCA_ROOT": str(open_path / "other")}
    assert fresh.orca("load", env=other, stdin=old.read_bytes()).stdout == "docker.io/library/short:1\n"
    assert fresh.orca("cat", "docker.io/library/short:1", "/b", env=other).stdout == "b\n"
    found = json.loads(fresh.orca("inspect", "docker.io/library/short:1", env=other).stdout)[0]["config"]["rootfs"]
    assert found == built.image["rootfs"]


def test_what_cannot_be_saved_or_loaded(orca: Orca, busybox: str, open_path: Path) -> None:
    (open_path / "text").write_text("no archive" * 1000)
    place = open_path / "place"
    place.mkdir()
    os.mkfifo(place / "index.json")
    for words, code, message in (
        (("save", "nothing"), 125, "no image 'nothing'"),
        (("save", "--format", "oci-dir", busybox), 2, "a directory cannot go to standard output"),
        (("save", "-o", place, busybox), 2, "is a directory"),
        # skopeo would wait for a FIFO for ever
        (("save", "--format", "oci-dir", "-o", place, busybox), 2, "index.json is not a regular file"),
        (("push", busybox, f"oci:{place}:x"), 2, "index.json is not a regular file"),
        (("load",), 2, "nothing came on standard input"),
        (("load", "-i", open_path / "text"), 125, "no archive of images"),
        (("load", "-i", open_path / "missing"), 2, "is not there"),
    ):
        result = orca(*words, check=False)
        assert result.returncode == code, result
        assert message in " ".join(result.stderr.split())
        assert result.stdout == ""


@pytest.mark.user
def test_as_an_ordinary_user(
    orca: Orca, busybox_layout: Layout, ordinary_user: User, open_path: Path, dockerfile_context: Callable[..., Path]
) -> None:
    orca.load(busybox_layout, BASE, ordinary_user)
    orca("build", "-q", "-t", "app", dockerfile_context(DOCKERFILE), user=ordinary_user)
    saved = orca("files", "--json", "-R", "app", user=ordinary_user).stdout
    assert "/b" in [row["path"] for row in json.loads(saved)]
    assert orca("cat", "app@3", "/d/f", user=ordinary_user).stdout == "f\n"
    assert "D /d  2 B" in orca("diff", "app", user=ordinary_user).stdout
