"""What a container may try that stays for a while: out of its root, at whoever enters it, at the next start."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from security.conftest import Attack, harmless
from security.test_run import listener
from support.hostile import Member, link, tar
from support.proc import Result
from support.users import User

Base = Callable[..., str]
STAY = "while :; do sleep 0.1; done"


class Boxes:
    """`boxes("exec", …)` runs orca as `user`; what it says must be harmless. `boxes.run(…)` starts a container `c`."""

    def __init__(self, attack: Attack, user: User | None = None) -> None:
        self.attack = attack
        self.user = user

    def __call__(self, *argv: str | Path) -> Result:
        result = self.attack.orca(*argv, user=self.user, check=False, timeout=40)
        harmless(result)
        return result

    def run(self, *options: str, image: str = "busybox", script: str = STAY) -> None:
        done = self("run", "-d", "--name", "c", *options, image, "sh", "-c", f"{script}\n{STAY}")
        assert done.returncode == 0, str(done)


def ready(boxes: Boxes) -> None:
    """Until the container has made /ready."""
    deadline = time.monotonic() + 20
    while boxes("exec", "c", "test", "-e", "/ready").returncode:
        assert time.monotonic() < deadline


@pytest.fixture
def boxes(attack: Attack, busybox: str) -> Iterator[Boxes]:
    """Containers of whoever runs the tests."""
    made = Boxes(attack)
    yield made
    made("container", "rm", "-f", "--all")


@pytest.fixture
def anybodys(attack: Attack, who: User | None) -> Iterator[Boxes]:
    """Containers of whoever runs the tests, then of an ordinary user."""
    attack.busybox(who)
    made = Boxes(attack, who)
    yield made
    made("container", "rm", "-f", "--all")


def test_exec_has_no_more_than_run(anybodys: Boxes) -> None:
    """Capabilities, seccomp, identities: as the container's first process has them."""
    anybodys.run()
    read = "grep -E 'Cap|Seccomp|Uid|Gid|Groups' /proc/{}/status | grep -v CapAmb"
    own = anybodys("exec", "c", "sh", "-c", read.format(1)).stdout
    assert "Seccomp:\t2" in own
    assert anybodys("exec", "c", "sh", "-c", read.format("self")).stdout == own
    user = anybodys("exec", "-u", "app", "c", "sh", "-c", read.format("self")).stdout
    caps = dict(line.split(":\t") for line in user.splitlines() if line.startswith("Cap"))
    assert [int(caps[name], 16) for name in ("CapEff", "CapPrm", "CapInh")] == [0, 0, 0]
    tried = anybodys(
        "exec", "c", "sh", "-c", "cat /proc/keys; echo x > /proc/sys/kernel/hostname; mount -t tmpfs x /tmp"
    ).stderr
    assert "denied" in tried or "Operation not permitted" in tried
    assert "ead-only" in tried


def test_descriptors_and_environment(boxes: Boxes, canary: Path) -> None:
    """CVE-2024-21626: descriptor 9 and a variable are open before orca run and orca exec, neither is seen."""
    orca = boxes.attack.orca
    environment = {**orca.environment(), "TOK": "sentinel-4711"}
    show = 'for f in /proc/1/fd/* /proc/self/fd/*; do echo "SEEN ${f##*/} $(readlink $f)"; done; env'
    said = ""
    directory = os.open(canary, os.O_RDONLY)
    try:
        os.set_inheritable(directory, True)
        for words in (["run", "-d", "--name", "c", "busybox", "sh", "-c", f"{show}; {STAY}"],
                      ["exec", "c", "sh", "-c", show]):  # fmt: skip
            done = subprocess.run(
                orca.command(*words), env=environment, cwd=canary, pass_fds=(directory,), capture_output=True,
                text=True, timeout=40, check=True, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            said += done.stdout
    finally:
        os.close(directory)
    said += boxes("logs", "c").stdout
    assert "sentinel" not in said
    assert str(canary) not in said
    numbers = {
        int(line.split()[1]) for line in said.splitlines() if line.startswith("SEEN") and line.split()[1].isdigit()
    }
    assert {0, 1, 2} <= numbers
    assert max(numbers) <= 10


def test_directories_of_exec(boxes: Boxes, canary: Path) -> None:
    """CVE-2024-21626, by exec -w, and through links of the container's own."""
    boxes.run(script=f"for n in 3 4 5 6 7 8 9; do ln -s /proc/self/fd/$n /w$n; done; ln -s {canary} /out; touch /ready")
    ready(boxes)
    for number in (3, 7):
        for place in (f"/proc/self/fd/{number}", f"/w{number}"):
            done = boxes("exec", "-w", place, "c", "ls", "../../../..")
            assert done.returncode == 125, str(done)
    assert boxes("exec", "-w", "/out", "c", "touch", "PWN").returncode == 125


def test_users_of_exec(boxes: Boxes) -> None:
    """The container's own passwd is read in the container, and nothing is waited for."""
    boxes.run(script="rm /etc/passwd; ln -s /proc/1/root/../../../etc/passwd /etc/passwd; touch /ready")
    ready(boxes)
    assert "no user 'nobody'" in boxes("exec", "-u", "nobody", "c", "id").stderr
    assert boxes("exec", "c", "sh", "-c", "rm /etc/group; mkfifo /etc/group").returncode == 0
    for options in ([], ["-u", "app"]):
        done = boxes("exec", *options, "c", "id")
        assert done.returncode == 125
        assert "not a regular file" in done.stderr


def test_the_runtime_is_not_to_be_had(boxes: Boxes) -> None:
    """CVE-2019-5736: a program that is the runtime itself, and one that opens whoever comes in."""
    runc = Path(shutil.which("runc", path="/usr/sbin:/usr/bin:/usr/local/sbin") or "")
    before = hashlib.sha256(runc.read_bytes()).digest()
    write = "for p in /proc/[0-9]*; do { echo PWN > $p/exe; } 2>/dev/null; done"
    boxes.run(script=f"ln -s /proc/self/exe /evil; while :; do {write}; done")
    for _ in range(2):
        boxes("exec", "c", "/evil", "--version")
        boxes("exec", "c", "/proc/self/exe", "init")
    assert hashlib.sha256(runc.read_bytes()).digest() == before


def test_host_loopback(anybodys: Boxes) -> None:
    """Also with a port published, a server on the host's loopback is out of reach."""
    with listener(socket.AF_INET, "127.0.0.1") as (port, seen):
        anybodys.run("-p", "127.0.0.1::80")
        places = ("127.0.0.1", "10.0.2.2", "10.0.2.3", "localhost", "127.1.2.3")
        tries = "; ".join(f"nc -w 1 {place} {port} </dev/null && echo SEEN {place}" for place in places)
        said = anybodys("exec", "c", "sh", "-c", f"{tries}; echo DONE").stdout
    assert said == "DONE\n"
    assert seen == []


def test_volumes_that_an_image_names(attack: Attack, base: Base, boxes: Boxes, canary: Path) -> None:
    """Whatever the way, a volume lies inside the root, is filled from the root, and covers nothing of the runtime's."""
    up = "/../../../../.." + str(canary)
    layer = tar(link("out", str(canary)), link("kernel", "/proc"), link("dev2", "dev"))
    inside = base(layer, config={"Volumes": {"/out/dir": {}, up: {}, "relative": {}}})
    done = boxes("run", inside, "sh", "-c", f"ls {canary} /out/dir; touch {canary}/PWN /out/dir/PWN /relative/PWN")
    assert done.returncode == 0, str(done)
    assert "inner" not in done.stdout
    assert "shadow" not in done.stdout
    for target in ("/", "/dev/../dev", "//proc//x", "/kernel/sys", "a\0b"):
        done = boxes("run", base(layer, config={"Volumes": {target: {}}}), "true")
        assert done.returncode == 125, (target, str(done))
        assert "volume" in done.stderr or "mount target" in done.stderr


def test_what_lies_in_a_volume(base: Base, boxes: Boxes, canary: Path) -> None:
    """What lies in a volume's directory is copied as what it is, links unread."""
    layer = tar(link("data/l", f"{canary}/shadow"), Member("data/x", b"x"))
    done = boxes("run", base(layer, config={"Volumes": {"/data": {}}}), "sh", "-c", "readlink /data/l; cat /data/l")
    assert done.stdout == f"{canary}/shadow\n"
    assert "canary:" not in done.stdout


def test_traps_for_the_next_start(anybodys: Boxes, canary: Path, open_path: Path) -> None:
    """CVE-2026-41579 by a container itself: links where the next start mounts something."""
    mine = open_path / "mine"
    mine.mkdir()
    mine.chmod(0o777)
    script = (
        f"for p in /a /dev /proc /sys /etc /etc/hosts /v; do mv $p /moved; rm -rf $p; ln -s {canary} $p; "
        f"ln -sfn {canary} $p/b; done 2>/dev/null; touch /ready"
    )
    anybodys.run("-v", f"{mine}:/a/b", "-v", "/v", script=script)
    ready(anybodys)
    anybodys("stop", "-t", "0", "c")
    done = anybodys("start", "c")
    assert done.returncode in (0, 125), str(done)


def test_what_is_said_of_containers(boxes: Boxes) -> None:
    """Escape sequences in labels, commands and what a health check prints."""
    bad = "\x1b]0;PWN\x07\x1b[2J"
    boxes.run("-l", f"a={bad}", "--health-cmd", f"printf '{bad}'; exit 1", "--health-interval", "100ms",
              script=f": '{bad}'")  # fmt: skip
    for words in (
        ["ps", "--no-trunc"],
        ["ps", "--json"],
        ["ps", "--format", "{{.Labels}}"],
        ["container", "inspect", "c"],
    ):
        assert "\x1b" not in boxes(*words).stdout
    for word in (bad, "../x", "c/../c", "", "-"):
        assert boxes("exec", "--", word, "true").returncode in (2, 125)
