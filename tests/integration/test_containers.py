"""Detached containers: run -d, ps, logs, exec, stop, start, kill, wait, container; as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.images import Layout, busybox_binary
from support.leftovers import Leftovers
from support.orca import CHECKOUT, Orca
from support.proc import fetch, free_port
from support.users import User

FOREVER = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done"


class Box:
    """orca as one user, whose containers are all deleted in the end."""

    def __init__(self, orca: Orca, user: User | None) -> None:
        self.orca = orca
        self.user = user

    def __call__(self, *argv: str | Path, **options: Any) -> Any:
        return self.orca(*argv, user=self.user, **options)

    def started(self, *argv: str, script: str = FOREVER) -> str:
        """A detached container of busybox that has printed "ready"; its id."""
        id_ = str(self("run", "-d", *argv, "busybox", "sh", "-c", script).out)
        self.wait_for(lambda: "ready" in self("logs", id_).stdout)
        return id_

    def wait_for(self, look: Callable[[], bool], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not look():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def row(self, name: str) -> dict[str, Any]:
        found = [row for row in json.loads(self("ps", "-a", "--json").stdout) if name in (row["name"], row["id"])]
        assert len(found) == 1
        assert isinstance(found[0], dict)
        return found[0]


@pytest.fixture(params=["me", pytest.param("user", marks=pytest.mark.user)])
def box(request: pytest.FixtureRequest, orca: Orca, busybox_layout: Layout, leftovers: Leftovers) -> Iterator[Box]:
    """Whoever runs the tests, then an ordinary user. In the end nothing is left of their containers."""
    user = None if request.param == "me" else request.getfixturevalue("ordinary_user")
    assert user is None or isinstance(user, User)
    orca.load(busybox_layout, "localhost/busybox:latest", user)
    made = Box(orca, user)
    yield made
    made("container", "rm", "-f", "--all", check=False)
    leftovers.assert_none()


@pytest.mark.network
def test_the_story_of_the_web_server(box: Box, open_path: Path) -> None:
    """Build it, run -d -p, fetch, stop: as the README tells it."""
    base = shutil.copytree(CHECKOUT / "fixtures" / "busybox", open_path / "busybox")
    shutil.copy(busybox_binary(), base / "busybox")
    web = shutil.copytree(CHECKOUT / "fixtures" / "webserver", open_path / "web")
    for path in (base, web, *base.rglob("*"), *web.rglob("*")):
        path.chmod(path.stat().st_mode | 0o555 if path.is_dir() or path.name == "busybox" else 0o644)
    box("build", "-q", "-t", "localhost/busybox", base)
    box("build", "-q", "-t", "web", web)
    port = free_port()
    id_ = box("run", "-d", "--name", "web", "-p", f"{port}:8080", "web").out
    assert "It works" in fetch(f"http://127.0.0.1:{port}/")
    (row,) = json.loads(box("ps", "--json").stdout)
    assert (row["id"], row["name"], row["status"]) == (id_, "web", "running")
    assert row["ports"] == [f"0.0.0.0:{port}->8080/tcp"]
    assert box("stop", "web").out == "web"
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5)
    assert box("ps", "-q").out == ""
    assert box("container", "rm", "web").out == "web"
    assert box("ps", "-a", "-q").out == ""


def test_a_life(box: Box) -> None:
    id_ = box.started(
        "--name", "one", "--label", "a=b", script=f"test -e /new && echo again; echo x >> /new; {FOREVER}"
    )
    assert len(id_) == 64
    again = box("run", "-d", "--name", "one", "busybox", "true", check=False)
    assert again.returncode == 125
    assert "a container is called one already" in again.stderr
    # exec: environment, user, directory, exit code, standard input
    done = box(
        "exec",
        "-e",
        "A=b",
        "-u",
        "app",
        "-w",
        "/tmp",
        "one",
        "sh",
        "-c",
        "echo $A $HOME; id -u; pwd; exit 7",
        check=False,
    )
    assert (done.stdout, done.returncode) == ("b /home/app\n1000\n/tmp\n", 7)
    assert box("exec", "-i", id_[:8], "cat", stdin="in\n").stdout == "in\n"
    assert box("exec", "one", "cat", stdin="in\n").stdout == ""
    gone = box("exec", "one", "no-such-program", check=False)
    assert (gone.returncode, "not found" in gone.stderr) == (127, True)
    assert "one" in box("ps").stdout
    assert box("stop", "one").out == "one"
    row = box.row("one")
    assert (row["status"], row["exitCode"], row["labels"]) == ("exited", 5, {"a": "b"})
    assert box("wait", "one").out == "5"
    refused = box("exec", "one", "true", check=False)
    assert (refused.returncode, "is not running: it is exited" in refused.stderr) == (125, True)
    # what it changed is still there, and its log goes on
    assert box("start", "one").out == "one"
    box.wait_for(lambda: box("logs", "one").stdout.count("ready") == 2)
    assert box("logs", "one").stdout == "ready\nagain\nready\n"
    assert "orca container rm one" in box("rm", "one", check=False).stderr
    running = box("container", "rm", "one", check=False)
    assert (running.returncode, "is running" in running.stderr) == (125, True)
    assert box("container", "rm", "-f", "one").out == "one"


def test_what_is_killed_is_dead_and_nothing_is_left(box: Box, leftovers: Leftovers) -> None:
    kept, thrown = box.started("--name", "kept"), box.started("--rm", "--name", "thrown")
    for name in (kept, thrown):
        os.kill(box.row(name)["pid"], signal.SIGKILL)
    box.wait_for(lambda: not leftovers.look().processes - leftovers.before.processes)
    assert not (leftovers.look() - leftovers.before).mounts
    assert box.row("kept")["status"] == "dead"
    assert "dead" in box("ps", "-a").stdout
    unknown = box("wait", "kept", check=False)
    assert (unknown.returncode, "nobody knows its exit code" in unknown.stderr) == (125, True)
    box("start", "kept")
    box.wait_for(lambda: box("logs", "kept").stdout.count("ready") == 2)
    assert [row["name"] for row in json.loads(box("ps", "-a", "--json").stdout)] == ["kept"]


def test_prune_spares_what_a_container_needs(box: Box) -> None:
    box.started("--name", "one")
    box("rm", "busybox")
    box("prune", "--all")
    assert box("exec", "one", "echo", "well").out == "well"
    box("stop", "one")
    box("prune", "--all")
    box("start", "one")
    box.wait_for(lambda: box("logs", "one").stdout.count("ready") == 2)
    box("container", "rm", "-f", "one")
    box("prune", "--all")
    assert not list((box.orca.store_of(box.user) / "snapshots").iterdir())


@pytest.fixture
def mine(orca: Orca, busybox: str, leftovers: Leftovers) -> Iterator[Box]:
    """Whoever runs the tests, alone."""
    made = Box(orca, None)
    yield made
    made("container", "rm", "-f", "--all", check=False)
    leftovers.assert_none()


def test_logs(mine: Box) -> None:
    script = "echo one; echo two >&2; sleep 0.3; printf three; echo; printf 'no newline'; touch /ready; sleep 1000"
    mine("run", "-d", "--name", "talk", "busybox", "sh", "-c", script)
    mine.wait_for(lambda: mine("logs", "talk").stdout.endswith("no newline"))
    done = mine("logs", "talk")
    assert (done.stdout, done.stderr) == ("one\nthree\nno newline", "two\n")
    assert mine("logs", "--tail", "1", "talk").stdout == "no newline"
    assert mine("logs", "--tail", "0", "talk").stdout == ""
    assert mine("logs", "--since", "1h", "talk").stdout == done.stdout
    assert mine("logs", "--until", "1h", "talk").stdout == ""
    assert mine("logs", "-t", "--tail", "2", "talk").stdout.splitlines()[0].endswith("Z three")
    follower = mine.orca.start("logs", "-f", "talk")
    mine.wait_for(lambda: "three" in mine.orca.log.read_text())
    mine("kill", "talk")
    assert follower.wait(timeout=20) == 0
    assert mine.row("talk")["exitCode"] == 137


def test_health(mine: Box, dockerfile_context: Callable[..., Path]) -> None:
    context = dockerfile_context(
        "FROM busybox\nHEALTHCHECK --interval=100ms --retries=2 CMD test -e /well || { echo ill; exit 1; }\n"
        f"CMD {FOREVER}\n"
    )
    mine("build", "-q", "-t", "checked", context)
    mine("run", "-d", "--name", "one", "checked")
    mine("run", "-d", "--name", "two", "--no-healthcheck", "checked")
    mine.wait_for(lambda: mine.row("one")["health"] == "unhealthy")
    assert "(unhealthy)" in mine("ps").stdout
    (found,) = json.loads(mine("container", "inspect", "one").stdout)
    assert found["healthcheck"]["Log"][-1]["Output"] == "ill\n"
    mine("exec", "one", "touch", "/well")
    mine.wait_for(lambda: mine.row("one")["health"] == "healthy")
    assert mine("ps", "-q", "--no-trunc", "--filter", "health=healthy").out == mine.row("one")["id"]
    assert mine.row("two")["health"] is None


def test_volumes_of_the_image(mine: Box, dockerfile_context: Callable[..., Path], open_path: Path) -> None:
    context = dockerfile_context(
        "FROM busybox\nRUN mkdir /data && echo image > /data/f && chown -R app /data && chmod 700 /data\n"
        "VOLUME /data\nVOLUME /fresh/deep\n"
    )
    mine("build", "-q", "-t", "holds", context)
    script = (
        "stat -c '%a %U' /data; cat /data/f; echo mine > /data/f; ls -d /fresh/deep; grep -c ' /data ' /proc/mounts"
    )
    shown = "700 app\nimage\n/fresh/deep\n1\n"
    assert mine("run", "holds", "sh", "-c", script).stdout == shown
    assert mine("run", "holds", "sh", "-c", script).stdout == shown  # nothing of before
    (open_path / "here").mkdir()
    (open_path / "here" / "f").write_text("outside\n")
    assert mine("run", "-v", f"{open_path}/here:/data", "holds", "cat", "/data/f").stdout == "outside\n"
    mine("run", "-d", "--name", "kept", "holds", "sh", "-c", "cat /data/f; echo mine > /data/f")
    mine("wait", "kept")
    mine("start", "kept")
    mine("wait", "kept")
    assert mine("logs", "kept").stdout == "image\nmine\n"


def test_mounts(mine: Box, open_path: Path) -> None:
    (open_path / "here").mkdir()
    (open_path / "file").write_text("file\n")
    options = [
        "-v",
        f"{open_path}/here:/rw/deep",
        "-v",
        f"{open_path}/file:/etc/file:ro",
        "--tmpfs",
        "/t:size=1m,mode=700",
    ]
    options += ["-v", "/anon", "--mount", f"type=bind,src={open_path}/here,dst=/ro,readonly", "--read-only"]
    script = (
        "touch /rw/deep/made /t/x /anon/x; cat /etc/file; echo no >> /etc/file; touch /ro/x; touch /x; "
        "df -k /t | tail -1 | awk '{print $2}'"
    )
    done = mine("run", *options, "busybox", "sh", "-c", script)
    assert done.stdout == "file\n1024\n"
    assert done.stderr.count("ead-only file system") == 3
    assert (open_path / "here" / "made").exists()


def test_the_foreground_is_there_too(mine: Box) -> None:
    process = mine.orca.start("run", "--name", "front", "busybox", "sh", "-c", FOREVER)
    mine.wait_for(lambda: "ready" in mine.orca.log.read_text())
    row = mine.row("front")
    assert (row["status"], row["detached"], row["kept"]) == ("running", False, False)
    refused = mine("logs", "front", check=False)
    assert (refused.returncode, "in the foreground" in refused.stderr) == (125, True)
    mine("stop", "-t", "30", "front")
    assert process.wait(timeout=10) == 5
    assert mine("ps", "-a", "-q").out == ""
    mine("run", "--keep", "--name", "kept", "busybox", "sh", "-c", "exit 3", check=False)
    assert mine.row("kept")["exitCode"] == 3
    assert mine("container", "prune").out == "kept"


@pytest.mark.network
def test_ports(mine: Box, open_path: Path, dockerfile_context: Callable[..., Path]) -> None:
    mine(
        "build",
        "-q",
        "-t",
        "exposes",
        dockerfile_context("FROM busybox\nEXPOSE 80 53/udp\nCMD httpd -f -h /etc -p 80\n"),
    )
    mine("run", "-d", "--name", "all", "-P", "exposes")
    tcp, udp = sorted(mine.row("all")["ports"], key=lambda text: text[-3:])
    assert udp.endswith("->53/udp")
    assert int(tcp.split("->")[0].split(":")[1]) > 1023
    taken = mine("run", "-d", "-p", f"{tcp.split('->')[0]}:80", "busybox", "true", check=False)
    assert taken.returncode == 125
    assert "it is already in use" in taken.stderr
    assert len(json.loads(mine("ps", "-a", "--json").stdout)) == 1  # nothing is left of what never ran


def test_what_cannot_start_says_so(mine: Box, open_path: Path) -> None:
    for words, code, message in (
        (["no-such-program"], 127, "not found in the image"),
        (["/etc/passwd"], 126, "cannot be executed"),
    ):
        done = mine("run", "-d", "busybox", *words, check=False)
        assert (done.returncode, done.stdout) == (code, "")
        assert message in done.stderr
    cidfile = open_path / "cid"
    id_ = mine("run", "-d", "--cidfile", cidfile, "busybox", "true").out
    assert cidfile.read_text() == id_
    done = mine("run", "-d", "--cidfile", cidfile, "busybox", "true", check=False)
    assert (done.returncode, "is there already" in done.stderr) == (2, True)


def test_stop_signals(mine: Box) -> None:
    script = "trap 'echo no' TERM; trap 'exit 9' USR1; echo ready; while :; do sleep 0.1; done"
    mine.started("--name", "one", "--stop-signal", "USR1", script=script)
    mine("stop", "one")
    assert mine.row("one")["exitCode"] == 9
    mine.started("--name", "two", "--stop-timeout", "0.5", script=script)
    mine("kill", "-s", "TERM", "two")
    mine.wait_for(lambda: "no" in mine("logs", "two").stdout)
    mine("stop", "two")
    assert mine.row("two")["exitCode"] == 137
    assert mine("stop", "nobody", check=False).returncode == 125
    assert mine("stop", "-i", "nobody").out == ""
    assert mine("stop", "--rm", "one").out == "one"
    assert [row["name"] for row in json.loads(mine("ps", "-a", "--json").stdout)] == ["two"]


def test_ps(mine: Box) -> None:
    mine.started("--name", "up", "-l", "role=web")
    mine("run", "-d", "--name", "down", "busybox", "sh", "-c", "exit 4")
    mine("wait", "down")
    assert mine("ps", "--format", "{{.Names}} {{ .State }}\\t{{.Image}}").out == "up running\tbusybox"
    assert mine("ps", "-a", "--noheading").stdout.count("\n") == 2
    for words, names in (
        (["name=ow"], ["down"]), (["status=running"], ["up"]), (["exited=4"], ["down"]), (["label=role"], ["up"]),
        (["label=role=db"], []), (["ancestor=busybox"], ["down", "up"]), (["health=none"], ["down", "up"]),
    ):  # fmt: skip
        options = [option for word in words for option in ("--filter", word)]
        found = json.loads(mine("ps", "-a", "--json", *options).stdout)
        assert [row["name"] for row in found] == names, words
    for bad in (["--format", "{{.Nope}}"], ["--filter", "x=y"], ["-n", "x"]):
        assert mine("ps", *bad, check=False).returncode == 2


def test_a_terminal_of_its_own(mine: Box) -> None:
    """-dt: nobody types, and the output is logged."""
    mine("run", "-dt", "--name", "tty", "busybox", "sh", "-c", "tty; echo $TERM; exit 3")
    assert mine("wait", "tty").out == "3"
    assert mine("logs", "tty").stdout.replace("\r", "") == "/dev/pts/0\nxterm\n"
    mine("run", "-di", "--name", "open", "busybox", "sh", "-c", "read x; echo ended")
    time.sleep(0.2)
    assert mine.row("open")["status"] == "running"
    refused = mine("run", "-it", "busybox", stdin="echo x", check=False)
    assert (refused.returncode, "-t needs a terminal" in refused.stderr) == (2, True)
