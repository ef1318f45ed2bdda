"""What the records of builds are good for: orca builds, script, report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.built import Built
from support.orca import Orca
from support.proc import run

DOCKERFILE = """\
FROM busybox
COPY hello /hello
RUN rm /bin/vi && mkdir -p /d && echo a > "/d/b c" && chmod 4755 "/d/b c"
ENV NAME="a b"
COPY hello /again
"""


@pytest.fixture
def built(orca: Orca, busybox: str, dockerfile_context: Callable[..., Path]) -> Built:
    context = dockerfile_context({"Dockerfile": DOCKERFILE, "hello": "hello"})
    done = orca("build", "-t", "app", context)
    return Built(orca.store / "images", done.out, done)


def test_the_records_of_a_build(orca: Orca, built: Built, open_path: Path) -> None:
    (record,) = json.loads(orca("builds", "--json").stdout)
    assert record["status"] == "done"
    assert record["digest"] == built.digest
    assert (record["steps"], record["names"]) == (5, ["localhost/app:latest"])
    assert record["build"] in orca("builds").stdout
    # A page, the same by the image's name, its digest and the build.
    page = open_path / "page.html"
    assert orca("report", "app", "-o", page).stdout == ""
    text = page.read_text()
    assert "COPY hello /hello" in text
    assert built.digest in text
    for what in (built.digest, record["build"][:15]):
        assert orca("report", what).stdout == text


@pytest.mark.root
def test_the_script_makes_the_same_layers(orca: Orca, built: Built, open_path: Path) -> None:
    script = open_path / "script.sh"
    script.write_text(orca("script", "app").stdout)
    before = sorted(path.name for path in (orca.store / "images/blobs/sha256").iterdir())
    work = open_path / "work"
    work.mkdir()
    done = run("bash", script, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": str(work)})
    assert "rm /bin/vi" in done.stdout  # umoci stat at its end
    (layout,) = work.glob("tmp.*/layout-*")
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    again = Built(layout, entry["digest"])
    assert [layer["digest"] for layer in again.manifest["layers"]] == [
        layer["digest"] for layer in built.manifest["layers"]
    ]
    assert sorted(path.name for path in (orca.store / "images/blobs/sha256").iterdir()) == before


def test_a_build_that_failed(orca: Orca, busybox: str, dockerfile_context: Callable[..., Path]) -> None:
    failed = orca("build", "-t", "bad", dockerfile_context("FROM busybox\nRUN exit 7\n"), check=False)
    assert failed.returncode == 7
    (record,) = json.loads(orca("builds", "--json").stdout)
    assert (record["status"], record["digest"]) == ("failed", None)
    assert 'class="bad"' in orca("report").stdout
    assert "FAILED" in orca("script").stdout


@pytest.mark.parametrize("command", ["script", "report"])
def test_what_there_is_no_record_of(orca: Orca, busybox: str, command: str) -> None:
    for words, said in (
        ((), "no build has left a record"),
        (("busybox",), "no record of the build that made busybox"),
        (("nothing",), "no build and no image 'nothing'"),
    ):
        failed = orca(command, *words, check=False)
        assert failed.returncode == 125
        assert said in failed.stderr
        assert "orca builds lists them" in failed.stderr


def test_a_page_that_cannot_be_written(orca: Orca, built: Built) -> None:
    failed = orca("report", "-o", "/nowhere/page.html", check=False)
    assert failed.returncode == 125
    assert "No such file or directory while writing /nowhere/page.html" in failed.stderr
