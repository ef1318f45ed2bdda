"""The tests' own machinery: what every other integration test relies on."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.fake_tools import FakeTools
from support.images import Layout
from support.leftovers import Leftovers
from support.proc import Failed, Result, run, stop
from support.registry import Registry, RegistryImage
from support.users import User


def test_busybox_runs_its_applets(busybox_layout: Layout, tmp_path: Path) -> None:
    config = json.loads(run("skopeo", "inspect", "--config", busybox_layout.ref).stdout)
    assert config["config"]["Cmd"] == ["/bin/sh"]
    unpack = ["umoci", "unpack", *(["--rootless"] if os.getuid() else []), "--image"]
    run(*unpack, f"{busybox_layout.path}:{busybox_layout.tag}", tmp_path / "bundle")
    root = tmp_path / "bundle" / "rootfs"
    assert run(root / "bin" / "busybox", "echo", "hello").out == "hello"
    assert (root / "bin" / "sh").readlink() == Path("busybox")
    assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777


def test_short_name_resolves_to_the_registry(busybox_image: RegistryImage, registries_conf: Path) -> None:
    # Debian 12's skopeo ignores CONTAINERS_REGISTRIES_CONF, it only knows the option. And not the plain `inspect`: to
    # list the tags it asks docker.io itself, whatever registries.conf says.
    raw = ["inspect", "--raw", f"docker://{busybox_image.name}"]
    manifest = run("skopeo", f"--registries-conf={registries_conf}", *raw).stdout
    assert f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}" == busybox_image.digest


@pytest.mark.slow
def test_debian_is_in_the_registry(debian_image: RegistryImage, registry: Registry) -> None:
    assert debian_image.location.startswith(registry.address)
    said = run("skopeo", "inspect", "--tls-verify=false", debian_image.ref)
    assert json.loads(said.stdout)["Digest"] == debian_image.digest


@pytest.mark.user
def test_ordinary_user(ordinary_user: User, as_user: Callable[..., Result], open_path: Path) -> None:
    assert as_user("id", "-u").out != "0"
    assert as_user("sh", "-c", "cd && pwd").out == str(ordinary_user.home)
    environment = as_user("env").stdout.splitlines()
    assert not any(line.startswith("XDG_RUNTIME_DIR=") for line in environment)
    maps = as_user("unshare", "--map-root-user", "--map-auto", "cat", "/proc/self/uid_map").stdout
    assert sum(int(line.split()[2]) for line in maps.splitlines()) > 65_000
    mine = ordinary_user.own_directory(open_path / "mine")
    as_user("touch", mine / "file")


@pytest.mark.user
def test_everybody_can_run_the_installed_copy(as_user: Callable[..., Result], installed_orca: Path) -> None:
    program = "import sys; sys.path.insert(0, sys.argv[1]); import orca, sh, rich; print(orca.__file__)"
    assert as_user("/usr/bin/python3", "-c", program, installed_orca).out.startswith(str(installed_orca))


def test_leftovers_sees_processes_and_scratch(open_path: Path, leftovers: Leftovers) -> None:
    leftovers.assert_none()
    process = subprocess.Popen(["cat"], cwd=open_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert process.stdin and process.stdout
    process.stdin.write(b"x")  # its answer shows that it really runs: a command line is empty for a moment
    assert process.stdout.read(1) == b"x"
    (open_path / "store-me" / "work" / "a").mkdir(parents=True)
    (open_path / "store-me" / "images").mkdir()
    found = leftovers.found(wait=0)
    assert [line.split()[1] for line in found.processes] == ["cat"]
    assert found.scratch == {str(open_path / "store-me" / "work" / "a")}
    stop(process)
    with pytest.raises(AssertionError, match=r"scratch: .*/work/a"):
        leftovers.assert_none(wait=0.1)


@pytest.mark.root
def test_leftovers_sees_mounts(open_path: Path, leftovers: Leftovers) -> None:
    run("mount", "-t", "tmpfs", "tmpfs", open_path)
    try:
        assert len(leftovers.found(wait=0).mounts) == 1
    finally:
        run("umount", open_path)
    leftovers.assert_none()


def test_fake_tools_log_and_answer(fake_tools: FakeTools, tmp_path: Path) -> None:
    fake_tools.answer("skopeo", "inspect", stdout="{}", files={str(tmp_path / "made"): "x"})
    fake_tools.answer("skopeo", "inspect", "--raw", stderr="no", code=3)
    assert run("skopeo", "--debug", "inspect", "docker://a").stdout == "{}"
    assert (tmp_path / "made").read_text() == "x"
    with pytest.raises(Failed, match=r"exit 3\nno"):
        run("skopeo", "inspect", "--raw", "docker://a")
    assert run("umoci", "ls").returncode == 0
    assert fake_tools.calls[0] == ["skopeo", "--debug", "inspect", "docker://a"]
    assert len(fake_tools.calls) == 3


def test_context_builder(dockerfile_context: Callable[..., Path]) -> None:
    context = dockerfile_context({"Dockerfile": "FROM scratch\n", "a/b": b"\x00", "empty/": ""})
    assert (context / "Dockerfile").read_text() == "FROM scratch\n"
    assert (context / "a" / "b").read_bytes() == b"\x00"
    assert list((context / "empty").iterdir()) == []
