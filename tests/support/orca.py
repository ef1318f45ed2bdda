"""Running orca in a test: with a store of the test's own, as whoever runs the tests or as an ordinary user."""

from __future__ import annotations

import importlib.machinery
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.images import Layout
from support.leftovers import KEPT, WORK
from support.proc import Result, start
from support.users import User, myself

CHECKOUT = Path(__file__).parents[2]


def install_copy(path: Path) -> None:
    """A copy of the checkout's orca and what it imports, which everybody may read, whatever the checkout's mode is.

    `path/bin/orca` runs it with the python3 on PATH, `path/fixtures` has the fixtures.
    """
    path.mkdir()
    skip = shutil.ignore_patterns("__pycache__")
    for part in ("orca", "bin", "fixtures"):
        shutil.copytree(CHECKOUT / part, path / part, ignore=skip)
    more = ("requests", "urllib3", "certifi", "idna", "charset_normalizer")
    for name in ("sh", "rich", "pygments", "markdown_it", "mdurl", *more):
        spec = importlib.machinery.PathFinder.find_spec(name)  # sh, once imported, has no spec any more
        assert spec and spec.origin, f"{name} is not installed"
        origin = Path(spec.origin)
        if origin.name == "__init__.py":
            shutil.copytree(origin.parent, path / name, ignore=skip)
        else:
            shutil.copy(origin, path / origin.name)
    for directory, _, files in os.walk(path):
        for entry in (directory, *(os.path.join(directory, f) for f in files)):
            os.chmod(entry, os.stat(entry).st_mode | 0o555 if os.access(entry, os.X_OK) else 0o644)


def load(store: Path, layout: Layout, name: str, user: User) -> str:
    """Put an image into the store of `user`, new or not, under its full reference; return the reference."""
    for part in (*KEPT, WORK):
        user.own_directory(store / part)
    user.run("skopeo", "copy", "-q", layout.ref, f"oci:{store / 'images'}:{name}")
    return name


@dataclass
class Orca:
    """`orca("build", …)` runs it and returns a Result.

    `top` is a directory that everybody can reach: the stores are in it, one for each user. `env` is added to the
    clean environment of every call.
    """

    top: Path
    installed: Callable[[], Path]
    env: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        """ORCA_ROOT of whoever runs the tests."""
        return self.store_of(None)

    def store_of(self, user: User | None) -> Path:
        """ORCA_ROOT of `user`; the directory exists and is the user's."""
        user = user or myself()
        return user.own_directory(self.top / f"store-{user.name}")

    def command(self, *argv: str | os.PathLike[str], user: User | None = None) -> list[str]:
        """The exact argv that a call with these arguments runs."""
        program = self.installed() / "bin" / "orca" if user and user.ids else CHECKOUT / "bin" / "orca"
        return [str(program), *(os.fspath(a) for a in argv)]

    def environment(self, user: User | None = None, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The whole environment of a call."""
        ours = {"ORCA_ROOT": str(self.store_of(user)), **self.env, **(more or {})}
        return (user or myself()).environment(**ours)

    def __call__(
        self,
        *argv: str | os.PathLike[str],
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        check: bool = True,
        user: User | None = None,
        stdin: str | bytes = b"",
        timeout: float = 180,
    ) -> Result:
        """Run orca to its end; raise `Failed` with all it said if `check` and its exit is not 0."""
        return (user or myself()).run(
            *self.command(*argv, user=user),
            env=self.environment(user, env),
            cwd=cwd or self.top,
            check=check,
            stdin=stdin,
            timeout=timeout,
        )

    def start(
        self, *argv: str | os.PathLike[str], env: Mapping[str, str] | None = None, user: User | None = None
    ) -> subprocess.Popen[bytes]:
        """Start orca and return at once; what it says goes to `self.log`. For signals, servers and races."""
        ids = user.ids if user else None
        environment = self.environment(user, env)
        return start(self.command(*argv, user=user), log=self.log, env=environment, cwd=self.top, ids=ids)

    @property
    def log(self) -> Path:
        """Where `start` writes."""
        return self.top / "log"

    def load(self, layout: Layout, name: str, user: User | None = None) -> str:
        """Put an image into the store under its full reference, as a pull would; return the reference."""
        return load(self.store_of(user), layout, name, user or myself())

    def config(self, name: str, user: User | None = None) -> dict[str, Any]:
        """The config of a stored image, as skopeo reads it from the store."""
        ref = f"oci:{self.store_of(user) / 'images'}:{name}"
        value = json.loads((user or myself()).run("skopeo", "inspect", "--config", "--raw", ref).stdout)
        assert isinstance(value, dict)
        return value
