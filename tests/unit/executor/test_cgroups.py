"""Cgroups for RUN: where they go and what is written, in directories that stand for hierarchies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orca.errors import OrcaError
from orca.executor import cgroups
from orca.executor.cgroups import Hierarchy, Parent


def hierarchy(place: Path, *controllers: str, unified: bool = True, own: str = "/user/scope") -> Hierarchy:
    (place / own.strip("/")).mkdir(parents=True, exist_ok=True)
    for directory in (place, place / "user", place / "user/scope"):
        if directory.is_dir():
            (directory / "cgroup.subtree_control").write_text(" ".join(controllers))
    return Hierarchy(place, "/", frozenset(controllers), unified, own)


def test_what_is_written_in_version_2() -> None:
    settings = {"memory": "100", "swap": "150", "quota": "20", "shares": "1024", "cpus": "0", "mems": "1"}
    parent = Parent(-1, True, frozenset({"memory", "cpu", "cpuset"}))
    assert cgroups.files(parent, settings) == {
        "memory.max": "100", "memory.swap.max": "50", "cpu.max": "20 100000", "cpu.weight": "39",
        "cpuset.cpus": "0", "cpuset.mems": "1",
    }  # fmt: skip
    assert cgroups.files(parent, {"memory": "1", "swap": "-1", "period": "5"}) == {
        "memory.max": "1", "memory.swap.max": "max", "cpu.max": "max 5",
    }  # fmt: skip
    assert cgroups.files(Parent(-1, True, frozenset({"cpu"})), {"memory": "1", "shares": "2"}) == {"cpu.weight": "1"}


def test_what_is_written_in_version_1(tmp_path: Path) -> None:
    (tmp_path / "cpuset.cpus").write_text("0-3\n")
    (tmp_path / "cpuset.mems").write_text("0\n")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        memory = Parent(fd, False, frozenset({"memory"}))
        assert cgroups.files(memory, {"memory": "1", "swap": "2", "quota": "3"}) == {
            "memory.limit_in_bytes": "1", "memory.memsw.limit_in_bytes": "2",
        }  # fmt: skip
        cpu = Parent(fd, False, frozenset({"cpu", "cpuset"}))
        assert cgroups.files(cpu, {"period": "9", "quota": "3", "shares": "4", "cpus": "1"}) == {
            "cpu.cfs_period_us": "9", "cpu.cfs_quota_us": "3", "cpu.shares": "4", "cpuset.cpus": "1",
            "cpuset.mems": "0",
        }  # fmt: skip
    finally:
        os.close(fd)


def test_nothing_is_claimed_for_nothing() -> None:
    assert cgroups.claim({}, None, []) is None
    with cgroups.joined(None) as doors:
        assert doors == ()


def test_a_controller_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(OrcaError, match="cgroup controller memory is not to be had") as caught:
        cgroups.claim({"memory": "1"}, None, [hierarchy(tmp_path, "cpu")])
    assert "systemd-run --user --scope" in (caught.value.hint or "")


def test_where_they_go(tmp_path: Path) -> None:
    """Version 2: at the top for root, beside our own for others; version 1: below our own; or where it is said."""
    new, old = tmp_path / "new", tmp_path / "old"
    asked = [
        (hierarchy(new, "memory"), None, new if os.geteuid() == 0 else new / "user"),
        (hierarchy(new, "memory"), "/user/scope", new / "user/scope"),
        (hierarchy(new, "memory"), "../../user", new / "user"),
        (hierarchy(old, "memory", unified=False), None, old / "user/scope"),
        (hierarchy(old, "memory", unified=False, own="/not/seen"), "user", old / "user"),
    ]
    for known, parent, expected in asked:
        found = cgroups.claim({"memory": "1"}, parent, [known])
        assert found is not None
        (one,) = found.parents
        assert os.path.samestat(os.fstat(one.fd), expected.stat())
        os.close(one.fd)
    with pytest.raises(OrcaError, match="there is no cgroup nowhere"):
        cgroups.claim({"memory": "1"}, "nowhere", [hierarchy(new, "memory")])
    with pytest.raises(OrcaError, match="there is no cgroup nowhere"):
        cgroups.claim({}, "nowhere", [hierarchy(new, "memory")])


def test_controllers_are_handed_down(tmp_path: Path) -> None:
    known = hierarchy(tmp_path, "memory", "cpu")
    (tmp_path / "cgroup.subtree_control").write_text("cpu")
    found = cgroups.claim({"memory": "1", "quota": "2000"}, "/", [known])
    assert found is not None
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory"
    os.close(found.parents[0].fd)


def test_what_a_killed_build_left_is_swept(tmp_path: Path) -> None:
    known = hierarchy(tmp_path, "memory", unified=False, own="/")
    mine = f"orca-{os.getpid()}-abc"
    for name in ("orca-999999999-abc", mine, "orca-x", "other"):
        (tmp_path / name).mkdir()
    found = cgroups.claim({"memory": "1"}, None, [known])
    assert found is not None
    os.close(found.parents[0].fd)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == sorted([mine, "orca-x", "other"])


def test_hierarchies_are_found(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("4:memory:/mine\n3:cpu,cpuacct:/\n1:name=systemd:/s\n0::/u\n")
    (tmp_path / "mountinfo").write_text(
        f"1 2 0:1 / {tmp_path}/unified rw - cgroup2 cgroup2 rw\n"
        "1 2 0:2 /root /sys/fs/cgroup/memory rw shared:5 - cgroup cgroup rw,memory\n"
        "1 2 0:3 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpuacct,cpu\n"
        "1 2 0:4 / / rw - ext4 /dev/sda rw\n"
    )
    (tmp_path / "unified").mkdir()
    (tmp_path / "unified/cgroup.controllers").write_text("pids io\n")
    found = cgroups.hierarchies(tmp_path)
    assert [(sorted(h.controllers), h.unified, h.root, h.own) for h in found] == [
        (["io", "pids"], True, "/", "/u"),
        (["memory"], False, "/root", "/mine"),
        (["cpu", "cpuacct"], False, "/", "/"),
    ]
    # Of a hierarchy that is mounted in part, what is mounted is all that there is.
    assert found[1].here == Path("/sys/fs/cgroup/memory")
