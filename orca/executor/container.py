"""`orca run`: a command in a container of an image, with the caller's own standard streams.

The container gets what a RUN gets: the sandbox, an overlay on the image's snapshot, a network. What
it changes is thrown away.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import signal
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from orca.errors import ImageError, OrcaError, UsageError
from orca.events import Emit, ignore
from orca.executor import bundle, foreign
from orca.executor.copier import Target
from orca.executor.network import Port, network
from orca.executor.ostree import Importer
from orca.executor.rootfs import RootFs, Workshop, workshop
from orca.oci import platform as platforms
from orca.oci.image import DEFAULT_PATH, ImageConfig
from orca.oci.platform import Platform
from orca.sources.access import Access
from orca.sources.images import Puller
from orca.sources.names import in_store, stored
from orca.store.layout import Image
from orca.store.ostree import OstreeStore
from orca.store.store import Store
from orca.tools import kernel
from orca.tools.command import Process, Runner

GRACE = 10.0
"""Seconds that a container has to end after its stop signal."""

SAME_KEY = 0.5
"""A terminal's Ctrl-C arrives more than once; signals so close together are one."""

RTMIN, RTMAX = 34, 64  # as C libraries count for programs, and so images


@dataclass(frozen=True)
class Request:
    """What to run. Fields that are None are as the image says; an empty `entrypoint` is none at all.

    Without `stdin` the container's standard input is empty.
    """

    image: str
    command: tuple[str, ...] = ()
    entrypoint: str | None = None
    environment: tuple[tuple[str, str], ...] = ()
    directory: str | None = None
    user: str | None = None
    network: str = "default"
    ports: tuple[Port, ...] = ()
    name: str = bundle.HOSTNAME
    stdin: bool = True
    access: Access = field(default_factory=Access)


def describe(request: Request, config: ImageConfig) -> bundle.Container:
    """The container that the image's config and the request make. Pure. Raises UsageError when nothing is to be run."""
    entrypoint, command = config.entrypoint or (), request.command or config.cmd or ()
    if request.entrypoint is not None:
        # Another entry point would not know what to do with the image's CMD.
        entrypoint, command = (request.entrypoint,) if request.entrypoint else (), request.command
    argv = (*entrypoint, *command)
    if not argv:
        hint = f"give one: orca run {request.image} COMMAND"
        raise UsageError("the image has neither ENTRYPOINT nor CMD", hint=hint)
    base = {"PATH": DEFAULT_PATH, "HOSTNAME": request.name}
    return bundle.Container(
        argv,
        {**base, **config.environment(), **dict(request.environment)},
        request.directory or config.working_dir or "/",
        config.user if request.user is None else request.user,
        hostname=request.name,
    )


def signal_number(text: str | None) -> int:
    """The number of an image's StopSignal: SIGTERM when it has none. Raises ImageError."""
    word = (text or "SIGTERM").upper()
    name = word.removeprefix("SIG")
    if word.isascii() and word.isdigit() and 0 < int(word) <= RTMAX:
        return int(word)
    for base, number in (("RTMIN", RTMIN), ("RTMAX", RTMAX)):
        offset = name.removeprefix(base) or "+0"
        if name.startswith(base) and offset[0] in "+-" and offset[1:].isdigit() and len(offset) < 4:
            return min(max(number + int(offset), RTMIN), RTMAX)
    if f"SIG{name}" in signal.Signals.__members__:
        return int(signal.Signals[f"SIG{name}"])
    raise ImageError(f"the image has an unknown StopSignal {word[:40]!r}")


View = Callable[[], contextlib.AbstractContextManager[Emit]]


def run(request: Request, platform: Platform | None, store: Store, runner: Runner, view: View) -> int:
    """Run it to its end, inside the sandbox; returns the exit code. Raises OrcaError.

    An image that is not in the store is pulled, which `view` shows. SIGINT, SIGTERM and SIGHUP become
    the image's stop signal from the moment the container runs.
    """
    with contextlib.ExitStack() as stack:
        shop = stack.enter_context(workshop(store, runner))
        image = find_image(request.image, platform, shop, view, request.access)
        container = describe(request, image.config)
        number = signal_number(image.config.stop_signal)
        foreign.check(_platform_of(image.config), shop, None)
        scratch = shop.volatile_directory("run")
        net = stack.enter_context(network(request.network, scratch, runner, ports=request.ports))
        mounted, _ = stack.enter_context(root_of(image, shop).writable(None, stub=True))
        pid_file = scratch / "pid"
        prepared = bundle.prepare(
            container, mounted.root, scratch, net=net, platform=_platform_of(image.config),
            make_directory=lambda path: _make_directory(mounted.root, path), pid_file=pid_file,
        )  # fmt: skip
        check_program(container, mounted.root)
        with runner.running(prepared.command, **streams(request.stdin)) as process, Stopper(process, number, pid_file):
            code = process.wait()
        prepared.check(code)
        return code


def find_image(text: str, platform: Platform | None, shop: Workshop, view: View, access: Access | None = None) -> Image:
    """The image in the store, else pulled. Without a platform, this machine's is best and another one will do."""
    asked, platform = platform is not None, platform or platforms.host()
    puller = Puller(shop.store, shop.runner, shop.scratch, access)
    there = in_store(shop.store, text)
    if there is not None and (found := stored(shop.store, there, platform, fitting=asked)) is not None:
        return found
    with view() as emit:
        shop.runner.emit = emit
        try:
            if isinstance(shop.store, OstreeStore):
                return Importer(shop.store, shop.runner, shop.scratch, access).pull(text, platform)
            return puller.ensure(text, platform, beside=asked)
        finally:
            shop.runner.emit = ignore


def _platform_of(config: ImageConfig) -> Platform:
    return Platform(config.os, config.architecture or platforms.host().architecture, config.variant)


@contextlib.contextmanager
def _opened(root: Path) -> Iterator[int]:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _make_directory(root: Path, path: str) -> None:
    with _opened(root) as fd:
        os.close(Target(fd).open_directory(path))


def check_program(container: bundle.Container, root: Path) -> None:
    """Is what shall run there? runc finds out too, but says so on the container's stderr, in its own words.

    Raises OrcaError with exit code 127 (not found) or 126 (no program).
    """
    name, seen = container.argv[0], False
    places = [container.directory] if "/" in name else container.environment.get("PATH", "").split(":")
    with _opened(root) as fd:
        for place in places:
            mode = _mode(fd, posixpath.join(container.directory, place, name))
            seen = seen or mode is not None
            if mode is not None and stat.S_ISREG(mode) and mode & 0o111:
                return
    error = OrcaError(f"{name}: cannot be executed" if seen else f"{name}: not found in the image")
    error.exit_code = 126 if seen else 127
    raise error


def _mode(root: int, path: str) -> int | None:
    try:
        fd = kernel.open_in_root(root, path)
    except OSError:
        return None
    try:
        return os.fstat(fd).st_mode
    finally:
        os.close(fd)


def root_of(image: Image, shop: Workshop) -> RootFs:
    """The image's file system: the snapshots of the build that made it, else the image unpacked."""
    for record in shop.store.steps():
        known = record.snapshots if record.manifest.digest == image.descriptor.digest else ()
        if known and shop.store.has_snapshots(known):
            return RootFs(shop, known)
    return RootFs(shop, (shop.unpack(image, None),))


def streams(stdin: bool) -> Mapping[str, IO[bytes] | None]:
    """Our own standard streams for a child; one that is closed, or that it shall not have, is None."""
    return {"stdin": _own(0) if stdin else None, "stdout": _own(1), "stderr": _own(2)}


def _own(fd: int) -> IO[bytes] | None:
    try:
        return open(fd, "wb" if fd else "rb", buffering=0, closefd=False)
    except OSError:
        return None


class Stopper:
    """While it is entered, a signal asks the container to stop: by its own signal first, then by SIGKILL.

    SIGKILL comes after `GRACE` seconds, at a second signal, or at once when the first process of the
    container does not listen to its stop signal: the kernel keeps such a signal from pid 1.
    """

    def __init__(self, process: Process, number: int, pid_file: Path) -> None:
        self._process = process
        self._number = number
        self._pid_file = pid_file
        self._asked = 0.0

    def __enter__(self) -> Stopper:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._ask)
        signal.signal(signal.SIGALRM, self._kill)
        return self

    def __exit__(self, *exc: object) -> None:
        # Whoever stops us now stops the tidying up, which is short: it goes on.
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: None)

    def _first(self) -> int | None:
        """The pid of the container's first process; None while it is not there."""
        with contextlib.suppress(OSError, ValueError):
            return int(self._pid_file.read_text())
        return None

    def _ask(self, *_: object) -> None:
        now, first = time.monotonic(), self._first()
        if self._asked:
            if now - self._asked > SAME_KEY:
                self._kill()
            return
        self._asked = now
        signal.setitimer(signal.ITIMER_REAL, GRACE)
        if first is not None and not listens(first, self._number):
            self._kill()
            return
        # runc passes on what it gets as soon as there is somebody to get it.
        _send(self._process.pid if first is None else first, self._number)

    def _kill(self, *_: object) -> None:
        first = self._first()
        if first is not None:
            _send(first, signal.SIGKILL)
        else:
            self._process.kill()


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def listens(pid: int, number: int) -> bool:
    """Does a process catch a signal, or hold it back to fetch it later? True when nobody knows."""
    try:
        lines = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        masks = int(lines["SigCgt"], 16) | int(lines["SigBlk"], 16)
    except (OSError, KeyError, ValueError):
        return True
    return bool(masks >> (number - 1) & 1)
