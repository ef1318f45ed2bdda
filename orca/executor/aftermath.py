"""What comes after a RUN that failed, when --on-error asks for it: a shell where it failed, or all of it kept.

Both happen while the step's mounts are still there. What is kept lies in the build's record, in a
directory failed-STEP: rootfs/, files/ (what was mounted from memory), again/ and shell/ (bundles for
runc: the command itself, and a shell). Secrets and agents are not kept.
"""

from __future__ import annotations

import contextlib
import json
import os
import posixpath
import shlex
import termios
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from orca.dockerfile import parser
from orca.errors import Interrupted, OrcaError, RunFailed
from orca.executor import bundle
from orca.executor.network import Network
from orca.oci import runtime
from orca.store import files
from orca.tools.command import Command

if TYPE_CHECKING:
    from orca.dispatch.ops import ExecOp
    from orca.executor.effects import Work
    from orca.executor.mounts import Prepared

SHELLS = ("sh", "ash", "bash", "dash", "ksh", "zsh")
KEPT = 3
"""Failed file systems that stay; they are as large as images."""


@dataclass(frozen=True)
class Scene:
    """A RUN that failed, with everything still mounted at `root`."""

    op: ExecOp
    work: Work
    container: bundle.Container
    root: Path
    net: Network
    mounts: Prepared
    make_directory: Callable[[str], None]


def follow(scene: Scene, failure: RunFailed) -> None:
    """Do what --on-error says; `failure` is told to the user, or gets what to type. Its exit code stays."""
    build = scene.work.build
    location = parser.location(build.options.dockerfile, scene.work.instruction.span)
    failure.location = failure.location or location
    _AFTER[build.options.running.on_error](scene, failure)


# -- shell


def _shell(scene: Scene, failure: RunFailed) -> None:
    """A shell on the terminal, with the step's mounts, environment, user and directory; one a build."""
    shop = scene.work.shop
    with shop.terminal_lock:
        shop.runner.check()
        if shop.terminal_taken:  # another stage failed meanwhile; the first failure is what the build ends with
            raise Interrupted("interrupted")
        shop.terminal_taken = True
        shop.before_shell(failure)
        scratch = shop.volatile_directory("shell")
        container = replace(scene.container, argv=(shell_of(scene.op),), terminal=True)
        with terminal_kept(), contextlib.ExitStack() as stack:
            found = bundle.prepare(
                container, scene.root, scratch, net=scene.net, platform=scene.work.stage.platform,
                make_directory=scene.make_directory,
            )  # fmt: skip
            streams = {"stdin": _tty(0), "stdout": _tty(_shown()), "stderr": _tty(_shown())}
            process = stack.enter_context(shop.runner.running(found.command, step=scene.work.number, **streams))
            shop.terminal_holder = process.pid
            try:
                process.wait()
            finally:
                shop.terminal_holder = 0


def shell_of(op: ExecOp) -> str:
    """The shell that the RUN itself had, else /bin/sh."""
    program = op.argv[0]
    return program if op.script is None and posixpath.basename(program) in SHELLS else "/bin/sh"


def has_terminal() -> bool:
    """Can a shell be opened: is there a keyboard, and something to write on?"""
    return os.isatty(0) and (os.isatty(2) or os.isatty(1))


def _shown() -> int:
    return 2 if os.isatty(2) else 1


def _tty(fd: int) -> IO[bytes]:
    return open(fd, "wb" if fd else "rb", buffering=0, closefd=False)


@contextlib.contextmanager
def terminal_kept() -> Iterator[None]:
    """Leave the terminal's settings as they were, whatever the runtime's end was."""
    before = termios.tcgetattr(0)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(0, termios.TCSADRAIN, before)


# -- keep


def _keep(scene: Scene, failure: RunFailed) -> None:
    place = scene.work.build.log_path(scene.work.number).with_name(f"failed-{scene.work.number}")
    try:
        _forget_old(place.parent.parent)
        _copy(scene, place)
        failure.advice = _bundles(scene, place)
    except (OrcaError, OSError) as error:
        files.remove_tree(place)
        why = error.message if isinstance(error, OrcaError) else error.strerror
        failure.advice = (("not kept", f"{why}"),)


def _forget_old(builds: Path) -> None:
    """Names of records begin with the time."""
    for path in sorted(builds.glob("*/failed-*"))[: -KEPT + 1]:
        files.remove_tree(path)


def _copy(scene: Scene, place: Path) -> None:
    (place / "files").mkdir(parents=True)
    (place / "rootfs").mkdir()
    _copy_tree(scene, scene.root, place / "rootfs")


def _copy_tree(scene: Scene, source: Path, target: Path) -> None:
    words = ("cp", "-a", "--reflink=auto", "--", f"{source}/." if source.is_dir() else str(source), str(target))
    scene.work.shop.runner.run(Command(words, "keep what the failed step left"), step=scene.work.number)


def _bundles(scene: Scene, place: Path) -> tuple[tuple[str, str], ...]:
    """Write both bundles; returns what to type, with a word about each."""
    mounts = _kept_mounts(scene, place)
    mine = set(scene.mounts.environment)  # secrets among them
    again = replace(
        scene.container,
        environment={name: text for name, text in scene.container.environment.items() if name not in mine},
        mounts=tuple(mounts),
    )
    shell = replace(again, argv=(shell_of(scene.op),), script=None, terminal=True)
    told = [("kept", str(place / "rootfs"))]
    for name, container in (("shell", shell), ("again", again)):
        directory = place / name
        directory.mkdir()
        bundle.prepare(
            container, scene.root, directory, net=scene.net, platform=scene.work.stage.platform,
            make_directory=scene.make_directory,
        )  # fmt: skip
        config = json.loads((directory / "config.json").read_text())
        config["root"]["path"] = str(place / "rootfs")
        (directory / "config.json").write_text(json.dumps(outside(config, scene.net.netns is not None)))
        told.append((f"{name}:", shlex.join(_line(scene, place, name))))
    if scene.op.network == "default":
        told.append(("network, from another terminal:", _network_line(place)))
    return tuple(told)


def _line(scene: Scene, place: Path, name: str) -> tuple[str, ...]:
    """`runc run` as it is to be typed outside the sandbox."""
    words = ("runc", "--rootless=true", "--root", str(place / "state"), "run")
    rest = ("--pid-file", str(place / "pid"), "--bundle", str(place / name))
    return (*words, *rest, f"{name}-{scene.work.build.id}-{scene.work.number}")


def _network_line(place: Path) -> str:
    """The helper of a RUN, for a container that runs: its network is empty until then."""
    pid = f"$(cat {shlex.quote(str(place / 'pid'))})"
    return f"slirp4netns --configure --mtu=65520 --disable-host-loopback {pid} tap0"


def _kept_mounts(scene: Scene, place: Path) -> Iterator[runtime.Mount]:
    """The mounts of the RUN from places that stay. Caches are used where they are; secrets and agents are left out."""
    for number, mount in enumerate(scene.mounts.mounts):
        if mount.kind != "bind":
            yield mount
        elif mount.source in scene.mounts.lasting:
            yield replace(mount, source=str(scene.mounts.lasting[mount.source]))
        elif mount.source not in scene.mounts.private:
            copy = place / "files" / f"mount{number}"
            source = Path(mount.source)
            if source.is_dir():
                copy.mkdir()
            _copy_tree(scene, source, copy)
            yield replace(mount, source=str(copy))
    yield from scene.mounts.devices


def outside(config: dict[str, Any], own_network: bool) -> dict[str, Any]:
    """The config of a container in the sandbox as one that makes the sandbox's user namespace itself.

    A network namespace of the sandbox is gone with it: the container gets an empty one.
    """
    linux = config["linux"]
    kinds = [space for space in linux["namespaces"] if space["type"] != "network"]
    network = [{"type": "network"}] if own_network else []
    maps = {}
    for name, file in (("uidMappings", "uid_map"), ("gidMappings", "gid_map")):
        lines = [list(map(int, line.split())) for line in Path("/proc/self", file).read_text().splitlines()]
        maps[name] = [{"containerID": inner, "hostID": outer, "size": count} for inner, outer, count in lines]
    process = dict(config["process"])
    if maps["uidMappings"][0]["hostID"]:
        # Of an ordinary user runc takes no container with supplementary groups.
        process["user"] = {**process["user"], "additionalGids": []}
    return {
        **config,
        "process": process,
        "linux": {**linux, "namespaces": [{"type": "user"}, *kinds, *network], **maps},
    }


def _stop(scene: Scene, failure: RunFailed) -> None:
    """Nothing more."""


_AFTER: dict[str, Callable[[Scene, RunFailed], None]] = {"stop": _stop, "shell": _shell, "keep": _keep}
