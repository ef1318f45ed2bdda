"""orca context ls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orca.cli import context
from orca.errors import UsageError


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name, text in {
        "Dockerfile": "FROM scratch\n", ".dockerignore": "# what is made\n*.o\nout\n!out/keep\ngone\n", "a.c": "abc",
        "a.o": "", "out/x": "", "out/keep": "", "gone/deep/file": "",
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "link").symlink_to("a.c")
    (tmp_path / "a.c").chmod(0o640)
    return tmp_path


def rows(capsys: pytest.CaptureFixture[str], *words: str | Path) -> dict[str, dict[str, Any]]:
    assert context.run(["ls", "--json", *map(str, words)]) == 0
    return {row["path"]: row for row in json.loads(capsys.readouterr().out)}


def test_what_is_sent(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(capsys, place)
    assert list(found) == [".dockerignore", "Dockerfile", "a.c", "link", "out/keep"]
    assert found["a.c"] == {"path": "a.c", "kind": "file", "mode": "0640", "size": 3, "sent": True, "rule": None}
    assert found["link"]["kind"] == "link"
    assert context.run(["ls", str(place)]) == 0
    assert capsys.readouterr().out.splitlines()[3].split() == ["0640", "3", "B", "a.c"]


def test_why(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(capsys, "--why", place)
    ignore = place / ".dockerignore"
    told = {path: (row["sent"], row["rule"]) for path, row in found.items() if row["rule"]}
    assert told == {
        "a.o": (False, f"{ignore}:2: *.o"),
        "out": (False, f"{ignore}:3: out"),
        "out/x": (False, f"{ignore}:3: out"),
        "out/keep": (True, f"{ignore}:4: !out/keep"),
        "gone": (False, f"{ignore}:5: gone"),
    }
    assert context.run(["ls", "--why", str(place)]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert f"0644 0 B a.o left out {ignore}:2: *.o" in lines
    assert "0640 3 B a.c sent no line matches" in lines


def test_some_paths(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(rows(capsys, place, "out", "a.c")) == ["a.c", "out/keep"]
    deep = rows(capsys, "--why", place, "gone/deep/file")
    assert deep["gone/deep/file"]["rule"] == f"{place}/.dockerignore:5: gone"
    for path in ("nothing", "../x"):
        with pytest.raises(UsageError, match="no such file or directory in the build context"):
            context.run(["ls", str(place), path])


def test_which_ignore_file(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "Dockerfile.dockerignore").write_text("a.c\n")
    assert rows(capsys, "--why", place)["a.c"]["rule"] == f"{place}/Dockerfile.dockerignore:1: a.c"
    (place / "mine").write_text("**\n")
    assert rows(capsys, "--ignorefile", place / "mine", place) == {}
    with pytest.raises(UsageError, match="does not exist"):
        context.run(["ls", "/nowhere"])
