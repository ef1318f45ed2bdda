"""Build contexts that are no directory, named contexts, ignore files."""

from __future__ import annotations

import io
import lzma
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import web
from support.images import Layout
from support.kitchen import BASE, Kitchen
from support.proc import Result
from support.users import User
from support.web import Repository, Web

TEXT = f"FROM {BASE}\nCOPY . /c/\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("contexts")


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Web]:
    (place / "srv").mkdir()
    with web.serve(place / "srv") as served:
        yield served


@pytest.fixture(scope="module")
def repository(place: Path, server: Web) -> str:
    """A repository's URL. main: a Dockerfile, a file f, sub with a Dockerfile of its own."""
    made = Repository(place / "work")
    made.commit({
        "Dockerfile": TEXT, "f": "f\n", ".dockerignore": "hidden\n", "hidden": "", "sub/Dockerfile": TEXT, "sub/y": "",
        "other.Dockerfile": f"FROM {BASE}\nCOPY f /other\n", "out": Path("/"),
    })  # fmt: skip
    made.publish(place / "srv/r.git")
    return server.url("/r.git")


def tar(files: dict[str, str], kind: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{kind}") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.uid, info.mtime = len(text), 12345678, 1_600_000_000
            archive.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def flat(said: str) -> str:
    return " ".join(said.split())


def build(kitchen: Kitchen, *words: str, stdin: bytes | str = b"", check: bool = True, **more: object) -> Result:
    return kitchen.orca("build", *words, stdin=stdin, check=check, **more)  # type: ignore[arg-type]


def files(kitchen: Kitchen, *words: str, stdin: bytes | str = b"") -> dict[str, str]:
    """What a build puts below /c."""
    from support.built import Built

    result = build(kitchen, *words, stdin=stdin)
    built = Built(kitchen.orca.store / "images", result.out, result)
    built.check()
    found = {name.removeprefix("c/"): file for name, file in built.files.items() if name.startswith("c/")}
    assert all(file.owner == (0, 0) for file in found.values())
    return {name: file.text for name, file in found.items() if file.kind == "file"}


def refused(kitchen: Kitchen, *words: str, stdin: bytes | str = b"", code: int = 2) -> str:
    result = build(kitchen, *words, stdin=stdin, check=False)
    assert result.returncode == code, result
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert "bug in orca" not in result.stderr, result
    return flat(result.stderr)


def scratch(kitchen: Kitchen) -> list[Path]:
    return list((kitchen.orca.store / "work").iterdir())


# --- standard input


@pytest.mark.parametrize("kind", ["", "gz", "bz2", "xz", "zst"])
def test_a_tar_on_standard_input(kitchen: Kitchen, kind: str) -> None:
    content = {"Dockerfile": TEXT, "f": kind, "d/x": "x", "d/skip.o": "", ".dockerignore": "**/*.o\nDockerfile\n"}
    if kind == "zst":
        data = subprocess.run(["zstd", "-qc"], input=tar(content), capture_output=True, check=True).stdout
    else:
        data = tar(content, kind)
    assert files(kitchen, "-", stdin=data) == {"f": kind, "d/x": "x", ".dockerignore": content[".dockerignore"]}
    assert scratch(kitchen) == []


def test_a_dockerfile_on_standard_input(kitchen: Kitchen) -> None:
    assert build(kitchen, "-", stdin=f"FROM {BASE}\nENV A=1\n").out.startswith("sha256:")
    said = refused(kitchen, "-", stdin=TEXT, code=125)
    assert "there is no build context to copy from" in said
    assert "Dockerfile:2" in said
    context = kitchen.context({"f": "here"})
    assert files(kitchen, "-f", "-", str(context), stdin=TEXT) == {"f": "here"}


def test_standard_input_that_cannot_be_used(kitchen: Kitchen) -> None:
    assert "-f names another" in refused(kitchen, "-f", "x", "-", stdin=TEXT)
    assert "cannot both come from standard input" in refused(kitchen, "-f", "-", "-", stdin=tar({"f": ""}))
    assert "there is no Dockerfile in -" in refused(kitchen, "-", stdin=tar({"f": ""}))
    assert "there is no nothing in -" in refused(kitchen, "-f", "nothing", "-", stdin=tar({"f": ""}))
    assert "damaged archive" in refused(kitchen, "-", stdin=lzma.compress(b"no tar")[:40] + bytes(600), code=125)
    assert "damaged archive" in refused(kitchen, "-", stdin=b"\x1f\x8b" + bytes(600), code=125)
    assert scratch(kitchen) == []


# --- git and URLs


def test_a_git_context(kitchen: Kitchen, repository: str) -> None:
    whole = files(kitchen, repository)
    assert whole["f"] == "f\n"
    assert "hidden" not in whole
    assert not any(name.startswith(".git/") for name in whole)
    assert set(files(kitchen, f"{repository}#main:sub")) == {"Dockerfile", "y"}
    assert build(kitchen, "-f", "other.Dockerfile", repository).out.startswith("sha256:")
    # A Dockerfile of ours, on the repository's files.
    assert set(files(kitchen, "-f", "-", f"{repository}#:sub", stdin=TEXT)) == {"Dockerfile", "y"}
    assert scratch(kitchen) == []
    # -f means a file of the context, not of this machine.
    mine = kitchen.context(TEXT) / "Dockerfile"
    assert "there is no" in refused(kitchen, "-f", str(mine), repository)
    assert "no branch or tag 'none'" in refused(kitchen, f"{repository}#none", code=125)
    assert "leads out of the repository" in refused(kitchen, f"{repository}#main:out", code=125)
    assert "is not a git ref" in refused(kitchen, f"{repository}#-u")


def test_contexts_at_urls(kitchen: Kitchen, server: Web) -> None:
    url = server.put("/c.tar.gz", tar({"Dockerfile": TEXT, "f": "from afar"}, "gz"))
    assert files(kitchen, url)["f"] == "from afar"
    alone = server.put("/Dockerfile", f"FROM {BASE}\nENV B=1\n")
    assert build(kitchen, alone).out.startswith("sha256:")
    assert "404" in refused(kitchen, server.url("/none"), code=125)


@pytest.mark.user
def test_contexts_of_an_ordinary_user(
    kitchen: Kitchen, server: Web, repository: str, ordinary_user: User, busybox_layout: Layout
) -> None:
    kitchen.orca.load(busybox_layout, BASE, ordinary_user)
    text = f"{TEXT}RUN cat /c/f\n"
    url = server.put("/user.tar", tar({"Dockerfile": text, "f": "afar"}))
    stdin = tar({"Dockerfile": text, "f": "piped"}, "gz")
    assert "piped" in build(kitchen, "--progress=plain", "-", stdin=stdin, user=ordinary_user).stderr
    assert "afar" in build(kitchen, "--progress=plain", url, user=ordinary_user).stderr
    assert build(kitchen, repository, user=ordinary_user).out.startswith("sha256:")
    assert list((kitchen.orca.store_of(ordinary_user) / "work").iterdir()) == []


# --- named contexts


def test_named_directories(kitchen: Kitchen) -> None:
    named = kitchen.context({"a": "A", "d/b": "B", "x.o": "", ".dockerignore": "*.o\n"})
    text = f"""FROM src AS first
FROM {BASE}
COPY --from=src . /c/
COPY --from=first /d/b /c/first
RUN --mount=from=src,target=/m cp /m/a /c/mounted && ! test -e /m/x.o
"""
    option = f"--build-context=src={named}"
    context = str(kitchen.context(text))
    found = files(kitchen, option, context)
    assert found == {".dockerignore": "*.o\n", "a": "A", "d/b": "B", "first": "B", "mounted": "A"}
    before = build(kitchen, option, context)
    assert "nothing cached" not in before.stderr
    assert "all cached" in before.stderr
    (named / "a").write_text("changed")
    assert files(kitchen, option, context)["mounted"] == "changed"


def test_named_contexts_win_over_stages_and_images(kitchen: Kitchen) -> None:
    named = kitchen.context({"who": "context"})
    text = f"""FROM {BASE} AS Mine
RUN exit 3
FROM {BASE}
COPY --from=mine /who /c/stage
COPY --from=0 /who /c/number
COPY --from=some.registry/image:latest /who /c/image
"""
    words = [f"--build-context=MINE={named}", f"--build-context=some.registry/image={named}"]
    assert files(kitchen, *words, str(kitchen.context(text))) == dict.fromkeys(("stage", "number", "image"), "context")


def test_named_images(kitchen: Kitchen, busybox_layout: Layout, server: Web, repository: str) -> None:
    url = server.put("/named.tar.xz", tar({"in": "archive"}, "xz"))
    single = server.put("/dir/single", "one file")
    text = """FROM base
RUN echo hi > /ran
FROM laid
COPY --from=0 /ran /c/ran
COPY --from=archive . /c/
COPY --from=single . /c/
COPY --from=git f /c/
"""
    words = [f"base=docker-image://{BASE}", f"laid=oci-layout://{busybox_layout.path}:{busybox_layout.tag}",
             f"archive={url}", f"single={single}", f"git={repository}"]  # fmt: skip
    options = [f"--build-context={word}" for word in words]
    context = str(kitchen.context(text))
    assert files(kitchen, *options, context) == {"ran": "hi\n", "in": "archive", "single": "one file", "f": "f\n"}
    assert scratch(kitchen) == []


def test_a_layout_is_not_believed(fresh: Kitchen, busybox_layout: Layout, place: Path) -> None:
    import json
    import shutil

    copy = place / "layout"
    shutil.copytree(busybox_layout.path, copy)
    digest = json.loads((copy / "index.json").read_text())["manifests"][0]["digest"]
    context = str(fresh.context("FROM x\nENV A=1\n"))
    shutil.rmtree(fresh.orca.store / "images/blobs")
    (fresh.orca.store / "images/blobs/sha256").mkdir(parents=True)
    (fresh.orca.store / "images/index.json").write_text('{"schemaVersion":2,"manifests":[]}')
    for blob in (copy / "blobs/sha256").iterdir():
        data = blob.read_bytes()
        if data[:1] == b"{":
            continue
        blob.write_bytes(data[:-1] + b"x")
        assert "does not match its digest" in refused(
            fresh, f"--build-context=x=oci-layout://{copy}", context, code=125
        )
        blob.unlink()
        blob.symlink_to("/etc/passwd")
        assert "cannot be read" in refused(fresh, f"--build-context=x=oci-layout://{copy}", context, code=125)
        blob.unlink()
        blob.write_bytes(data)
    assert build(fresh, f"--build-context=x=oci-layout://{copy}@{digest}", context).out.startswith("sha256:")


@pytest.mark.parametrize(
    ("word", "code", "message"),
    [
        ("x", 2, "is not NAME=SOURCE"),
        ("x=", 2, "is not NAME=SOURCE"),
        ("x=/nowhere", 2, "there is no such directory"),
        ("x=oci-layout:///nowhere", 2, "there is no OCI layout"),
        ("x=ssh://-oX/a", 2, "no right host name"),
        ("x=docker-image://-x", 2, "-x"),
    ],
)
def test_bad_named_contexts(kitchen: Kitchen, word: str, code: int, message: str) -> None:
    context = str(kitchen.context(f"FROM {BASE}\nCOPY --from=x / /\n"))
    assert message in refused(kitchen, f"--build-context={word}", context, code=code)


def test_a_context_that_nobody_asks_for_is_not_fetched(kitchen: Kitchen, server: Web) -> None:
    context = str(kitchen.context(f"FROM {BASE}\nENV A=1\n"))
    build(kitchen, f"--build-context=x={server.url('/unused.tar')}", context)
    assert server.count("/unused.tar") == 0


# --- ignore files and -f


def test_which_ignore_file_counts(kitchen: Kitchen) -> None:
    context = kitchen.context({"Dockerfile": TEXT, "a": "", "b": "", "c": "", ".dockerignore": "a\n.d*\nD*\n"})
    assert set(files(kitchen, str(context))) == {"b", "c"}
    (context / "Dockerfile.dockerignore").write_text("b\n.d*\nD*\n")
    assert set(files(kitchen, str(context))) == {"a", "c"}
    mine = kitchen.context({"mine": "c\n.d*\nD*\n", "Dockerfile": TEXT, "Dockerfile.dockerignore": "a\nb\n.d*\nD*\n"})
    assert set(files(kitchen, "--ignorefile", str(mine / "mine"), str(context))) == {"a", "b"}
    # -f outside the context: the ignore file beside it.
    assert set(files(kitchen, "-f", str(mine / "Dockerfile"), str(context))) == {"c"}
    assert "--ignorefile /nothing does not exist" in refused(kitchen, "--ignorefile", "/nothing", str(context))
