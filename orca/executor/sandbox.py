"""The sandbox: one new user, mount, pid and ipc namespace around everything with an effect.

The process moves into it once (`enter`), as root and as an ordinary user alike, and goes on there
as root of the user namespace and as pid 1. Mounts made inside are private and vanish with it, and
so does every process, however orca ends. See docs/architecture.md, "The sandbox".
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import sys
import termios
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from orca.errors import OrcaError, ToolError
from orca.tools import kernel, skopeo
from orca.tools.command import Command, Runner

# Every id, in two lines: umoci and runc take `0 0 4294967295` for the initial namespace, and would then
# make device nodes and cgroups, which no user namespace may.
EVERY_ID = "0 0 65536\n65536 65536 4294901759"
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


# The pid of this process once it is in its sandbox; a child of it is another process.
_inside: list[int] = []
# What that pid is outside.
_outside: list[int] = []


@dataclass(frozen=True)
class IdRange:
    """`count` ids from `inside` on are `outside` and following ones outside the namespace."""

    inside: int
    outside: int
    count: int


def subordinate_ids(path: Path, user: str, uid: int) -> list[tuple[int, int]]:
    """The ranges (first id, count) that `path` (subuid(5), subgid(5)) grants to a user."""
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    ranges = []
    for line in lines:
        name, _, rest = line.partition(":")
        first, _, count = rest.partition(":")
        if name in (user, str(uid)) and first.isdigit() and count.strip().isdigit() and int(count):
            ranges.append((int(first), int(count)))
    return ranges


def id_map(own: int, ranges: list[tuple[int, int]]) -> list[IdRange]:
    """Ourselves as 0, then every subordinate range in order."""
    result, inside = [IdRange(0, own, 1)], 1
    for first, count in ranges:
        result.append(IdRange(inside, first, count))
        inside += count
    return result


def user_name(uid: int) -> str:
    """The login name of `uid`, or the number when it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def write_maps(pid: int, runner: Runner) -> None:
    """Give the user namespace of `pid` its ids: all of them for root, ours and the subordinate ones else.

    Raises OrcaError when a user has no subordinate ids, ToolError when newuidmap refuses.
    """
    uid, gid = os.getuid(), os.getgid()
    if uid == 0:
        for name in ("uid_map", "gid_map"):
            # In a user namespace that has fewer ids the kernel refuses more.
            initial = Path("/proc/self", name).read_text().split() == ["0", "0", "4294967295"]
            text = EVERY_ID if initial else identity(name)
            Path(f"/proc/{pid}/{name}").write_text(text)
        return
    user = user_name(uid)
    for tool, own_id, file in (("newuidmap", uid, "/etc/subuid"), ("newgidmap", gid, "/etc/subgid")):
        ranges = subordinate_ids(Path(file), user, uid)
        if not ranges:
            raise OrcaError(
                f"user {user} has no subordinate ids in {file}",
                hint=f"as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}",
            )
        words = [str(n) for r in id_map(own_id, ranges) for n in (r.inside, r.outside, r.count)]
        runner.run(Command((tool, str(pid), *words), "give the sandbox your subordinate ids"))


def identity(name: str) -> str:
    """A map of every id that exists in our own user namespace onto itself."""
    lines = [line.split() for line in Path("/proc/self", name).read_text().splitlines()]
    return "\n".join(f"{inside} {inside} {count}" for inside, _, count in lines)


class _Stop:
    """Turns the first signal into KeyboardInterrupt and swallows the following ones."""

    def __init__(self) -> None:
        self.seen = False

    def __call__(self, number: int, frame: object) -> None:
        if not self.seen:
            self.seen = True
            raise KeyboardInterrupt


def catch_signals() -> None:
    """SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt, once.

    pid 1 of a namespace ignores a signal that it has no handler for, hence all three by name.
    """
    stop = _Stop()
    for number in FORWARDED:
        signal.signal(number, stop)


def enter(runner: Runner, *, detached: bool = False) -> None:
    """Move this process into the sandbox; returns inside, as root and pid 1 there.

    The process that called stays behind only to pass on signals and the exit code; with `detached` it lets go of
    its standard streams. Call it from the main thread, before any other thread is started; inside it does nothing.
    Raises OrcaError when namespaces are not to be had.
    """
    if inside():
        return
    ready_r, ready_w = os.pipe()
    mapped_r, mapped_w = os.pipe()
    if os.getuid():
        # Inside we are root: skopeo must go on looking for an ordinary user's configuration and credentials.
        os.environ["_CONTAINERS_ROOTLESS_UID"] = str(os.getuid())
        os.environ.setdefault("REGISTRY_AUTH_FILE", skopeo.credentials())
    sys.stdout.flush()
    sys.stderr.flush()
    middle = os.fork()
    if middle == 0:
        os.close(ready_r)
        os.close(mapped_w)
        _become_sandbox(ready_w, mapped_r, detached=detached)
        return
    os.close(ready_w)
    os.close(mapped_r)
    _stay_behind(middle, ready_r, mapped_w, runner, detached=detached)


def let_go_of_streams() -> None:
    """Have /dev/null for standard streams."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    if null > 2:
        os.close(null)


def _stay_behind(middle: int, ready: int, mapped: int, runner: Runner, *, detached: bool) -> NoReturn:
    """The outer process: write the id maps, pass on signals, end as the sandbox ends."""
    word = os.read(ready, 256)
    if not word.startswith(b"ready"):
        os.waitpid(middle, 0)
        raise OrcaError(
            f"cannot make a sandbox: {word.decode() or 'the process ended'}",
            hint="user namespaces must be allowed: orca doctor says what is missing",
        )
    try:
        write_maps(middle, runner)
    except (OSError, ToolError) as error:
        os.kill(middle, signal.SIGKILL)
        os.waitpid(middle, 0)
        hint = "orca doctor says what is missing"
        raise OrcaError(f"cannot map user ids into the sandbox: {error}", hint=hint) from error
    except BaseException:
        os.kill(middle, signal.SIGKILL)
        os.waitpid(middle, 0)
        raise
    os.write(mapped, b"1")
    inner = int(os.read(ready, 32) or b"0")
    if detached:
        let_go_of_streams()
    for number in FORWARDED:
        signal.signal(number, lambda received, _: _pass_on(inner, received))
    _, status = os.waitpid(middle, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 255)


def _pass_on(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        if pid:
            os.kill(pid, number)


def _become_sandbox(ready: int, mapped: int, *, detached: bool) -> None:
    """The middle process makes the namespaces and waits; its child, pid 1, returns from here."""
    parent = os.getppid()
    try:
        kernel.die_with_parent()
        kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC)
    except OSError as error:
        os.write(ready, f"{error.strerror}".encode())
        os._exit(125)
    os.write(ready, b"ready")
    if os.read(mapped, 1) != b"1":
        os._exit(125)
    os.close(mapped)
    os.setresgid(0, 0, 0)
    os.setgroups([])
    os.setresuid(0, 0, 0)
    kernel.die_with_parent()
    if os.getppid() != parent:  # it died before the line above took hold
        os._exit(125)
    inner = os.fork()
    if inner:
        os.write(ready, str(inner).encode())
        os.close(ready)
        for number in FORWARDED:
            signal.signal(number, signal.SIG_IGN)
        if detached:
            let_go_of_streams()
        _, status = os.waitpid(inner, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 255)
    os.close(ready)
    _inside[:] = [os.getpid()]
    _outside[:] = [int(os.readlink("/proc/self"))]  # the old /proc counts as those outside do
    kernel.die_with_parent()
    catch_signals()
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    # Where a container's runtime has masked parts of /proc a new one is refused; the old one then serves.
    with contextlib.suppress(OSError):
        kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    _protect_kernel()


def _protect_kernel() -> None:
    """Remount every cgroup hierarchy and all else below /sys read-only.

    runc must leave no group behind. A RUN on the host's network sees the host's /sys, and for root its uid 0 is
    the host's, which may write there without any capability: of what is mounted below, runc's own `ro` on /sys
    says nothing. In a user namespace the flags that a mount has must be named again, or the kernel refuses.
    """
    names = {"nosuid": kernel.MS_NOSUID, "nodev": kernel.MS_NODEV, "noexec": kernel.MS_NOEXEC}
    for line in Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if not (after.startswith(("cgroup ", "cgroup2 ")) or fields[4].startswith("/sys/")):
            continue
        flags = sum(flag for name, flag in names.items() if name in fields[5].split(","))
        with contextlib.suppress(OSError):
            kernel.mount("none", fields[4], None, kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | flags)


def inside() -> bool:
    """Is this process pid 1 of a sandbox that `enter` made? (Of a container, orca may be pid 1 anyway.)"""
    return _inside == [os.getpid()]


def outside_pid() -> int:
    """The pid that this process, the first of its sandbox, has outside."""
    return _outside[0]


PASSED_ON = (*FORWARDED, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)


def join(pid: int, there: Callable[[], bool], *, terminal: bool = False, groups: Sequence[str] = ()) -> None:
    """Move this process into another orca's sandbox, whose first process is `pid`; returns inside, as root there.

    `there` says whether that sandbox still exists: asked once nobody else can get the pid any more. The process that
    called stays behind to pass on signals and the exit code; with `terminal`, also to leave the terminal as it was.
    Whoever is inside is in the cgroups whose cgroup.procs files are `groups`. Raises OrcaError.
    """
    gone = OrcaError("the container has ended")
    try:
        handle = os.pidfd_open(pid)
    except OSError as error:
        raise gone from error
    if not there():
        raise gone
    sys.stdout.flush()
    sys.stderr.flush()
    middle = os.fork()
    if middle == 0:
        _go_in(handle, groups)
        return
    os.close(handle)
    # Not by whom is inside: a process group in the background would be stopped for it.
    settings = termios.tcgetattr(0) if terminal else None
    code = _pass_all_on(middle)
    if settings is not None:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(0, termios.TCSADRAIN, settings)
    os._exit(code)


def _go_in(handle: int, groups: Sequence[str]) -> None:
    """The middle process goes in but for its pid, and waits; its child returns from here.

    It has a process group of its own: of what the terminal sends, only what the outer one passes on comes here.
    """
    parent = os.getppid()
    os.setpgid(0, 0)
    kernel.die_with_parent()
    try:
        for path in groups:
            Path(path).write_text("0")
        kernel.setns(handle, kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC)
    except OSError as error:
        raise OrcaError(f"cannot enter the container's sandbox: {error.strerror}") from error
    os.close(handle)
    os.setresgid(0, 0, 0)
    os.setgroups([])
    os.setresuid(0, 0, 0)
    kernel.die_with_parent()
    if os.getppid() != parent:
        os._exit(125)
    inner = os.fork()
    if inner:
        os._exit(_pass_all_on(inner))
    _inside[:] = [os.getpid()]
    kernel.die_with_parent()


def _pass_all_on(child: int) -> int:
    """Wait for a child and pass signals on to it; returns its exit code."""
    for number in PASSED_ON:
        signal.signal(number, lambda received, _: _pass_on(child, received))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) & 255
