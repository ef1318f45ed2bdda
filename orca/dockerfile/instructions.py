"""Dockerfile instructions as frozen values, words still unexpanded, each with its source span.

Every string here is as the Dockerfile wrote it after continuations were joined: quotes, escapes and
variables are still in it. Expansion (`words`) makes new values; it never changes these.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True)
class Span:
    """Lines `first` to `last` of the Dockerfile, counted from 1, both inclusive."""

    first: int
    last: int


@dataclass(frozen=True)
class Heredoc:
    """One here-document. `body` is its text after `<<-` took its tabs, with a final newline unless empty.

    `expand` says whether variables in it are the builder's to expand (the word was not quoted).
    `fd` is the file descriptor before `<<`, 0 when none was written.
    """

    name: str
    body: str
    expand: bool
    strip_tabs: bool = False
    fd: int = 0


@dataclass(frozen=True)
class ShellForm:
    """Text for the shell. In RUN it holds whole heredocs too: `text` is what the shell shall get."""

    text: str


@dataclass(frozen=True)
class ExecForm:
    """A JSON array of strings: an argument vector, no shell."""

    argv: tuple[str, ...]


CommandForm = ShellForm | ExecForm


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """Base of all. `text` is the logical line: continuations joined, comments gone, heredocs not included."""

    keyword: ClassVar[str]
    span: Span
    text: str


@dataclass(frozen=True, kw_only=True)
class From(Instruction):
    """FROM [--platform=P] image [AS stage]; `stage` is lower-cased."""

    keyword: ClassVar[str] = "FROM"
    image: str
    platform: str | None = None
    stage: str | None = None


@dataclass(frozen=True, kw_only=True)
class Arg(Instruction):
    """ARG name[=default]…; a name without default has None."""

    keyword: ClassVar[str] = "ARG"
    pairs: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, kw_only=True)
class Env(Instruction):
    """ENV key=value… or the old `ENV key rest of line` (`legacy`), whose value is one word with blanks."""

    keyword: ClassVar[str] = "ENV"
    pairs: tuple[tuple[str, str], ...]
    legacy: bool = False


@dataclass(frozen=True, kw_only=True)
class Label(Instruction):
    """LABEL key=value…; keys may be quoted and hold variables too."""

    keyword: ClassVar[str] = "LABEL"
    pairs: tuple[tuple[str, str], ...]
    legacy: bool = False


@dataclass(frozen=True, kw_only=True)
class Run(Instruction):
    """RUN. `mounts` are the raw values of --mount, in order.

    When RUN's command is nothing but one heredoc, `script` is that heredoc's body and `command` is
    ShellForm of it; a body that begins with `#!` is a file to execute rather than text for the shell.
    """

    keyword: ClassVar[str] = "RUN"
    command: CommandForm
    heredocs: tuple[Heredoc, ...] = ()
    script: str | None = None
    mounts: tuple[str, ...] = ()
    network: str | None = None
    security: str | None = None
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Cmd(Instruction):
    """CMD; an empty exec form or an empty line is allowed and clears."""

    keyword: ClassVar[str] = "CMD"
    command: CommandForm


@dataclass(frozen=True, kw_only=True)
class Entrypoint(Instruction):
    """ENTRYPOINT, as CMD."""

    keyword: ClassVar[str] = "ENTRYPOINT"
    command: CommandForm


@dataclass(frozen=True, kw_only=True)
class Shell(Instruction):
    """SHELL, JSON only, at least one word."""

    keyword: ClassVar[str] = "SHELL"
    argv: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Copy(Instruction):
    """COPY. `sources` without the heredocs; at least one of both exists."""

    keyword: ClassVar[str] = "COPY"
    sources: tuple[str, ...]
    destination: str
    heredocs: tuple[Heredoc, ...] = ()
    from_: str | None = None
    chown: str | None = None
    chmod: str | None = None
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Add(Instruction):
    """ADD. `unpack` is None when the flag is absent."""

    keyword: ClassVar[str] = "ADD"
    sources: tuple[str, ...]
    destination: str
    heredocs: tuple[Heredoc, ...] = ()
    chown: str | None = None
    chmod: str | None = None
    link: bool = False
    exclude: tuple[str, ...] = ()
    checksum: str | None = None
    keep_git_dir: bool = False
    unpack: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Workdir(Instruction):
    """WORKDIR."""

    keyword: ClassVar[str] = "WORKDIR"
    path: str


@dataclass(frozen=True, kw_only=True)
class User(Instruction):
    """USER name|uid[:group|gid]."""

    keyword: ClassVar[str] = "USER"
    user: str


@dataclass(frozen=True, kw_only=True)
class Expose(Instruction):
    """EXPOSE; each word may expand to several."""

    keyword: ClassVar[str] = "EXPOSE"
    ports: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Volume(Instruction):
    """VOLUME, JSON or words."""

    keyword: ClassVar[str] = "VOLUME"
    paths: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Stopsignal(Instruction):
    """STOPSIGNAL; validated after expansion."""

    keyword: ClassVar[str] = "STOPSIGNAL"
    signal: str


@dataclass(frozen=True, kw_only=True)
class Healthcheck(Instruction):
    """HEALTHCHECK. `command` None means NONE. Durations are nanoseconds, None when not given."""

    keyword: ClassVar[str] = "HEALTHCHECK"
    command: CommandForm | None
    interval: int | None = None
    timeout: int | None = None
    start_period: int | None = None
    start_interval: int | None = None
    retries: int | None = None


@dataclass(frozen=True, kw_only=True)
class Onbuild(Instruction):
    """ONBUILD. `trigger` is the text as it goes into the image config; `instruction` the same, parsed."""

    keyword: ClassVar[str] = "ONBUILD"
    trigger: str
    instruction: Instruction


@dataclass(frozen=True, kw_only=True)
class Maintainer(Instruction):
    """MAINTAINER (deprecated): sets `author` of the image config."""

    keyword: ClassVar[str] = "MAINTAINER"
    author: str


@dataclass(frozen=True)
class Directive:
    """A parser directive (`# name=value`), `name` lower-cased; known are syntax, escape and check."""

    name: str
    value: str
    span: Span


@dataclass(frozen=True)
class Finding:
    """Something legal but wrong-looking (an empty line inside a continuation…); `rule` is BuildKit's name for it.

    Whose rule it is: `checks`, and `orca.plan.checks`.
    """

    rule: str
    message: str
    span: Span


@dataclass(frozen=True)
class Dockerfile:
    """A parsed Dockerfile.

    `pieces` are the spans of everything in order (directives, comments, blank lines, instructions with
    their heredocs): they tile the text, each line belongs to exactly one. `lines` are the source lines
    without line ends, for error messages.
    """

    name: str
    lines: tuple[str, ...]
    instructions: tuple[Instruction, ...]
    directives: tuple[Directive, ...] = ()
    escape: str = "\\"
    warnings: tuple[Finding, ...] = ()
    pieces: tuple[Span, ...] = field(default=(), repr=False)
