"""orca completion: bash is driven for real, fish where it is installed; all scripts know all options."""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.stores import Maker

from orca.cli import completion
from orca.cli.main import VERBS
from orca.oci import image
from orca.oci.image import Descriptor
from orca.store import containers
from orca.store.store import Store

CHECKOUT = Path(__file__).parents[3]
Complete = Callable[[str], list[str]]

DRIVER = r"""
source "$1"
COMP_LINE=$2 COMP_POINT=${#2}
COMP_WORDS=($2) COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
[[ $3 == words ]] && COMP_LINE= COMP_POINT=0
_orca orca
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def names(maker: Maker) -> None:
    """A store with three images, two scripted builds and a container."""
    descriptor = Descriptor(image.MANIFEST, "sha256:" + "a" * 64, 10)
    tags = ("localhost/app:latest", "localhost/app:v1", "host.example:5000/other:1")
    Store.open().tag(tags, descriptor)
    for name in ("site", "tools-1a2b"):
        (Store.open().root / "sessions" / name).write_text("{}")
    containers.make(Store.open(), "web", "app", kept=True, detached=False)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: None) -> Path:
    """A directory to stand in, with an `orca` on PATH that is this checkout's."""
    place = tmp_path / "place"
    (place / "dir").mkdir(parents=True)
    (place / "Dockerfile").write_text("FROM scratch AS first\nFROM first AS second\n")
    (place / "dir" / "Dockerfile").write_text("FROM scratch AS third\n")
    (place / "Other file").write_text("FROM scratch\n")
    program = tmp_path / "bin" / "orca"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH={CHECKOUT} exec {sys.executable} -P -m orca "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def bash(place: Path, tmp_path: Path) -> Complete:
    script = tmp_path / "orca.bash"
    script.write_text(completion.bash(completion.commands()))

    def complete(line: str, how: str = "line") -> list[str]:
        argv = ["bash", "--norc", "-c", DRIVER, "bash", str(script), line, how]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return [word for word in done.stdout.splitlines() if word]

    return complete


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("orca bu", ["build", "bud", "builds"]),
        ("orca --v", ["--version"]),
        ("orca build --build-arg-", ["--build-arg-file"]),
        ("orca build --progress ", ["auto", "tty", "plain", "json", "quiet"]),
        ("orca build --progress p", ["plain"]),
        ("orca build --progress=p", ["plain"]),
        ("orca build --pull=n", ["never", "newer"]),
        ("orca build --pull d", ["dir"]),
        ("orca build d", ["dir"]),
        ("orca build -f D", ["Dockerfile"]),
        ("orca build --file=D", ["Dockerfile"]),
        ("orca build -f Oth", ["Other file"]),
        ("orca build --target ", ["first", "second"]),
        ("orca build --target s", ["second"]),
        ("orca build dir --target ", ["third"]),
        ("orca build -f dir/Dockerfile --target t", ["third"]),
        ("orca build -t a", ["app", "app:v1"]),
        ("orca run ", ["app", "app:v1", "host.example:5000/other:1"]),
        ("orca run -p 8080:80 --network none a", ["app", "app:v1"]),
        ("orca run --network h", ["host"]),
        ("orca run app D", ["Dockerfile"]),
        ("orca run app --", []),
        ("orca rm app a", ["app", "app:v1"]),
        ("orca step s", ["site"]),
        ("orca abandon site ", ["site", "tools-1a2b"]),
        ("orca commit --rm t", ["tools-1a2b"]),
        ("orca stop ", ["web"]),
        ("orca logs -f w", ["web"]),
        ("orca logs app", []),
        ("orca completion ", ["bash", "fish", "zsh"]),
        ("orca nonsense ", []),
        ("orca build --label ", []),
    ],
)
def test_bash(bash: Complete, line: str, words: list[str]) -> None:
    assert sorted(bash(line)) == sorted(words)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("orca run app:", ["latest", "v1"]),
        ("orca run localhost/app:v", ["v1"]),
        ("orca run host.example:50", ["5000/other:1"]),
        ("orca run localhost/", ["localhost/app:latest", "localhost/app:v1"]),
    ],
)
def test_bash_goes_on_behind_a_colon(bash: Complete, line: str, words: list[str]) -> None:
    assert bash(line) == words


def test_bash_with_nothing_but_words(bash: Callable[[str, str], list[str]]) -> None:
    assert bash("orca build --progress j", "words") == ["json"]


def test_names_that_are_none_are_not_offered(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store.open()
    store.tag(("localhost/x$(touch pwned):1", "-rf", "a b"), Descriptor(image.MANIFEST, "sha256:" + "b" * 64, 1))
    assert completion.run(["--names"]) == 0
    assert capsys.readouterr().out.splitlines() == ["host.example:5000/other:1", "app", "app:v1"]


def test_bash_executes_nothing_that_a_file_is_called(bash: Complete, place: Path) -> None:
    (place / "$(touch pwned)").touch()
    (place / "`touch pwned`").touch()
    assert "$(touch pwned)" in bash("orca build -f ")
    assert not (place / "pwned").exists()


@pytest.mark.parametrize("words", [["--stages", "-f", "/nonexistent"], ["--names", "zzz"], ["--stages", "-f"]])
def test_questions_without_an_answer_are_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORCA_ROOT", str(tmp_path / "none"))
    assert completion.run(words) == 0
    assert capsys.readouterr() == ("", "")
    assert not (tmp_path / "none").exists()


def options_of(verb: str) -> set[str]:
    """Every option that is not hidden."""
    parser = importlib.import_module(f"orca.cli.{VERBS[verb].module}").make_parser()
    return {name for action in parser._actions if action.help != argparse.SUPPRESS for name in action.option_strings}


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_is_in_every_script(verb: str) -> None:
    found = completion.commands()
    one = [item for item in found if item.name == verb]
    bash, zsh, fish = (make(one) for make in (completion.bash, completion.zsh, completion.fish))
    assert f"'{verb}:" in zsh
    assert f"-a {verb} -d" in fish
    for name in options_of(verb):
        assert name in next(line for line in bash.splitlines() if f"'{verb} -')" in line).split()
        assert f"{name}[" in zsh or f"{name}=[" in zsh or f"{name}+[" in zsh or f"{name}=-[" in zsh
        assert f"-l {name[2:]} " in fish if name.startswith("--") else f"-s {name[1:]} " in fish


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_syntax(shell: str, tmp_path: Path) -> None:
    text = completion.SHELLS[shell](completion.commands())
    assert "completion --names" in text
    assert "completion --stages" in text
    assert "completion --sessions" in text
    assert "completion --containers" in text
    assert "@VERBS@" not in text
    assert "@CASES@" not in text
    script = tmp_path / "script"
    script.write_text(text)
    if shutil.which(shell):
        assert subprocess.run([shell, "-n", str(script)], capture_output=True, text=True).stderr == ""


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("orca bu", ["bud", "build", "builds"]),
        ("orca build --progress ", ["auto", "json", "plain", "quiet", "tty"]),
        ("orca build --target ", ["first", "second"]),
        ("orca rm ", ["app", "app:v1", "host.example:5000/other:1"]),
    ],
)
def test_fish(place: Path, tmp_path: Path, line: str, words: list[str]) -> None:
    script = tmp_path / "orca.fish"
    script.write_text(completion.fish(completion.commands()))
    program = f"source {script}; complete -C {shlex.quote(line)}"
    done = subprocess.run(
        ["fish", "--no-config", "-c", program], capture_output=True, text=True, check=True,
        env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    assert sorted(found.split("\t")[0] for found in done.stdout.splitlines()) == words
