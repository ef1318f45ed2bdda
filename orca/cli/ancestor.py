"""orca-build: the command line of the tool of 2018 that orca takes its name from, as `orca build`'s."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from orca.cli import main as orca
from orca.cli.options import Parser
from orca.oci import reference
from orca.ui import Terminal

EXAMPLES = """\
  orca-build -t app .                       orca build -t app .
  orca-build -t v1 --output image .         orca build -t v1 -o oci:image:v1 .
  orca-build --clean --gc -t app .          orca build --no-cache -t app . && orca prune
  orca-build --verbose -t app .             orca build --progress plain --explain -t app .

--output DIR writes an OCI image layout at DIR, with the tag of -t: v1 for app:v1, app for app, else latest.
Everything else that orca build can do is in orca build --help."""


@dataclass(frozen=True)
class Translation:
    """What an old command line means now: arguments for `orca`, whether to prune after it, what to tell."""

    build: tuple[str, ...]
    prune: bool = False
    notes: tuple[str, ...] = ()


def make_parser() -> Parser:
    """The options of `orca-build`, and what became of each."""
    about = "Build an image, with the options of orca-build. New scripts call orca build."
    parser = Parser("build", about, EXAMPLES, usage="orca-build [options] CONTEXT")
    parser.prog = "orca-build"
    add = parser.add_argument
    add("context", metavar="CONTEXT", help="the directory that COPY and ADD read from: the same in orca build")
    add("-t", "--tag", action="append", default=[], metavar="TAG", help="the image's name: orca build -t TAG")
    add("-f", "--file", metavar="FILE", help="the Dockerfile: orca build -f FILE")
    add("--build-arg", action="append", default=[], metavar="NAME=VALUE", help="an ARG: orca build --build-arg")
    add("--output", metavar="DIR", help="where the image goes as an OCI layout: orca build -o oci:DIR:TAG")
    add("--clean", action="store_true", help="begin anew: orca build --no-cache")
    add("--gc", action="store_true", help="afterwards delete what no image needs: orca prune")
    add("--rootless", action="store_true", help="accepted: orca sees for itself whether it is root's")
    add("--verbose", action="store_true", help="show every tool call: orca build --progress plain --explain")
    return parser


def translate(words: Sequence[str]) -> Translation:
    """The old words in the new ones. Pure. Raises UsageError."""
    given = make_parser().parse(words)
    arguments = ["build"]
    for option, values in (("-t", given.tag), ("-f", [given.file] if given.file else []),
                           ("--build-arg", given.build_arg), ("-o", outputs(given.output, given.tag))):  # fmt: skip
        # Glued together where a value might begin with a dash.
        arguments += [f"{option}={value}" if option.startswith("--") else f"{option}{value}" for value in values]
    arguments += ["--no-cache"] if given.clean else []
    arguments += ["--progress=plain", "--explain"] if given.verbose else []
    notes = ("--rootless is not needed any more: orca sees for itself",) if given.rootless else ()
    return Translation((*arguments, "--", given.context), given.gc, notes)


def outputs(word: str | None, tags: Sequence[str]) -> list[str]:
    """What `orca build -o` is told for --output: a layout DIR gets every tag, a whole SPEC stays what it is."""
    if word is None:
        return []
    directory = word.removeprefix("oci:")
    if word.startswith("oci:") and ":" in directory:
        return [word]
    if not word.startswith("oci:") and ":" in word.split("/")[0]:
        return [word]  # another transport
    return [f"oci:{directory}:{tag}" for tag in dict.fromkeys(map(layout_tag, tags or ["latest"]))]


def layout_tag(text: str) -> str:
    """The name in the layout of an image called `text`: its tag, or in the old way the word itself."""
    found = reference.parse(text)
    return found.tag or found.path.rpartition("/")[2]


def run(words: Sequence[str]) -> int:
    """Build, then prune if asked to; returns the exit code."""
    translation = translate(words)
    for note in translation.notes:
        Terminal(sys.stderr).line(f"note: {note}")
    if not translation.prune:
        return orca.run(translation.build)
    # The process that builds moves into the sandbox and ends with it: somebody else must do what follows.
    code = in_child(translation.build)
    if code:
        return code
    sys.stdout.flush()
    os.dup2(2, 1)  # the digest is all that standard output is for
    return orca.run(("prune",))


def in_child(arguments: Sequence[str]) -> int:
    """Run orca in a child that gets our signals too; returns its exit code."""
    child = os.fork()
    if child == 0:
        code = orca.run(arguments)
        sys.stdout.flush()
        os._exit(code)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: os.kill(child, received))
    signal.signal(signal.SIGINT, lambda *_: None)  # the terminal sends it to both
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) & 255


def main() -> None:
    """Run the command line and exit."""
    sys.exit(orca.guarded(run, sys.argv[1:]))
