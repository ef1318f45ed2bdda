"""Programs of other architectures: the smallest ones, and what is registered for them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from orca.executor import foreign
from orca.oci import platform
from orca.oci.platform import Platform
from orca.tools import emulation

REGISTERED = """\
enabled
interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P
flags: {flags}
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
"""


@pytest.mark.parametrize("architecture", emulation.MACHINES)
def test_the_smallest_program(architecture: str, tmp_path: Path) -> None:
    command = emulation.trial(architecture, tmp_path)
    assert command is not None
    assert command.argv == ("chroot", str(tmp_path), "/true")
    program = tmp_path / "true"
    machine = emulation.MACHINES[architecture]
    header = program.read_bytes()
    assert header[:4] == b"\x7fELF" and header.endswith(machine.code)
    emulator = shutil.which(f"qemu-{machine.qemu}-static")
    if architecture == platform.host().architecture:
        assert subprocess.run([program], check=False).returncode == 0
    elif emulator:
        assert subprocess.run([emulator, program], check=False).returncode == 0


def test_an_architecture_that_nobody_knows(tmp_path: Path) -> None:
    assert emulation.trial("pdp11", tmp_path) is None
    assert emulation.registered("pdp11", tmp_path) == []
    assert emulation.machine_name("pdp11") == "pdp11"


def test_what_is_registered(tmp_path: Path) -> None:
    (tmp_path / "register").write_text("")
    (tmp_path / "status").write_text("enabled\n")
    (tmp_path / "python3.11").write_text(
        "enabled\ninterpreter /usr/bin/python3.11\nflags: \noffset 0\nmagic a70d0d0a\n"
    )
    (tmp_path / "broken").write_text("enabled\nmagic zz\n")
    assert emulation.registered("arm64", tmp_path) == []
    (tmp_path / "qemu-aarch64").write_text(REGISTERED.format(flags="OPF"))
    (tmp_path / "other").write_text(REGISTERED.format(flags="O").replace("enabled", "disabled"))
    assert emulation.registered("arm64", tmp_path) == ["OPF"]
    assert emulation.registered("riscv64", tmp_path) == []
    assert emulation.registered("arm64", tmp_path / "none") == []


@pytest.mark.parametrize(
    ("architecture", "host", "expected"),
    [
        ("amd64", "amd64", "amd64"),
        ("386", "amd64", "386"),
        ("arm", "arm64", "arm"),
        ("arm64", "amd64", "amd64"),
        ("amd64", "arm64", "arm64"),
    ],
)
def test_an_emulator_makes_the_hosts_system_calls(architecture: str, host: str, expected: str) -> None:
    assert emulation.seccomp_architecture(architecture, host) == expected


@pytest.mark.parametrize(
    ("flags", "words"), [([], "install qemu-user-static"), (["OC"], "without the flag F"), (["O", "F"], "install qemu")]
)
def test_hints(flags: list[str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = "s390x" if platform.host().architecture != "s390x" else "arm64"
    monkeypatch.setattr(emulation, "registered", lambda _: flags)
    foreign.look(Platform("linux", other))
    assert words in foreign.hint(other)
