"""What the cases are built with, once for each worker of a test run."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import web
from support.images import once
from support.orca import Orca, install_copy
from support.proc import run
from support.registry import Registry
from support.users import User, myself

from conformance import bases
from conformance.builders import Buildah, Kit, OrcaBuilder


@pytest.fixture(scope="session")
def kit(shared_dir: Path, worker_registry: Registry) -> Iterator[Kit]:
    """The bases, the servers' addresses, and where contexts are written."""
    made = once(shared_dir / "conformance-bases", bases.write_all)
    top = Path(tempfile.mkdtemp(prefix="conformance", dir=shared_dir))
    top.chmod(0o755)
    for name, kind in (("trigger", "docker"), ("base", "oci")):
        source = f"dir:{made}/{name}.docker" if kind == "docker" else f"oci:{made}/{name}.oci:{name}"
        image = f"docker://{worker_registry.address}/conformance/{name}:{kind}"
        run("skopeo", "copy", "-q", "--dest-tls-verify=false", source, image)
    digest = (made / "base.digest").read_text()
    with web.serve(top) as served:
        places = {"registry": worker_registry.address, "web": f"127.0.0.1:{served.port}", "digest": digest}
        yield Kit(made, places, top)
    shutil.rmtree(top, ignore_errors=True)


def _orca(kit: Kit, shared_dir: Path, registries_conf: Path, user: User) -> OrcaBuilder:
    orca = Orca(kit.top, lambda: once(shared_dir / "installed", install_copy))
    orca.env["CONTAINERS_REGISTRIES_CONF"] = str(registries_conf)
    return OrcaBuilder(kit, orca, user).prepare()


@pytest.fixture(scope="session")
def orca_me(kit: Kit, shared_dir: Path, registries_conf: Path) -> OrcaBuilder:
    """orca as whoever runs the tests."""
    return _orca(kit, shared_dir, registries_conf, myself())


@pytest.fixture(scope="session")
def orca_user(kit: Kit, shared_dir: Path, registries_conf: Path, ordinary_user: User) -> OrcaBuilder:
    """orca as an ordinary user."""
    return _orca(kit, shared_dir, registries_conf, ordinary_user)


@pytest.fixture(scope="session")
def buildah(kit: Kit, shared_dir: Path) -> Iterator[Buildah]:
    """Debian's buildah."""
    results = shared_dir / "conformance-buildah"
    results.mkdir(exist_ok=True)
    builder = Buildah(kit, results, shared_dir / f"buildah-{os.getpid()}").prepare()
    yield builder
    builder.close()
