"""Scripted builds: what a step can read besides its context, and a base with ONBUILD triggers."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from support.kitchen import BASE, Kitchen


def test_what_a_step_reads(fresh: Kitchen) -> None:
    orca = fresh.orca
    place = fresh.context({"named/file": "from a named context\n", "key": "sentinel-of-a-secret\n"})
    orca("from", "--name", "x", BASE)
    script = "grep -c sentinel /run/secrets/k > /found"
    orca("step", f"--secret=id=k,src={place / 'key'}", "x", "RUN", "--mount=type=secret,id=k", script)
    orca("step", f"--build-context=other={place / 'named'}", "x", "COPY", "--from=other", "file", "/copied")
    mount = "--mount=type=bind,from=other,target=/m"
    orca("step", f"--build-context=other={place / 'named'}", "x", "RUN", mount, "cp /m/file /mounted")
    # A step that must have what is not given changes nothing.
    for words, message in (
        (("RUN", "--mount=type=secret,id=k,required", "true"), "the secret k is required and was not given"),
        (("RUN", "--mount=type=ssh,required", "true"), "--ssh default"),
    ):
        wrong = orca("step", "x", *words, check=False)
        assert (wrong.returncode, wrong.stdout) == (125, "") and message in wrong.stderr, wrong
    agent = Path(orca.top / "agent")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(agent))
        listening.listen()
        orca("step", f"--ssh=default={agent}", "x", "RUN", "--mount=type=ssh", "test -S $SSH_AUTH_SOCK")
    orca("step", "x", "RUN", "cat /found /copied /mounted > /all; test ! -e /run/secrets/k; test -z $SSH_AUTH_SOCK")
    assert orca("cat", "x", "/all").stdout == "1\n" + "from a named context\n" * 2
    kept = [path for path in orca.store.rglob("*") if path.is_file() and b"sentinel-of-a-secret" in path.read_bytes()]
    assert kept == []


def test_a_base_with_triggers(fresh: Kitchen) -> None:
    orca = fresh.orca
    place = fresh.context({"file": "of the child\n"})
    orca("from", "--name", "parent", BASE)
    for words in (("RUN", "echo parent > /said"), ("COPY", "file", "/file"), ("ENV", "A=1")):
        orca("step", "parent", "ONBUILD", *words, cwd=place)
    orca("commit", "parent", "-t", "parent-image")
    assert orca("files", "parent", "/said", check=False).returncode == 2
    orca("from", "--name", "child", "parent-image", cwd=place)
    done = json.loads(orca("steps", "--json", "child").stdout)
    assert [step["instruction"] for step in done] == [
        "FROM parent-image", "RUN echo parent > /said", "COPY file /file", "ENV A=1"
    ]  # fmt: skip
    orca("step", "child", "RUN", "echo $A >> /said")
    assert orca("cat", "child", "/said").stdout == "parent\n1\n"
    assert orca("cat", "child", "/file").stdout == "of the child\n"
    assert "OnBuild" not in json.loads(orca("inspect", "child").stdout)[0]["config"]["config"]
    wrong = orca("undo", "child", "2", check=False)  # the triggers belong to FROM
    assert wrong.returncode == 2 and "it has 1 that can be undone" in wrong.stderr
    # They are not in the Dockerfile, which runs them once too.
    text = orca("dockerfile", "child").stdout
    assert text == "FROM parent-image\nRUN echo $A >> /said\n"
    (place / "Dockerfile").write_text(text)
    assert fresh.run(place).returncode == 0
