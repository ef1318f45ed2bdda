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
from orca.dockerfile import modes, words
from orca.dockerfile.glob import GlobError
from orca.dockerfile.ignore import IgnoreRules
from orca.dockerfile.modes import Mode
from orca.dockerfile.parser import location
from orca.errors import NotYet

_URL = re.compile(r"(?:https?|git|ssh)://|git@|[^/]+\.git(?:#|$)", re.IGNORECASE)


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
    return Step(instruction, op, state, _history(instruction.keyword, op, shown))


def _history(keyword: str, op: FileOp, mode: str) -> str:
    """As BuildKit writes it: --from and --link are not shown."""
    flags = [("chown", op.chown), ("chmod", mode), *(("exclude", pattern) for pattern in op.exclude)]
    parents = ["--parents"] if op.parents else []
    shown = [f"--{name}={text}" for name, text in flags if text]
    docs = [f"<<{doc.name}" for doc in op.contents]
    return " ".join([keyword, *parents, *shown, *op.sources, *docs, op.destination, "# orca"])


def _refuse(instruction: i.Add, settings: Settings, flags: Sequence[tuple[str, object]]) -> None:
    for name, value in flags:
        if value not in (None, False, ()):
            raise _not_yet(instruction, settings, f"{instruction.keyword} --{name}")


def copy(instruction: i.Copy, state: State, settings: Settings) -> Step:
    step = _file_op(instruction, state, settings, unpack=False)
    assert isinstance(step.op, FileOp)
    return replace(step, op=replace(step.op, from_=instruction.from_))


def add(instruction: i.Add, state: State, settings: Settings) -> Step:
    _refuse(
        instruction,
        settings,
        [("checksum", instruction.checksum), ("keep-git-dir", instruction.keep_git_dir)],
    )
    step = _file_op(instruction, state, settings, unpack=instruction.unpack)
    assert isinstance(step.op, FileOp)
    for source in step.op.sources:
        if _URL.match(source):
            raise _not_yet(instruction, settings, f"ADD from {source.split('?')[0][:80]}")
    return step
