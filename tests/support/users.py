"""An ordinary user of this machine, for what orca does without root."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from support.proc import Result, run

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROXIES = {k: v for k, v in os.environ.items() if k.lower().endswith("_proxy")}


@dataclass(frozen=True)
class User:
    """Somebody who runs things. `ids` is None for whoever runs the tests."""

    name: str
    home: Path
    ids: tuple[int, int] | None

    def environment(self, **more: str) -> dict[str, str]:
        """What this user has after logging in, and nothing of ours but the proxies."""
        return {
            "HOME": str(self.home),
            "USER": self.name,
            "LOGNAME": self.name,
            "PATH": SYSTEM_PATH,
            "LANG": "C.UTF-8",
            **PROXIES,
            **more,
        }

    def run(
        self,
        *argv: str | os.PathLike[str],
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        **options: object,
    ) -> Result:
        """Run `argv` as this user, in a clean environment to which `env` is added; the rest as `proc.run`."""
        return run(*argv, env=self.environment(**(env or {})), cwd=cwd or self.home, ids=self.ids, **options)  # type: ignore[arg-type]

    def own_directory(self, path: Path) -> Path:
        """Make `path`, a directory of this user's."""
        path.mkdir(parents=True, exist_ok=True)
        if self.ids:
            os.chown(path, *self.ids)
        return path


def myself() -> User:
    """Whoever runs the tests."""
    entry = pwd.getpwuid(os.getuid())
    return User(entry.pw_name, Path(entry.pw_dir), None)


@contextlib.contextmanager
def made_by_useradd(lock: Callable[[], contextlib.AbstractContextManager[object]]) -> Iterator[User]:
    """A new user with a home and ranges of subordinate ids; gone with all its processes when the block is left.

    `lock()` keeps others from useradd meanwhile: it gives up at once when it finds /etc/passwd locked.
    """
    name = f"orca-test-{os.getpid()}"
    with lock():
        run("useradd", "--create-home", "--user-group", "--shell", "/bin/sh", name, env={"PATH": SYSTEM_PATH})
        _add_subordinate_ids(name)
    entry = pwd.getpwnam(name)
    try:
        yield User(name, Path(entry.pw_dir), (entry.pw_uid, entry.pw_gid))
    finally:
        _end_processes_of(entry.pw_uid)
        with lock():
            run("userdel", "--force", "--remove", name, env={"PATH": SYSTEM_PATH}, check=False)


def _add_subordinate_ids(name: str) -> None:
    """useradd has added them where login.defs says so, as Debian's does."""
    for file, option in (("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids")):
        text = Path(file).read_text() if Path(file).exists() else ""
        taken = [int(a) + int(b) for _, a, b in (line.split(":") for line in text.splitlines() if line.count(":") == 2)]
        if not any(line.startswith(f"{name}:") for line in text.splitlines()):
            first = max([100_000, *taken])
            run("usermod", option, f"{first}-{first + 65535}", name, env={"PATH": SYSTEM_PATH})


def _end_processes_of(uid: int) -> None:
    """SIGKILL every process of a user that we made, one by one."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if entry.stat().st_uid == uid:
                    os.kill(int(entry.name), signal.SIGKILL)
