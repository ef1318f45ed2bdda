"""What orca needs of a machine, without asking this one."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fake_tools import FakeTools

from orca.errors import ToolMissing
from orca.tools import command, probe, runc, slirp4netns
from orca.tools.command import Runner

TOOLS = {tool.name: tool for tool in probe.TOOLS}


@pytest.mark.parametrize(
    ("os_release", "family"),
    [
        ("ID=debian\n", probe.DEBIAN),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', probe.DEBIAN),
        ("ID=fedora", probe.FEDORA),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"', probe.FEDORA),
        ('NAME="openSUSE Leap"\nID="opensuse-leap"\nID_LIKE="suse opensuse"', probe.SUSE),
        ("ID=arch", probe.ARCH),
        ("ID=manjaro\nID_LIKE=arch", probe.ARCH),
        ("ID=alpine", probe.ALPINE),
        ("ID=nixos", None),
        ("", None),
        ("# debian\nPRETTY_NAME='debian'", None),
    ],
)
def test_family(os_release: str, family: str | None) -> None:
    assert probe.family(os_release) == family


def test_one_command_for_a_known_distribution() -> None:
    lines = probe.install([TOOLS["newuidmap"], TOOLS["newgidmap"], TOOLS["umoci"]], probe.ALPINE)
    assert [line.removeprefix("sudo ") for line in lines] == ["apk add shadow-uidmap umoci"]


def test_a_command_for_each_when_it_is_unknown() -> None:
    lines = [line.removeprefix("sudo ") for line in probe.install([TOOLS["newuidmap"]], None)]
    assert lines == [
        "apt-get install uidmap  # Debian, Ubuntu",
        "dnf install shadow-utils  # Fedora",
        "zypper install shadow  # openSUSE",
        "pacman -S shadow  # Arch",
        "apk add shadow-uidmap  # Alpine",
    ]


def test_ordinary_users_write_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert probe.install([TOOLS["runc"]], probe.SUSE) == ("sudo zypper install runc",)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert probe.install([TOOLS["runc"]], probe.SUSE) == ("zypper install runc",)


@pytest.mark.parametrize(
    ("name", "text", "version"),
    [
        ("skopeo", "skopeo version 1.9.3", "1.9.3"),
        ("umoci", "umoci version 0.4.7+ds-3+b7", "0.4.7"),
        ("runc", "runc version 1.1.5+ds1\ncommit: 1.1.5\nspec: 1.0.2-dev", "1.1.5"),
        ("tar", "tar (GNU tar) 1.34\nCopyright (C) 2021", "1.34"),
        ("tar", "tar (busybox) 1.36.1", None),
        ("tar", "bsdtar 3.6.2 - libarchive 3.6.2", None),
        ("fuse-overlayfs", "unknown argument\nfusermount3 version: 3.14.0\nfuse-overlayfs: version 1.10", "1.10"),
        ("pasta", "pasta unknown version\nGPL version 3.0", None),
        ("zstd", "*** Zstandard CLI (64-bit) v1.5.4, by Yann Collet ***", "1.5.4"),
    ],
)
def test_versions(name: str, text: str, version: str | None) -> None:
    assert probe.parse_version(TOOLS[name], text) == version


def test_version_of_a_tool(fake_tools: FakeTools) -> None:
    fake_tools.answer("umoci", "--version", stdout="umoci version 0.4.8\n", code=1)
    assert probe.version(TOOLS["umoci"], Runner()) == "0.4.8"
    assert fake_tools.calls == [["umoci", "--version"]]


def test_older() -> None:
    assert probe.older("0.3.9", (0, 4))
    assert not probe.older("0.4.7", (0, 4))
    assert not probe.older("1.10", (1, 9))


def test_a_missing_tool_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "this_family", lambda: probe.DEBIAN)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ToolMissing) as caught:
        command.find("newuidmap")
    assert "apt-get install uidmap" in (caught.value.hint or "")
    with pytest.raises(ToolMissing) as caught:
        command.find("no-such-tool")
    assert "orca doctor" in (caught.value.hint or "")


@pytest.mark.parametrize("path", ["", ":", "/nonexistent:"])
def test_nothing_is_found_in_the_current_directory(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "umoci").write_text("#!/bin/sh\n")
    (tmp_path / "umoci").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", path)
    with pytest.raises(ToolMissing, match="umoci is not installed"):
        command.find("umoci")


def test_file_system_of_a_directory_that_is_not_there_yet(tmp_path: Path) -> None:
    found = probe.file_system(tmp_path / "a" / "b")
    assert found == probe.FileSystem(found.kind, found.mount_point, found.free, found.size)
    assert tmp_path.resolve().is_relative_to(found.mount_point)
    assert 0 <= found.free <= found.size
    assert probe.file_system(Path("/proc/self")).kind == "proc"


def test_settings() -> None:
    assert (probe.setting("kernel.ostype"), probe.setting("kernel.no_such_thing")) == ("Linux", None)


def test_slirp4netns_keeps_the_loopback_closed() -> None:
    plain = slirp4netns.attach(Path("/n"), 3, 4).argv
    assert "--disable-host-loopback" in plain
    assert not any(word.startswith("--api-socket") for word in plain)
    opened = slirp4netns.attach(Path("/n"), 3, 4, api_socket="s", host_loopback=True).argv
    assert "--disable-host-loopback" not in opened
    assert "--api-socket=s" in opened


def test_slirp4netns_request() -> None:
    assert slirp4netns.publish("udp", "127.0.0.1", 53, 5353) == {
        "execute": "add_hostfwd",
        "arguments": {"proto": "udp", "host_addr": "127.0.0.1", "host_port": 53, "guest_port": 5353},
    }


def test_runc_writes_a_pid_only_when_asked() -> None:
    words = runc.run(Path("/s"), Path("/b"), "c", Path("/l")).argv
    asked = runc.run(Path("/s"), Path("/b"), "c", Path("/l"), pid_file=Path("/p")).argv
    assert [word for word in asked if word not in words] == ["--pid-file=/p"]
    assert asked.index("--pid-file=/p") > asked.index("run")
