"""Scripted builds: orca from, step, commit, steps, undo, abandon, dockerfile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.images import Layout
from support.kitchen import BASE, Kitchen
from support.orca import Orca
from support.users import User, myself

EPOCH = {"SOURCE_DATE_EPOCH": "1700000000"}
SCRIPT = """\
set -eu
t=$(orca from -q --name tools busybox)
orca step -q $t RUN 'echo made > /tool'
b=$(orca from -q --name web busybox)
orca step -q --build-arg V=2 $b ARG V=1
orca step -q $b ENV A=1 "B=x y"
orca step -q $b WORKDIR /srv
orca step -q $b RUN echo "a  b" '>' /not-a-redirection
orca step -q $b RUN <<EOF
echo "$V \\$V" > here
id -u >> here
EOF
orca step -q $b COPY site ./
orca step -q $b COPY --from=$t --link /tool /usr/bin/
orca step -q $b - <<'EOF'
COPY <<X /motd
hi $B
X
EOF
orca step -q $b HEALTHCHECK --interval=5s CMD true
orca step -q $b CMD '["cat", "here"]'
orca commit -q $b -t site --label l=1
"""


def script(orca: Orca, place: Path, user: User | None = None) -> str:
    """Run the script with `orca` as this one; returns its standard output."""
    text = f'orca() {{ {orca.command(user=user)[0]} "$@"; }}\nV=shell\n{SCRIPT}'
    found = (user or myself()).run("sh", "-c", text, env=orca.environment(user, EPOCH), cwd=place)
    return str(found.stdout)


def steps(orca: Orca, name: str, user: User | None = None) -> list[dict[str, Any]]:
    found = json.loads(orca("steps", "--json", name, user=user).stdout)
    assert isinstance(found, list)
    return found


def carried_out(orca: Orca, user: User | None = None) -> int:
    """How many commands had anything to do that the cache did not have."""
    return len(list((orca.store_of(user) / "builds").iterdir()))


@pytest.mark.parametrize("who", ["root", pytest.param("ordinary", marks=pytest.mark.user)])
def test_a_script(who: str, orca: Orca, busybox_layout: Layout, request: pytest.FixtureRequest) -> None:
    user = request.getfixturevalue("ordinary_user") if who == "ordinary" else None
    orca.load(busybox_layout, BASE, user=user)
    place = Kitchen(orca).context({"site/index.html": "<p>It works"})
    digest = script(orca, place, user).strip()
    assert digest.startswith("sha256:") and "\n" not in digest
    done = steps(orca, "web", user)
    assert [step["cached"] for step in done] == [True] + [False] * 10
    assert done[4]["instruction"] == "RUN echo 'a  b' '>' /not-a-redirection"
    assert done[6]["context"] == str(place) and done[6]["size"] > 0
    # The same script again does nothing at all, and makes the same image.
    before = carried_out(orca, user)
    assert script(orca, place, user).strip() == digest
    assert carried_out(orca, user) == before
    assert all(step["cached"] for step in steps(orca, "web", user))
    # So does the Dockerfile: from the same cache, and without it.
    text = orca("dockerfile", "web", user=user).stdout
    assert text.startswith("# needs --build-arg V=...\nFROM busybox AS tools\nRUN echo made > /tool\n\nFROM busybox\n")
    options = ("--build-arg", "V=2", "--label", "l=1", "-f", "-", "-q", str(place))
    for more in ((), ("--no-cache",)):
        assert orca("build", *more, *options, env=EPOCH, stdin=text, user=user).out == digest
    assert orca("run", "site", user=user).stdout == "shell 2\n0\n"
    assert orca("run", "site", "cat", "/motd", "/usr/bin/tool", "index.html", user=user).stdout.startswith(
        "hi x y\nmade"
    )


def test_the_image_is_what_a_dockerfile_gives(fresh: Kitchen) -> None:
    text = f"FROM {BASE} AS one\nRUN echo 1 > /one\nFROM one\nENTRYPOINT x\nCOPY --from=one /one /two\nRUN rm /one\n"
    orca = fresh.orca
    orca("from", "--name", "one", BASE, env=EPOCH)
    orca("step", "one", "RUN", "echo 1 > /one", env=EPOCH)
    orca("from", "--name", "last", "one", env=EPOCH)
    for words in (("ENTRYPOINT", "x"), ("COPY", "--from=one", "/one", "/two"), ("RUN", "rm", "/one")):
        orca("step", "last", *words, env=EPOCH)
    found = orca("commit", "last", "-t", "scripted", env=EPOCH).out
    before = carried_out(orca)
    # A cached step is light: it loads nothing of what would carry it out.
    orca("undo", "last")
    loaded = orca("step", "last", "RUN", "rm", "/one", env={**EPOCH, "PYTHONPROFILEIMPORTTIME": "1"}).stderr
    modules = {line.rpartition("|")[2].strip() for line in loaded.splitlines() if line.startswith("import time:")}
    assert "orca.executor.scripted" in modules
    assert not modules & {"sh", "rich", "requests", "orca.executor.effects", "orca.executor.sandbox"}
    assert fresh.build(text, "-t", "built", env=EPOCH).digest == found
    assert carried_out(orca) == before  # it came from the cache of the script
    assert fresh.build(text, "--no-cache", env=EPOCH).digest == found
    assert fresh.build(orca("dockerfile", "last").stdout, env=EPOCH).digest == found
    file = orca.top / "id"
    squashed = orca("commit", "last", "--squash", "--format", "docker", "--iidfile", file, env=EPOCH).out
    assert squashed != found and file.read_text() == squashed


def test_a_failed_step_changes_nothing(fresh: Kitchen) -> None:
    orca = fresh.orca
    name = orca("from", BASE).out
    assert name.startswith("busybox-")
    orca("step", name, "RUN", "touch /a")
    failed = orca("step", name, "RUN", "touch /b; exit 7", check=False)
    assert (failed.returncode, failed.stdout) == (7, "")
    assert "RUN touch /b; exit 7" in failed.stderr and "exit code 7" in failed.stderr
    for words, message in (
        (("COPY", "nope", "/"), "no such file"),
        (("EXPOSE", "x"), "orca step:1"),
        (("FROM", BASE), "FROM begins another image"),
        (("COPY", f"--from={name}", "/a", "/b"), "this scripted build itself"),
        (("NOPE",), "NOPE"),
        ((), "which instruction?"),
    ):
        wrong = orca("step", name, *words, check=False)
        assert wrong.returncode in (2, 125) and wrong.stdout == "" and message in wrong.stderr, wrong
        assert "bug in orca" not in wrong.stderr
    assert [step["instruction"] for step in steps(orca, name)] == [f"FROM {BASE}", "RUN touch /a"]
    assert "unfinished" not in orca("builds").stdout
    orca("step", name, "RUN", "test -e /a && test ! -e /b")


def test_undo_and_prune(fresh: Kitchen) -> None:
    orca = fresh.orca
    orca("from", "--name", "x", BASE)
    for word in "abc":
        orca("step", "x", "RUN", f"touch /{word}")
    assert "x is at step 2" in orca("undo", "x", "2").stderr
    orca("step", "x", "RUN", "test -e /a && test ! -e /b")
    for count, message in (("4", "not 4 steps"), ("x", "is a number"), ("0", "not 0 steps")):
        wrong = orca("undo", "x", count, check=False)
        assert wrong.returncode == 2 and message in wrong.stderr
    # What a scripted build stands on is kept, without the step cache too.
    orca("rm", "--all")
    orca("prune", "--all")
    orca("step", "x", "RUN", "test -e /a")
    digest = orca("commit", "--rm", "x").out
    assert "/a" in orca("run", digest, "sh", "-c", "ls -d /a").stdout
    assert orca("steps", "-q").stdout == ""
    wrong = orca("step", "x", "RUN", "true", check=False)
    assert wrong.returncode == 125 and "no scripted build 'x'" in wrong.stderr


def test_names(fresh: Kitchen) -> None:
    orca = fresh.orca
    assert orca("from", "--name", "web", "scratch").stdout == "web\n"
    orca("step", "web", "ENV", "A=1")
    orca("from", "--name", "web", BASE)  # begins anew
    found = json.loads(orca("steps", "--json").stdout)
    assert [(each["id"], each["from"], each["steps"]) for each in found] == [("web", BASE, 1)]
    assert "web" in orca("steps").stdout and "FROM" in orca("steps", "web").stdout
    for words, code, message in (
        (("from", "--name", "Bad", BASE), 2, "bad name"),
        (("from", "a b"), 2, "bad image"),
        (("from", "--platform", "linux/arm64", "web"), 2, "which has its platform"),
        (("steps", "weeb"), 125, "did you mean web?"),
        (("abandon",), 2, "or --all"),
        (("abandon", "web", "nope"), 125, "no scripted build"),
        (("commit", "web", "--env", "A=1"), 2, "too late"),
        (("commit", "../images"), 125, "no scripted build"),
    ):
        wrong = orca(*words, check=False)
        assert (wrong.returncode, wrong.stdout) == (code, "") and message in wrong.stderr, wrong
    (orca.store / "sessions" / "web").write_text("{}")
    assert "damaged" in orca("steps").stdout
    assert "is damaged" in orca("step", "web", "RUN", "x", check=False).stderr
    assert "is damaged" in orca("prune", check=False).stderr  # nobody knows what it needs
    assert orca("abandon", "--all").stdout == "web\n"


def test_steps_of_one_script_at_the_same_time(fresh: Kitchen) -> None:
    orca = fresh.orca
    orca("from", "--name", "x", BASE)
    running = [orca.start("step", "-q", "x", "RUN", f"echo {number} >> /all") for number in range(4)]
    assert [process.wait(120) for process in running] == [0] * 4
    assert len(steps(orca, "x")) == 5
    digest = orca("commit", "x").out
    assert sorted(orca("run", digest, "cat", "/all").stdout.split()) == list("0123")


def test_a_look_at_one(fresh: Kitchen) -> None:
    orca = fresh.orca
    orca("from", "--name", "x", BASE)
    orca("step", "x", "RUN", "mkdir /srv; echo one > /srv/word")
    orca("step", "x", "RUN", "echo two > /srv/word")
    orca("step", "x", "ONBUILD", "RUN true")
    assert (orca("cat", "x", "/srv/word").stdout, orca("cat", "x@2", "/srv/word").stdout) == ("two\n", "one\n")
    assert "/srv/word" in orca("files", "x", "/srv").stdout
    assert "/srv/word " in orca("diff", "x@2", "x").stdout
    assert orca("mount", "x", "--", "cat", "$ORCA_MOUNT/srv/word").stdout == "two\n"
    assert orca("run", "--rm", "x", "cat", "/srv/word").stdout == "two\n"
    config = json.loads(orca("inspect", "x").stdout)[0]["config"]["config"]
    assert config["OnBuild"] == ["RUN true"]  # umoci does not write it, the scripted build knows it
    orca("unpack", "x@2", orca.top / "out")
    assert (orca.top / "out/srv/word").read_text() == "one\n"
    # A mount stays what it was.
    place = Path(orca("mount", "x").out)
    orca("step", "x", "RUN", "rm /srv/word")
    assert (place / "srv/word").read_text() == "two\n"
    assert orca("umount", "x").out == str(place)
    # Who looks means the scripted build, who runs it the image of that name.
    orca("tag", BASE, "x")
    assert orca("mount", "x", "--", "ls", "$ORCA_MOUNT/srv").stdout == ""
    assert orca("files", "x:latest", "/srv", check=False).returncode == 2
    assert orca("run", "--rm", "x", "ls", "/srv", check=False).returncode == 1
    for words, message in (
        (("cat", "x@6", "/srv/word"), "x has no step 6: it has 1 to 5"),
        (("cat", "x@0", "/srv/word"), "x has no step 0"),
        (("cat", "y", "/srv/word"), "no image 'y'"),
        (("rm", "y"), "no image 'y'"),
    ):
        wrong = orca(*words, check=False)
        assert wrong.returncode == 125 and message in wrong.stderr, wrong


def test_why(fresh: Kitchen) -> None:
    orca = fresh.orca
    place = fresh.context({"file": "1"})

    def script(word: str) -> None:
        orca("from", "--name", "x", BASE, cwd=place)
        for words in (("ENV", "A=1"), ("COPY", "file", "/"), ("RUN", f": {word}"), ("RUN", "true")):
            orca("step", "x", *words, cwd=place)

    def said(*options: str) -> list[str]:
        lines = orca("why", *options).stdout.splitlines()
        assert "of the scripted build x" in lines[0]
        return [lines[0].rpartition(": ")[2], *lines[2:4]]

    script("one")
    assert said() == ["1 of 5 cached", "[2/5] ENV A=1", "  nothing like it was built before"]
    names = sorted(path.name for path in (orca.store / "builds").iterdir())
    assert len(names) == 4 and all(name.endswith("-step") for name in names)
    script("two")
    assert said() == ["3 of 5 cached", "[4/5] RUN : two", "  the instruction was: RUN : one"]
    (place / "file").write_text("2")
    orca("undo", "x", "3")
    assert "file changed" in orca("step", "x", "COPY", "file", "/", cwd=place).stderr
    assert said() == ["2 of 3 cached", "[3/3] COPY file /", "  file changed"]
    assert json.loads(orca("why", "--json").stdout)["session"] == "x"
