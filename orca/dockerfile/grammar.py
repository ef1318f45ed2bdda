"""The instructions: from a statement (keyword, flags, arguments) to its value, one function each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from . import arguments, flags, heredoc
from .arguments import Word
from .durations import parse_duration
from .flags import Flag, Flags
from .instructions import (
    Add,
    Arg,
    Cmd,
    CommandForm,
    Copy,
    Entrypoint,
    Env,
    ExecForm,
    Expose,
    From,
    Healthcheck,
    Heredoc,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    ShellForm,
    Span,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from .text import BLANK, SPACE, Fault, quoted

HEREDOCS_IN = frozenset({"ADD", "COPY", "RUN"})
NOT_IN_ONBUILD = frozenset({"FROM", "MAINTAINER", "ONBUILD"})
MILLISECOND = 1_000_000
MAX_RETRIES = (1 << 31) - 1

_STAGE_NAME = re.compile(r"[a-z][a-z0-9\-_.]*")
_KEYWORD = re.compile(f"[^{BLANK}]+")
_BLANKS = re.compile(f"[{BLANK}]+")
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_CONTINUES = re.compile(r"&&|\|\|?|[;-]")


@dataclass(frozen=True)
class Statement:
    """One instruction cut into keyword, flags and arguments.

    `text` is the whole logical line; `start` and `at` are the offsets in it of the keyword and of `args`.
    """

    keyword: str
    flags: tuple[Flag, ...]
    args: str
    text: str
    start: int
    at: int
    span: Span
    escape: str
    documents: tuple[heredoc.Document, ...] = ()

    def array(self) -> tuple[str, ...] | None:
        """The words of the exec form, None for any other form."""
        return arguments.string_array(self.args, self.at)

    def command(self) -> CommandForm:
        argv = self.array()
        return ShellForm(self.args) if argv is None else ExecForm(argv)

    def need(self, what: str) -> str:
        """The arguments, which must not be empty."""
        if not self.args:
            raise Fault(f"{self.keyword} needs {what}", at=self.start)
        return self.args

    def words(self, what: str) -> list[Word]:
        """The arguments cut at blanks, at least one."""
        return arguments.split_blanks(self.need(what), self.at)

    def heredocs(self) -> tuple[Heredoc, ...]:
        return tuple(document.value() for document in self.documents)

    def inner(self) -> Statement:
        """The statement inside ONBUILD, with the here-documents."""
        inside = statement(self.text, self.span, self.escape, self.at)
        return replace(inside, documents=self.documents)

    def announced(self) -> list[heredoc.HeredocWord]:
        """The here-documents whose bodies follow this statement's line."""
        commanding = self.inner() if self.keyword == "ONBUILD" and self.args else self
        if commanding.keyword not in HEREDOCS_IN or commanding.array() is not None:
            return []
        return heredoc.find(self.text)

    def common(self) -> dict[str, Any]:
        """The fields that every instruction has."""
        return {"span": self.span, "text": self.text[self.start :].rstrip(SPACE)}


def statement(text: str, span: Span, escape: str, at: int = 0) -> Statement:
    """Cut the part of the logical line `text` that begins at offset `at`."""
    start = len(text) - len(text[at:].lstrip(SPACE))
    found = _KEYWORD.match(text, start)
    if not found:
        raise Fault("a continued line holds no instruction", hint="remove the escape character")
    given, args, args_at = flags.split(text[found.end() :], found.end())
    return Statement(found[0].upper(), given, args.rstrip(SPACE), text, start, args_at, span, escape)


def instruction(given: Statement) -> Instruction:
    """The value of a statement; raises Fault when it breaks the instruction's grammar."""
    parser = PARSERS.get(given.keyword)
    if parser is None:
        raise _unknown(given)
    return parser(given, flags.check(given.keyword, given.flags))


def _unknown(given: Statement) -> Fault:
    from difflib import get_close_matches  # only an error needs it

    near = get_close_matches(given.keyword[:40], PARSERS, n=1)
    hint = f"did you mean {near[0]}?" if near else None
    if _CONTINUES.match(given.keyword):
        hint = f"does the line above lack its {given.escape} at the end?"
    return Fault(f"unknown instruction {quoted(given.keyword)}", at=given.start, hint=hint)


# FROM, ARG and the rest of what shapes a build


def _from(given: Statement, options: Flags) -> Instruction:
    words = given.words("an image")
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].text.upper() != "AS"):
        raise Fault("FROM takes an image, and perhaps AS and a name", at=words[1].at, hint="FROM image AS name")
    stage = words[2].text.lower() if len(words) == 3 else None
    if stage is not None and not _STAGE_NAME.fullmatch(stage):
        hint = "a letter first, then letters, digits, and the characters - _ ."
        raise Fault(f"{quoted(words[2].text)} is no name for a stage", at=words[2].at, hint=hint)
    return From(**given.common(), image=words[0].text, platform=options.text("platform"), stage=stage)


def _arg(given: Statement, options: Flags) -> Instruction:
    given.need("a name")
    pairs: list[tuple[str, str | None]] = []
    for word in arguments.split_quoted(given.args, given.at, given.escape):
        name, equals, value = word.text.partition("=")
        if not name:
            raise Fault("ARG needs a name before the =", at=word.at)
        pairs.append((name, value if equals else None))
    if not pairs:
        raise Fault("ARG needs a name", at=given.start)
    return Arg(**given.common(), pairs=tuple(pairs))


def _onbuild(given: Statement, options: Flags) -> Instruction:
    given.need("an instruction")
    inner = given.inner()
    if inner.keyword in NOT_IN_ONBUILD:
        raise Fault(f"ONBUILD takes no {inner.keyword}", at=inner.start)
    trigger = given.args + "".join(document.as_written() for document in given.documents)
    return Onbuild(**given.common(), trigger=trigger, instruction=instruction(inner))


# RUN and the other commands


def _run(given: Statement, options: Flags) -> Instruction:
    given.need("a command")
    command = given.command()
    script = None
    if command == ExecForm(()):
        raise Fault("RUN needs a command", at=given.at)
    if given.documents:
        script = _script(given)
        command = ShellForm(given.args + "".join(document.as_written() for document in given.documents))
    return Run(
        **given.common(),
        command=command if script is None else ShellForm(script),
        heredocs=given.heredocs(),
        script=script,
        mounts=options.list("mount"),
        network=options.text("network"),
        security=options.text("security"),
        devices=options.list("device"),
    )


def _script(given: Statement) -> str | None:
    """The body that is the whole command: RUN with one here-document and nothing else."""
    return given.documents[0].value().body if heredoc.parse_word(given.args) else None


def _cmd(given: Statement, options: Flags) -> Instruction:
    return Cmd(**given.common(), command=given.command() if given.args else ExecForm(()))


def _entrypoint(given: Statement, options: Flags) -> Instruction:
    return Entrypoint(**given.common(), command=given.command() if given.args else ExecForm(()))


def _shell(given: Statement, options: Flags) -> Instruction:
    given.need("a JSON array")
    argv = given.array()
    if not argv:
        hint = 'SHELL ["/bin/bash", "-c"]'
        raise Fault("SHELL takes a JSON array of one or more strings", at=given.at, hint=hint)
    return Shell(**given.common(), argv=argv)


def _healthcheck(given: Statement, options: Flags) -> Instruction:
    first = given.words("CMD and a command, or NONE")[0]
    rest = given.args[len(first.text) :].lstrip(SPACE)
    kind = first.text.upper()
    if kind == "NONE" and rest:
        raise Fault("HEALTHCHECK NONE takes nothing more", at=given.at + given.args.rindex(rest))
    if kind not in ("CMD", "NONE"):
        hint = "HEALTHCHECK [--interval=…] CMD command, or HEALTHCHECK NONE"
        raise Fault(f"HEALTHCHECK takes CMD or NONE, not {quoted(first.text)}", at=first.at, hint=hint)
    command = None
    if kind == "CMD":
        command = replace(given, args=rest, at=given.at + len(given.args) - len(rest)).command()
        if command in (ShellForm(""), ExecForm(())):
            raise Fault("HEALTHCHECK CMD needs a command", at=first.at)
    return Healthcheck(
        **given.common(),
        command=command,
        interval=_duration(options, "interval"),
        timeout=_duration(options, "timeout"),
        start_period=_duration(options, "start-period"),
        start_interval=_duration(options, "start-interval"),
        retries=_retries(options),
    )


def _duration(options: Flags, name: str) -> int | None:
    """The flag in nanoseconds. 0 stands for the default, anything else below a millisecond is an error."""
    value = options.text(name)
    if value is None:
        return None
    try:
        duration = parse_duration(value)
    except ValueError as problem:
        hint = "such as 30s, 1m30s, 500ms"
        raise Fault(f"--{name}={value[:40]}: {problem}", at=options.places[name], hint=hint) from None
    if duration != 0 and duration < MILLISECOND:
        raise Fault(f"--{name}={value[:40]} is less than 1ms", at=options.places[name])
    return duration


def _retries(options: Flags) -> int | None:
    value = options.text("retries")
    if value is None:
        return None
    if not _INTEGER.fullmatch(value) or not 0 <= int(value) <= MAX_RETRIES:
        raise Fault(f"--retries takes a number, not {quoted(value)}", at=options.places["retries"])
    return int(value)


# COPY and ADD


def _copy(given: Statement, options: Flags) -> Instruction:
    sources, destination = _transfer(given)
    return Copy(
        **given.common(),
        sources=sources,
        destination=destination,
        heredocs=given.heredocs(),
        from_=options.text("from"),
        chown=options.text("chown"),
        chmod=options.text("chmod"),
        link=options.boolean("link"),
        parents=options.boolean("parents"),
        exclude=options.list("exclude"),
    )


def _add(given: Statement, options: Flags) -> Instruction:
    sources, destination = _transfer(given)
    return Add(
        **given.common(),
        sources=sources,
        destination=destination,
        heredocs=given.heredocs(),
        chown=options.text("chown"),
        chmod=options.text("chmod"),
        link=options.boolean("link"),
        exclude=options.list("exclude"),
        checksum=options.text("checksum"),
        keep_git_dir=options.boolean("keep-git-dir"),
        unpack=options.booleans.get("unpack"),
    )


def _transfer(given: Statement) -> tuple[tuple[str, ...], str]:
    """The sources that are no here-documents, and the destination."""
    given.need("a source and a destination")
    array = given.array()
    words = [Word(path, given.at) for path in array] if array is not None else given.words("a source")
    if len(words) < 2:
        raise Fault(f"{given.keyword} needs a source and a destination", at=given.start)
    if not given.documents:
        return tuple(word.text for word in words[:-1]), words[-1].text
    sources = tuple(word.text for word in words[:-1] if not heredoc.parse_word(word.text))
    if heredoc.parse_word(words[-1].text):
        raise Fault(f"a here-document cannot be the destination of {given.keyword}", at=words[-1].at)
    if len(words) - 1 - len(sources) != len(given.documents):
        raise Fault(f"the name of a here-document in {given.keyword} holds no blanks", at=given.at)
    return sources, words[-1].text


# what only changes the config


def _env(given: Statement, options: Flags) -> Instruction:
    pairs, legacy = _pairs(given)
    return Env(**given.common(), pairs=pairs, legacy=legacy)


def _label(given: Statement, options: Flags) -> Instruction:
    pairs, legacy = _pairs(given)
    return Label(**given.common(), pairs=pairs, legacy=legacy)


def _pairs(given: Statement) -> tuple[tuple[tuple[str, str], ...], bool]:
    """name=value…, or the old form: a name, blanks, and the rest of the line as its value."""
    given.need("name=value")
    words = arguments.split_quoted(given.args, given.at, given.escape)
    if not words or "=" not in words[0].text:
        old_form = _BLANKS.split(given.args, maxsplit=1)
        if len(old_form) < 2:
            raise Fault(f"{given.keyword} needs a name and a value", at=given.at, hint="name=value")
        return ((old_form[0], old_form[1]),), True
    pairs = []
    for word in words:
        name, equals, value = word.text.partition("=")
        if not equals:
            hint = 'quote a value with blanks in it: name="a b"'
            raise Fault(f"{given.keyword} takes name=value, not {quoted(word.text)}", at=word.at, hint=hint)
        if not name:
            raise Fault(f"{given.keyword} needs a name before the =", at=word.at)
        pairs.append((name, value))
    return tuple(pairs), False


def _workdir(given: Statement, options: Flags) -> Instruction:
    return Workdir(**given.common(), path=given.need("a path"))


def _user(given: Statement, options: Flags) -> Instruction:
    return User(**given.common(), user=given.need("a name or a number"))


def _stopsignal(given: Statement, options: Flags) -> Instruction:
    return Stopsignal(**given.common(), signal=given.need("a signal"))


def _maintainer(given: Statement, options: Flags) -> Instruction:
    return Maintainer(**given.common(), author=given.need("a name"))


def _expose(given: Statement, options: Flags) -> Instruction:
    return Expose(**given.common(), ports=tuple(word.text for word in given.words("a port")))


def _volume(given: Statement, options: Flags) -> Instruction:
    given.need("a path")
    array = given.array()
    paths = tuple(word.text for word in given.words("a path")) if array is None else array
    if not paths or not all(path.strip(SPACE) for path in paths):
        raise Fault("VOLUME needs paths that are not empty", at=given.at)
    return Volume(**given.common(), paths=paths)


# fmt: off
PARSERS: Mapping[str, Callable[[Statement, Flags], Instruction]] = {
    "ADD": _add,
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": _copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
# fmt: on
