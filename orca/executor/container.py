"""`orca run`: a command in a container of an image.

The container gets what a RUN gets: the sandbox, an overlay on the image's snapshot, a network. Every container
has a directory in the store (`store.containers`), by which others find it: `orca ps`, `exec`, `stop`. Its processes
are those of this sandbox: a detached container has no other keeper than pid 1 of it, and nothing outlives that.
"""

from __future__ import annotations

import contextlib
import json
import os
import posixpath
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca.errors import OrcaError, UsageError
from orca.events import Emit, ignore
from orca.executor import bundle, cgroups, foreign, health, sandbox, stopping, streams, volumes
from orca.executor.copier import Target
from orca.executor.network import Port, free_port, network, parse_ports
from orca.executor.options import Dns, Volume
from orca.executor.ostree import Importer
from orca.executor.rootfs import RootFs, Upper, Workshop, workshop
from orca.oci import platform as platforms
from orca.oci import runtime
from orca.oci.image import DEFAULT_PATH, ImageConfig
from orca.oci.platform import Platform
from orca.sources.access import Access
from orca.sources.images import Puller
from orca.sources.names import in_store, stored
from orca.store import sessions
from orca.store.containers import Held, State
from orca.store.layout import Image
from orca.store.ostree import OstreeStore
from orca.store.store import Store
from orca.tools import kernel
from orca.tools.command import Runner

if TYPE_CHECKING:
    from orca.executor.health import Check

STARTED = 0.005
"""Seconds between two looks whether the container runs."""


REAPED = 5.0
"""Seconds between two looks for processes that others have left here: what entered the sandbox and was killed."""


@dataclass(frozen=True)
class Request:
    """What to run. Fields that are None are as the image says; an empty `entrypoint` is none at all.

    Without `stdin` the container's standard input is empty; a detached one's is then never written to, but open.
    `own_files`, `dns`, `limits`, `groups` and `group_parent` are as in `executor.options.Running`; `tmpfs` are
    targets with options of the mount, `anonymous` volumes that the image does not name. `health` is an image's
    Healthcheck.
    """

    image: str
    command: tuple[str, ...] = ()
    entrypoint: str | None = None
    environment: tuple[tuple[str, str], ...] = ()
    directory: str | None = None
    user: str | None = None
    network: str = "default"
    ports: tuple[Port, ...] = ()
    hostname: str = bundle.HOSTNAME
    stdin: bool = True
    terminal: bool = False
    read_only: bool = False
    hosts: tuple[tuple[str, str], ...] = ()
    own_files: tuple[str, ...] = ()
    dns: Dns = field(default_factory=Dns)
    volumes: tuple[Volume, ...] = ()
    anonymous: tuple[str, ...] = ()
    tmpfs: tuple[tuple[str, tuple[str, ...]], ...] = ()
    limits: runtime.Limits | None = None
    groups: Mapping[str, str] | None = None
    group_parent: str | None = None
    stop_signal: str | None = None
    stop_timeout: float | None = None
    health: Mapping[str, Any] | None = None
    publish_all: bool = False
    pull: str = "missing"
    platform: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Request:
        """What `to_json` wrote, after JSON has made lists of its tuples."""
        limits = value["limits"]
        made = {
            "command": tuple(value["command"]),
            "environment": tuple(map(tuple, value["environment"])),
            "ports": tuple(Port(**each) for each in value["ports"]),
            "hosts": tuple(map(tuple, value["hosts"])),
            "own_files": tuple(value["own_files"]),
            "dns": Dns(**{name: tuple(words) for name, words in value["dns"].items()}),
            "volumes": tuple(Volume(**each) for each in value["volumes"]),
            "anonymous": tuple(value["anonymous"]),
            "tmpfs": tuple((target, tuple(options)) for target, options in value["tmpfs"]),
            "limits": limits and _limits(limits),
        }
        return cls(**{**value, **made})


def _limits(value: Mapping[str, Any]) -> runtime.Limits:
    rlimits = tuple(runtime.Rlimit(**each) for each in value["rlimits"])
    return runtime.Limits(**{**value, "capabilities": tuple(value["capabilities"]), "rlimits": rlimits})


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
    base = {"PATH": DEFAULT_PATH, "HOSTNAME": request.hostname, **({"TERM": "xterm"} if request.terminal else {})}
    return bundle.Container(
        argv,
        {**base, **config.environment(), **dict(request.environment)},
        request.directory or config.working_dir or "/",
        config.user if request.user is None else request.user,
        request.hosts,
        hostname=request.hostname,
        limits=request.limits or runtime.USUAL,
        files=tuple(name for name in bundle.STUB_FILES if name not in request.own_files),
        terminal=request.terminal,
        read_only=request.read_only,
    )


View = Callable[[], contextlib.AbstractContextManager[Emit]]


@dataclass(frozen=True)
class Surroundings:
    """What a run needs of its caller.

    `view` shows a pull; `release` lets collectors work on the store, once the image is safe from them; `started`
    is called when the container runs, and `claim` is where its cgroups go. `access` is for registries.
    """

    store: Store
    runner: Runner
    view: View
    release: Callable[[], None]
    started: Callable[[], None]
    claim: cgroups.Claim | None = None
    access: Access | None = None


def run(request: Request, held: Held, around: Surroundings) -> int:
    """Run a container to its end, inside the sandbox; returns the exit code. Raises OrcaError.

    An image that is not in the store is pulled. SIGINT, SIGTERM and SIGHUP become the image's stop signal from the
    moment the container runs.
    """
    with contextlib.ExitStack() as stack:
        shop = stack.enter_context(workshop(around.store, around.runner, held.entry.path / "scratch"))
        before = held.entry.config  # of a container that is started again: its image may have lost its name
        if before.manifest:
            request = replace(request, image=before.manifest, pull="never", platform=None)
        image = find_image(request, shop, around.view, around.access)
        foreign.check(_platform_of(image.config), shop, None)
        container = describe(request, image.config)
        rootfs = RootFs(shop, before.snapshots) if before.snapshots else root_of(image, shop)
        number = request.stop_signal or image.config.stop_signal
        stopping.signal_number(number)
        ports = published(request, image.config)
        request = replace(request, ports=ports, publish_all=False, stop_signal=number)
        held.configure(
            manifest=image.descriptor.digest, snapshots=rootfs.names, command=container.argv,
            ports=tuple(map(shown, request.ports)), request=request.to_json(),
        )  # fmt: skip
        around.release()
        box = stack.enter_context(_made(request, container, image, rootfs, held))
        return _keep(request, box, held, around)


def published(request: Request, config: ImageConfig) -> tuple[Port, ...]:
    """The ports to publish: those asked for, with --publish-all those that the image names too. Raises OrcaError."""
    asked = list(request.ports)
    if request.publish_all:
        known = {(port.container, port.protocol) for port in asked}
        for word in config.exposed_ports:
            with contextlib.suppress(UsageError):
                asked += [port for port in parse_ports(word) if (port.container, port.protocol) not in known]
    return tuple(map(free_port, asked))


def shown(port: Port) -> str:
    """A published port as Docker writes it."""
    return f"{port.address}:{port.host}->{port.container}/{port.protocol}"


@dataclass(frozen=True)
class Box:
    """A container that waits to be started; `first` is the file that gets its first process's pid."""

    bundle: bundle.Bundle
    image: Image
    scratch: Path
    first: Path


@contextlib.contextmanager
def _made(request: Request, container: bundle.Container, image: Image, rootfs: RootFs, held: Held) -> Iterator[Box]:
    """Its network, its mounts, its root file system with what it changed before, its bundle."""
    shop = rootfs.shop
    place = held.entry.path
    with contextlib.ExitStack() as stack:
        scratch = shop.volatile_directory("run")
        # What it has changed itself counts too when a mount point is looked for.
        seen = rootfs.with_upper(Upper(place, "0000")) if (place / "fs").is_dir() else rootfs
        volume_place = place / "volumes"
        mine, points = volumes.prepare(request, image.config.volumes, seen, volume_place, scratch, stack)
        net = stack.enter_context(network(request.network, scratch, shop.runner, ports=request.ports))
        net = replace(net, resolv_conf=request.dns.applied(net.resolv_conf))
        container = replace(container, mounts=(*mine.mounts, *mine.devices))
        mounting = rootfs.writable(None, stub=True, points=points, names=container.files, place=place)
        mounted, _ = stack.enter_context(mounting)
        first = scratch / "pid"
        prepared = bundle.prepare(
            container, mounted.root, scratch, net=net, platform=_platform_of(image.config),
            make_directory=lambda path: _make_directory(mounted.root, path), pid_file=first,
        )  # fmt: skip
        check_program(container, mounted.root)
        yield Box(prepared, image, scratch, first)


def _keep(request: Request, box: Box, held: Held, around: Surroundings) -> int:
    """Start the container and stay with it: its streams, signals, health, and how it ended."""
    number = stopping.signal_number(request.stop_signal)
    grace = stopping.GRACE if request.stop_timeout is None else request.stop_timeout
    state = State(
        "running", sandbox.outside_pid(), 0, str(box.scratch), str(box.bundle.state), box.bundle.name, time.time()
    )
    done = threading.Event()
    with contextlib.ExitStack() as stack:
        doors = stack.enter_context(cgroups.joined(around.claim))
        state = replace(state, groups=tuple(os.readlink(f"/proc/self/fd/{door}") for door in doors))
        attached = stack.enter_context(streams.attached(request, held.entry))
        process = stack.enter_context(around.runner.running(box.bundle.command, join=doors, **attached.given()))
        attached.begin()
        stack.enter_context(stopping.Stopper(process, number, box.first, grace))
        watcher = threading.Thread(target=_watch, args=(box, held, state, done, around), name="watch", daemon=True)
        watcher.start()
        wanted = {**(box.image.config.healthcheck or {}), **(request.health or {})}
        check = health.check_of(wanted, box.image.config.shell)
        if check is not None:
            stack.enter_context(_monitor(check, box, held, around.runner))
        code = process.wait()
        done.set()
        watcher.join()
    return _finish(box, held, code)


def _watch(box: Box, held: Held, state: State, done: threading.Event, around: Surroundings) -> None:
    """Say so when the container runs; then take what has ended here and is nobody's, as a first process has to."""
    ended = False
    while (first := stopping.read_pid(box.first)) is None and not ended:
        ended = done.wait(STARTED)
    if first is not None:
        held.say(replace(state, first=first))
        around.started()
    while not done.wait(REAPED):
        around.runner.reap()


def _monitor(check: Check, box: Box, held: Held, runner: Runner) -> health.Monitor:
    process = json.loads((box.scratch / "config.json").read_text())["process"]
    probe = health.Probe(runner, box.bundle.state, box.bundle.name, process, box.scratch)
    return health.Monitor(check, probe, health.writer(held.entry.path / "health.json"))


def _finish(box: Box, held: Held, code: int) -> int:
    """Write down how it ended. Raises OrcaError when it was runc that failed."""
    error = None
    try:
        box.bundle.check(code)
    except OrcaError as failure:
        error, code = failure, failure.exit_code
    state = replace(held.entry.state(), status="exited", finished=time.time(), exit_code=code)
    held.say(replace(state, pid=0, first=0, groups=(), error=error.message if error else None))
    held.ended(code)
    if error is not None:
        raise error
    return code


def find_image(request: Request, shop: Workshop, view: View, access: Access | None = None) -> Image:
    """The image in the store, else pulled. Without a platform, this machine's is best and another one will do."""
    text, asked = request.image, request.platform is not None
    platform = platforms.parse(request.platform) if request.platform else platforms.host()
    puller = Puller(shop.store, shop.runner, shop.scratch, access)
    there = in_store(shop.store, text) if request.pull in ("missing", "never") else None
    there = there or sessions.image(shop.store, text)  # after the images of that name, before a registry's
    if there is not None and (found := stored(shop.store, there, platform, fitting=asked)) is not None:
        return found
    with view() as emit:
        shop.runner.emit = emit
        try:
            if isinstance(shop.store, OstreeStore):
                return Importer(shop.store, shop.runner, shop.scratch, access).pull(text, platform)
            return puller.ensure(text, platform, request.pull, beside=asked)
        finally:
            shop.runner.emit = ignore


def _platform_of(config: ImageConfig) -> Platform:
    return Platform(config.os, config.architecture or platforms.host().architecture, config.variant)


def _make_directory(root: Path, path: str) -> None:
    with kernel.directory(root) as fd:
        os.close(Target(fd).open_directory(path))


def check_program(container: bundle.Container, root: Path) -> None:
    """Is what shall run there? runc finds out too, but says so on the container's stderr, in its own words.

    Raises OrcaError with exit code 127 (not found) or 126 (no program).
    """
    name, seen = container.argv[0], False
    places = [container.directory] if "/" in name else container.environment.get("PATH", "").split(":")
    with kernel.directory(root) as fd:
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
