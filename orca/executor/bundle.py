"""One RUN in a container: stub layer, bundle, network, runc."""

from __future__ import annotations

import contextlib
import json
import os
import posixpath
import re
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orca.errors import ImageError, OrcaError, ToolError
from orca.events import Output
from orca.executor import network, overlay, users
from orca.executor.network import Network
from orca.oci import platform as platforms
from orca.oci import runtime
from orca.oci.platform import Platform
from orca.tools import emulation, kernel, runc
from orca.tools.command import Command, Runner

HOSTNAME = "orca"
STUB_DIRECTORIES = ("dev", "proc", "sys")
STUB_FILES = ("resolv.conf", "hosts", "hostname")
LINE_LIMIT = 64 * 1024
LOG_LIMIT = 256 << 20
"""Bytes of a step's log: a RUN that prints for ever shall not fill the disk."""
MASK = b"*****"
FORBIDDEN = re.compile(r"/(proc|sys|dev)(/|$)")
_NOT_FOUND = re.compile(r"executable file not found|no such file or directory")
_NOT_EXECUTABLE = re.compile(r"permission denied|exec format error")


@dataclass(frozen=True)
class Container:
    """What shall run: by whose name, where, with what around it."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str
    user: str
    hosts: tuple[tuple[str, str], ...] = ()
    script: tuple[str, str] | None = None
    hostname: str = HOSTNAME
    mounts: tuple[runtime.Mount, ...] = ()
    limits: runtime.Limits = runtime.USUAL
    files: tuple[str, ...] = STUB_FILES
    terminal: bool = False
    read_only: bool = False


def make_stub(
    directory: Path, lowers: Sequence[Path], points: Sequence[Located] = (), names: Sequence[str] = STUB_FILES
) -> Path:
    """The layer that lies on the image while a container runs: real directories and files as mount points.

    `points` are the targets of a RUN's own mounts, `names` the files of /etc that are the container's.

    With it runc neither follows an image's own links at these places (CVE-2026-41579) nor leaves
    anything behind in the layer. Raises ImageError when /etc is no directory.
    """
    directory.mkdir()
    for name in (*STUB_DIRECTORIES, "etc"):
        path = directory / name
        path.mkdir(mode=0o755)
        found = overlay.visible(lowers, name)
        if found is not None and stat.S_ISDIR(found.st_mode):
            overlay.copy_attributes(found, path)
        elif found is not None and name == "etc":
            raise ImageError("/etc in the image is not a directory", hint="orca does not run commands in such an image")
    etc = (directory / "etc").stat()
    for name in names:
        (directory / "etc" / name).touch(0o644)
    overlay.copy_attributes(etc, directory / "etc")
    for point in points:
        _make_point(directory, point)
    return directory


def _make_point(directory: Path, point: Located) -> None:
    """Make what the image lacks of a mount point; directories that it has keep their attributes."""
    if not point.missing:
        return
    made = []
    for path, attributes in point.existing:
        if not (directory / path).exists():
            (directory / path).mkdir()
            made.append((directory / path, attributes))
    place = directory / point.path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    if point.directory:
        place.mkdir(exist_ok=True)
        place.chmod(point.mode)
    else:
        place.touch()
    for parent, attributes in reversed(made):
        overlay.copy_attributes(attributes, parent)


@dataclass(frozen=True)
class Located:
    """A mount point in the image: the directories on the way that exist, with their attributes, then what is missing.

    `path` is the whole way with every link resolved.
    """

    path: str
    existing: tuple[tuple[str, os.stat_result], ...]
    missing: tuple[str, ...]
    directory: bool
    mode: int = 0o755


def working_directory(root: int, path: str, make: Callable[[str], None]) -> str:
    """Where `path` leads inside the root; made if missing. Raises ImageError for what a container must not stand in."""
    if not path.startswith("/"):
        raise ImageError(f"the working directory {path!r} is not absolute", hint="set it with WORKDIR")
    for attempt in (1, 2):
        try:
            fd = kernel.open_in_root(root, path, os.O_PATH | os.O_DIRECTORY)
        except OSError as error:
            if attempt == 2:
                raise ImageError(f"the working directory {path} cannot be used: {error.strerror}") from error
            if FORBIDDEN.match(posixpath.normpath(path)):
                raise ImageError(
                    f"the working directory {path} belongs to the container", hint="change WORKDIR"
                ) from error
            make(path)
            continue
        try:
            base = os.readlink(f"/proc/self/fd/{root}")
            real = "/" + os.readlink(f"/proc/self/fd/{fd}").removeprefix(base).lstrip("/")
        finally:
            os.close(fd)
        break
    if FORBIDDEN.match(real):
        raise ImageError(f"the working directory {path} leads to {real}", hint="change WORKDIR")
    return real


def mask_words(secrets: Sequence[bytes]) -> list[bytes]:
    """The lines of secrets that output must not show, longest first. What is shorter than four bytes would hide all."""
    lines = {line.strip() for secret in secrets for line in secret.splitlines()}
    return sorted((line for line in lines if len(line) >= 4), key=len, reverse=True)


class LineCutter:
    """Cuts a stream of bytes into lines, logs them, tells about them, keeps the last.

    `secrets` are shown as asterisks, in the log too. The log ends after LOG_LIMIT bytes, and says so.
    """

    def __init__(self, log: Path, emit: Callable[[Output], None], step: int, secrets: Sequence[bytes] = ()) -> None:
        self._secrets = mask_words(secrets)
        # Of a line that is cut this much is held back: it may be the beginning of a secret.
        self._held = len(self._secrets[0]) - 1 if self._secrets else 0
        self._log = log
        self._emit = emit
        self._step = step
        self._room = LOG_LIMIT
        self._rest: dict[str, bytes] = {"stdout": b"", "stderr": b""}
        self.tail: list[str] = []

    def __enter__(self) -> LineCutter:
        self._file = open(self._log, "wb", buffering=0)
        return self

    def __exit__(self, *exc: object) -> None:
        for stream, rest in self._rest.items():
            if rest:
                self._line(rest, stream, end=b"")
        self._file.close()

    def take(self, data: bytes, stream: str) -> None:
        *lines, rest = (self._rest[stream] + data).split(b"\n")
        if len(rest) > LINE_LIMIT + self._held:
            rest = self._masked(rest)
            cut = len(rest) - self._held
            lines, rest = [*lines, rest[:cut]], rest[cut:]
        self._rest[stream] = rest
        for line in lines:
            self._line(line, stream)

    def _masked(self, text: bytes) -> bytes:
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text

    def _line(self, line: bytes, stream: str, end: bytes = b"\n") -> None:
        line = self._masked(line)
        if self._room > 0:
            self._room -= len(line) + 1
            self._file.write(line + end)
            if self._room <= 0:
                self._file.write(b"\n[orca: this log ends here, after %d bytes; the RUN went on]\n" % LOG_LIMIT)
        text = line.decode("utf-8", "replace")
        self.tail = [*self.tail[-39:], text]
        self._emit(Output(self._step, text, stream))


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk that waits to be run: `command` runs it, `log` is where runc complains."""

    container: Container
    command: Command
    log: Path
    name: str = ""
    state: Path = Path()

    def check(self, code: int) -> None:
        """Did the command end with `code`, or was it runc that failed? Raises OrcaError for the latter."""
        check_runc(self.log, self.container.argv[0], code)


def prepare(
    container: Container,
    root: Path,
    scratch: Path,
    *,
    net: Network,
    platform: Platform,
    make_directory: Callable[[str], None],
    pid_file: Path | None = None,
) -> Bundle:
    """Write the bundle that runs `container` in the mounted `root` (with its stub layer).

    `scratch` is a directory of its own for the bundle.
    """
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        users.check_files(descriptor)
        who = users.identity(descriptor, container.user)
        directory = working_directory(descriptor, container.directory, make_directory)
    finally:
        os.close(descriptor)
    config = runtime.config(
        runtime.Process(
            container.argv,
            {"HOME": who.home, **container.environment},
            directory,
            who.uid,
            who.gid,
            who.groups,
            container.terminal,
        ),
        str(root),
        hostname=container.hostname,
        architecture=emulation.seccomp_architecture(platform.architecture, platforms.host().architecture),
        netns=str(net.netns) if net.netns else None,
        mounts=[*_mounts(container, net, scratch), *container.mounts],
        limits=container.limits,
        read_only=container.read_only,
    )
    (scratch / "config.json").write_text(json.dumps(config))
    log = scratch / "runc.log"
    state, name = scratch.parent / "runc", f"orca-{scratch.name}"
    command = runc.run(state, scratch, name, log, pid_file=pid_file)
    return Bundle(container, command, log, name, state)


def run(
    container: Container,
    root: Path,
    scratch: Path,
    runner: Runner,
    *,
    net: Network,
    platform: Platform,
    make_directory: Callable[[str], None],
    on_output: Callable[[bytes, str], None],
    step: int | None,
    join: Sequence[int] = (),
) -> tuple[int, float]:
    """Run `container` (see `prepare`), in the cgroups `join`, and take its output.

    Returns the exit code and the seconds.
    Raises ToolError when runc itself failed.
    """
    bundle = prepare(container, root, scratch, net=net, platform=platform, make_directory=make_directory)
    begun = time.monotonic()
    finished = runner.run(bundle.command, step=step, on_output=on_output, check=False, join=join)
    bundle.check(finished.exit_code)
    return finished.exit_code, time.monotonic() - begun


def _mounts(container: Container, net: Network, scratch: Path) -> list[runtime.Mount]:
    """/etc/resolv.conf, /etc/hosts, /etc/hostname and the script, which belong to the run, not to the layer."""
    contents = {
        "/etc/resolv.conf": net.resolv_conf,
        "/etc/hosts": network.hosts(container.hostname, container.hosts),
        "/etc/hostname": f"{container.hostname}\n",
    }
    mounts = []
    for number, (place, text) in enumerate(contents.items()):
        if posixpath.basename(place) not in container.files:
            continue
        path = scratch / f"file{number}"
        path.write_text(text)
        path.chmod(0o644)
        mounts.append(runtime.Mount(str(path), place, ("bind", "rw", "nosuid", "nodev", "noexec")))
    if container.script is not None:
        place, text = container.script
        path = scratch / "script"
        path.write_text(text)
        path.chmod(0o755)
        mounts.append(runtime.Mount(str(path), place, ("bind", "ro", "nosuid", "nodev")))
    return mounts


def check_runc(log: Path, program: str, code: int, verb: str = "run") -> None:
    """Was it runc that failed, not the command `program`? Then raise with its own words."""
    if not code:
        return
    messages = []
    with contextlib.suppress(OSError, ValueError):
        for line in log.read_text("utf-8", "replace").splitlines():
            value = json.loads(line)
            if value.get("level") in ("error", "fatal"):
                messages.append(str(value.get("msg", "")))
    if not messages:
        return
    text = messages[-1]
    if "exec" in text and _NOT_FOUND.search(text):
        hint = (
            f"{program} is not in the image; FROM scratch has no shell: use the exec form"
            if program == "/bin/sh"
            else None
        )
        error = OrcaError(f"{program}: not found in the image", hint=hint)
        error.exit_code = 127
        raise error
    if "exec" in text and _NOT_EXECUTABLE.search(text):
        error = OrcaError(f"{program}: cannot be executed: {text.rsplit(':', 1)[-1].strip()}")
        error.exit_code = 126
        raise error
    raise ToolError("runc failed", argv=("runc", verb), returncode=code, stderr=text, hint="orca doctor tries runc out")
