"""Debian's docker-registry on the loopback interface, with a configuration and a storage of its own."""

from __future__ import annotations

import contextlib
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.images import Layout
from support.proc import Failed, free_port, run, start, stop

PASSWORD_FILE = "u:$2b$05$5NI8bAOhDBwuSCtg.cFtP.FkRy2IhQKaIgBMjWeP7tRjJeCCWNB4W\n"
"""Of user u, whose password is p."""


@dataclass(frozen=True)
class RegistryImage:
    """An image in the registry. `name` is how a Dockerfile says it, through the registries.conf of the tests."""

    name: str
    location: str
    digest: str

    @property
    def ref(self) -> str:
        """As skopeo spells it, without any registries.conf."""
        return f"docker://{self.location}"


@dataclass(frozen=True)
class Registry:
    """A running registry: HTTP without TLS at `address` (127.0.0.1:port)."""

    address: str
    root: Path
    process: subprocess.Popen[bytes]

    def push(self, layout: Layout, name: str) -> RegistryImage:
        """Push an image as `library/NAME`, where `FROM name` finds it."""
        location = f"{self.address}/library/{name}"
        digest = self.root / "digest"
        run(
            "skopeo",
            "copy",
            "-q",
            "--dest-tls-verify=false",
            f"--digestfile={digest}",
            layout.ref,
            f"docker://{location}",
        )
        return RegistryImage(name, location, digest.read_text().strip())

    def write_registries_conf(self, path: Path) -> Path:
        """A registries.conf that sends every short name and all of docker.io here."""
        path.write_text(
            f'unqualified-search-registries = ["{self.address}"]\n'
            'short-name-mode = "permissive"\n'
            f'[aliases]\n"debian" = "{self.address}/library/debian"\n"busybox" = "{self.address}/library/busybox"\n'
            f'[[registry]]\nprefix = "docker.io"\nlocation = "{self.address}"\ninsecure = true\n'
            f'[[registry]]\nlocation = "{self.address}"\ninsecure = true\n'
        )
        return path


@contextlib.contextmanager
def serve(root: Path, passwords: str | None = None) -> Iterator[Registry]:
    """A registry that keeps its things in `root`, until the block is left or we die.

    With `passwords`, the text of an htpasswd file with bcrypt, it answers only those who are in it.
    """
    root.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = root / "config.yml"
    (root / "users").write_text(passwords or "")
    auth = f"auth: {{htpasswd: {{realm: x, path: {root / 'users'}}}}}\n" if passwords else ""
    config.write_text(
        "version: 0.1\n"
        "log: {level: warn, accesslog: {disabled: true}}\n"
        f"storage:\n  filesystem: {{rootdirectory: {root / 'data'}}}\n  delete: {{enabled: true}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n{auth}"
    )
    process = start(["docker-registry", "serve", config], log=root / "log")
    registry = Registry(f"127.0.0.1:{port}", root, process)
    try:
        _wait_until_up(registry)
        yield registry
    finally:
        stop(process)


def _wait_until_up(registry: Registry) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            opener.open(f"http://{registry.address}/v2/", timeout=5).close()
            return
        except urllib.error.HTTPError as e:
            e.close()
            return  # it wants a password
        except OSError as e:
            if registry.process.poll() is not None or time.monotonic() > deadline:
                said = (registry.root / "log").read_text(errors="replace")
                raise Failed(f"docker-registry does not answer: {e}\n{said}") from None
            time.sleep(0.02)
