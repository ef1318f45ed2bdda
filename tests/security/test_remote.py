"""Hostile servers, repositories and contexts that come from elsewhere."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from security.conftest import Attack, harmless
from support import web
from support.hostile import directory, file, hard_link, link, special, tar, zeros
from support.proc import Result, run
from support.web import Repository, Web

SENTINEL = "S3NT1NEL"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile-remote")


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Web]:
    (place / "srv").mkdir()
    with web.serve(place / "srv") as served:
        yield served


@pytest.fixture
def build(attack: Attack) -> Callable[..., Result]:
    """`build("-", stdin=…)`: orca build, which must be harmless whatever it does."""

    def call(*words: str, stdin: bytes = b"") -> Result:
        result = attack.orca("build", "--progress=plain", *words, stdin=stdin, check=False, timeout=60)
        harmless(result)
        return result

    return call


def refused(attack: Attack, what: str, message: str, **more: dict[str, str]) -> Result:
    """As attack.refused, wherever the message was broken to fit."""
    return attack.refused(what, message.replace(" ", r"\s+"), **more)


def stored(store: Path, word: str) -> list[Path]:
    """The files of a store that hold a word, layers unpacked."""
    found = []
    for path in store.rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            if word.encode() in data or (data[:2] == b"\x1f\x8b" and word.encode() in _unzipped(path)):
                found.append(path)
    return found


def _unzipped(path: Path) -> bytes:
    import gzip

    with gzip.open(path) as plain:
        return plain.read()


def test_add_of_urls(attack: Attack, busybox: str, server: Web) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "file:///etc/passwd")
        handler.end_headers()
        while True:
            handler.wfile.write(bytes(1 << 16))

    def forever(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(bytes(1 << 16))

    server.table["/redirect"] = endless
    server.table["/forever"] = forever
    loop = server.put("/loop", "", 302, Location="/loop")
    refused(attack, f"FROM {busybox}\nADD {server.url('/redirect')} /x\n", "which is not followed")
    refused(attack, f"FROM {busybox}\nADD {loop} /x\n", "redirects more than 10 times")
    refused(
        attack, f"FROM {busybox}\nADD {server.url('/forever')} /x\n", "is larger than", env={"ORCA_MAX_DOWNLOAD": "8M"}
    )
    refused(attack, f"FROM {busybox}\nADD {server.put('/esc', '', 404)}\x1b]0;x /x\n", "blanks or controls|error")
    for word in ("file:///etc/passwd", "ftp://127.0.0.1/x"):
        refused(attack, f"FROM {busybox}\nADD {word} /x\n", "no such file or directory in the build context")


def test_names_come_from_the_url_alone(attack: Attack, busybox: str, server: Web, canary: Path) -> None:
    header = {"Content_Disposition": f'attachment; filename="../../../../..{canary}/PWN"'}
    one = server.put("/plain", "x", **header)
    two = server.put(f"/a%2F..%2F..%2F..{str(canary).replace('/', '%2F')}%2FPWN", "x", **header)
    for path in ("/", "/..", "/%2e%2e", "/%2E%2E"):  # however the library spells it
        server.put(path, "x")
    dots = server.url("/%2e%2e")
    attack.fine(f"FROM {busybox}\nADD {one} /d/\nADD {two} /d/\nADD {dots} /d/\nRUN ls -A /d | tr '\\n' , && "
                "test -f /d/plain -a -f /d/PWN -a -f /d/__unnamed__\n")  # fmt: skip


def test_credentials_are_written_nowhere(attack: Attack, busybox: str, server: Web, place: Path) -> None:
    made = Repository(place / "secret")
    made.commit({"f": "x", "sub/Dockerfile": f"FROM {busybox}\nCOPY . /\n"})
    made.publish(place / "srv/secret.git")
    server.put("/file", "content")
    url, git = server.url("/file", f"u:{SENTINEL}"), server.url("/secret.git", f"u:{SENTINEL}")
    server.requests.clear()
    attack.fine(f"FROM {busybox}\nADD {url} /x\nADD --keep-git-dir {git} /g/\n")
    assert "authorization" in server.requests[0][1]
    refused(attack, f"FROM {busybox}\nADD {url}none /x\n", "404")
    refused(attack, f"FROM {busybox}\nADD {git}#none /x\n", "no branch or tag")
    result = attack.orca("build", f"{git}#:sub", check=False)
    assert result.returncode == 0, str(result)
    for said in (result,):
        assert SENTINEL not in said.stderr
    assert stored(attack.orca.store, SENTINEL) == []


def test_refs_and_directories_of_repositories(
    attack: Attack, busybox: str, server: Web, place: Path, canary: Path
) -> None:
    made = Repository(place / "links")
    made.commit({"link": Path("/"), "up": Path("../../../../../../../.." + str(canary)), "d/f": "x",
                 "out": canary, "in": Path("d")})  # fmt: skip
    made.publish(place / "srv/links.git")
    url = server.url("/links.git")
    for subdir in ("link", "up", "out", "link/etc", "in/../../.."):
        message = "leads out of the repository|not inside the repository"
        refused(attack, f"FROM {busybox}\nADD {url}#main:{subdir} /x/\n", message)
    attack.fine(f"FROM {busybox}\nADD {url}#main:in /x/\nRUN test -f /x/f\n")
    marker = canary / "PWN"
    for ref in ("-u", f"--upload-pack=touch${{IFS}}{marker}", "-oProxyCommand=x"):
        refused(attack, f"FROM {busybox}\nADD {url}#{ref} /x/\n", "is not a git ref|error")
    for word in (f"ext::sh -c 'touch {marker}'", f"ssh://-oProxyCommand=touch${{IFS}}{marker}/x", f"-u{marker}@h:x"):
        attack(f'FROM {busybox}\nADD ["{word}", "/x/"]\n')
        result = attack.orca("build", word, check=False)
        assert result.returncode != 0


def test_submodules_and_configuration(attack: Attack, busybox: str, server: Web, place: Path, canary: Path) -> None:
    """Submodules with other protocols, hooks and filters: nothing of it is run."""
    local = Repository(place / "local")
    local.commit({"stolen": "x"})
    for name, target in (("ext", f"ext::sh -c touch% {canary}/PWN"), ("file", str(place / "local/.git"))):
        made = Repository(place / f"sub-{name}")
        made.git("submodule", "--quiet", "add", str(place / "local"), "lib")
        made.git("config", "-f", ".gitmodules", "submodule.lib.url", target)
        made.git("config", "-f", ".gitmodules", "submodule.lib.update", "checkout")
        made.commit({"f": "x"})
        made.publish(place / f"srv/sub-{name}.git")
        refused(attack, f"FROM {busybox}\nADD {server.url(f'/sub-{name}.git')} /x/\n", "protocol that is not spoken")
    filtered = Repository(place / "filtered")
    filtered.commit({".gitattributes": "* filter=evil\n", "f": "x", ".gitmodules": "x"})
    filtered.publish(place / "srv/filtered.git")
    home = place / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        f'[filter "evil"]\nsmudge = touch {canary}/PWN\n[core]\nhooksPath = {home}\nfsmonitor = touch {canary}/PWN\n'
    )
    hook = home / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {canary}/PWN\n")
    hook.chmod(0o755)
    attack(f"FROM {busybox}\nADD {server.url('/filtered.git')} /x/\n", env={"HOME": str(home)})


def test_tar_contexts(build: Callable[..., Result], busybox: str, canary: Path, attack: Attack) -> None:
    dockerfile = file("Dockerfile", f"FROM {busybox}\nCOPY . /c/\n".encode())
    up = "../../../../../../../.." + str(canary)
    for members in (
        [file(f"{up}/PWN")],
        [file(f"{canary}/PWN")],
        [link("l", canary), file("l/PWN")],
        [link("l", up), file("l/PWN"), directory("l", mode=0o777)],
        [hard_link("h", f"{canary}/file"), file("h", b"PWN")],
        [link(".", canary), file("PWN")],
        [directory("..", mode=0o777), directory("../..", mode=0)],
        [link("Dockerfile", canary / "file")],
        [link(".dockerignore", canary / "file")],
        [special("fifo", tarfile.FIFOTYPE)],
        [special("dev", tarfile.CHRTYPE, (1, 5))],
        [link("Dockerfile.dockerignore", "/dev/zero")],
        [file("\x1b]0;title\x07")],
    ):
        build("-", stdin=tar(dockerfile, *members))
    for path in attack.orca.store.glob("snapshots/*/fs/c/*"):
        assert not path.is_file() or "4242" not in path.read_text("latin-1"), path
    assert list((attack.orca.store / "work").iterdir()) == []


def test_a_context_that_grows(attack: Attack) -> None:
    result = attack.orca(
        "build", "-", stdin=zeros("zeros", 64 << 20), env={"ORCA_MAX_UNPACK": "8M"}, check=False, timeout=60
    )
    assert result.returncode == 125
    assert "unpacks to more than 8 MiB" in result.stderr


def test_the_dockerfile_of_a_context_from_elsewhere(
    build: Callable[..., Result], attack: Attack, busybox: str, canary: Path
) -> None:
    """-f and links in it never mean files of this machine."""
    data = tar(file("Dockerfile", f"FROM {busybox}\n".encode()), link("l", canary / "file"), link("d", canary))
    for name in ("l", "d/file", f"{canary}/file", "../../../../etc/passwd"):
        result = build("-f", name, "-", stdin=data)
        assert result.returncode == 2, str(result)
        assert re.search("leads out of the build context|there is no", result.stderr), str(result)
        assert "4242" not in result.stderr


def test_git_leaves_nothing_when_it_is_killed(attack: Attack, server: Web, place: Path) -> None:
    """A server that never answers: the interrupt ends git and what it started, and the tree is gone."""
    import signal
    import time

    def silent(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(8)

    server.table["/slow.git/info/refs?service=git-upload-pack"] = silent
    process = attack.orca.start("build", server.url("/slow.git"))
    deadline = time.monotonic() + 10
    while not server.count("/slow.git/info/refs?service=git-upload-pack") and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    assert list((attack.orca.store / "work").iterdir()) == []
    assert os.fspath(place) not in run("ps", "-eo", "args").out.replace(__file__, "")
