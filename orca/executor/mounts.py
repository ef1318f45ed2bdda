"""RUN --mount carried out: where each mount comes from, where it goes, and that nothing of it stays.

Sources are resolved with their own root as the root of every link, held by descriptor, and bound to
a place of ours that no RUN can reach, before runc sees a path. Targets that the image does not have
are made in the stub layer, so no mount point is left in the image.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from orca.dockerfile.mounts import SHARING, Mount
from orca.errors import OrcaError
from orca.executor import agent, copier
from orca.executor.bundle import Located
from orca.executor.copier import Ownership, Target
from orca.executor.options import Volume
from orca.oci import runtime
from orca.sources.tree import SourceError, Tree
from orca.store import files
from orca.tools import kernel

if TYPE_CHECKING:
    from orca.executor.effects import Work
    from orca.executor.rootfs import RootFs, Workshop
    from orca.tools.command import Runner

_BIND = ("rbind", "nosuid", "nodev")
_FLAGS = kernel.MS_BIND | kernel.MS_REC


@dataclass
class Prepared:
    """What a RUN's mounts come to: mounts for the runtime, variables, where they go in the image.

    `lasting` says of sources which directory outside the sandbox they are; `private` names those of secrets and agents.
    """

    mounts: list[runtime.Mount] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    points: list[MountPoint] = field(default_factory=list)
    caches: dict[str, Path] = field(default_factory=dict)
    devices: list[runtime.Mount] = field(default_factory=list)
    lasting: dict[str, Path] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class MountPoint:
    """A target as the Dockerfile names it, whether it is a directory, and its mode if the image lacks it."""

    path: str
    directory: bool
    mode: int = 0o755


@contextlib.contextmanager
def prepared(mounts: Sequence[Mount], work: Work, scratch: Path) -> Iterator[Prepared]:
    """Make all mounts of a RUN ready; everything is put away at the end. Raises OrcaError."""
    result = Prepared()
    with contextlib.ExitStack() as stack:
        for number, volume in enumerate(work.build.options.running.volumes):
            add_volume(volume, work.shop, scratch / f"volume{number}", result, stack, work.number)
        result.caches = _hold_caches(mounts, work.shop, stack)
        for number, mount in enumerate(mounts):
            place = scratch / f"mount{number}"
            PREPARE[mount.kind](mount, work, place, result, stack)
        yield result


def add(result: Prepared, mount: Mount, source: Path, *, directory: bool, read_only: bool) -> None:
    """Have `source` mounted where `mount` says."""
    # rro: also what is mounted below the source.
    options = (*_BIND, "ro", "rro") if read_only else (*_BIND, "rw")
    result.mounts.append(runtime.Mount(str(source), mount.target, options))
    result.points.append(MountPoint(mount.target, directory))


# -- bind


def _bind(mount: Mount, work: Work, place: Path, result: Prepared, stack: contextlib.ExitStack) -> None:
    if mount.from_ is None or work.build.reads_tree(mount.from_, work.stage):
        source, directory = _from_context(mount, work, place, stack)
    else:
        rootfs = work.build.source_rootfs(mount.from_, work.stage, work.shop, work.number)
        root = stack.enter_context(rootfs.readable())
        with kernel.directory(root) as fd:
            source, directory = bound(fd, mount.source or ".", place, stack, what=f"{mount.from_}:{mount.source}")
        if not mount.read_only:
            source = _scratch_copy(source, directory, work.shop, stack, work.number)
    add(result, mount, source, directory=directory, read_only=mount.read_only)


def _from_context(mount: Mount, work: Work, place: Path, stack: contextlib.ExitStack) -> tuple[Path, bool]:
    """What a bind from the context shows: the files that the ignore rules leave, as COPY would bring them.

    Where nothing is hidden and nothing may be written it is the context itself; else a copy, whose
    files are the container's root's, whoever has them outside.
    """
    if mount.from_ is None:
        tree = work.build.inputs.context()
        item = work.build.inputs.mount_item(mount, tree)
    else:
        tree = work.build.named.tree(mount.from_, work.shop)
        item = tree.find_one(mount.source or "/")
    if mount.read_only and not tree.has_rules:
        with _opened_again(tree.fd) as fd:
            return bound(fd, item.path or ".", place, stack, what=mount.source)
    copy = work.shop.directory("bind")
    stack.callback(files.remove_tree, copy)
    with kernel.directory(copy) as fd:
        target = Target(fd, Ownership())
        copier.copy([item], tree, target, "/tree/" if item.is_directory else "/file")
    return copy / ("tree" if item.is_directory else "file"), item.is_directory


@contextlib.contextmanager
def _opened_again(root: int) -> Iterator[int]:
    """The same directory as `root`, in this mount namespace: the kernel binds nothing of another.

    The context may have been opened, to look for its steps in the cache, before the build had its own.
    """
    with kernel.directory(Path(os.readlink(f"/proc/self/fd/{root}"))) as fd:
        if not os.path.samestat(os.fstat(fd), os.fstat(root)):
            raise SourceError("the build context was replaced during the build")
        yield fd


def bound(root: int, source: str, place: Path, stack: contextlib.ExitStack, *, what: str) -> tuple[Path, bool]:
    """Bind `source` below `root` (a descriptor) to `place`; returns it and whether it is a directory.

    What is bound is what was opened: a link put there meanwhile leads nowhere.
    """
    try:
        fd = kernel.open_in_root(root, source, os.O_PATH)
    except OSError as error:
        raise SourceError(f"the source {what} of a mount cannot be used: {error.strerror}") from error
    try:
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            raise SourceError(f"the source {what} of a mount is neither a file nor a directory")
        place.mkdir() if stat.S_ISDIR(mode) else place.touch()
        kernel.mount(f"/proc/self/fd/{fd}", place, None, _FLAGS)
        stack.callback(kernel.detach, place)
        return place, stat.S_ISDIR(mode)
    finally:
        os.close(fd)


def _scratch_copy(source: Path, directory: bool, shop: Workshop, stack: contextlib.ExitStack, step: int | None) -> Path:
    """Something writable over `source` whose changes are thrown away."""
    scratch = shop.directory("rw")
    stack.callback(files.remove_tree, scratch)
    if not directory:
        copy = scratch / "file"
        copy.write_bytes(source.read_bytes())
        found = source.stat()
        os.chown(copy, found.st_uid, found.st_gid)
        copy.chmod(stat.S_IMODE(found.st_mode))
        return copy
    for name in ("fs", "work"):
        (scratch / name).mkdir()
    root = shop.volatile_directory("rw")
    mounted = shop.mounter.overlay([source], scratch / "fs", scratch / "work", root, step)
    return stack.enter_context(mounted).root


# -- --volume, --device


def add_volume(
    volume: Volume, shop: Workshop, place: Path, result: Prepared, stack: contextlib.ExitStack, step: int | None = None
) -> None:
    """Bind a directory or file of this machine to `place`, and have it mounted from there. Raises OrcaError."""
    if volume.device:  # goes to the container's own /dev, not to a place in the image
        result.devices.append(runtime.Mount(volume.source, volume.target, ("bind", "rw", "nosuid", "noexec")))
        return
    with kernel.directory(Path("/")) as fd:
        source, directory = bound(fd, volume.source, place, stack, what=volume.source)
    if volume.access == "O":
        source = _scratch_copy(source, directory, shop, stack, step)
    else:
        result.lasting[str(source)] = Path(volume.source)
    mount = Mount("bind", volume.target)
    add(result, mount, source, directory=directory, read_only=volume.access == "ro")


# -- cache


def cache_directory(store: Path, name: str) -> Path:
    """Where the cache called `name` is kept: below a hash, since the name may be anything."""
    return store / "cache" / f"mount-{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}"


def _cache(mount: Mount, work: Work, place: Path, result: Prepared, stack: contextlib.ExitStack) -> None:
    root = result.caches[mount.id]
    with kernel.directory(root) as fd:
        if not os.listdir(fd):
            _fill(mount, work, fd, stack)
        target = Target(fd, Ownership((mount.uid, mount.gid)))
        inner = ""
        if mount.from_ is None and mount.source:
            inner = posixpath.normpath(posixpath.join("/", mount.source)).lstrip("/")
            os.close(target.open_directory(inner))
        source, _ = bound(fd, inner or ".", place, stack, what=mount.source or mount.id)
    result.lasting[str(source)] = root / inner
    add(result, mount, source, directory=True, read_only=mount.read_only)


def _hold_caches(mounts: Sequence[Mount], shop: Workshop, stack: contextlib.ExitStack) -> dict[str, Path]:
    """The directory of each cache by its id, locked as the strictest of its mounts wants it.

    Always in the same order and once for each id, so that no RUN waits for another that waits for it, or for itself.
    """
    caches = [mount for mount in mounts if mount.kind == "cache"]
    strictest = {mount.id: mount for mount in sorted(caches, key=lambda mount: SHARING.index(mount.sharing))}
    return {
        name: _locked_cache(cache_directory(shop.store.root, name), strictest[name], shop.runner, stack)
        for name in sorted(strictest)
    }


def _locked_cache(base: Path, mount: Mount, runner: Runner, stack: contextlib.ExitStack) -> Path:
    """The cache's directory, as its sharing allows: waiting for it (locked), or one that nobody else has (private)."""
    base.mkdir(mode=0o700, exist_ok=True)
    if not (base / "id").exists():
        files.write_atomically(base / "id", mount.id.encode("utf-8", "surrogateescape"), durable=False)
    os.utime(base / "id")  # what `orca cache` calls its last use
    for number in range(1000):
        root = base / (f"fs{number}" if number else "fs")
        shared = mount.sharing == "shared"
        held = stack.enter_context(
            files.lock(
                base / f"{root.name}.lock", shared=shared, wait=mount.sharing != "private", patience=runner.check
            )
        )
        if held:
            if not root.is_dir():
                root.mkdir(exist_ok=True)  # another that shares it may be as far as we are
                os.chown(root, mount.uid, mount.gid)
                root.chmod(0o755 if mount.mode is None else mount.mode)
            return root
    raise OrcaError(f"the cache {mount.id} is in use a thousand times")


def _fill(mount: Mount, work: Work, fd: int, stack: contextlib.ExitStack) -> None:
    """A new cache begins with what `from` names."""
    if mount.from_ is None:
        return
    if work.build.reads_tree(mount.from_, work.stage):
        tree = work.build.named.tree(mount.from_, work.shop)
        copier.copy(tree.find(mount.source or "/"), tree, Target(fd, Ownership()), "/")
        return
    rootfs = work.build.source_rootfs(mount.from_, work.stage, work.shop, work.number)
    with rootfs.readable() as root, Tree(root, owners=True) as tree:
        items = tree.find(mount.source or "/")
        copier.copy(items, tree, Target(fd, Ownership(None)), "/")


# -- tmpfs, secret, ssh


def _tmpfs(mount: Mount, work: Work, place: Path, result: Prepared, stack: contextlib.ExitStack) -> None:
    size = (f"size={mount.size}",) if mount.size is not None else ()
    # The runtime gives it the mode of the directory that it covers.
    options = ("nosuid", "nodev", *size)
    result.mounts.append(runtime.Mount("tmpfs", mount.target, options, kind="tmpfs"))
    result.points.append(MountPoint(mount.target, directory=True, mode=0o1777))


def _secret(mount: Mount, work: Work, place: Path, result: Prepared, stack: contextlib.ExitStack) -> None:
    value = work.build.secret(mount.id)
    if value is None:
        if mount.required:
            hint = f"give it: --secret id={mount.id},src=FILE or --secret id={mount.id},env=NAME"
            raise OrcaError(f"the secret {mount.id} is required and was not given", hint=hint)
        return
    if mount.env is not None:
        if b"\0" in value:
            raise OrcaError(f"the secret {mount.id} holds a NUL byte: no variable can", hint="mount it as a file")
        result.environment[mount.env] = value.decode("utf-8", "surrogateescape")
    if mount.target:
        fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(fd, "wb") as file:
            file.write(value)
            os.fchown(fd, mount.uid, mount.gid)
            os.fchmod(fd, 0o400 if mount.mode is None else mount.mode)
        result.private.add(str(place))
        add(result, mount, place, directory=False, read_only=True)


def _ssh(mount: Mount, work: Work, place: Path, result: Prepared, stack: contextlib.ExitStack) -> None:
    socket, keys = work.build.agent(mount.id), work.build.options.running.keys.get(mount.id)
    if keys is not None:
        directory = work.shop.volatile_directory("agent")
        socket = stack.enter_context(agent.holding(keys, directory, work.shop.runner, work.number))
    if socket is None:
        if mount.required:
            raise OrcaError(f"the ssh agent {mount.id} is required and was not given", hint=f"--ssh {mount.id}")
        return
    target = mount.target or f"{agent.TARGET}.{len(result.points)}"
    owner = (mount.uid, mount.gid)
    stack.enter_context(agent.forwarded(socket, place, owner, 0o600 if mount.mode is None else mount.mode))
    result.private.add(str(place))
    add(result, Mount("ssh", target), place, directory=False, read_only=False)
    result.environment["SSH_AUTH_SOCK"] = target


PREPARE = {"bind": _bind, "cache": _cache, "tmpfs": _tmpfs, "secret": _secret, "ssh": _ssh}


# -- targets


def place(prepared: Prepared, rootfs: RootFs) -> list[Located]:
    """Where the image has the mounts' targets, or what it lacks of them; the mounts then name the real places."""
    if not prepared.points:
        return []
    with rootfs.readable() as root, kernel.directory(root) as fd:
        located = [locate(fd, point) for point in prepared.points]
    prepared.mounts = [replace(m, destination=p.path) for m, p in zip(prepared.mounts, located, strict=True)]
    return located


def locate(root: int, point: MountPoint) -> Located:
    """Where `point` is inside the root (a descriptor), every link resolved there. Raises OrcaError for a wrong kind."""
    names = [name for name in point.path.split("/") if name]
    base = os.readlink(f"/proc/self/fd/{root}")
    for count in range(len(names), -1, -1):
        try:
            fd = kernel.open_in_root(root, "/".join(names[:count]) or ".", os.O_PATH)
        except OSError:
            continue
        try:
            found = os.fstat(fd)
            real = os.readlink(f"/proc/self/fd/{fd}").removeprefix(base).strip("/")
        finally:
            os.close(fd)
        missing = tuple(names[count:])
        want_directory = point.directory or bool(missing)
        if stat.S_ISDIR(found.st_mode) != want_directory:
            what = "is not a directory" if want_directory else "is a directory"
            raise OrcaError(f"the mount target {point.path} {what} in the image")
        path = "/" + "/".join([*filter(None, [real]), *missing])
        if path == "/":
            raise OrcaError(f"the mount target {point.path} is the root of the image")
        return Located(path, _way(root, real), missing, point.directory, point.mode)
    raise OrcaError(f"the mount target {point.path} cannot be found in the image")


def _way(root: int, real: str) -> tuple[tuple[str, os.stat_result], ...]:
    """The directories from the root down to `real`, with their attributes."""
    names = real.split("/") if real else []
    way = []
    for count in range(1, len(names) + 1):
        path = "/".join(names[:count])
        fd = kernel.open_in_root(root, path, os.O_PATH | os.O_NOFOLLOW)
        try:
            way.append((path, os.fstat(fd)))
        finally:
            os.close(fd)
    return tuple(way)
