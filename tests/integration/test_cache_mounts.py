"""orca cache ls and prune, beside builds."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from support.images import Layout
from support.kitchen import BASE, Kitchen
from support.orca import Orca
from support.users import User


@pytest.fixture(name="orca")
def _orca(kitchen: Kitchen) -> Orca:
    """The one that builds."""
    return kitchen.orca


def fill(kitchen: Kitchen, name: str, command: str = "echo 12345 > /c/file") -> None:
    kitchen.build(f"FROM {BASE}\nRUN --mount=type=cache,id={name},target=/c {command} # {os.urandom(4).hex()}\n")


def ls(orca: Orca) -> dict[str, dict[str, Any]]:
    return {cache["id"]: cache for cache in json.loads(orca("cache", "ls", "--json").stdout)}


def test_list_and_prune(kitchen: Kitchen, orca: Orca) -> None:
    orca("cache", "prune", "--all")
    fill(kitchen, "one")
    fill(kitchen, "two", "mkdir -m 0 /c/closed")
    found = ls(orca)
    assert list(found) == ["one", "two"]
    assert (found["one"]["size"], found["one"]["inUse"]) == (6, False)
    text = orca("cache", "ls").stdout.splitlines()
    assert text[0].split() == ["ID", "SIZE", "LAST", "USED", "IN", "USE"]
    assert text[1].startswith("one  ")

    assert orca("cache", "prune", "--older=1h").stdout == "freed 0 B (0 bytes)\n"
    dry = json.loads(orca("cache", "prune", "--id=one", "--dry-run", "--json").stdout)
    assert dry == {"dryRun": True, "bytes": 6, "removed": [{"id": "one", "size": 6}], "inUse": []}
    assert set(ls(orca)) == {"one", "two"}
    assert "freed 6 B (6 bytes)" in orca("cache", "prune", "--id=one").stdout
    assert set(ls(orca)) == {"two"}
    fill(kitchen, "one", "test ! -e /c/file && echo 1 > /c/file")  # it begins anew
    fill(kitchen, "one", "test -e /c/file")
    old = time.time() - 8 * 86400
    os.utime(f"{ls(orca)['one']['path']}/id", (old, old))
    assert json.loads(orca("cache", "prune", "--older", "7d", "--json").stdout)["removed"] == [{"id": "one", "size": 2}]
    assert set(ls(orca)) == {"two"}
    orca("cache", "prune", "--all")
    assert ls(orca) == {}
    assert list((orca.store / "cache").glob("mount-*")) == []


def test_what_a_running_build_holds_stays(kitchen: Kitchen, orca: Orca) -> None:
    fill(kitchen, "held")
    name = os.urandom(4).hex()
    context = kitchen.context(
        f"FROM {BASE}\n"
        "RUN --mount=type=cache,id=held,target=/c "
        f"echo {name}; touch /c/go; while [ -e /c/go ]; do sleep 0.05; done; test -e /c/file\n"
    )
    process = orca.start("build", str(context), env=kitchen.env)
    path = ls(orca)["held"]["path"]
    deadline = time.monotonic() + 60
    while not os.path.exists(f"{path}/fs/go"):
        assert process.poll() is None, orca.log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    try:
        assert ls(orca)["held"]["inUse"] is True
        result = orca("cache", "prune", "--all")
        assert "held stays: a running build holds it" in result.stderr
        assert os.path.exists(f"{path}/fs/file")
    finally:
        os.unlink(f"{path}/fs/go")
        assert process.wait(60) == 0, orca.log.read_text()
    assert json.loads(orca("cache", "prune", "--all", "--json").stdout)["removed"][0]["id"] == "held"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["prune"], 2, "which caches shall go?"),
        (["prune", "--older=7"], 2, "--older '7' is no age"),
        (["prune", "--all", "--id=x"], 2, "--all and --id do not go together"),
        (["ls", "--all"], 2, "these options are for orca cache prune"),
        (["drop"], 2, "invalid choice"),
        ([], 2, "ACTION"),
        (["prune", "--id=thiss-one"], 125, "no cache 'thiss-one'"),
    ],
)
def test_errors(kitchen: Kitchen, orca: Orca, words: list[str], code: int, message: str) -> None:
    result = orca("cache", *words, check=False)
    assert (result.returncode, result.stdout) == (code, "")
    assert message in result.stderr


def test_near_names(kitchen: Kitchen, orca: Orca) -> None:
    fill(kitchen, "this-one")
    assert "did you mean this-one?" in orca("cache", "prune", "--id=thiss-one", check=False).stderr


@pytest.mark.user
def test_as_an_ordinary_user(
    kitchen: Kitchen, orca: Orca, busybox_layout: Layout, ordinary_user: User, open_path: Path
) -> None:
    """What a RUN leaves belongs to subordinate ids, in directories that are closed to the user."""
    orca.load(busybox_layout, BASE, user=ordinary_user)
    (open_path / "Dockerfile").write_text(
        f"FROM {BASE}\nRUN --mount=type=cache,target=/c cd /c && mkdir d && echo 123 > d/f"
        " && chmod 700 d && chown -R 1:1 d\n"
    )
    orca("build", open_path, user=ordinary_user)
    (found,) = json.loads(orca("cache", "ls", "--json", user=ordinary_user).stdout)
    assert (found["id"], found["size"]) == ("/c", 4)
    assert "freed 4 B" in orca("cache", "prune", "--all", user=ordinary_user).stdout
    assert json.loads(orca("cache", "ls", "--json", user=ordinary_user).stdout) == []
