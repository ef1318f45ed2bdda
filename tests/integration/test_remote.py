"""ADD of URLs and of git repositories, with a server and a repository on loopback."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import web
from support.images import Layout
from support.kitchen import BASE, Kitchen
from support.users import User
from support.web import Repository, Web

MONDAY = "Mon, 06 Jan 2020 10:00:00 GMT"
MONDAY_SECONDS = 1578304800


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("remote")


@pytest.fixture(scope="module")
def repository(place: Path) -> Repository:
    """main: f, sub/y, run.sh, up -> / ; tag v1 one commit before, annotated; a branch feature/x."""
    made = Repository(place / "work")
    made.commit({"f": "one\n", "sub/y": "y\n", "run.sh": "#!/bin/sh\n"})
    (made.place / "run.sh").chmod(0o755)
    made.git("tag", "-a", "-m", "v1", "v1")
    made.git("branch", "feature/x")
    made.commit({"f": "two\n", "up": Path("/"), "inner": Path("sub")})
    made.publish(place / "srv/r.git")
    return made


@pytest.fixture(scope="module")
def server(place: Path, repository: Repository) -> Iterator[Web]:
    with web.serve(place / "srv") as served:
        yield served


@pytest.fixture(scope="module")
def daemon(place: Path, repository: Repository) -> Iterator[str]:
    with web.git_daemon(place / "srv", place / "git.log") as address:
        yield address


def flat(said: str) -> str:
    """What was said, without the line breaks that make it fit."""
    return " ".join(said.split())


def tar(tmp_path: Path, flag: str = "-cz") -> bytes:
    (tmp_path / "in/d").mkdir(parents=True, exist_ok=True)
    (tmp_path / "in/d/a").write_text("a")
    return subprocess.run(["tar", flag, "-C", tmp_path / "in", "d"], check=True, capture_output=True).stdout


def test_a_url(kitchen: Kitchen, server: Web, tmp_path: Path) -> None:
    url = server.put("/pub/file.txt", "hello", Last_Modified=MONDAY)
    packed = server.put("/a.tgz", tar(tmp_path))
    text = f"""FROM {BASE}
ADD {url} /d/
ADD {url} /named
ADD --chmod=755 --chown=7:8 {packed} /d/
ADD --unpack=true {packed} /unpacked/
ADD {server.put("/", "index")} /d/
"""
    built = kitchen.build(text)
    file = built.files["d/file.txt"]
    assert (file.text, file.permissions, file.owner, file.mtime) == ("hello", "600", (0, 0), MONDAY_SECONDS)
    assert built.files["named"].text == "hello"
    archive = built.files["d/a.tgz"]
    assert (archive.kind, archive.permissions, archive.owner, archive.mtime) == ("file", "755", (7, 8), 0)
    assert built.files["unpacked/d/a"].text == "a"
    assert built.files["d/__unnamed__"].text == "index"
    assert f"ADD {url} /d/ # orca" in built.history
    # One build asks once for each URL, and asks again whether it has changed.
    assert server.count("/pub/file.txt") == 1
    assert kitchen.build(text).digest == built.digest
    assert server.requests[-1][0] == "/"
    assert ("/pub/file.txt", MONDAY) in [(path, headers.get("if-modified-since")) for path, headers in server.requests]
    # Another time alone is no change; other bytes are.
    server.put("/pub/file.txt", "hello", Last_Modified="Tue, 07 Jan 2020 10:00:00 GMT")
    assert kitchen.build(text).digest == built.digest
    server.put("/pub/file.txt", "other", Last_Modified="Wed, 08 Jan 2020 10:00:00 GMT")
    assert kitchen.build(text).files["named"].text == "other"


def test_a_url_with_a_checksum(kitchen: Kitchen, server: Web) -> None:
    url = server.put("/sum", "content")
    right = hashlib.sha256(b"content").hexdigest()
    text = f"FROM {BASE}\nARG SUM={right}\nADD --checksum=sha256:$SUM {url} /x\n"
    built = kitchen.build(text)
    asked = len(server.requests)
    assert kitchen.build(text).digest == built.digest
    assert len(server.requests) == asked  # what it says is known already
    said = flat(kitchen.fails(f"FROM {BASE}\nADD --checksum=sha256:{'0' * 64} {url} /x\n"))
    assert f"has the checksum sha256:{right}, not sha256:{'0' * 64}" in said
    assert "Dockerfile:2" in said


def test_urls_that_fail(kitchen: Kitchen, server: Web) -> None:
    assert "404 Not Found" in kitchen.fails(f"FROM {BASE}\nADD {server.url('/nothing')} /x\n")
    said = kitchen.fails(f"FROM {BASE}\nADD {server.put('/big', bytes(5000))} /x\n", env={"ORCA_MAX_DOWNLOAD": "1K"})
    assert "is larger than 1024 bytes" in said
    assert "ORCA_MAX_DOWNLOAD=SIZE allows more" in said
    assert "COPY cannot copy from http" in kitchen.fails(f"FROM {BASE}\nCOPY {server.url('/big')} /x\n")


def test_a_proxy_is_asked(kitchen: Kitchen, server: Web) -> None:
    server.put("http://somewhere.invalid/x", "through the proxy")
    built = kitchen.build(f"FROM {BASE}\nADD http://somewhere.invalid/x /x\n", env={"http_proxy": server.url("")})
    assert built.files["x"].text == "through the proxy"


def test_git(kitchen: Kitchen, server: Web, daemon: str, repository: Repository) -> None:
    one, two = repository.git("rev-parse", "v1^{commit}"), repository.git("rev-parse", "main")
    smart, dumb = f"{daemon}/r.git", server.url("/r.git")
    text = f"""FROM {BASE}
ADD {smart} /head/
ADD {dumb}#v1 /v1
ADD {smart}#feature/x:sub /sub/
ADD --checksum={one[:12]} {smart}?tag=v1&subdir=sub /tag/
ADD {smart}#{one} /commit/
ADD --keep-git-dir=true --chown=7:8 --chmod=700 {dumb}#{two} /kept/
"""
    built = kitchen.build(text)
    files = built.files
    head = {name for name in files if name.startswith("head/")}
    assert head == {"head/f", "head/sub", "head/sub/y", "head/run.sh", "head/up", "head/inner"}
    assert (files["head/f"].text, files["v1/f"].text, files["commit/f"].text) == ("two\n", "one\n", "one\n")
    assert files["head/run.sh"].permissions == "755"
    assert files["head/f"].mtime == 1_700_000_000
    assert files["head/up"].target == "/"
    assert {name for name in files if name.startswith(("sub/", "tag/"))} == {"sub/y", "tag/y"}
    assert "kept/.git/HEAD" in files
    assert files["kept/f"].owner == (7, 8)
    assert files["kept/f"].permissions == "700"
    assert "kept/.git/hooks" not in files
    assert kitchen.build(text).digest == built.digest


def test_a_branch_moves(kitchen: Kitchen, place: Path, repository: Repository, daemon: str) -> None:
    text = f"FROM {BASE}\nADD {daemon}/r.git#moving:sub /x/\nRUN cat /x/y\n"
    repository.git("branch", "moving", "v1")
    repository.publish(place / "srv/r.git")
    first = kitchen.build(text)
    assert '"cached": true' in kitchen.build(text, "--progress=json").stderr
    repository.git("checkout", "-q", "moving")
    old = repository.git("rev-parse", "HEAD")
    new = repository.commit({"sub/y": "moved\n"})
    repository.git("checkout", "-q", "main")
    repository.publish(place / "srv/r.git")
    second = kitchen.build(text)
    assert (first.files["x/y"].text, second.files["x/y"].text) == ("y\n", "moved\n")
    pinned = text.replace("ADD", f"ADD --checksum={old}").replace("RUN cat /x/y\n", "")
    assert f"is the commit {new}, not {old}" in flat(kitchen.fails(pinned))


def test_submodules(kitchen: Kitchen, place: Path, daemon: str) -> None:
    inner, outer = Repository(place / "inner"), Repository(place / "outer")
    inner.commit({"in": "inside\n"})
    inner.publish(place / "srv/inner.git")
    outer.commit({"out": "outside\n"})
    outer.git("submodule", "--quiet", "add", f"{daemon}/inner.git", "lib")
    outer.git("config", "-f", ".gitmodules", "submodule.lib.url", "../inner.git")
    outer.commit({})
    outer.publish(place / "srv/outer.git")
    text = f"FROM {BASE}\nADD {daemon}/outer.git /with/\nADD {daemon}/outer.git?submodules=false /without/\n"
    files = kitchen.build(text).files
    assert files["with/lib/in"].text == "inside\n"
    assert "without/lib/in" not in files
    assert not any(".git" in name.split("/") for name in files)


def test_repositories_that_fail(kitchen: Kitchen, server: Web, daemon: str) -> None:
    smart = f"{daemon}/r.git"
    for words, message in (
        (f"{smart}#nothing", "the repository has no branch or tag 'nothing'"),
        (f"{smart}?tag=main", "the repository has no tag 'main'"),
        (f"{smart}#main:none", "the repository has no directory 'none'"),
        (f"{smart}#main:f", "the repository has no directory 'f'"),
        (f"{smart}#{'1' * 40}", "no commit|not our ref|git failed"),
        (f"{daemon}/none.git", "there is no such repository"),
        (server.url("/none.git"), "there is no such repository"),
        (f"{server.url('/r.git')}?x=1", "[?]x= means nothing to a git source"),
    ):
        said = flat(kitchen.fails(f"FROM {BASE}\nADD {words} /x/\n"))
        assert re.search(message, said), said
        assert "Dockerfile:2" in said


@pytest.mark.user
def test_as_an_ordinary_user(
    kitchen: Kitchen, server: Web, daemon: str, ordinary_user: User, busybox_layout: Layout
) -> None:
    kitchen.orca.load(busybox_layout, BASE, ordinary_user)
    url = server.put("/user", "for you")
    context = kitchen.context(f"FROM {BASE}\nADD {url} /x\nADD {daemon}/r.git /g/\nRUN cat /x /g/f\n")
    result = kitchen.orca("build", "--progress=plain", context, user=ordinary_user)
    assert "for you" in result.stderr
    assert "two" in result.stderr
