"""Trees of git repositories, through the git program.

A repository is as hostile as any context: its files are only written, nothing of them is run, and a directory in it
is looked up with the repository as the root of every link.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orca.dockerfile.remotes import Git, hide
from orca.errors import OrcaError, ToolError
from orca.sources import http
from orca.store import files
from orca.tools import bounds, git
from orca.tools.command import Command, Process, Runner

_HEX = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHALLOW_FAILS = re.compile(r"shallow|depth|unadvertised|not our ref|couldn't find remote ref", re.IGNORECASE)
_REFS_LIMIT = 16 << 20

# What git says on stderr, what that means, and what to do about it. The first that fits counts.
_TROUBLES: tuple[tuple[str, str, str | None], ...] = (
    (r"transport '.*' not allowed|protocol '.*' is not supported", "the repository wants a protocol that is not spoken",
     "https, http, ssh and git are"),
    (r"authentication failed|could not read (?:username|password)|permission denied|terminal prompts disabled",
     "the repository is not there, or needs credentials", "check the URL; for ssh, ssh-add gives a key to the agent"),
    (r"host key verification failed", "the server's ssh key is not known", "ssh to the host once, and accept its key"),
    (r"repository '.*' not found|not found|does not appear to be a git repository|access denied or repository",
     "there is no such repository", "check the URL"),
    (r"could not resolve host", "the host's name cannot be resolved", "check it, and this machine's DNS"),
    (r"connection refused|failed to connect|unable to connect|timed out|unreachable", "the server cannot be reached",
     None),
    (r"no space left on device", "no space left on the device",
     "orca prune frees what no image needs; ORCA_ROOT puts the store elsewhere"),
)  # fmt: skip


class GitError(OrcaError):
    """A repository that cannot be had, or does not hold what was asked for."""


def explain(error: ToolError, source: Git) -> OrcaError:
    """The error that a user understands for what git said."""
    meaning, hint = "git failed", error.hint
    for pattern, known, advice in _TROUBLES:
        if re.search(pattern, error.stderr, re.IGNORECASE):
            meaning, hint = known, advice
            break
    said = hide(error.stderr)
    return ToolError(f"{source.shown}: {meaning}", argv=error.argv, returncode=error.returncode, stderr=said, hint=hint)


@dataclass(frozen=True)
class Found:
    """A commit, and the ref by which a server that gives no bare commits has it."""

    commit: str
    ref: str


def resolve(source: Git, runner: Runner, step: int | None = None) -> Found:
    """Which commit `source` means now. Raises OrcaError."""
    if source.commit is not None:
        found = Found(source.commit, source.commit)
    else:
        found = _ask(source, runner, step)
    if source.checksum and not found.commit.startswith(source.checksum):
        raise GitError(
            f"{source.shown} is the commit {found.commit}, not {source.checksum}",
            hint="the branch or tag has moved, or somebody changes it on its way",
        )
    return found


def _ask(source: Git, runner: Runner, step: int | None) -> Found:
    wanted = _candidates(source)
    command = git.ls_remote(git.origin(source.url), *wanted)
    try:
        said = runner.run(command, step=step, limit=_REFS_LIMIT).stdout
    except ToolError as error:
        raise explain(error, source) from error
    refs: dict[str, str] = {}
    for line in said.decode("utf-8", "replace").splitlines():
        commit, _, name = line.partition("\t")
        if _HEX.fullmatch(commit):
            refs[name] = commit
    for name in wanted:
        if name in refs:
            return Found(refs[name], name.removesuffix("^{}"))
    what = {"branch": "branch", "tag": "tag"}.get(source.kind, "branch or tag")
    raise GitError(
        f"{source.shown}: the repository has no {what} {source.ref!r}"
        if source.ref
        else f"{source.shown}: the repository is empty",
        hint="a commit is written with all of its 40 digits" if source.ref else None,
    )


def _candidates(source: Git) -> list[str]:
    """The full names that a ref may have, most likely first; a tag's own commit before the tag."""
    ref = source.ref
    if not ref:
        return ["HEAD"]
    branch, tag = [f"refs/heads/{ref}"], [f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}"]
    if source.kind:
        return branch if source.kind == "branch" else tag
    exact = [f"{ref}^{{}}", ref] if ref.startswith("refs/") else [ref] if ref == "HEAD" else []
    return [*exact, *branch, *tag, f"refs/{ref}"]


def check_out(source: Git, found: Found, tree: Path, runner: Runner, step: int | None = None) -> None:
    """Write the files of a commit into the new directory `tree`, with the commit's time. Raises OrcaError."""
    origin = git.origin(source.url)
    try:
        runner.run(git.init(origin, tree), step=step)
        runner.run(git.add_origin(origin, tree), step=step)
        _fetch(source, found, tree, runner, step)
        _bounded(runner, git.checkout(origin, tree, found.commit), source, tree, step)
        if source.submodules and _is_file(tree / ".gitmodules"):
            _submodules(source, tree, runner, step)
        time = int(runner.run(git.commit_time(origin, tree, found.commit), step=step).stdout.strip() or 0)
    except ToolError as error:
        raise explain(error, source) from error
    if not source.keep_git_dir or source.subdir.strip("/"):
        for place in list(_git_places(tree)):
            files.remove_tree(place)
    _set_times(tree, time)


def _fetch(source: Git, found: Found, tree: Path, runner: Runner, step: int | None) -> None:
    """Get the commit alone, or where a server cannot do that, everything."""
    origin = git.origin(source.url)
    everything = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
    ways = (((found.commit,), True), ((found.ref,), True), ((found.ref,), False), (everything, False))
    last: ToolError | None = None
    for refs, shallow in ways:
        try:
            _bounded(runner, git.fetch(origin, tree, *refs, shallow=shallow), source, tree, step)
        except ToolError as error:
            if not _SHALLOW_FAILS.search(error.stderr):
                raise
            last = error
            continue
        if runner.run(git.resolve(origin, tree, found.commit), step=step, check=False).exit_code == 0:
            return
    if last is not None and source.commit is None:
        raise last
    raise GitError(f"{source.shown}: the repository has no commit {found.commit}", hint="check the ref")


def _submodules(source: Git, tree: Path, runner: Runner, step: int | None) -> None:
    origin = git.origin(source.url)
    try:
        _bounded(runner, git.submodules(origin, tree, shallow=True), source, tree, step)
    except ToolError as error:
        if not _SHALLOW_FAILS.search(error.stderr):
            raise
        _bounded(runner, git.submodules(origin, tree, shallow=False), source, tree, step)


def _bounded(runner: Runner, command: Command, source: Git, tree: Path, step: int | None) -> None:
    """Run a command that may fill `tree`, up to the bound of a download. Raises ToolError, GitError."""
    most = http.most()

    def excess(process: Process) -> bool:
        return bounds.written(process.pid) + _packed(tree) > most

    if not bounds.run(runner, command, excess, step=step):
        hint = f"if it is to be trusted, {http.VARIABLE}=SIZE allows more"
        raise GitError(f"{source.shown} is larger than {most} bytes", hint=hint)


def _packed(tree: Path) -> int:
    """Bytes of the packs that have arrived, whole or not: programs that git has started write them."""
    size = 0
    with contextlib.suppress(OSError), os.scandir(tree / ".git" / "objects" / "pack") as packs:
        for pack in packs:
            size += pack.stat().st_size
    return size


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _git_places(tree: Path) -> Iterator[Path]:
    """Every `.git`: the repository's directory, and the files by which submodules find theirs."""
    for directory, names, others in os.walk(tree):
        if ".git" in names or ".git" in others:
            yield Path(directory, ".git")
        names[:] = [name for name in names if name != ".git"]


def _set_times(tree: Path, seconds: int) -> None:
    """Give everything the commit's time: the clock of this machine is in no layer."""
    for directory, names, others in os.walk(tree, topdown=False):
        for name in (*names, *others):
            os.utime(os.path.join(directory, name), (seconds, seconds), follow_symlinks=False)
    os.utime(tree, (seconds, seconds))


def below(tree: Path, source: Git) -> Path:
    """The directory of the tree that `source` names; no link leads out of the repository. Raises GitError."""
    path, root = source.subdir.strip("/"), os.path.realpath(tree)
    real = os.path.realpath(os.path.join(root, path))
    if real != root and not real.startswith(f"{root}/"):
        raise GitError(f"{source.shown}: the directory {path!r} is a link that leads out of the repository")
    if not os.path.isdir(real):
        raise GitError(f"{source.shown}: the repository has no directory {path!r}")
    return Path(real)
