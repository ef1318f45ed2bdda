"""Cgroups for RUN: what --memory, --cpu-… and --cpuset-… say, where the system gives us a place to say it.

`claim` opens the parents before the sandbox is entered, where cgroups are read-only: what a descriptor
of before leads to can still be written. `joined` makes a cgroup below them for one RUN, as
`orca-PID-…`, and takes it away again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from orca.errors import OrcaError

PREFIX = "orca-"
PERIOD = 100_000
# Which controller a setting is for.
CONTROLLERS = {
    "memory": "memory", "swap": "memory", "period": "cpu", "quota": "cpu", "shares": "cpu", "cpus": "cpuset",
    "mems": "cpuset",
}  # fmt: skip
_HINT = "as an ordinary user with cgroups of version 2: systemd-run --user --scope orca build …; --ulimit needs none"


@dataclass(frozen=True)
class Parent:
    """A cgroup that may have children: `fd` is its directory, `unified` says version 2."""

    fd: int
    unified: bool
    controllers: frozenset[str]


@dataclass(frozen=True)
class Claim:
    """Where the cgroups of a build's RUNs go, and what they say. `owner` is the process whose build it is."""

    parents: tuple[Parent, ...]
    settings: Mapping[str, str]
    owner: int


@dataclass(frozen=True)
class Hierarchy:
    """A mounted hierarchy: where, the path of its root in the whole, which controllers; `own` is our cgroup in it."""

    place: Path
    root: str
    controllers: frozenset[str]
    unified: bool
    own: str

    @property
    def here(self) -> Path:
        """The directory of our own cgroup; the mount's own where ours cannot be seen."""
        inside = os.path.relpath(self.own, self.root)
        path = self.place / inside
        return self.place if inside.startswith("..") or not path.is_dir() else path


def hierarchies(proc: Path = Path("/proc/self")) -> list[Hierarchy]:
    """What is mounted, by mountinfo and cgroup of `proc`."""
    own = {}
    for line in (proc / "cgroup").read_text("utf-8", "replace").splitlines():
        _, words, path = line.split(":", 2)
        own[frozenset(filter(None, words.split(",")))] = path
    found = []
    for line in (proc / "mountinfo").read_text("utf-8", "replace").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        fields = before.split()
        place = Path(fields[4].replace("\\040", " "))
        if kind == "cgroup2":
            names = frozenset(_words(place / "cgroup.controllers"))
            found.append(Hierarchy(place, fields[3], names, True, own.get(frozenset(), "/")))
        elif kind == "cgroup":
            mounted = frozenset(options.split(","))
            for names, path in own.items():
                if names and names <= mounted:
                    found.append(Hierarchy(place, fields[3], names, False, path))
    return found


def _words(path: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return path.read_text().split()
    return []


def claim(settings: Mapping[str, str], parent: str | None, known: list[Hierarchy] | None = None) -> Claim | None:
    """Open the parents that the settings need, None when none is needed. Raises OrcaError where we may not."""
    if not settings and parent is None:
        return None
    try:
        known = hierarchies() if known is None else known
    except (OSError, ValueError) as error:
        raise OrcaError("limits of memory and processors need cgroups, and there are none here", hint=_HINT) from error
    needed = {CONTROLLERS[name] for name in settings}
    chosen: dict[Path, Hierarchy] = {}
    for controller in sorted(needed):
        place = next((h for h in known if controller in h.controllers), None)
        if place is None:
            message = f"the cgroup controller {controller} is not to be had here, which the limit needs"
            raise OrcaError(message, hint=_HINT)
        chosen[place.place] = place
    if not needed:
        chosen = {h.place: h for h in known if parent and (h.place / parent.strip("/")).is_dir()}
        if not chosen:
            raise OrcaError(f"there is no cgroup {parent}", hint="make it first; --cgroup-parent makes none")
    parents = tuple(_parent(h, needed & h.controllers, parent) for h in chosen.values())
    return Claim(parents, settings, os.getpid())


def _parent(hierarchy: Hierarchy, needed: frozenset[str] | set[str], asked: str | None) -> Parent:
    directory = _directory(hierarchy, asked)
    if not directory.is_dir():
        raise OrcaError(f"there is no cgroup {asked} ({directory})", hint="make it first; --cgroup-parent makes none")
    if hierarchy.unified:
        _enable(directory, needed)
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        _sweep(fd)
        probe = f"{PREFIX}{os.getpid()}-probe"
        os.mkdir(probe, dir_fd=fd)
        os.rmdir(probe, dir_fd=fd)
    except OSError as error:
        raise OrcaError(f"cannot make a cgroup in {directory}: {error.strerror}", hint=_HINT) from error
    return Parent(fd, hierarchy.unified, frozenset(needed))


def _directory(hierarchy: Hierarchy, asked: str | None) -> Path:
    """The parent: what was asked for; version 1: our own; version 2, where a cgroup with processes has no limited
    children: for root the mount's root, for others the one that ours is in."""
    if asked is not None:
        return hierarchy.place / os.path.normpath(f"/{asked}").lstrip("/")
    if not hierarchy.unified:
        return hierarchy.here
    return hierarchy.place if os.geteuid() == 0 else hierarchy.here.parent


def _enable(directory: Path, needed: frozenset[str] | set[str]) -> None:
    """Let children of a version 2 cgroup have these controllers."""
    missing = set(needed) - set(_words(directory / "cgroup.subtree_control"))
    try:
        if missing:
            words = " ".join(f"+{name}" for name in sorted(missing))
            (directory / "cgroup.subtree_control").write_text(words)
    except OSError as error:
        names = ", ".join(sorted(missing))
        why = "it has processes of its own" if error.errno == errno.EBUSY else error.strerror
        message = f"the cgroup {directory} gives its children no {names}: {why}"
        raise OrcaError(message, hint=f"--cgroup-parent names another; {_HINT}") from error


def _sweep(fd: int) -> None:
    """Take away what builds that were killed have left."""
    for name in os.listdir(fd):
        owner = name.removeprefix(PREFIX).partition("-")[0]
        if name.startswith(PREFIX) and owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
            with contextlib.suppress(OSError):
                os.rmdir(name, dir_fd=fd)


@contextlib.contextmanager
def joined(claim: Claim | None) -> Iterator[tuple[int, ...]]:
    """A cgroup for one RUN: descriptors to which a process writes "0" to be in it. Raises OrcaError."""
    if claim is None:
        yield ()
        return
    name = f"{PREFIX}{claim.owner}-{os.urandom(3).hex()}"
    with contextlib.ExitStack() as stack:
        doors = []
        for parent in claim.parents:
            try:
                os.mkdir(name, dir_fd=parent.fd)
                stack.callback(_remove, name, parent.fd)
                for file, text in files(parent, claim.settings, name).items():
                    _write(f"{name}/{file}", parent.fd, text)
                doors.append(os.open(f"{name}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=parent.fd))
            except OSError as error:
                raise OrcaError(f"the limits of a RUN cannot be set: {error.strerror}: {error.filename}") from error
            stack.callback(os.close, doors[-1])
        yield tuple(doors)


def files(parent: Parent, settings: Mapping[str, str], name: str = "") -> dict[str, str]:
    """What is written into the files of a cgroup below `parent`, in this order."""
    mine = {key: text for key, text in settings.items() if CONTROLLERS[key] in parent.controllers}
    return _unified(mine) if parent.unified else _old(mine, parent)


def _unified(mine: Mapping[str, str]) -> dict[str, str]:
    found = {}
    if "memory" in mine:
        found["memory.max"] = mine["memory"]
    if "swap" in mine:
        found["memory.swap.max"] = "max" if mine["swap"] == "-1" else str(int(mine["swap"]) - int(mine["memory"]))
    if "quota" in mine or "period" in mine:
        found["cpu.max"] = f"{mine.get('quota', 'max')} {mine.get('period', PERIOD)}"
    if "shares" in mine:
        # 2…262144 become 1…10000, as every runtime does it.
        found["cpu.weight"] = str(1 + (int(mine["shares"]) - 2) * 9999 // 262142)
    return found | {f"cpuset.{key}": mine[key] for key in ("cpus", "mems") if key in mine}


def _old(mine: Mapping[str, str], parent: Parent) -> dict[str, str]:
    names = {
        "memory": "memory.limit_in_bytes", "swap": "memory.memsw.limit_in_bytes", "period": "cpu.cfs_period_us",
        "quota": "cpu.cfs_quota_us", "shares": "cpu.shares",
    }  # fmt: skip
    found = {file: mine[key] for key, file in names.items() if key in mine}
    if "cpuset" in parent.controllers:  # a new one has neither, and then takes no process
        for key in ("cpus", "mems"):
            found[f"cpuset.{key}"] = mine.get(key) or _read(f"cpuset.{key}", parent.fd)
    return found


def _read(file: str, directory: int) -> str:
    with open(os.open(file, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory), encoding="ascii") as stream:
        return stream.read().strip()


def _write(file: str, directory: int, text: str) -> None:
    fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        error.filename = os.path.basename(file)
        raise
    finally:
        os.close(fd)


def _remove(name: str, directory: int) -> None:
    """Its last process may still be on its way out."""
    for _ in range(100):
        try:
            os.rmdir(name, dir_fd=directory)
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                return
            time.sleep(0.01)
