"""What every attack has in common: a canary that nobody may touch, and a look at what is left behind."""

from __future__ import annotations

import itertools
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import hostile, images
from support.hostile import HostileRegistry, Image
from support.images import Layout
from support.leftovers import Leftovers
from support.orca import Orca
from support.proc import Result
from support.users import User

BOUND = 30.0
"""Seconds after which an attack counts as a success: orca hangs."""

_names = itertools.count(1)


def state(directory: Path) -> dict[str, tuple[object, ...]]:
    """All that can be told about a directory: listing, kinds, modes, owners, link counts, content."""
    result: dict[str, tuple[object, ...]] = {}
    for path in (directory, *sorted(directory.rglob("*"))):
        found = path.lstat()
        data = path.read_bytes() if stat.S_ISREG(found.st_mode) else b""
        what = (found.st_mode, found.st_uid, found.st_gid, found.st_nlink, found.st_ino, found.st_mtime_ns, data)
        result[str(path)] = (*what, tuple(os.listxattr(path, follow_symlinks=False)))
    return result


@pytest.fixture
def canary(shared_dir: Path) -> Path:
    """A directory outside every context and store, open to every user: nothing in it may change."""
    path = Path(tempfile.mkdtemp(prefix="canary", dir=shared_dir))
    path.chmod(0o777)
    (path / "dir").mkdir()
    (path / "dir").chmod(0o777)
    for name in ("ptmx", "shadow", "dir/inner", "passwd", "file"):
        (path / name).write_text(f"canary:x:4242:4242:{name}:/:/bin/sh\n")
        (path / name).chmod(0o666)
    return path


@pytest.fixture(autouse=True)
def nothing_escapes(canary: Path, leftovers: Leftovers) -> Iterator[None]:
    """After each attack the canary is as it was, and no process, mount or scratch file is left."""
    before = state(canary)
    yield
    assert state(canary) == before
    leftovers.assert_none()


@pytest.fixture(scope="session")
def evil() -> Iterator[HostileRegistry]:
    """A registry that serves anything: `.add(name, Image)`, `.table`, `.requests`."""
    with hostile.serve() as registry:
        yield registry


@pytest.fixture(scope="session")
def busybox_tar(shared_dir: Path) -> bytes:
    """The layer of the busybox image."""
    path = shared_dir / f"busybox-{os.getpid()}.tar"
    images.write_busybox_tar(path)
    return path.read_bytes()


@pytest.fixture
def base(evil: HostileRegistry, busybox_tar: bytes) -> Callable[..., str]:
    """`base(layer, …, config={}) -> FROM's word`: busybox with these tars on top, in the registry."""

    def make(*layers: bytes, config: dict[str, object] | None = None) -> str:
        return evil.add(f"evil{next(_names)}", Image((busybox_tar, *layers), config or {}))

    return make


@pytest.fixture(params=["me", pytest.param("user", marks=pytest.mark.user)])
def who(request: pytest.FixtureRequest) -> User | None:
    """Whoever runs the tests, then an ordinary user."""
    return request.getfixturevalue("ordinary_user") if request.param == "user" else None


class Attack:
    """`attack(dockerfile)` or `attack(context)` builds it and returns the Result, whatever it is.

    What never may happen is checked here: a traceback, an escape sequence, too long a time.
    """

    def __init__(self, orca: Orca, context: Callable[..., Path], layout: Layout) -> None:
        self.orca = orca
        self.context = context
        self.layout = layout
        self.seconds = 0.0

    def busybox(self, user: User | None) -> str:
        """The busybox image, in the store of `user`."""
        return self.orca.load(self.layout, "localhost/busybox:latest", user)

    def __call__(
        self,
        what: Path | dict[str, str | bytes] | str,
        *options: str,
        user: User | None = None,
        env: dict[str, str] | None = None,
    ) -> Result:
        place = what if isinstance(what, Path) else self.context(what)
        # Plain progress: what a RUN prints stands in the result's stderr.
        begun = time.monotonic()
        command = ("build", "--progress=plain", *options, place)
        result = self.orca(*command, user=user, env=env, check=False, timeout=BOUND)
        self.seconds = time.monotonic() - begun
        harmless(result)
        return result

    def refused(self, what: Path | dict[str, str | bytes] | str, message: str, *options: str, **more: object) -> Result:
        """The same, which must fail for this reason (a regular expression)."""
        result = self(what, *options, **more)  # type: ignore[arg-type]
        assert result.returncode != 0, str(result)
        assert re.search(message, result.stderr, re.IGNORECASE), str(result)
        return result

    def fine(self, what: Path | dict[str, str | bytes] | str, *options: str, **more: object) -> Result:
        """The same, which must succeed all the same: the attack has no effect."""
        result = self(what, *options, **more)  # type: ignore[arg-type]
        assert result.returncode == 0, str(result)
        return result


def harmless(result: Result) -> None:
    """Nothing of what orca says drives a terminal, and no mistake of orca's own shows."""
    said = result.stdout + result.stderr
    assert "Traceback" not in said, str(result)
    assert "bug in orca" not in said, str(result)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", said), repr(said)


@pytest.fixture
def attack(
    orca: Orca,
    dockerfile_context: Callable[..., Path],
    evil: HostileRegistry,
    busybox_layout: Layout,
    shared_dir: Path,
) -> Attack:
    """`attack(dockerfile)`, `attack.refused(dockerfile, reason)`, `attack.fine(dockerfile)`."""
    path = evil.write_registries_conf(shared_dir / f"evil-{os.getpid()}.conf")
    orca.env["CONTAINERS_REGISTRIES_CONF"] = str(path)
    return Attack(orca, dockerfile_context, busybox_layout)
