"""orca doctor: what each state of a machine is called, and the command that mends it."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.fake_tools import FakeTools

from orca.cli import doctor
from orca.cli.doctor import NOTE, OK, PROBLEM, Check
from orca.executor import trial
from orca.tools import probe
from orca.tools.command import Runner
from orca.tools.probe import FileSystem
from orca.ui import Terminal

TOOLS = {tool.name: tool for tool in probe.TOOLS}


@pytest.fixture(autouse=True)
def debian(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "this_family", lambda: probe.DEBIAN)


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "where", lambda tool: None)
    monkeypatch.setattr(doctor, "SYSTEM_PATH", "/nonexistent")


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


@pytest.mark.usefixtures("nothing_installed", "user")
def test_what_is_missing_is_named_with_its_package() -> None:
    found = by_name(list(doctor.check_tools()))
    assert found["umoci"].state == PROBLEM
    assert found["umoci"].mend == ("sudo apt-get install umoci",)
    assert found["newuidmap"].mend == ("sudo apt-get install uidmap",)
    assert found["git"].state == NOTE
    together = found["all together"].mend[0]
    assert together == "sudo apt-get install skopeo umoci runc slirp4netns tar uidmap"


@pytest.mark.usefixtures("nothing_installed")
def test_root_needs_no_newuidmap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    found = by_name(list(doctor.check_tools()))
    assert found["newuidmap"].state == NOTE
    assert found["skopeo"].state == PROBLEM


def test_a_tool_outside_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "umoci").touch(0o755)
    monkeypatch.setattr(doctor, "SYSTEM_PATH", str(tmp_path))
    found = doctor.missing_tool(TOOLS["umoci"], probe.DEBIAN)
    assert found.state == PROBLEM
    assert found.mend == (f"export PATH=$PATH:{tmp_path}",)


@pytest.mark.parametrize(
    ("name", "says", "state", "detail"),
    [
        ("umoci", "umoci version 0.4.7", OK, "0.4.7"),
        ("umoci", "umoci version 0.3.1", PROBLEM, "0.3.1 is too old: 0.4 or newer is needed"),
        ("umoci", "what?", OK, "version unknown"),
        ("pasta", "pasta unknown version", OK, "version unknown"),
    ],
)
def test_versions(fake_tools: FakeTools, name: str, says: str, state: str, detail: str) -> None:
    fake_tools.answer(name, stdout=says)
    found = doctor.check_tool(TOOLS[name], str(fake_tools.path / name), probe.DEBIAN, Runner())
    assert (found.state, found.detail) == (state, detail)


def test_another_tar_is_no_tar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tar").write_text("#!/bin/sh\necho 'tar (busybox) 1.36.1'\n")
    (tmp_path / "tar").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    found = doctor.check_tool(TOOLS["tar"], str(tmp_path / "tar"), probe.DEBIAN, Runner())
    assert (found.state, found.detail) == (PROBLEM, f"{tmp_path}/tar is not GNU tar")
    assert found.mend[0].endswith("apt-get install tar")


@pytest.mark.usefixtures("user")
def test_a_mapper_without_privileges(tmp_path: Path) -> None:
    program = tmp_path / "newuidmap"
    program.touch(0o755)
    found = doctor.check_tool(TOOLS["newuidmap"], str(program), probe.DEBIAN, None)
    assert found.state == PROBLEM
    assert found.mend == (f"sudo chmod u+s {program}",)
    program.chmod(0o4755)
    assert doctor.check_tool(TOOLS["newuidmap"], str(program), probe.DEBIAN, None).state == OK


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize(
    ("settings", "mend"),
    [
        ({"user.max_user_namespaces": "0"}, ["user.max_user_namespaces=15000"]),
        ({"kernel.unprivileged_userns_clone": "0"}, ["kernel.unprivileged_userns_clone=1"]),
        (
            {"kernel.apparmor_restrict_unprivileged_userns": "1", "kernel.unprivileged_userns_clone": "0"},
            ["kernel.unprivileged_userns_clone=1", "kernel.apparmor_restrict_unprivileged_userns=0"],
        ),
        ({"user.max_user_namespaces": "9", "kernel.apparmor_restrict_unprivileged_userns": "0"}, []),
    ],
)
def test_namespace_settings(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], mend: list[str]) -> None:
    monkeypatch.setattr(probe, "setting", settings.get)
    found = doctor.check_namespaces()
    assert found.mend == tuple(f"sudo sysctl -w {line}" for line in mend)
    assert found.state == (PROBLEM if mend else OK)


def test_root_is_not_held_by_what_is_for_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(probe, "setting", {"kernel.unprivileged_userns_clone": "0"}.get)
    assert doctor.check_namespaces().state == OK


def test_ids_begin_behind_everybody_elses(tmp_path: Path) -> None:
    path = tmp_path / "subuid"
    assert doctor.free_ids(path) == 100000
    path.write_text("a:100000:65536\nb:165536:1000\nnonsense\nc:x:y\n")
    assert doctor.free_ids(path) == 166536


@pytest.mark.parametrize(
    ("ranges", "state"), [([], PROBLEM), ([(100000, 1000)], NOTE), ([(100000, 40000), (300000, 40000)], OK)]
)
def test_subordinate_ids(monkeypatch: pytest.MonkeyPatch, ranges: list[tuple[int, int]], state: str) -> None:
    monkeypatch.setattr(doctor.sandbox, "subordinate_ids", lambda *_: ranges)
    monkeypatch.setattr(doctor, "free_ids", lambda path: 200000)
    for check, option in zip(doctor.check_ids(), ("--add-subuids", "--add-subgids"), strict=True):
        assert check.state == state
        assert all(f"usermod {option} 200000-265535" in line for line in check.mend)


@pytest.mark.parametrize(
    ("number", "word"),
    [(errno.ENOENT, "modprobe tun"), (errno.EPERM, "chmod 0666"), (errno.ENODEV, "modprobe tun")],
)
def test_tun(monkeypatch: pytest.MonkeyPatch, number: int, word: str) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, "no")

    monkeypatch.setattr(os, "open", refuse)
    found = doctor.check_tun()
    assert found.state == PROBLEM
    assert word in found.mend[0]


@pytest.mark.parametrize(
    ("kind", "free", "state"),
    [("ext4", 10**10, OK), ("nfs4", 10**10, PROBLEM), ("vfat", 10**10, PROBLEM), ("xfs", 10**6, NOTE)],
)
def test_file_systems(kind: str, free: int, state: str) -> None:
    found, detail, mend = doctor.judge(FileSystem(kind, "/", free, 10**11))
    assert found == state
    assert detail.startswith(kind)
    assert bool(mend) == (state != OK)


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    (found,) = doctor.check_store(tmp_path / "store")
    assert found.state == PROBLEM
    assert "File exists" in found.detail or "not a directory" in found.detail


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Check]], None]:
    def give(checks: list[Check]) -> None:
        monkeypatch.setattr(doctor, "examine", lambda root: checks)

    return give


GOOD = Check("Tools", "skopeo", OK, "1.9.3")
MISSING = Check("Tools", "zstd", NOTE, "not there (optional): x", ("apt-get install zstd",))
BAD = Check("Machine", "/dev/net/tun", PROBLEM, "not open\x1b[2J to you", ("chmod 0666 /dev/net/tun",))


def test_json_and_exit_code(examined: Callable[[list[Check]], None], capsys: pytest.CaptureFixture[str]) -> None:
    examined([GOOD, MISSING])
    assert doctor.run(["--json"]) == 0
    assert json.loads(capsys.readouterr().out)["works"] is True
    examined([GOOD, BAD])
    assert doctor.run(["--json"]) == 125
    value = json.loads(capsys.readouterr().out)
    assert value["works"] is False
    assert value["checks"][1]["mend"] == ["chmod 0666 /dev/net/tun"]


def test_the_page(examined: Callable[[list[Check]], None], capsys: pytest.CaptureFixture[str]) -> None:
    examined([GOOD, MISSING, BAD])
    assert doctor.run([]) == 125
    assert capsys.readouterr().out.splitlines() == [
        "Tools",
        "  ✔  skopeo        1.9.3",
        "  -  zstd          not there (optional): x",
        "",
        "Machine",
        "  ✘  /dev/net/tun  not open\\x1b[2J to you",
        "       chmod 0666 /dev/net/tun",
        "",
        "1 problem: orca cannot build here yet.",
    ]


def test_the_page_in_ascii() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "ascii")
    doctor.show([GOOD, MISSING], True, Terminal(stream, {}))
    assert raw.getvalue().decode("ascii").splitlines()[1:3] == [
        "  OK skopeo  1.9.3",
        "  -- zstd    not there (optional): x",
    ]


def test_no_trial_while_something_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, nothing_installed: None
) -> None:
    monkeypatch.setattr(doctor, "check_trial", lambda root: pytest.fail("was tried"))
    last = doctor.examine(tmp_path / "store")[-1]
    assert (last.name, last.state) == ("build", NOTE)
    assert last.detail.startswith("not tried: skopeo, umoci, runc, slirp4netns, tar")


def test_a_trial_that_fails_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(directory: Path) -> float:
        raise trial.Failed("runc failed: no cgroups", hint="see runc(8)")

    monkeypatch.setattr(trial, "overlay", lambda directory: {"overlay": None})
    monkeypatch.setattr(trial, "build", fail)
    overlay, build = doctor.check_trial(tmp_path / "store")
    assert overlay.state == OK
    assert (build.state, build.mend) == (PROBLEM, ("see runc(8)",))
    assert "no cgroups" in build.detail
    assert list((tmp_path / "store" / "work").iterdir()) == []


@pytest.mark.parametrize(("fuse", "state"), [("/usr/bin/fuse-overlayfs", NOTE), (None, PROBLEM)])
def test_overlay_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fuse: str | None, state: str) -> None:
    monkeypatch.setattr(trial, "overlay", lambda directory: {"overlay": "Operation not permitted"})
    monkeypatch.setattr(probe, "where", lambda tool: fuse)
    monkeypatch.setattr(os, "access", lambda *_: True)
    found = doctor.check_overlay(tmp_path)
    assert found.state == state
    assert "Operation not permitted" in found.detail


def test_the_trials_program_runs_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_PATH", str(tmp_path / "made").encode() + b"\0")
    program = tmp_path / "program"
    program.write_bytes(trial.program(os.uname().machine))
    program.chmod(0o755)
    argv = [str(program), "mkdir", str(tmp_path / "made")]
    assert subprocess.run(argv, executable=program, check=False).returncode == 0
    assert (tmp_path / "made").is_dir()
    assert subprocess.run(argv, executable=program, check=False).returncode != 0


@pytest.mark.parametrize(("machine", "number"), [("x86_64", 62), ("aarch64", 183)])
def test_elf(machine: str, number: int) -> None:
    data = trial.program(machine)
    assert data[:4] == b"\x7fELF"
    assert int.from_bytes(data[18:20], "little") == number
    assert data.endswith(b"/made\0")
    assert len(data) < 200
