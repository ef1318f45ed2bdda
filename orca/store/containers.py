"""Containers in the store: a directory each, and a lock that says whether its processes are there.

    containers/ID/config.json   what it is made of: written while it is being made, and not again
                  state.json    how it is; health.json what its health check says
                  lock          held by its processes for as long as they live; holds the last exit code
                  log, log.1    what a detached one has printed (executor.logs)
                  fs/ work/     what it changed: the upper directory
                  volumes/      what was in the image where it has volumes, and what became of that
                  scratch/      while it runs

Nobody has to tidy up after a kill -9 for the state to be right: a lock that nobody holds belongs to no process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from orca.errors import StoreError
from orca.store import files
from orca.store.store import Store

SHORT = 12
_ID = re.compile(r"[0-9a-f]{64}")
_BEGINNING = re.compile(r"[0-9a-f]{1,64}")
_PATIENCE = 2.0
"""Seconds for somebody who only looks whether a lock is held."""


@dataclass(frozen=True)
class Config:
    """What a container is made of.

    `manifest` and `snapshots` are what the collector must leave alone; they are empty while it is being made.
    `storage` is the kind of store that the image is in. `request` is what `executor.container` starts it again by.
    """

    id: str
    name: str
    created: float
    image: str
    kept: bool
    detached: bool
    storage: str = "oci"
    manifest: str = ""
    snapshots: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """How a container is. Times are seconds since 1970.

    `status` is what its own processes wrote last: "created", "running" or "exited". `pid` is the first process of its
    sandbox, as seen from outside; `first` the container's own first process, as seen in the sandbox, where `bundle`,
    `runtime` (runc's state) and `name` (runc's name for it) are. `groups` are the cgroup.procs files of its limits.
    """

    status: str = "created"
    pid: int = 0
    first: int = 0
    bundle: str = ""
    runtime: str = ""
    name: str = ""
    started: float | None = None
    finished: float | None = None
    exit_code: int | None = None
    error: str | None = None
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """A container's directory and what it is made of."""

    path: Path
    config: Config

    @property
    def id(self) -> str:
        return self.config.id

    def state(self) -> State:
        """How it is, by its own words."""
        value = files.read_json(self.path / "state.json")
        try:
            return State(**{**value, "groups": tuple(value["groups"])})
        except (TypeError, KeyError):
            return State()

    def alive(self) -> bool:
        """Are its processes there?"""
        try:
            fd = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(fd)

    def status(self) -> str:
        """created, running, exited, or dead: killed, so that nobody could write how it ended."""
        said = self.state().status
        if said == "exited" or self.alive():
            return said
        # It may have ended between the two looks.
        return "exited" if self.state().status == "exited" else "dead"

    def health(self) -> Mapping[str, Any]:
        """What the health check found: `Status` and more, as Docker has it; empty without one."""
        value = files.read_json(self.path / "health.json")
        return value if isinstance(value, dict) else {}

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until its processes are gone; False when they still are after so many seconds."""
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                return _shared(fd, seconds)
            finally:
                os.close(fd)
        return True

    def exit_code(self) -> int | None:
        """Wait for the end, and say how it was: None when nobody could write it down."""
        try:
            fd = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            _shared(fd, None)
            # By the descriptor: the directory of one that is not kept is gone by now.
            text = os.pread(fd, 16, 0)
            return int(text) if text.strip().isdigit() else None
        finally:
            os.close(fd)


def _shared(fd: int, seconds: float | None) -> bool:
    if seconds is None:
        fcntl.flock(fd, fcntl.LOCK_SH)
        return True
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)


@dataclass
class Held:
    """A container that this process has: `entry` with the lock, and what is written about it."""

    entry: Entry
    fd: int

    def configure(self, **fields: Any) -> None:
        """Write more of what it is made of."""
        self.entry = Entry(self.entry.path, replace(self.entry.config, **fields))
        files.write_json(self.entry.path / "config.json", asdict(self.entry.config))

    def say(self, state: State) -> None:
        """Write how it is."""
        files.write_json(self.entry.path / "state.json", asdict(state), durable=False)

    def begins(self) -> None:
        """Forget how it ended before."""
        os.ftruncate(self.fd, 0)
        (self.entry.path / "health.json").unlink(missing_ok=True)

    def ended(self, code: int) -> None:
        """Write the exit code where those who wait will look."""
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, str(code).encode(), 0)


def place(store: Store) -> Path:
    return store.root / "containers"


def listing(store: Store, storage: str | None = None) -> list[Entry]:
    """Every container (whose image is in this storage), the newest first."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for path in place(store).iterdir():
            if _ID.fullmatch(path.name) and (entry := _read(path)) is not None:
                found.append(entry)
    found = [entry for entry in found if storage in (None, entry.config.storage)]
    return sorted(found, key=lambda entry: -entry.config.created)


def _read(path: Path) -> Entry | None:
    value = files.read_json(path / "config.json")
    try:
        tuples = {name: tuple(value[name]) for name in ("snapshots", "command", "ports")}
        return Entry(path, Config(**{**value, **tuples}))
    except (TypeError, KeyError):
        return None


def find(store: Store, text: str) -> Entry:
    """The container that `text` means: a name, an id or its beginning. Raises StoreError."""
    entries = listing(store)
    named = [entry for entry in entries if text in (entry.config.name, entry.id)]
    found = named or [entry for entry in entries if _BEGINNING.fullmatch(text) and entry.id.startswith(text)]
    if len(found) > 1:
        raise StoreError(f"{text} is the beginning of {len(found)} ids", hint="write more of it")
    if not found:
        raise StoreError(f"no container {text[:80]!r}", hint="orca ps -a lists all")
    return found[0]


@contextlib.contextmanager
def registry(store: Store) -> Iterator[None]:
    """Alone among those who make or remove containers."""
    with store.lock("containers"):
        yield


def make(store: Store, name: str | None, image: str, *, kept: bool, detached: bool, storage: str = "oci") -> Held:
    """A new container, whose name nobody else has. Raises StoreError."""
    id_ = os.urandom(32).hex()
    with registry(store):
        taken = {entry.config.name: entry for entry in listing(store)}
        if name in taken:
            other = taken[name]
            hint = f"orca container rm -f {name} removes it; it is {other.id[:SHORT]}, {other.status()}"
            raise StoreError(f"a container is called {name} already", hint=hint)
        path = place(store) / id_
        path.mkdir(mode=0o700)
        try:
            fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
            held = Held(Entry(path, Config(id_, name or id_[:SHORT], time.time(), image, kept, detached, storage)), fd)
            held.configure()
        except BaseException:
            files.remove_tree(path)
            raise
    return held


def hold(store: Store, entry: Entry) -> Held:
    """Have a stopped container. Raises StoreError when it runs."""
    with registry(store):
        fd = os.open(entry.path / "lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return Held(entry, fd)
            except BlockingIOError:
                if time.monotonic() > deadline or entry.state().status == "running":
                    os.close(fd)
                    raise StoreError(f"{entry.config.name} is running already") from None
                time.sleep(0.01)


def remove(store: Store, entry: Entry) -> None:
    """Delete a container's directory; for an ordinary user, inside the sandbox. What runs in it must have ended."""
    gone = store.root / "work" / f"gone-{entry.id}"
    with contextlib.suppress(FileNotFoundError):
        os.rename(entry.path, gone)
    files.remove_tree(gone)


def sweep(store: Store) -> None:
    """Delete what killed processes have left: containers that are not kept, scratch directories of others."""
    with registry(store):
        for entry in listing(store):
            if entry.alive():
                continue
            if not entry.config.kept or not entry.config.manifest:
                remove(store, entry)
            else:
                files.remove_tree(entry.path / "scratch")
