"""orca shell."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from orca.cli import commit, scripted, steps, suggest, undo
from orca.cli.main import guarded
from orca.cli.options import Parser
from orca.dockerfile import parser as dockerfiles
from orca.errors import EXIT_INTERRUPTED, OrcaError, UsageError
from orca.executor import contexts
from orca.store import files, sessions
from orca.store.sessions import Session
from orca.store.store import Store

EXAMPLES = """\
  orca shell debian:12                    a prompt that takes Dockerfile instructions
  orca shell -f Dockerfile debian:12      and writes them to a new file at the end
  orca shell $b                           go on with a scripted build
  orca shell -q debian:12 < instructions  no prompt: a line is an instruction, the first error ends it

At the prompt, Tab completes, `help` lists what else can be said, Ctrl-D ends."""

HELP = """\
Any instruction of a Dockerfile is carried out at once: RUN, COPY, ENV, ... A backslash at the end
goes on in the next line; here-documents work. Besides:
  steps            what was done
  undo [N]         take back the last step, or the last N
  dockerfile       the Dockerfile so far
  commit [NAME]    make an image
  sh [COMMAND]     look around in a shell; what it changes is thrown away
  help             this
  exit             end (Ctrl-D too); the Dockerfile is printed, or written with -f"""


def make_parser() -> Parser:
    """The options of `orca shell`."""
    parser = Parser("shell", "Try out Dockerfile instructions, one after the other.", EXAMPLES,
                    usage="orca shell [options] IMAGE|ID")  # fmt: skip
    add = parser.add_argument
    add("base", metavar="IMAGE", help="the base image, scratch, or a scripted build to go on with")
    add("-f", "--file", metavar="FILE", help="write the Dockerfile there at the end; it must not be there yet")
    add("--name", metavar="NAME", help="keep the scripted build under this id when the shell ends")
    add("--platform", metavar="OS/ARCH", help="the platform to build for")
    scripted.declare_step(parser.add_argument_group)
    parser.set_defaults(rewrite_timestamp=False, pull="missing")
    return parser


def run(arguments: Sequence[str]) -> int:
    """The shell; its exit code is 0, without a terminal that of the first line that failed."""
    given = make_parser().parse(arguments)
    scripted.check_base(given.base)
    if given.file and os.path.lexists(given.file):
        raise UsageError(f"{given.file} is there already", hint="the Dockerfile is written to a new file")
    terminal = sys.stdin.isatty() and sys.stderr.isatty()
    if terminal and not given.quiet and given.progress == "auto":
        given.explain = True
    store = Store.open()
    shell, fresh = _begun(given, store)
    try:
        return Prompt(shell).run() if terminal else shell.run_lines(sys.stdin.read())
    finally:
        shell.finish(terminal)
        if fresh and not given.name:
            with sessions.locked(store, shell.name):
                sessions.remove(store, shell.name)


def _begun(given: argparse.Namespace, store: Store) -> tuple[Shell, bool]:
    """The shell on its scripted build, and whether that has begun just now."""
    if not given.name and sessions.find(store, given.base) is not None:
        return Shell(given, store, given.base), False
    if given.context != "." and contexts.remote(given.context) is None:
        contexts.directory_of(given.context)  # told now, not at the first COPY
    name = scripted.check_name(given.name) if given.name else scripted.new_name(store, given.base)

    def begin(_: Sequence[str]) -> int:
        with scripted.place_of(given) as place, scripted.store_in_use() as inner, sessions.locked(inner, name):
            scripted.begin(given, name, inner, place)
        return 0

    code = in_child(begin)
    if code:
        raise SystemExit(code)  # it has told why
    return Shell(given, store, name), True


def in_child(work: Callable[[Sequence[str]], int]) -> int:
    """Do something in a process of its own, which may move into the sandbox; returns its exit code.

    Ctrl-C is for the child. What it reads is not ours: standard input is empty where it is no terminal.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if not sys.stdin.isatty():
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        code = guarded(work, ())
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    try:
        _, status = os.waitpid(child, 0)
    finally:
        signal.signal(signal.SIGINT, before)
    return os.waitstatus_to_exitcode(status) & 255


class Shell:
    """What the lines of a shell do to a scripted build."""

    def __init__(self, given: argparse.Namespace, store: Store, name: str) -> None:
        self.given = given
        self.store = store
        self.name = name
        self.ended = False
        self.commands: dict[str, Callable[[list[str]], int]] = {
            "steps": self._steps,
            "undo": self._undo,
            "dockerfile": self._dockerfile,
            "commit": self._commit,
            "sh": self._sh,
            "help": self._help,
            "exit": self._exit,
            "quit": self._exit,
        }

    @property
    def session(self) -> Session:
        return sessions.get(self.store, self.name)

    def do(self, text: str) -> int:
        """Carry out one instruction or command; returns its exit code. What fails has been told."""
        words = text.split()
        command = self.commands.get(words[0])
        if command is None:
            return in_child(lambda _: self._step(text))
        return guarded(lambda _: command(words[1:]), ())

    def run_lines(self, text: str) -> int:
        """Do all of a script. The exit code of the first line that fails ends it."""
        pending = ""
        for line in text.splitlines():
            pending = f"{pending}\n{line}" if pending else line
            if dockerfiles.unfinished(pending):
                continue
            if not is_nothing(pending) and ((code := self.do(pending)) or self.ended):
                return code
            pending = ""
        return self.do(pending) if not is_nothing(pending) else 0

    def finish(self, terminal: bool) -> None:
        """Write the Dockerfile, if there is anything to write."""
        text = sessions.dockerfile(self.session)
        if self.given.file:
            files.write_atomically(Path(self.given.file), text.encode("utf-8", "surrogateescape"))
            os.chmod(self.given.file, 0o644)
        elif terminal:
            sys.stdout.write(text)

    def _step(self, text: str) -> int:
        scripted.step(self.given, self.name, text)
        return 0

    def _steps(self, words: list[str]) -> int:
        steps.show(self.store, self.name)
        return 0

    def _undo(self, words: list[str]) -> int:
        return in_child(lambda _: undo.run([self.name, *words]))

    def _dockerfile(self, words: list[str]) -> int:
        for line in sessions.dockerfile(self.session).splitlines():
            scripted.tell(line)
        return 0

    def _commit(self, words: list[str]) -> int:
        options = [option for word in words for option in ("-t", word)]
        return in_child(lambda _: commit.run([*options, *(["-q"] if self.given.quiet else []), self.name]))

    def _sh(self, words: list[str]) -> int:
        from orca.cli import run as runs

        digest = self.session.last.manifest.digest
        command = ["/bin/sh", "-c", " ".join(words)] if words else ["/bin/sh"]
        return in_child(lambda _: runs.run(["--entrypoint", "", digest, *command]))

    def _help(self, words: list[str]) -> int:
        for line in HELP.splitlines():
            scripted.tell(line)
        return 0

    def _exit(self, words: list[str]) -> int:
        self.ended = True
        return 0


def is_nothing(text: str) -> bool:
    """An empty line or a comment."""
    return not text.strip() or (text.lstrip().startswith("#") and "\n" not in text)


class Prompt:
    """Reads lines from the terminal, with editing, completion and a history."""

    def __init__(self, shell: Shell) -> None:
        import readline

        self.shell = shell
        self._readline = readline
        self._found: list[str] = []
        readline.set_completer(self._complete)
        readline.set_completer_delims(" \t\n")
        readline.parse_and_bind("tab: complete")
        readline.parse_and_bind("set enable-bracketed-paste off")
        self._history = history_file()
        with contextlib.suppress(OSError):
            readline.read_history_file(self._history)
        readline.set_history_length(1000)

    def run(self) -> int:
        """Until the user ends it."""
        scripted.tell(f"{self.shell.name} begins with {self.shell.session.base}; help says what can be said")
        # What is printed at the end may go elsewhere: the prompt and all else go to the terminal.
        kept = os.dup(1)
        os.dup2(2, 1)
        try:
            while not self.shell.ended:
                self._one()
        finally:
            sys.stdout.flush()
            os.dup2(kept, 1)
            os.close(kept)
            with contextlib.suppress(OSError):
                self._history.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._readline.write_history_file(self._history)
        return 0

    def _one(self) -> None:
        try:
            text = self._read()
        except KeyboardInterrupt:
            sys.stdout.write("\n")
            return
        except EOFError:
            sys.stdout.write("\n")
            self.shell.ended = True
            return
        if not is_nothing(text) and self.shell.do(text) == EXIT_INTERRUPTED:
            scripted.tell("interrupted; nothing has changed")

    def _read(self) -> str:
        """One instruction, over as many lines as it has."""
        text = input(f"{self.shell.name} [{len(self.shell.session.steps)}]> ")
        while dockerfiles.unfinished(text):
            text += f"\n{input('> ')}"
        return text

    def _complete(self, word: str, state: int) -> str | None:
        """As readline asks: the candidate with this number. An exception here would go unseen."""
        if state == 0:
            line = self._readline.get_line_buffer()[: self._readline.get_endidx()]
            context = self.shell.given.context
            with contextlib.suppress(OrcaError, OSError):
                names = [name for name in sessions.names(self.shell.store) if name != self.shell.name]
                self._found = suggest.suggest(line, word, self.shell.commands, names, context)
        return self._found[state] if state < len(self._found) else None


def history_file() -> Path:
    """Where lines are remembered from one shell to the next."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local/state")
    return Path(state, "orca", "history")
