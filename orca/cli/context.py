"""orca context: what a build context sends, and which ignore line decides."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from orca.cli.flags.source import find_dockerfile, find_ignore_file
from orca.cli.options import Parser, print_json
from orca.dockerfile.ignore import IgnoreRules, State
from orca.errors import UsageError
from orca.executor.contexts import Place, directory_of
from orca.executor.inputs import read_small
from orca.store import files
from orca.ui import human

EXAMPLES = """\
  orca context ls .                     what a COPY . would find, with modes and sizes
  orca context ls --why .               also what is left out, and the line of the ignore file that decides
  orca context ls --why . src/main.o    about one path (or all below it)
  orca context ls --json . | jq         the same for programs"""

NO_RULE = "no line matches"


@dataclass(frozen=True)
class Row:
    """One path; `kind` is file, dir, link or special; `rule` says `file:line: pattern` of the line that decides."""

    path: str
    kind: str
    mode: str
    size: int
    sent: bool
    rule: str | None


def make_parser() -> Parser:
    """The options of `orca context`."""
    parser = Parser(
        "context", "List what of a directory a build can see: what its ignore file leaves of it.", EXAMPLES,
        usage="orca context ls [options] CONTEXT [PATH...]",
    )  # fmt: skip
    add = parser.add_argument
    add("verb", metavar="ls", choices=["ls"], help="the one thing to do")
    add("context", metavar="CONTEXT", help="the directory that COPY and ADD read from")
    add("paths", metavar="PATH", nargs="*", help="only these paths of the context, and what is below them")
    add("-f", "--file", metavar="FILE", help="the Dockerfile, beside which an ignore file may be")
    add("--ignorefile", metavar="FILE", help="the ignore file (default FILE.dockerignore, CONTEXT/.dockerignore)")
    add("--why", action="store_true", help="also what is left out, and the line that decides about each path")
    add("--json", action="store_true", help="print JSON: one object for each path")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Print the table."""
    given = make_parser().parse(arguments)
    place = Place(directory_of(given.context))
    dockerfile = None
    if given.file is not None or any((Path(given.context) / name).exists() for name in ("Dockerfile", "dockerfile")):
        dockerfile = find_dockerfile(given, place).path
    ignore = find_ignore_file(given.ignorefile, place, dockerfile)
    rules = IgnoreRules.parse(read_small(ignore) if ignore else b"", ignore.name if ignore else ".dockerignore")
    wanted = [os.path.normpath(path).strip("/") for path in given.paths]
    rows = [row for row in listed(Path(given.context), rules, ignore, whole=given.why or bool(wanted))
            if _is_wanted(row.path, wanted)]  # fmt: skip
    for path in wanted:
        if not any(_is_wanted(row.path, [path]) for row in rows) and not _is_hidden(path, rows):
            _must_be_there(Path(given.context), path)
            rows.append(_row_of(Path(given.context), path, rules, ignore))
    rows = [row for row in rows if row.sent or given.why]
    if given.json:
        print_json([asdict(row) for row in rows])
    else:
        print(render(rows, why=given.why))
    return 0


def _is_wanted(path: str, wanted: Sequence[str]) -> bool:
    return not wanted or any(each in (".", "") or path == each or path.startswith(f"{each}/") for each in wanted)


def _is_hidden(path: str, rows: Sequence[Row]) -> bool:
    return any(row.path == path for row in rows)


def _must_be_there(context: Path, path: str) -> None:
    if path.startswith("..") or not os.path.lexists(context / path):
        raise UsageError(f"{path}: no such file or directory in the build context")


def listed(context: Path, rules: IgnoreRules, ignore: Path | None, *, whole: bool) -> Iterator[Row]:
    """Every path, a directory before what is in it; below a directory that is left out wholly, nothing.

    Without `whole`, only what is sent. Links are not followed.
    """
    waiting: list[tuple[str, State]] = [("", rules.root)]
    while waiting:
        directory, above = waiting.pop()
        try:
            with os.scandir(context / directory) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            raise files.explain(error, "reading the build context") from error
        below = []
        for entry in entries:
            state = rules.enter(above, entry.name)
            path = f"{directory}/{entry.name}" if directory else entry.name
            if whole or not state.excluded:
                yield _row(path, entry.stat(follow_symlinks=False), rules, state, ignore)
            if entry.is_dir(follow_symlinks=False) and rules.may_reinclude(state):
                below.append((path, state))
        waiting += reversed(below)


def _row(path: str, found: os.stat_result, rules: IgnoreRules, state: State, ignore: Path | None) -> Row:
    decision = rules.decision(state)
    rule = None
    if decision.line is not None and ignore is not None:
        rule = f"{os.path.normpath(ignore)}:{decision.line}: {decision.pattern}"
    return Row(
        path, _kind(found.st_mode), f"{stat.S_IMODE(found.st_mode):04o}", found.st_size, not state.excluded, rule
    )


def _row_of(context: Path, path: str, rules: IgnoreRules, ignore: Path | None) -> Row:
    """A path below a directory that is left out."""
    state = rules.root
    for name in path.split("/"):
        state = rules.enter(state, name)
    return _row(path, (context / path).lstat(), rules, state, ignore)


def _kind(mode: int) -> str:
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link"}
    return kinds.get(stat.S_IFMT(mode), "special")


def render(rows: Sequence[Row], *, why: bool) -> str:
    """The table; with `why`, two columns more."""
    lines = []
    for row in rows:
        line = [
            row.mode,
            human.size(row.size) if row.kind == "file" else row.kind,
            row.path + "/" * (row.kind == "dir"),
        ]
        lines.append([*line, "sent" if row.sent else "left out", row.rule or NO_RULE] if why else line)
    headers = ("MODE", "SIZE", "PATH", "", "BECAUSE OF") if why else ("MODE", "SIZE", "PATH")
    return human.table(lines, headers, right=("SIZE",))
