"""Where a build context is: a directory, or something that has to be fetched or unpacked before anything is known.

The Dockerfile is in the context, so one that is not here yet comes before all else, and the whole build happens in the
sandbox then: git and what it starts end with it, and the tree is gone at the end.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from orca.dockerfile import remotes
from orca.dockerfile.remotes import Git, Http, Remote, RemoteError
from orca.errors import OrcaError, UsageError
from orca.events import Emit
from orca.store.store import Store

if TYPE_CHECKING:
    from orca.tools.command import Runner

STDIN = "-"
DOCKERFILE_LIMIT = 16 << 20
_HEAD = 1024
_CHUNK = 1 << 20

View = Callable[[], AbstractContextManager[Emit]]


@dataclass(frozen=True)
class Place:
    """A build context: its directory, None when there is none; `dockerfile` when that was all there was.

    A `temporary` one is gone after the build, and what it holds is somebody else's: no file outside is meant by it.
    """

    directory: Path | None
    dockerfile: bytes | None = None
    temporary: bool = False


def remote(word: str) -> Remote | None:
    """The remote source that a context's word means, None for a directory. Raises UsageError."""
    if not remotes.looks_remote(word) or os.path.isdir(word):
        return None
    try:
        return remotes.parse(word)
    except RemoteError as error:
        raise UsageError(error.message, hint=error.hint) from error


@contextlib.contextmanager
def opened(word: str | None, view: View) -> Iterator[Place]:
    """The context that a command line names, for as long as the block lasts. Raises OrcaError.

    `view` shows what happens meanwhile. After anything but a directory or a lone Dockerfile, this process is in the
    sandbox.
    """
    if word is None:
        raise UsageError("which directory is the build context?", hint="orca build . uses this one")
    if word == STDIN:
        with _from_stdin(view) as place:
            yield place
    elif (source := remote(word)) is not None:
        with _sandboxed(view) as (store, runner, scratch):
            yield fetch(source, store, runner, scratch)
    else:
        yield Place(directory_of(word))


def directory_of(word: str) -> Path:
    """The directory that a word names. Raises UsageError."""
    path = Path(word)
    if not path.is_dir():
        kind = "is not a directory" if path.exists() else "does not exist"
        raise UsageError(f"the build context {word} {kind}", hint="give the directory that COPY reads from")
    return path


@contextlib.contextmanager
def _from_stdin(view: View) -> Iterator[Place]:
    """A tar, recognised by its content, or a Dockerfile without a context."""
    stdin = sys.stdin.buffer
    if sys.stdin.isatty():
        raise UsageError("the build context is to come from standard input, which is the terminal",
                         hint="orca build - < Dockerfile, or tar -c . | orca build -")  # fmt: skip
    head = stdin.read(_HEAD)
    from orca.sources.packed import is_packed

    if not is_packed(head):
        yield Place(None, _small(head + stdin.read(DOCKERFILE_LIMIT), "standard input"))
        return
    with _sandboxed(view) as (_, runner, scratch):
        spool = scratch / "stdin.tar"
        with spool.open("xb") as file:
            file.write(head)
            while data := stdin.read(_CHUNK):
                file.write(data)
        with spool.open("rb") as file:
            place = _unpacked(file, "standard input", runner, scratch)
        spool.unlink()
        yield place


def _small(data: bytes, what: str) -> bytes:
    if len(data) > DOCKERFILE_LIMIT:
        raise OrcaError(f"{what} is neither an archive nor a Dockerfile: it is larger than {DOCKERFILE_LIMIT} bytes")
    return data


@contextlib.contextmanager
def _sandboxed(view: View) -> Iterator[tuple[Store, Runner, Path]]:
    """In the sandbox: the store, a runner, a scratch directory."""
    import sh  # noqa: F401  # loaded here once, not again on each side of the fork

    from orca.executor import sandbox
    from orca.tools.command import Runner

    store = Store.open()
    # Inside, an ordinary user is root: the store is to be the same one.
    os.environ["ORCA_ROOT"] = str(store.root)
    with store.in_use():
        runner = Runner()
        sandbox.enter(runner)
        with store.scratch() as scratch, contextlib.ExitStack() as stack:
            runner.emit = stack.enter_context(view())
            yield store, runner, scratch


def fetch(source: Remote, store: Store, runner: Runner, scratch: Path) -> Place:
    """Get a remote context into a directory below `scratch`. Raises OrcaError."""
    if isinstance(source, Git):
        return Place(check_out(source, runner, scratch), temporary=True)
    from orca.sources.http import Downloads

    found = Downloads(store, runner.emit).get(source)
    with found.path.open("rb") as file:
        if _holds_archive(file):
            return _unpacked(file, source.shown, runner, scratch)
        return Place(None, _small(file.read(DOCKERFILE_LIMIT + 1), source.shown))


def _holds_archive(file: IO[bytes]) -> bool:
    """Is it an archive, by its first bytes? It is read from its beginning, and stands there again."""
    from orca.sources.packed import is_packed

    head = file.read(_HEAD)
    file.seek(0)
    return is_packed(head)


def check_out(source: Git, runner: Runner, scratch: Path) -> Path:
    """The directory of a git context."""
    from orca.sources import git

    tree = scratch / f"git-{os.urandom(4).hex()}"
    git.check_out(source, git.resolve(source, runner), tree, runner)
    return git.below(tree, source)


def _unpacked(file: IO[bytes], name: str, runner: Runner, scratch: Path) -> Place:
    return Place(unpack(file, name, runner, scratch), temporary=True)


def unpack(file: IO[bytes], name: str, runner: Runner, scratch: Path) -> Path:
    """A new directory below `scratch` with what an archive holds; all of it is ours. Raises OrcaError."""
    from orca.executor import archives
    from orca.executor.copier import Target
    from orca.tools import kernel

    root = scratch / f"context-{os.urandom(4).hex()}"
    root.mkdir(mode=0o755)
    with kernel.directory(root) as fd:
        archives.unpack_file(file, name, Target(fd), "/", runner, chown=True)
    return root


def download(source: Http, store: Store, runner: Runner, scratch: Path) -> Path:
    """A directory with what a URL gives: an archive's files, or the file itself."""
    import shutil

    from orca.sources.http import Downloads

    found = Downloads(store, runner.emit).get(source)
    with found.path.open("rb") as file:
        if _holds_archive(file):
            return unpack(file, source.shown, runner, scratch)
    root = scratch / f"context-{os.urandom(4).hex()}"
    root.mkdir(mode=0o755)
    shutil.copyfile(found.path, root / source.name)
    os.utime(root / source.name, (found.modified or 0, found.modified or 0))
    return root
