"""pull and push with a real registry: what arrives, and how it is told when nothing does."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.leftovers import Leftovers
from support.orca import Orca
from support.proc import free_port, run, start, stop
from support.registry import Registry, RegistryImage
from support.users import User

# htpasswd's bcrypt of the password "p".
PASSWORD_FILE = "u:$2b$05$5NI8bAOhDBwuSCtg.cFtP.FkRy2IhQKaIgBMjWeP7tRjJeCCWNB4W\n"


def manifest_at(location: str) -> bytes:
    """The manifest's bytes as the registry has them."""
    command = ("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{location}")
    return subprocess.run(command, check=True, capture_output=True).stdout


class TestPush:
    def test_the_manifest_arrives_unchanged_and_comes_back(
        self, orca: Orca, busybox: str, registry: Registry, leftovers: Leftovers
    ) -> None:
        place = f"{registry.address}/pushed/app:1"
        pushed = orca("push", "--tls-verify=false", "busybox", place)
        raw = orca("inspect", "--raw", "busybox").stdout.encode()
        assert manifest_at(place) == raw
        assert pushed.out == orca("images", "-q", "busybox").out
        orca("rm", "--all")
        orca("prune", "--all")
        pulled = orca("pull", "-q", "--tls-verify=false", place)
        assert (pulled.out, pulled.stderr) == (pushed.out, "")
        assert json.loads(orca("images", "--json").stdout)[0]["name"] == place
        leftovers.assert_none()

    def test_progress_of_each_blob(self, orca: Orca, busybox: str, registry: Registry) -> None:
        place = f"{registry.address}/progress/app:1"
        layer = json.loads(orca("inspect", "--raw", "busybox").stdout)["layers"][0]
        name = f"blob {layer['digest'][7:19]}"
        for words in (("push", "busybox", place), ("push", "busybox", place), ("rm",), ("pull", place)):
            if words == ("rm",):
                orca("rm", "--all")
                orca("prune", "--all")
                continue
            said = orca(words[0], "--tls-verify=false", "--progress=json", *words[1:]).stderr
            events = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
            last = {event["what"]: event for event in events if event["event"] == "progress"}
            assert last.keys() == {name, words[0]}
            assert {(event["done"], event["total"]) for event in last.values()} == {(layer["size"], layer["size"])}

    def test_by_its_own_name(self, orca: Orca, busybox: str, registry: Registry) -> None:
        place = f"{registry.address}/own/app:2"
        orca("tag", "busybox", place)
        orca("push", "--tls-verify=false", place)
        assert manifest_at(place) == orca("inspect", "--raw", place).stdout.encode()

    def test_fields_that_only_docker_names_survive(
        self, orca: Orca, busybox: str, registry: Registry, open_path: Path
    ) -> None:
        (open_path / "Dockerfile").write_text(
            'FROM busybox\nHEALTHCHECK CMD true\nONBUILD RUN true\nSHELL ["/bin/ash", "-c"]\n'
        )
        (open_path / "context").mkdir()
        orca("build", "-q", "-t", "app", "-f", open_path / "Dockerfile", open_path / "context")
        place = f"{registry.address}/fields/app:1"
        orca("push", "-q", "--tls-verify=false", "app", place)
        orca("rm", "--all")
        orca("pull", "-q", "--tls-verify=false", place)
        config = json.loads(orca("inspect", place).stdout)[0]["config"]["config"]
        assert config["Healthcheck"]["Test"] == ["CMD-SHELL", "true"]
        assert (config["OnBuild"], config["Shell"]) == (["RUN true"], ["/bin/ash", "-c"])

    @pytest.mark.parametrize("form", ["oci:{}:app", "oci-archive:{}", "dir:{}"])
    def test_other_places_get_the_same_digest(self, form: str, orca: Orca, busybox: str, open_path: Path) -> None:
        target = form.format(open_path / "copy")
        pushed = orca("push", "busybox", target)
        assert pushed.out == orca("images", "-q").out
        inspected = run("skopeo", "inspect", "--raw", target)
        assert inspected.stdout == orca("inspect", "--raw", "busybox").stdout

    def test_a_file_for_docker_load(self, orca: Orca, busybox: str, open_path: Path) -> None:
        orca("push", "busybox", "docker-archive:app.tar", cwd=open_path)
        names = json.loads(run("tar", "xOf", open_path / "app.tar", "manifest.json").stdout)[0]["RepoTags"]
        assert names == ["localhost/busybox:latest"]
        again = orca("push", "busybox", "docker-archive:app.tar", cwd=open_path, check=False)
        assert again.returncode == 125 and "is there already" in again.stderr

    def test_a_local_name_leads_nowhere(self, orca: Orca, busybox: str) -> None:
        failed = orca("push", "busybox", check=False)
        assert failed.returncode == 2
        assert "hint: say where to: orca push localhost/busybox:latest REGISTRY/NAME:TAG" in failed.stderr


class TestPull:
    def test_a_short_name_by_registries_conf(self, orca: Orca, busybox_image: RegistryImage) -> None:
        assert orca("pull", "-q", "busybox").out == busybox_image.digest
        # Every command then knows the short name.
        assert json.loads(orca("inspect", "busybox").stdout)[0]["digest"] == busybox_image.digest
        assert orca("rm", "busybox").out == busybox_image.location

    def test_an_ordinary_user_and_progress(self, orca: Orca, ordinary_user: User, busybox_image: RegistryImage) -> None:
        pulled = orca("pull", "--progress", "json", "busybox", user=ordinary_user)
        assert pulled.out == busybox_image.digest
        events = [json.loads(line) for line in pulled.stderr.splitlines() if line.startswith("{")]
        assert [event["argv"][0] for event in events if event["event"] == "tool-started"] == ["skopeo", "skopeo"]

    def test_by_digest(self, orca: Orca, busybox_image: RegistryImage) -> None:
        name = f"{busybox_image.location.rpartition(':')[0]}@{busybox_image.digest}"
        assert orca("pull", "-q", name).out == busybox_image.digest
        assert name in orca("images", "--json").stdout

    def test_another_platform_than_asked_for_is_told(self, orca: Orca, busybox_image: RegistryImage) -> None:
        assert "warning: this image is for linux/" in orca("pull", "--platform", "linux/s390x", "busybox").stderr

    def test_what_is_not_there(self, orca: Orca, registry: Registry, leftovers: Leftovers) -> None:
        failed = orca("pull", "--tls-verify=false", f"{registry.address}/no/such:1", check=False)
        assert failed.returncode == 125 and failed.stdout == ""
        assert f"error: {registry.address}/no/such:1: there is no such image" in failed.stderr
        leftovers.assert_none()

    def test_http_without_leave(self, orca: Orca, registry: Registry) -> None:
        failed = orca("pull", f"{registry.address}/no/such:1", check=False)
        assert "the registry speaks http, not https" in failed.stderr
        assert "--tls-verify=false" in failed.stderr

    def test_nobody_listens(self, orca: Orca, busybox: str) -> None:
        place = f"127.0.0.1:{free_port()}/app"
        for words in (("pull", place), ("push", "busybox", place)):
            failed = orca(*words, check=False)
            assert failed.returncode == 125
            assert "the registry cannot be reached" in failed.stderr and "Traceback" not in failed.stderr

    def test_a_registry_that_sends_rubbish(self, orca: Orca, open_path: Path) -> None:
        program = (
            "import http.server as h\n"
            "class H(h.BaseHTTPRequestHandler):\n"
            "    def do_GET(self):\n"
            "        self.send_response(200); self.end_headers(); self.wfile.write(b'\\x1b[2J{]')\n"
            "s = h.HTTPServer(('127.0.0.1', 0), H); print(s.server_port, flush=True); s.serve_forever()\n"
        )
        server = start(["python3", "-c", program], log=open_path / "server.log")
        try:
            while not (open_path / "server.log").read_text().strip():
                assert server.poll() is None
            port = int((open_path / "server.log").read_text().split()[0])
            failed = orca("pull", "--tls-verify=false", f"127.0.0.1:{port}/app", check=False)
        finally:
            stop(server)
        assert failed.returncode == 125
        assert "\x1b" not in failed.stderr and "Traceback" not in failed.stderr and "bug in orca" not in failed.stderr


@pytest.mark.parametrize("words", [("pull", "127.0.0.1:1/app"), ("push", "busybox", "127.0.0.1:1/app")])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(
    words: tuple[str, ...], number: int, orca: Orca, busybox: str, open_path: Path, leftovers: Leftovers
) -> None:
    slow = open_path / "slow"
    slow.mkdir()
    (slow / "skopeo").write_text(f"#!/bin/sh\ntouch {open_path}/begun\nexec sleep 100\n")
    (slow / "skopeo").chmod(0o755)
    process = orca.start(*words, env={"PATH": f"{slow}:{os.environ['PATH']}"})
    deadline = time.monotonic() + 20
    while not (open_path / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(20) == 130
    leftovers.assert_none()


@pytest.fixture
def locked(open_path: Path) -> Iterator[str]:
    """The address of a registry that wants user u with password p."""
    (open_path / "users").write_text(PASSWORD_FILE)
    port = free_port()
    (open_path / "config.yml").write_text(
        "version: 0.1\nlog: {level: warn, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {open_path / 'data'}}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\nauth: {{htpasswd: {{realm: x, path: {open_path / 'users'}}}}}\n"
    )
    server = start(["docker-registry", "serve", open_path / "config.yml"], log=open_path / "registry.log")
    try:
        for _ in range(200):
            with socket.socket() as probe:
                probe.settimeout(0.1)
                if not probe.connect_ex(("127.0.0.1", port)):
                    break
            assert server.poll() is None
        yield f"127.0.0.1:{port}"
    finally:
        stop(server)


def test_credentials(orca: Orca, busybox: str, locked: str, open_path: Path) -> None:
    place = f"{locked}/app:1"
    for more in ((), ("--creds", "u:wrong")):
        refused = orca("push", "--tls-verify=false", *more, "busybox", place, check=False)
        assert refused.returncode == 125 and "the registry refuses access" in refused.stderr
        assert "wrong" not in refused.stderr
    digest = orca("push", "--tls-verify=false", "--creds", "u:p", "busybox", place).out
    run("skopeo", "login", "--tls-verify=false", "-u", "u", "-p", "p", "--authfile", open_path / "auth.json", locked)
    assert orca("pull", "-q", "--tls-verify=false", "--authfile", "auth.json", place, cwd=open_path).out == digest
    assert os.listdir(orca.store / "work") == []
