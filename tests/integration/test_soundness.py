"""The store under stress: many processes at once, kills at any moment, a full disk, a disk that cannot be written."""

from __future__ import annotations

import json
import os
import random
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import need
from support.images import Layout
from support.orca import Orca
from support.proc import run
from support.registry import RegistryImage
from support.users import User

BASE = "localhost/busybox:latest"


def start(orca: Orca, *argv: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        orca.command(*argv), env=orca.environment(), cwd=orca.top, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def tags(orca: Orca) -> set[str]:
    entries = json.loads((orca.store / "images/index.json").read_text())["manifests"]
    names = [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in entries]
    assert len(names) == len(set(names))
    return set(names)


def local(*names: str) -> set[str]:
    return {f"localhost/{name}:latest" for name in names}


@pytest.fixture
def contexts(dockerfile_context: Callable[..., Path]) -> list[Path]:
    """Eight builds that have their first step in common."""
    text = "FROM scratch\nCOPY same /\nCOPY own /own\nENV A=b\n"
    return [dockerfile_context({"Dockerfile": text, "same": "same", "own": str(number)}) for number in range(8)]


def test_two_hundred_processes_at_once(orca: Orca, busybox: str, contexts: list[Path]) -> None:
    gone = [f"gone{number}" for number in range(64)]
    orca("tag", busybox, *gone)
    calls: list[tuple[str | Path, ...]] = [
        *(("tag", busybox, f"kept{number}") for number in range(104)),
        *(("rm", name) for name in gone),
        *(
            ("build", "-q", "--source-date-epoch", "0", "-t", f"made{number}", contexts[number % 8])
            for number in range(32)
        ),
    ]
    random.Random(1).shuffle(calls)
    assert len(calls) == 200
    running = [start(orca, *call) for call in calls]
    for call, process in zip(calls, running, strict=True):
        said = process.communicate(timeout=170)
        assert process.returncode == 0, (call, said)
    kept = {f"kept{number}" for number in range(104)} | {f"made{number}" for number in range(32)}
    assert tags(orca) == local("busybox", *kept)
    assert orca("fsck").stdout.splitlines()[-1] == "clean"
    for number in range(8):  # the same build, whoever made it
        digests = {orca("inspect", f"made{which}").stdout for which in (number, number + 8)}
        assert len(digests) == 1


def test_no_kill_loses_what_was_said_to_be_done(orca: Orca, busybox: str, contexts: list[Path]) -> None:
    chance = random.Random(2)
    done = {"busybox"}
    for round_ in range(5):
        running = {
            name: start(orca, *(("tag", busybox, name) if number % 2 else
                                ("build", "-q", "--no-cache", "-t", name, contexts[number])))
            for number in range(6)
            for name in [f"n{round_}x{number}"]
        }  # fmt: skip
        for name, process in sorted(running.items(), key=lambda _: chance.random()):
            time.sleep(chance.random() / 4)
            process.send_signal(signal.SIGKILL)
            if process.communicate()[0].strip():
                done.add(name)
        assert local(*done) <= tags(orca)
    # What the killed ones' own children are still at ends by itself.
    assert orca("fsck", "--repair").stdout.splitlines()[-1].startswith("clean")
    assert orca("fsck").stdout.splitlines()[-1] == "clean"
    assert local(*done) <= tags(orca)
    orca("prune", "--all")
    assert orca("fsck").stdout.splitlines()[-1] == "clean"
    orca("build", "-q", "-t", "after", contexts[0])


@pytest.fixture
def small(orca: Orca) -> Iterator[Path]:
    """The store is on a file system of 12 MB of its own."""
    orca.store.mkdir(mode=0o700, exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", "size=12m,mode=0700", "tmpfs", orca.store)
    try:
        yield orca.store
    finally:
        run("umount", "--lazy", orca.store)


STAGES = (0, 24, 120, 700, 1500, 2300, 3500)
"""What is free in kB: for not even a directory, a record, the unpacked base, a layer, …"""


@pytest.mark.root
def test_a_full_disk(orca: Orca, small: Path, busybox_layout: Layout, dockerfile_context: Callable[..., Path]) -> None:
    orca.load(busybox_layout, BASE)
    text = f"FROM {BASE}\nCOPY big /big\nRUN cat /big /big > /twice\nRUN rm /big\n"
    context = dockerfile_context({"Dockerfile": text, "big": os.urandom(700_000)})
    failures = 0
    for free in STAGES:
        ballast = small / "ballast"
        room = os.statvfs(small)
        ballast.write_bytes(bytes(max(room.f_bavail * room.f_frsize - free * 1024, 0)))
        failed = orca("build", "-q", "-t", f"free{free}", context, check=False)
        if failed.returncode:
            failures += 1
            assert failed.returncode in (1, 125), failed  # a RUN's own code: cat cannot write
            assert "no space left" in failed.stderr.lower(), failed
            assert "Traceback" not in failed.stderr
            assert "this is a bug" not in failed.stderr
            assert f"localhost/free{free}:latest" not in tags(orca)
        ballast.unlink()
        assert BASE in tags(orca)
        left = orca("fsck", "--json", check=False)
        kinds = {found["kind"] for found in json.loads(left.stdout)["findings"]}
        assert kinds <= {"scratch"}, left.stdout
        assert orca("fsck", "--repair").stdout.splitlines()[-1].startswith("clean")
        orca("prune", "--all")
    assert failures >= 4
    orca("build", "-q", "-t", "app", context)
    assert orca("fsck").stdout.splitlines()[-1] == "clean"


@pytest.mark.root
def test_a_full_disk_when_naming(orca: Orca, small: Path, busybox_layout: Layout) -> None:
    orca.load(busybox_layout, BASE)
    room = os.statvfs(small)
    (small / "ballast").write_bytes(bytes(room.f_bavail * room.f_frsize))
    failed = orca("tag", BASE, "more", check=False)
    assert failed.returncode == 125
    assert "no space left on the device while writing index.json" in failed.stderr
    assert "orca prune frees" in failed.stderr
    assert tags(orca) == {BASE}
    assert BASE in orca("images").stdout or "busybox" in orca("images").stdout
    orca("prune", "--all")  # needs no room
    (small / "ballast").unlink()
    orca("tag", BASE, "more")
    assert tags(orca) == {BASE, "localhost/more:latest"}


@pytest.mark.root
def test_readers_need_not_write(orca: Orca, busybox: str, contexts: list[Path]) -> None:
    orca("build", "-q", "-t", "app", contexts[0])
    readers = (("images", "--json"), ("inspect", "app"), ("history", "--json", "app"), ("fsck",), ("prune", "-n"),
               ("builds", "--json"),
               ("script", "app"), ("report", "app"))  # fmt: skip
    before = {reader: orca(*reader).stdout for reader in readers}
    run("mount", "--bind", orca.store, orca.store)
    try:
        run("mount", "-o", "remount,bind,ro", orca.store)
        for reader in readers:
            assert orca(*reader).stdout == before[reader], reader
        assert orca("build", "-q", "-t", "app", contexts[0]).out.startswith("sha256:")  # all there
        for writer in (("tag", "app", "more"), ("rm", "app"), ("prune", "--all"), ("build", "-q", contexts[1])):
            failed = orca(*writer, check=False)
            assert failed.returncode == 125, writer
            assert "Read-only file system" in failed.stderr, writer
            assert "this is a bug" not in failed.stderr
    finally:
        run("umount", "--lazy", orca.store)
    assert "localhost/app:latest" in tags(orca)
    orca("tag", "app", "more")


def test_an_image_with_a_damaged_layer_is_pulled_again(orca: Orca, busybox_image: RegistryImage) -> None:
    orca("pull", "busybox")
    blobs = orca.store / "images/blobs/sha256"
    layer = max(blobs.iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(layer.read_bytes())
    data[len(data) // 2] ^= 1
    layer.write_bytes(data)
    found = orca("fsck", check=False)
    assert found.returncode == 1
    assert f"blob images/blobs/sha256/{layer.name}: does not match its digest" in found.stdout
    assert "needs a damaged blob" in found.stdout
    mended = orca("fsck", "--repair", check=False)
    assert mended.returncode == 1  # the image has a name, and is not whole
    assert f"layer sha256:{layer.name} is missing or has the wrong size" in mended.stdout
    assert len(tags(orca)) == 1
    orca("pull", "busybox")
    assert orca("fsck").stdout.splitlines()[-1] == "clean"


@pytest.mark.user
def test_an_ordinary_users_store(
    orca: Orca, busybox_layout: Layout, ordinary_user: User, dockerfile_context: Callable[..., Path]
) -> None:
    orca.load(busybox_layout, BASE, ordinary_user)
    files = "echo a > /a && chown 7:8 /a && chmod 600 /a && rm /bin/vi && mkdir -m 700 /d && echo b > /d/b"
    text = f"FROM {BASE}\nRUN {files}\n"
    context = dockerfile_context(text)
    orca("build", "-q", "-t", "app", context, user=ordinary_user)
    value = json.loads(orca("fsck", "--json", user=ordinary_user).stdout)
    assert value["clean"]
    assert value["checked"]["snapshots in use"] >= 2
    (file,) = (orca.store_of(ordinary_user) / "snapshots").glob("*/fs/d/b")
    file.write_text("c\n")  # root may, and a power cut
    found = orca("fsck", check=False, user=ordinary_user)
    assert found.returncode == 1
    assert "is not what its layers hold: d/b: has another content" in found.stdout
    assert orca("fsck", "--repair", user=ordinary_user).stdout.splitlines()[-1].startswith("clean now")
    assert orca("run", "app", "cat", "/d/b", user=ordinary_user).stdout == "b\n"
    orca("build", "-q", "-t", "app", context, user=ordinary_user)
    assert orca("fsck", user=ordinary_user).stdout.splitlines()[-1] == "clean"


def test_a_dry_run_waits_for_no_build(orca: Orca, busybox: str, dockerfile_context: Callable[..., Path]) -> None:
    building = start(orca, "build", "-q", dockerfile_context(f"FROM {BASE}\nRUN sleep 60\n"))
    try:
        deadline = time.monotonic() + 30
        while not list((orca.store / "work").glob("*/step-*/fs")) and time.monotonic() < deadline:
            time.sleep(0.05)
        value = json.loads(orca("prune", "--dry-run", "--json", timeout=9).stdout)
        assert value["kinds"]["scratch"] == {"count": 0, "bytes": 0}
        assert json.loads(orca("fsck", "--json").stdout)["clean"]
        assert "it was interrupted" in orca("script").stdout
    finally:
        building.terminate()
        building.communicate()


def test_the_ostree_repository_is_checked(orca: Orca, busybox: str) -> None:
    need("ostree")
    orca("pull", "-q", "--storage=ostree", busybox)
    value = json.loads(orca("fsck", "--json").stdout)
    assert (value["clean"], value["checked"]["ostree images"]) == (True, 1)
    damaged = max((orca.store / "ostree/repo/objects").glob("*/*.file"), key=lambda path: path.lstat().st_size)
    damaged.write_bytes(b"x" * damaged.stat().st_size)
    found = orca("fsck", check=False)
    assert found.returncode == 1
    assert "image ostree/repo: " in found.stdout
    assert "orca rm --storage=ostree" in found.stdout
    branch = next(path for path in (orca.store / "ostree/repo/refs/heads/ociimage").iterdir() if len(path.name) == 64)
    branch.unlink()
    assert "is not in the OSTree repository" in orca("fsck", "--quick", check=False).stdout


def weight(root: Path) -> int:
    """Bytes of all files below `root`, each inode once."""
    found = [os.lstat(os.path.join(place, name)) for place, _, names in os.walk(root) for name in names]
    return sum({each.st_ino: each.st_size for each in found if stat.S_ISREG(each.st_mode)}.values())


@pytest.mark.parametrize("seed", [1, 2])
def test_prune_frees_what_it_promised_whatever_was_done(
    orca: Orca, busybox: str, contexts: list[Path], seed: int
) -> None:
    chance = random.Random(seed)
    digests: dict[str, str] = {}
    sessions: set[str] = set()
    names = ("a", "b", "c")
    for _ in range(24):
        name = chance.choice(names)
        match chance.choice(("build", "build", "tag", "rm", "step", "abandon", "prune", "prune")):
            case "build":
                digests[name] = orca("build", "-q", "-t", name, chance.choice(contexts[:4])).out
            case "tag" if digests:
                other = chance.choice(sorted(digests))
                orca("tag", other, name)
                digests[name] = digests[other]
            case "rm" if name in digests:
                orca("rm", name)
                del digests[name]
            case "step":
                session = orca("from", chance.choice(["scratch", *sorted(digests)])).out
                orca("step", "-q", session, "ENV", f"N={chance.randrange(3)}")
                sessions.add(session)
            case "abandon" if sessions:
                orca("abandon", sessions.pop())
            case "prune":
                options = chance.choice([[], ["--all"]])
                promised = json.loads(orca("prune", "-n", "--json", *options).stdout)
                before = weight(orca.store)
                freed = json.loads(orca("prune", "--json", *options).stdout)
                assert before - weight(orca.store) == freed["bytes"] == promised["bytes"]
                assert freed["paths"] == promised["paths"]
                assert orca("fsck").stdout.splitlines()[-1] == "clean"
        assert tags(orca) == local("busybox", *digests)
    for session in sessions:
        assert orca("commit", session).out.startswith("sha256:")
    for name, digest in digests.items():
        assert digest in orca("inspect", name).stdout
    assert orca("fsck").stdout.splitlines()[-1] == "clean"
