"""Instructions that write files: COPY, ADD, WORKDIR. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import replace

from orca.dispatch.ops import DirectoryOp, FileOp, Step
from orca.dispatch.settings import Settings
from orca.dispatch.state import State
from orca.dockerfile import instructions as i
from orca.dockerfile import modes, remotes, words
from orca.dockerfile.glob import GlobError
from orca.dockerfile.ignore import IgnoreRules
from orca.dockerfile.modes import Mode
from orca.dockerfile.parser import location
from orca.errors import NotYet


def absolute(path: str, directory: str) -> str:
    """`path` below the working directory, cleaned; a final slash stays, because COPY gives it a meaning."""
    joined = posixpath.join("/", directory, path)
    clean = posixpath.normpath(joined).replace("//", "/", 1)
    trailing = path.endswith("/") or posixpath.basename(path) in (".", "..")
    return clean + "/" if trailing and clean != "/" else clean


def workdir(instruction: i.Workdir, state: State, settings: Settings) -> Step:
    word = settings.scope.expand(instruction.path, state.lookup, instruction)
    if not word:
        raise settings.scope.error("WORKDIR is empty after its variables were expanded", instruction)
    path = absolute(word, state.config.working_dir).rstrip("/") or "/"
    if re.match(r"/(proc|sys|dev)(/|$)", path):
        hint = "/proc, /sys and /dev belong to the container that runs, not to the image"
        raise settings.scope.error(f"WORKDIR {path} is not allowed", instruction, hint)
    changed = replace(state, config=replace(state.config, working_dir=path))
    return Step(instruction, DirectoryOp(path, state.config.user), changed, f"WORKDIR {path}")


def _not_yet(at: i.Instruction, settings: Settings, what: str) -> NotYet:
    return NotYet(
        f"{what} is not supported yet", hint="docs/dockerfile.md lists what is missing",
        location=location(settings.scope.source, at.span),
    )  # fmt: skip


def _mode(text: str | None, at: i.Instruction, state: State, settings: Settings) -> tuple[str, Mode | None]:
    """--chmod as history shows it, and the mode that it means."""
    word = "" if text is None else settings.scope.expand(text, state.lookup, at)
    if not word:
        return "", None
    try:
        return word, modes.parse(word)
    except modes.ModeError:
        hint = "write an octal mode such as 644 or 0755, or a symbolic one such as u=rwX,go=rX"
        raise settings.scope.error(f"bad mode --chmod={word[:80]}", at, hint) from None


def _exclude(patterns: Sequence[str], at: i.Instruction, state: State, settings: Settings) -> tuple[str, ...]:
    """The patterns of --exclude, which must be ones."""
    found = tuple(settings.scope.expand(pattern, state.lookup, at) for pattern in patterns)
    try:
        IgnoreRules.of(found)
    except GlobError as error:
        raise settings.scope.error(f"bad pattern of --exclude: {error.message}", at, error.hint) from error
    return found


def _contents(docs: Sequence[i.Heredoc], at: i.Instruction, state: State, settings: Settings) -> tuple[i.Heredoc, ...]:
    """The heredocs with their bodies expanded where the word was not quoted."""
    return tuple(
        replace(doc, body=_expand_body(doc.body, at, state, settings), expand=False) if doc.expand else doc
        for doc in docs
    )


def _expand_body(body: str, at: i.Instruction, state: State, settings: Settings) -> str:
    try:
        return words.expand_body(body, state.lookup, settings.scope.source.escape)
    except words.WordError as error:
        raise settings.scope.error(error.message, at, error.hint) from error


def _file_op(instruction: i.Copy | i.Add, state: State, settings: Settings, *, unpack: bool | None) -> Step:
    """COPY or ADD."""
    expand = settings.scope.expand
    sources = tuple(expand(word, state.lookup, instruction) for word in instruction.sources)
    if not all(sources):
        raise settings.scope.error("a source is empty after its variables were expanded", instruction)
    target = expand(instruction.destination, state.lookup, instruction)
    if not target:
        raise settings.scope.error("the destination is empty after its variables were expanded", instruction)
    chown = None if instruction.chown is None else expand(instruction.chown, state.lookup, instruction)
    shown, mode = _mode(instruction.chmod, instruction, state, settings)
    op = FileOp(
        sources,
        absolute(target, state.config.working_dir),
        _contents(instruction.heredocs, instruction, state, settings),
        chown=chown or None,
        chmod=mode,
        unpack=unpack,
        link=instruction.link,
        parents=isinstance(instruction, i.Copy) and instruction.parents,
        exclude=_exclude(instruction.exclude, instruction, state, settings),
    )
    if isinstance(instruction, i.Add):
        op = _with_remotes(op, instruction, state, settings)
    return Step(instruction, op, state, _history(instruction.keyword, op, shown))


def _history(keyword: str, op: FileOp, mode: str) -> str:
    """As BuildKit writes it: --from, --link, --checksum and --keep-git-dir are not shown."""
    flags = [("chown", op.chown), ("chmod", mode), *(("exclude", pattern) for pattern in op.exclude)]
    parents = ["--parents"] if op.parents else []
    shown = [f"--{name}={text}" for name, text in flags if text]
    sources = [*op.sources, *(remote.shown for remote in op.remotes), *(f"<<{doc.name}" for doc in op.contents)]
    return " ".join([keyword, *parents, *shown, *sources, op.destination, "# orca"])


def copy(instruction: i.Copy, state: State, settings: Settings) -> Step:
    step = _file_op(instruction, state, settings, unpack=False)
    assert isinstance(step.op, FileOp)
    if far := next((word for word in step.op.sources if re.match(r"(?i)https?://", word)), None):
        raise settings.scope.error(f"COPY cannot copy from {remotes.hide(far)}", instruction, "ADD can")
    return replace(step, op=replace(step.op, from_=instruction.from_))


def add(instruction: i.Add, state: State, settings: Settings) -> Step:
    return _file_op(instruction, state, settings, unpack=instruction.unpack)


def _with_remotes(op: FileOp, at: i.Add, state: State, settings: Settings) -> FileOp:
    """The op with its remote sources apart from the local ones, and what ADD's flags say about them."""
    try:
        parsed = [(word, remotes.parse(word)) for word in op.sources]
        far = tuple(remote for _, remote in parsed if remote is not None)
        checksum = "" if at.checksum is None else settings.scope.expand(at.checksum, state.lookup, at)
        if checksum and len(parsed) + len(op.contents) != 1:
            raise settings.scope.error("--checksum is for a single source", at, "write an ADD for each")
        if checksum and not far:
            raise settings.scope.error("--checksum is for URLs and git repositories", at)
        if checksum:
            check = remotes.git_checksum if isinstance(far[0], remotes.Git) else remotes.http_checksum
            far = (replace(far[0], checksum=check(checksum)),)
    except remotes.RemoteError as error:
        raise settings.scope.error(error.message, at, error.hint) from error
    if at.keep_git_dir:
        far = tuple(replace(one, keep_git_dir=True) if isinstance(one, remotes.Git) else one for one in far)
    return replace(op, sources=tuple(word for word, remote in parsed if remote is None), remotes=far)
