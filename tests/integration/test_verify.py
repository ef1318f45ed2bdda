"""orca verify: the same again, and each difference where it is not."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.images import Layout
from support.kitchen import BASE, Kitchen
from support.leftovers import Leftovers
from support.orca import Orca
from support.proc import run
from support.users import User

EPOCH = "--source-date-epoch=1000000000"
SENTINEL = "sentinel-0ddba11-of-a-recipe"

Verify = Callable[..., dict[str, Any]]


def content(store: Path) -> set[Path]:
    """The images and the cached steps."""
    return {*(store / "images").rglob("*"), *(store / "steps").rglob("*")}


@pytest.fixture
def verify(fresh: Kitchen) -> Verify:
    """`verify("app", …) -> what --json prints`; its exit code agrees, and nothing stays in the store."""

    def look(*words: str | Path, **more: Any) -> dict[str, Any]:
        store = fresh.orca.store
        before = content(store)
        leftovers = Leftovers(fresh.orca.top)
        result = fresh.orca("verify", "-q", "--json", *words, check=False, **more)
        assert result.returncode in (0, 1), result
        leftovers.assert_none()
        assert content(store) == before
        found = json.loads(result.stdout)
        assert found["same"] is (result.returncode == 0)
        assert isinstance(found, dict)
        return found

    return look


def differences(found: dict[str, Any]) -> dict[tuple[str, str], tuple[str, list[str]]]:
    return {(each["place"], each["what"]): (each["kind"], sorted(each["fields"])) for each in found["differences"]}


def test_the_same_again(fresh: Kitchen, verify: Verify) -> None:
    """From the record alone: options, ignore rules and the Dockerfile's text as they were, the base by its digest."""
    text = f"FROM {BASE} AS a\nARG V\nRUN echo $V > /v\nFROM a AS b\nCOPY . /src\nFROM b\nRUN false\n"
    context = fresh.context(
        {"Dockerfile": "FROM nothing\n", "D": text, "D.dockerignore": "hidden\n", "hidden": "h", "f": "f"}
    )
    options = ("-t", "app", EPOCH, "--build-arg=V=7", "--target=b", "--label=l=1")
    built = fresh.orca("build", *options, "-f", "D", ".", cwd=context)
    (context / "D").write_text("FROM broken since\n")
    run("umoci", "new", "--image", f"{fresh.orca.store}/images:localhost/other:1")
    found = verify("app")
    # The Dockerfile itself is in the context, and has changed; nothing else has.
    assert differences(found) == {("layer 3", "/src/D"): ("changed", ["content", "size"])}
    (context / "D").write_text(text)
    found = verify("app")
    assert (found["image"], found["rebuilt"], found["differences"]) == (built.out, built.out, [])
    said = fresh.orca("verify", "-q", "app")
    assert said.stdout == f"the same: {built.out}\n"


def test_each_difference_is_told(fresh: Kitchen, verify: Verify) -> None:
    text = f"FROM {BASE}\nARG V=1\nENV E=$V\nCOPY dir /dir\nRUN cat /proc/sys/kernel/random/uuid > /random\n"
    context = fresh.context({"Dockerfile": text, "dir/kept": "k", "dir/gone": "g", "dir/mode": "m", "dir/kind": "file"})
    fresh.build(context, "-t", "app", EPOCH)
    (context / "dir/gone").unlink()
    (context / "dir/new\x1b[31m").write_text("n")
    (context / "dir/mode").chmod(0o600)
    (context / "dir/kind").unlink()
    (context / "dir/kind").symlink_to("kept")
    found = verify("app", "--build-arg=V=2")
    seen = differences(found)
    assert seen.pop(("layer 2", "/dir/kind"))[0] == "changed"
    history = {what: seen.pop((place, what)) for place, what in list(seen) if place.startswith("history")}
    assert history == {
        "ARG V=1": ("changed", ["created_by"]),
        "ENV E=1": ("changed", ["created_by"]),
        "RUN |1 V=1 /bin/sh -c cat /proc/sys/kernel/random/uuid > /random # orca": ("changed", ["created_by"]),
    }
    assert seen == {
        ("config", "Env.E"): ("changed", ["Env.E"]),
        ("layer 2", "/dir/gone"): ("missing", []),
        ("layer 2", "/dir/new\x1b[31m"): ("added", []),
        ("layer 2", "/dir/mode"): ("changed", ["mode"]),
        ("layer 3", "/random"): ("changed", ["content"]),
    }
    said = fresh.orca("verify", "-q", "app", "--build-arg=V=2", check=False)
    assert said.returncode == 1
    lines = said.stdout.splitlines()
    assert lines[0].startswith("different: sha256:")
    assert "  changed  Env.E: 1 → 2" in lines
    assert "  missing  /dir/gone" in lines
    assert "  changed  /dir/mode: mode 0644 → 0600" in lines
    assert "\x1b" not in said.stdout


def test_without_an_epoch_times_differ(fresh: Kitchen, verify: Verify) -> None:
    fresh.build({"Dockerfile": f"FROM {BASE}\nRUN touch /x\nENV a=b\n"}, "-t", "app")
    run("sleep", "1.1")
    seen = differences(verify("app"))
    assert seen[("config", "created")] == ("changed", ["created"])
    assert seen[("layer 2", "/x")] == ("changed", ["mtime"])
    assert differences(verify("--ignore-times", "app")) == {}
    assert "--ignore-times leaves them out" in fresh.orca("verify", "app", check=False).stderr
    assert fresh.orca("verify", "-q", "--ignore-times", "app").stdout.startswith("the same but for times: ")


def test_the_base_is_the_one_that_was_used(fresh: Kitchen, verify: Verify) -> None:
    """Its name may mean another image by now; when it is gone, that is an error."""
    base = fresh.build(f"FROM {BASE}\nRUN echo one > /base\n", "-t", "mine")
    fresh.build({"Dockerfile": "FROM mine\nCOPY --from=mine /base /copy\n"}, "-t", "app", EPOCH)
    fresh.build(f"FROM {BASE}\nRUN echo two > /base\n", "-t", "mine")
    assert verify("app")["same"] is True
    blob = base.blob(base.digest)
    blob.rename(blob.with_name("away"))
    result = fresh.orca("verify", "app", check=False)
    assert result.returncode == 125
    assert f"the base image mine was {base.digest}, which the store has no more" in " ".join(result.stderr.split())


def test_an_image_of_somebody_else(fresh: Kitchen, verify: Verify, orca: Orca) -> None:
    """Without a record the context has to be named."""
    context = fresh.context({"D": f"FROM {BASE}\nCOPY f /\n", "f": "f"})
    fresh.build(context, "-t", "app", EPOCH, "-f", str(context / "D"))
    for path in (fresh.orca.store / "builds").iterdir():
        run("rm", "-r", path)
    result = fresh.orca("verify", "app", check=False)
    assert result.returncode == 125
    assert "no build of app is remembered here" in result.stderr
    assert "--context DIR" in result.stderr
    seen = differences(verify("app", "--context", context, "-f", context / "D"))
    assert seen[("layer 2", "/f")] == ("changed", ["mtime"]), "the epoch is not known"
    assert verify("app", "--context", context, "-f", context / "D", "--ignore-times")["same"] is True


def test_secrets_are_given_again(fresh: Kitchen, verify: Verify, open_path: Path) -> None:
    """The record has their names; their values are nowhere."""
    (open_path / "secret").write_text(SENTINEL)
    text = f"FROM {BASE}\nRUN --mount=type=secret,id=s,required wc -c < /run/secrets/s > /length\n"
    fresh.build(text, "-t", "app", EPOCH, f"--secret=id=s,src={open_path}/secret", "--creds=user:" + SENTINEL,
        "--creds-for", "r.example")  # fmt: skip
    for path in fresh.orca.store.rglob("*"):
        assert not path.is_file() or path.is_symlink() or SENTINEL.encode() not in path.read_bytes(), path
    assert verify("app")["same"] is True
    (open_path / "secret").unlink()
    result = fresh.orca("verify", "app", check=False)
    assert result.returncode == 125
    assert "--secret s: cannot read" in result.stderr
    (open_path / "other").write_text(SENTINEL)
    assert verify("app", f"--secret=id=s,src={open_path}/other")["same"] is True


def test_what_cannot_be_verified(fresh: Kitchen) -> None:
    for words, code, message in (
        (("nothing",), 125, "no image 'nothing' in the store"),
        ((), 2, "the following arguments are required: IMAGE"),
        ((BASE, "--context", "/does/not/exist"), 2, "the build context /does/not/exist does not exist"),
    ):
        result = fresh.orca("verify", *words, check=False)
        assert result.returncode == code, result
        assert message in result.stderr
        assert result.stdout == ""
    context = fresh.context(f"FROM {BASE}\nRUN exit 7\n")
    result = fresh.orca("verify", BASE, "--context", context, check=False)
    assert result.returncode == 7
    assert "RUN ended with exit code 7" in result.stderr


@pytest.mark.user
def test_by_an_ordinary_user(orca: Orca, busybox_layout: Layout, ordinary_user: User) -> None:
    orca.load(busybox_layout, BASE, user=ordinary_user)
    context = Kitchen(orca).context(f"FROM {BASE}\nRUN echo x > /x && chown 1000:1000 /x\n")
    built = orca("build", EPOCH, "-t", "app", context, user=ordinary_user)
    assert orca("verify", "-q", "app", user=ordinary_user).stdout == f"the same: {built.out}\n"
    assert os.listdir(orca.store_of(ordinary_user) / "work") == []
