"""The fixtures of all tests: docs are in each one's first line, `pytest --fixtures tests` lists them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest
from support import images, registry, users
from support.fake_tools import FakeTools
from support.images import Layout
from support.leftovers import Leftovers
from support.orca import Orca, install_copy
from support.proc import run
from support.registry import Registry, RegistryImage
from support.users import User

SHARED = pytest.StashKey[Path]()


def cannot(reason: str) -> NoReturn:
    """This test cannot run here: a failure where everything must be there (CI=true), a skip elsewhere."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"cannot run here: {reason}", pytrace=False)
    pytest.skip(reason)


def need(*tools: str) -> None:
    """The test needs these tools."""
    missing = [t for t in tools if not shutil.which(t, path=f"{os.environ['PATH']}:{users.SYSTEM_PATH}")]
    if missing:
        cannot(f"not installed: {' '.join(missing)}")


# --- one directory for all workers of a run, which every user of the machine can reach


def pytest_configure(config: pytest.Config) -> None:
    given = getattr(config, "workerinput", {}).get("shared")
    config.stash[SHARED] = Path(given or tempfile.mkdtemp(prefix="orca-tests-"))
    config.stash[SHARED].chmod(0o755)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["shared"] = str(node.config.stash[SHARED])


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput") and SHARED in config.stash:
        remove_tree(config.stash[SHARED])


def remove_tree(path: Path) -> None:
    """Remove all of it, also what belongs to our subordinate ids."""
    shutil.rmtree(path, ignore_errors=True)
    if path.exists() and os.getuid():
        run("unshare", "--map-root-user", "--map-auto", "rm", "-rf", path, check=False)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") and os.getuid():
        cannot("needs root")
    if item.get_closest_marker("network") and not Path("/dev/net/tun").exists():
        cannot("no /dev/net/tun")


@pytest.fixture(scope="session")
def shared_dir(request: pytest.FixtureRequest) -> Path:
    """A directory of this test run, one for all its workers; every user can read it."""
    return request.config.stash[SHARED]


@pytest.fixture
def open_path(shared_dir: Path) -> Iterator[Path]:
    """As tmp_path, but every user can reach it; removed after the test."""
    path = Path(tempfile.mkdtemp(prefix="t", dir=shared_dir))
    path.chmod(0o755)
    yield path
    remove_tree(path)


# --- images and where they come from


@pytest.fixture(scope="session")
def worker_registry(shared_dir: Path) -> Iterator[Registry]:
    """The registry of this worker. Tests ask for `registry`."""
    need("docker-registry", "skopeo")
    with registry.serve(shared_dir / f"registry-{os.getpid()}") as served:
        yield served


@pytest.fixture(scope="session", name="registry")
def _registry(worker_registry: Registry) -> Registry:
    """Debian's docker-registry on loopback: `.address`, `.push(layout, "name:tag")`."""
    return worker_registry


@pytest.fixture(scope="session")
def registries_conf(worker_registry: Registry, shared_dir: Path) -> Path:
    """A file for CONTAINERS_REGISTRIES_CONF by which `FROM debian:12` comes from `registry`.

    A test that asks for this, directly or through an image, has it in the environment of its `orca`.
    """
    return worker_registry.write_registries_conf(shared_dir / f"registries-{os.getpid()}.conf")


@pytest.fixture(scope="session")
def busybox_layout(shared_dir: Path) -> Layout:
    """An OCI layout with a busybox image: `.path`, `.tag`, `.ref`."""
    need("umoci", "busybox")
    return Layout(images.once(shared_dir / "busybox", lambda path: images.busybox_layout(path)), "busybox")


@pytest.fixture(scope="session")
def busybox_image(busybox_layout: Layout, worker_registry: Registry, registries_conf: Path) -> RegistryImage:
    """The same image in the registry, for `FROM busybox`: `.name`, `.location`, `.ref`, `.digest`."""
    return worker_registry.push(busybox_layout, "busybox:latest")


@pytest.fixture(scope="session")
def debian_layout() -> Layout:
    """An OCI layout with a small Debian 12 (made once, 15 s, by mmdebstrap)."""
    need("mmdebstrap", "umoci")
    return images.debian_layout()


@pytest.fixture(scope="session")
def debian_image(debian_layout: Layout, worker_registry: Registry, registries_conf: Path) -> RegistryImage:
    """The same image in the registry, for `FROM debian:12`."""
    return worker_registry.push(debian_layout, "debian:12")


# --- who runs orca, and how


@pytest.fixture(scope="session")
def ordinary_user(shared_dir: Path) -> Iterator[User]:
    """A user without privileges: `.name`, `.home`, `.ids`, `.run(*argv, env=, cwd=)`. Whoever tests, if not root."""
    if os.getuid():
        yield users.myself()
        return
    need("useradd", "newuidmap")

    @contextlib.contextmanager
    def lock() -> Iterator[None]:
        with (shared_dir / "useradd.lock").open("w") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            yield

    with users.made_by_useradd(lock) as user:
        yield user


@pytest.fixture(scope="session")
def as_user(ordinary_user: User) -> Callable[..., Any]:
    """`as_user(*argv, env=, cwd=, check=, stdin=)`: run a command as `ordinary_user`, in a clean environment."""
    return ordinary_user.run


@pytest.fixture(scope="session")
def installed_orca(shared_dir: Path) -> Path:
    """A copy of orca that every user can run: `installed_orca / "bin" / "orca"`."""
    return images.once(shared_dir / "installed", install_copy)


@pytest.fixture
def orca(open_path: Path, request: pytest.FixtureRequest) -> Orca:
    """`orca("build", …, env=, cwd=, check=True, user=None, stdin=) -> Result`, with a new store for each test.

    The Result has `.stdout`, `.stderr`, `.out` (stdout without its newline), `.returncode`. See also `.store`,
    `.load()`, `.config()`, `.start()`.
    """
    runner = Orca(open_path, lambda: request.getfixturevalue("installed_orca"))
    if "registries_conf" in request.fixturenames:
        runner.env["CONTAINERS_REGISTRIES_CONF"] = str(request.getfixturevalue("registries_conf"))
    return runner


@pytest.fixture
def busybox(orca: Orca, busybox_layout: Layout) -> str:
    """`localhost/busybox:latest`, already in the store of `orca` (for another user: `orca.load(busybox_layout, …)`)."""
    return orca.load(busybox_layout, "localhost/busybox:latest")


@pytest.fixture
def store(orca: Orca) -> Path:
    """ORCA_ROOT of `orca`."""
    return orca.store


@pytest.fixture
def dockerfile_context(open_path: Path) -> Callable[..., Path]:
    """`dockerfile_context({"Dockerfile": "FROM …", "dir/file": b"…"}) -> Path`: a new build context.

    A string alone is the Dockerfile. A name that ends in `/` is an empty directory.
    """

    def make(files: Mapping[str, str | bytes] | str) -> Path:
        context = Path(tempfile.mkdtemp(prefix="context", dir=open_path))
        context.chmod(0o755)
        for name, content in ({"Dockerfile": files} if isinstance(files, str) else files).items():
            path = context / name
            (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
            if not name.endswith("/"):
                path.write_bytes(content.encode() if isinstance(content, str) else content)
        return context

    return make


@pytest.fixture
def leftovers(open_path: Path) -> Leftovers:
    """`leftovers.assert_none()`: no mount, process or scratch file of this test is there that was not before."""
    return Leftovers(open_path)


@pytest.fixture
def fake_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeTools:
    """Stand-ins first on PATH: `.answer("skopeo", "inspect", stdout="{}")`, then `.calls`."""
    tools = FakeTools(tmp_path / "fake-tools")
    monkeypatch.setenv("PATH", str(tools.path), prepend=os.pathsep)
    return tools
