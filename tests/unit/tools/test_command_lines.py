"""Every tool's command line, word for word."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orca.oci.image import ImageConfig
from orca.tools import runc, skopeo, slirp4netns, tar, umoci
from orca.tools.command import Command
from orca.tools.umoci import Entry

LAYOUT = Path("/s/layout")
ENTRY = Entry("RUN x # orca", "2024-01-02T03:04:05Z")
HISTORY = [
    "--history.created_by=RUN x # orca",
    "--history.comment=orca.dockerfile.v0",
    "--history.created=2024-01-02T03:04:05Z",
]
BEFORE = ImageConfig(
    user="old", working_dir="/old", stop_signal="TERM", author="a", env=(("A", "1"), ("B", "2")), labels=(("l", "1"),),
    exposed_ports=("80/tcp",), volumes=("/v",), entrypoint=("e",), cmd=("c", "d"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "flags"),
    [
        ({}, []),
        ({"user": "7:8"}, ["--config.user=7:8"]),
        ({"user": ""}, ["--config.user="]),
        ({"working_dir": "/new dir"}, ["--config.workingdir=/new dir"]),
        ({"stop_signal": "SIGINT"}, ["--config.stopsignal=SIGINT"]),
        ({"stop_signal": None}, ["--config.stopsignal="]),
        ({"author": "Me <me@x>"}, ["--author=Me <me@x>"]),
        ({"author": None}, ["--author="]),
        ({"env": (("A", "1"), ("B", "3"), ("C", "x=y z"))}, ["--config.env=B=3", "--config.env=C=x=y z"]),
        ({"labels": (("l", "2"), ("-m", "--clear"))}, ["--config.label=l=2", "--config.label=-m=--clear"]),
        ({"exposed_ports": ("80/tcp", "53/udp")}, ["--config.exposedports=53/udp"]),
        ({"volumes": ("/v", "/w w")}, ["--config.volume=/w w"]),
        (
            {"entrypoint": ("/x", "-y", "")},
            ["--config.entrypoint=/x", "--config.entrypoint=-y", "--config.entrypoint="],
        ),
        ({"entrypoint": None}, ["--clear=config.entrypoint"]),
        ({"cmd": ("d", "c")}, ["--config.cmd=d", "--config.cmd=c"]),
        ({"cmd": None}, ["--clear=config.cmd"]),
        ({"entrypoint": ("n",), "cmd": None}, ["--config.entrypoint=n", "--clear=config.cmd"]),
        # What umoci has no words for: the store writes it.
        ({"healthcheck": {"Test": ["NONE"]}, "onbuild": ("RUN x",), "shell": ("s",), "args_escaped": True}, []),
    ],
)
def test_umoci_config_flags(change: dict[str, Any], flags: list[str]) -> None:
    assert umoci.config_flags(BEFORE, replace(BEFORE, **change)) == flags


def test_umoci_config() -> None:
    command = umoci.config(LAYOUT, BEFORE, replace(BEFORE, user="x"), ENTRY)
    assert list(command.argv) == ["umoci", "config", "--image", "/s/layout:step", "--config.user=x", *HISTORY]
    command = umoci.config(LAYOUT, BEFORE, BEFORE, None)
    assert list(command.argv) == ["umoci", "config", "--image", "/s/layout:step", "--no-history"]


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        (umoci.new(LAYOUT), ["umoci", "new", "--image", "/s/layout:step"]),
        (umoci.unpack(LAYOUT, "t", Path("/r")), ["umoci", "raw", "unpack", "--image", "/s/layout:t", "/r"]),
        (umoci.add_layer(LAYOUT, ENTRY),
         ["umoci", "raw", "add-layer", "--image", "/s/layout:step", *HISTORY, "/dev/stdin"]),
        (runc.run(Path("/v/runc"), Path("/v/b"), "orca-1", Path("/v/log")),
         ["runc", "--rootless=true", "--root", "/v/runc", "--log", "/v/log", "--log-format", "json", "run",
          "--bundle", "/v/b", "orca-1"]),
        (runc.run(Path("/v/runc"), Path("/v/b"), "orca-1", Path("/v/log"), pid_file=Path("/v/pid")),
         ["runc", "--rootless=true", "--root", "/v/runc", "--log", "/v/log", "--log-format", "json", "run",
          "--pid-file=/v/pid", "--bundle", "/v/b", "orca-1"]),
        (slirp4netns.attach(Path("/v/netns"), 5, 7),
         ["slirp4netns", "--configure", "--mtu=65520", "--disable-host-loopback", "--enable-sandbox",
          "--enable-seccomp", "--ready-fd=5", "--exit-fd=7", "--netns-type=path", "/v/netns", "tap0"]),
        (slirp4netns.attach(Path("/v/netns"), 5, 7, api_socket="api.sock", host_loopback=True),
         ["slirp4netns", "--configure", "--mtu=65520", "--enable-sandbox", "--enable-seccomp", "--ready-fd=5",
          "--exit-fd=7", "--api-socket=api.sock", "--netns-type=path", "/v/netns", "tap0"]),
        (tar.create(Path("/u/fs"), Path("/u/list")),
         ["tar", "--create", "--file=-", "--format=posix",
          "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime,delete=mtime",
          "--numeric-owner", "--xattrs", "--xattrs-include=user.*", "--xattrs-include=security.capability",
          "--xattrs-exclude=user.overlay.*", "--no-recursion", "--null", "--no-unquote", "--no-verbatim-files-from",
          "--directory=/u/fs", "--files-from=/u/list"]),
    ],
)  # fmt: skip
def test_command_lines(command: Command, argv: list[str]) -> None:
    assert list(command.argv) == argv
    assert command.why


def test_tar_clamps_times() -> None:
    words = tar.create(Path("/u"), Path("/l"), clamp=0).argv
    assert words[words.index("--mtime=@0") + 1] == "--clamp-mtime"


def test_slirp4netns_request() -> None:
    assert slirp4netns.publish("tcp", "127.0.0.1", 8080, 80) == {
        "execute": "add_hostfwd",
        "arguments": {"proto": "tcp", "host_addr": "127.0.0.1", "host_port": 8080, "guest_port": 80},
    }


@pytest.mark.parametrize("named", [None, "/my/registries.conf"])
def test_skopeo(named: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONTAINERS_REGISTRIES_CONF", raising=False)
    if named:
        monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", named)
    begin = ["skopeo", *([f"--registries-conf={named}"] if named else [])]
    arm = ("--override-os=linux", "--override-arch=arm64")
    assert list(skopeo.inspect_raw("docker://x", "--creds=a:b").argv) == [
        *begin, "inspect", "--raw", "--creds=a:b", "docker://x",
    ]  # fmt: skip
    assert list(skopeo.inspect_config("docker://x", overrides=arm).argv) == [
        *begin, *arm, "inspect", "--config", "--raw", "docker://x",
    ]  # fmt: skip
    assert list(skopeo.copy("docker://x", "oci:/l:t", "--o", why="because", overrides=arm).argv) == [
        *begin, *arm, "copy", "--o", "docker://x", "oci:/l:t",
    ]  # fmt: skip


def test_a_users_credentials_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    there = tmp_path / ".docker" / "config.json"
    there.parent.mkdir()
    there.write_text("{}")
    assert dict(skopeo.inspect_raw("docker://x").env) == {"REGISTRY_AUTH_FILE": str(there)}
    monkeypatch.setenv("REGISTRY_AUTH_FILE", "/mine")
    assert dict(skopeo.inspect_raw("docker://x").env) == {"REGISTRY_AUTH_FILE": "/mine"}
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert skopeo.inspect_raw("docker://x").env == ()
