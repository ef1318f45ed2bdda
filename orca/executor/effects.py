"""What ops do to a root file system: WORKDIR's directory, COPY's files, RUN's command.

Each takes the op and where to work, and returns the upper directory that holds the change (None
when nothing changed) and whether the root directory itself changed.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca.dispatch.ops import DirectoryOp, ExecOp, FileOp, Op
from orca.dispatch.run import PIPES
from orca.dockerfile.instructions import Instruction
from orca.errors import OrcaError, RunFailed
from orca.events import Warned
from orca.executor import aftermath, archives, bundle, cgroups, copier, foreign, mounts, users
from orca.executor.copier import Ownership, Target
from orca.executor.layer import changes, is_empty
from orca.executor.network import network
from orca.executor.options import Naming, Running
from orca.executor.overlay import Mounted
from orca.executor.rootfs import LOOSE, RootFs, Upper, Workshop, same_directory
from orca.oci import runtime
from orca.plan.stages import Stage
from orca.sources.tree import Item, Tree
from orca.store import files
from orca.tools import kernel

if TYPE_CHECKING:
    from orca.executor.build import Build

Changed = tuple[Upper | None, bool]

WORD_LIMIT = 128 * 1024
LONG_SCRIPT = f"{PIPES}/run"

_NAME_FAILED = re.compile(
    r"temporary failure (?:resolving|in name resolution)|could not resolve|name or service not known|bad address|"
    r"no address associated|unable to resolve|could not resolve host",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Work:
    """Where an op works: the build and stage it belongs to, the file system below it, its step and instruction.

    `owner` is what --chown means, where that is known already.
    """

    build: Build
    stage: Stage
    shop: Workshop
    rootfs: RootFs
    number: int
    instruction: Instruction
    owner: tuple[int, int] | None = None


def _result(mounted: Mounted, upper: Upper, before: os.stat_result) -> Changed:
    """What a step changed; an upper directory with nothing in it is thrown away."""
    root_changed = not same_directory(before, mounted.upper.stat())
    if is_empty(upper.fs) and not root_changed:
        files.remove_tree(upper.place)
        return None, False
    return upper, root_changed


def clamp_times(upper: Upper, naming: Naming) -> None:
    """With an epoch, the files of a finished step get the times that its layer will say.

    Else the next step would see other times than it does when this one comes from the cache.
    """
    if naming.epoch is None:
        return
    for change in changes(upper.fs, named_whiteouts=upper.named_whiteouts):
        path = upper.fs / change.path
        if not change.marker and (naming.exact_times or path.lstat().st_mtime > naming.epoch):
            os.utime(path, (naming.epoch, naming.epoch), follow_symlinks=False)


def make_directory(op: DirectoryOp, work: Work) -> Changed:
    """WORKDIR: an existing directory is left alone; new ones belong to the current user."""
    with work.rootfs.readable() as existing, kernel.directory(existing) as fd:
        if Target(fd).is_directory(op.path.lstrip("/") or "."):
            return None, False
        who = users.identity(fd, op.user)
    with work.rootfs.writable(work.number) as (mounted, upper), kernel.directory(mounted.root) as fd:
        before = mounted.upper.stat()
        os.close(Target(fd, Ownership((who.uid, who.gid))).open_directory(op.path))
    return _result(mounted, upper, before)


def copy_files(op: FileOp, work: Work) -> Changed:
    """COPY and ADD."""
    if op.link:
        return _copy_alone(op, work)
    with contextlib.ExitStack() as stack:
        sources = stack.enter_context(_sources(op, work))
        mounted, upper = stack.enter_context(work.rootfs.writable(work.number))
        fd = stack.enter_context(kernel.directory(mounted.root))
        before = mounted.upper.stat()
        _write(op, sources, _target(op, fd, work), work)
    return _result(mounted, upper, before)


def _copy_alone(op: FileOp, work: Work) -> Changed:
    """COPY --link: into an empty directory, so that nothing below can matter.

    Not through an overlay, which marks new directories as opaque: they would hide what is below them.
    """
    upper = Upper(work.shop.directory("step"), os.urandom(6).hex())
    try:
        upper.fs.mkdir(mode=0o755)
        os.chmod(upper.fs, 0o755)
        with _sources(op, work) as sources, kernel.directory(upper.fs) as fd:
            before = os.fstat(fd)
            _write(op, sources, _target(op, fd, work), work)
            root_changed = not same_directory(before, os.fstat(fd))
    except BaseException:
        files.remove_tree(upper.place)
        raise
    if root_changed:
        return upper, True
    if is_empty(upper.fs):
        files.remove_tree(upper.place)
        return None, False
    return replace(upper, name=f"{LOOSE}{upper.name}"), False


def _target(op: FileOp, fd: int, work: Work) -> Target:
    """The root open at `fd`, with the owner and mode that the flags say."""
    # What comes from an image has an owner; what somebody's directory holds has not.
    mine = op.from_ is None or work.build.reads_tree(op.from_, work.stage)
    owner = (0, 0) if mine else None
    if op.chown:
        owner = work.owner or users.owner(fd, op.chown)
    return Target(fd, Ownership(owner, op.chmod, work.build.options.naming.epoch, level=mine))


@dataclass(frozen=True)
class Found:
    """Sources found in one tree; `unpack`: archives among them are unpacked."""

    tree: Tree
    items: list[Item]
    unpack: bool


@contextlib.contextmanager
def _sources(op: FileOp, work: Work) -> Iterator[list[Found]]:
    """All that a COPY or ADD reads. ADD of nothing but URLs needs no build context."""
    with contextlib.ExitStack() as stack:
        found = []
        if op.sources or not op.remotes:
            tree = stack.enter_context(_source(op, work))
            found.append(Found(tree, work.build.inputs.items(op, tree), op.unpack is not False))
        for remote in op.remotes:
            tree, items = stack.enter_context(work.build.remotes.files(remote, op.exclude, work.shop, work.number))
            found.append(Found(tree, items, op.unpack is True))
        yield found


def _write(op: FileOp, sources: list[Found], target: Target, work: Work) -> None:
    _warn_of_last(op, [item for found in sources for item in found.items], target, work)
    for found in sources:
        plain = found.items
        if found.unpack:
            plain = [item for item in plain if item.is_directory or not archives.is_archive(found.tree, item)]
            for item in found.items:
                if item not in plain:
                    runner = work.shop.runner
                    archives.unpack(found.tree, item, target, op.destination, runner, chown=op.chown is not None)
        copier.copy(plain, found.tree, target, op.destination)
    now = int(time.time()) if work.build.options.naming.epoch is None else work.build.options.naming.epoch
    for doc in op.contents:
        into = op.destination.endswith("/") or target.is_directory(op.destination.lstrip("/") or ".")
        place = posixpath.join(op.destination, doc.name) if into else op.destination
        copier.write_file(target, place, doc.body.encode("utf-8", "surrogateescape"), 0o644, now)


def _warn_of_last(op: FileOp, items: list[Item], target: Target, work: Work) -> None:
    """Several files for one name: as BuildKit has it, the last one stays."""
    several = len(items) + len(op.contents) > 1 and not any(item.is_directory for item in items)
    if several and not op.destination.endswith("/") and not target.is_directory(op.destination.lstrip("/") or "."):
        message = f"several sources for {op.destination}, which is no directory: the last one wins"
        work.build.emit(Warned(message, hint=f"write {op.destination}/"))


@contextlib.contextmanager
def _source(op: FileOp, work: Work) -> Iterator[Tree]:
    """The tree that a COPY reads: the build context, a stage's root, an image's root."""
    if op.from_ is None:
        yield work.build.inputs.context()
        return
    if work.build.reads_tree(op.from_, work.stage):
        yield work.build.named.tree(op.from_, work.shop)
        return
    rootfs = work.build.source_rootfs(op.from_, work.stage, work.shop, work.number)
    with rootfs.readable() as root, Tree(root, owners=True) as tree:
        yield tree


def execute(op: ExecOp, work: Work) -> Changed:
    """RUN, in a container. Raises RunFailed when the command ends with another code than 0."""
    build, runner, running = work.build, work.shop.runner, work.build.options.running
    foreign.check(work.stage.platform, work.shop, work.number)
    scratch = work.shop.volatile_directory("run")
    log = build.log_path(work.number)
    with contextlib.ExitStack() as stack:
        mine = stack.enter_context(mounts.prepared(op.mounts, work, scratch))
        secrets = [build.secret(mount.id) or b"" for mount in op.mounts if mount.kind == "secret"]
        cutter = stack.enter_context(bundle.LineCutter(log, build.emit, work.number, secrets))
        net = stack.enter_context(network(op.network, scratch, runner, work.number))
        net = replace(net, resolv_conf=running.dns.applied(net.resolv_conf))
        points = mounts.place(mine, work.rootfs)
        container = _container(op, mine, running)
        mounting = work.rootfs.writable(work.number, stub=True, points=points, names=container.files)
        mounted, upper = stack.enter_context(mounting)
        before = mounted.upper.stat()

        def make(path: str) -> None:
            with kernel.directory(mounted.root) as fd:
                os.close(Target(fd).open_directory(path))

        with cgroups.joined(work.shop.claim) as doors:
            code, seconds = bundle.run(
                container, mounted.root, scratch, runner, join=doors,
                net=net, platform=work.stage.platform, make_directory=make, on_output=cutter.take, step=work.number,
            )  # fmt: skip
        if code:
            failure = _failed(op, code, seconds, cutter.tail, log, memory=running.groups.get("memory"))
            aftermath.follow(aftermath.Scene(op, work, container, mounted.root, net, mine, make), failure)
            raise failure
    return _result(mounted, upper, before)


def _container(op: ExecOp, mine: mounts.Prepared, running: Running) -> bundle.Container:
    """The container of a RUN."""
    limits = running.limits or runtime.USUAL
    if op.insecure:
        read_only = bool(os.statvfs("/sys").f_flag & os.ST_RDONLY)
        limits = replace(limits, insecure=True, sys_read_only=read_only)
    argv, script = op.argv, (op.argv[0], op.script) if op.script else None
    if script is None and is_long(op.argv):
        # The kernel takes 128 KiB of one word, so the shell reads it from a file.
        script = (LONG_SCRIPT, op.argv[-1])
        argv = (*op.argv[:-1], f". {LONG_SCRIPT}")
    environment = {**dict(op.environment), **mine.environment}
    _check_words(argv, environment)
    return bundle.Container(
        argv,
        environment,
        op.directory,
        op.user,
        op.hosts,
        script,
        hostname=op.hostname or bundle.HOSTNAME,
        mounts=(*mine.mounts, *mine.devices),
        limits=limits,
        files=tuple(name for name in bundle.STUB_FILES if name not in running.own_files),
    )


def _check_words(argv: tuple[str, ...], environment: Mapping[str, str]) -> None:
    """Raises OrcaError for what execve will not take."""
    named = [(f"the variable {name}", f"{name}={text}") for name, text in environment.items()]
    for what, word in (*((f"a word of {argv[0]}", word) for word in argv), *named):
        size = len(os.fsencode(word))
        if size >= WORD_LIMIT:
            hint = "the kernel takes 128 KiB of each word and each variable: write it to a file"
            raise OrcaError(f"{what} has {size} bytes, too many for a program", hint=hint)


def is_long(argv: tuple[str, ...]) -> bool:
    """Is this a shell's `-c TEXT` with a text that execve would refuse?"""
    shell = posixpath.basename(argv[0]) in aftermath.SHELLS and len(argv) > 2
    return shell and argv[-2][:1] == "-" and argv[-2][-1:] == "c" and len(os.fsencode(argv[-1])) >= WORD_LIMIT


def _failed(
    op: ExecOp, code: int, seconds: float, tail: list[str], log: Path, *, memory: str | None = None
) -> RunFailed:
    hint = None
    if code > 128:
        hint = f"the command was ended by signal {code - 128}"
    if code == 137 and memory:
        hint = f"killed, most likely for want of memory: --memory gives it {int(memory) >> 20} MiB"
    if code == 127:
        hint = "127 means that the shell did not find the command: is the package that has it installed?"
    if any(_NAME_FAILED.search(line) for line in tail):
        hint = name_hint(op.network)
    return RunFailed(
        f"RUN ended with exit code {code} after {seconds:.1f} s", returncode=code, tail=tail, log=str(log), hint=hint
    )


def name_hint(mode: str) -> str:
    """Why a name look-up in RUN failed: which hop of container → helper → host's resolver it was."""
    if mode == "none":
        return "this RUN has no network (--network=none): nothing can be resolved"
    servers = _host_resolvers()
    if not servers:
        return "the host itself has no nameserver in /etc/resolv.conf, so the container cannot have one"
    if not any(_answers(server) for server in servers):
        where = ", ".join(servers)
        return f"slirp4netns was reached, but the host's resolver ({where}) does not answer: check the host's DNS"
    where = (
        "slirp4netns (10.0.2.3) and the host's resolver answer" if mode == "default" else "the host's resolver answers"
    )
    return f"{where}: the name itself seems not to exist, or the look-up came too early"


def _host_resolvers() -> list[str]:
    with contextlib.suppress(OSError):
        lines = Path("/etc/resolv.conf").read_text("utf-8", "replace").splitlines()
        return [line.split()[1] for line in lines if line.startswith("nameserver ") and len(line.split()) > 1]
    return []


def _answers(server: str) -> bool:
    """Does a nameserver answer a question (for the root's own name) within two seconds?"""
    import socket

    question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01"
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2)
        sock.sendto(question, (server, 53))
        return sock.recv(512)[:2] == b"\x12\x34"
    return False


EFFECTS: dict[type[Op], Callable[[Any, Work], Changed]] = {
    DirectoryOp: make_directory,
    FileOp: copy_files,
    ExecOp: execute,
}
