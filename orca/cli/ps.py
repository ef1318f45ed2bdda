"""orca ps."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orca.cli.options import Parser, print_json
from orca.errors import UsageError
from orca.executor.logs import rfc3339
from orca.store import containers
from orca.store.containers import SHORT, Entry, State
from orca.store.store import Store
from orca.ui import human
from orca.ui.escape import visible

EXAMPLES = """\
  orca ps                             containers that run
  orca ps -a                          also those that have ended
  orca ps --filter health=unhealthy   name=, id=, status=, health=, label=, exited=, ancestor=
  orca ps --format '{{.Names}} {{.Status}}'
  orca stop $(orca ps -q)             -q prints the ids alone, and every command takes them
  orca ps --json | jq '.[].ports'     for programs

STATUS is created, up, exited with a code, or dead: its processes were killed."""

HEADERS = ("CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES")
FILTERS = ("name", "id", "status", "health", "label", "exited", "ancestor")
COMMAND_WIDTH = 30
_FIELD = re.compile(r"\{\{\s*\.([A-Za-z]+)\s*\}\}")


@dataclass(frozen=True)
class Row:
    """A container as it is now. `status` is created, running, exited or dead."""

    entry: Entry
    state: State
    status: str
    health: str

    def to_json(self) -> dict[str, Any]:
        config, state = self.entry.config, self.state
        return {
            "id": config.id, "name": config.name, "image": config.image, "digest": config.manifest,
            "command": list(config.command), "created": stamp(config.created), "status": self.status,
            "health": self.health or None, "started": stamp(state.started), "finished": stamp(state.finished),
            "exitCode": state.exit_code, "error": state.error, "ports": list(config.ports),
            "labels": dict(config.labels), "kept": config.kept, "detached": config.detached,
            "pid": state.pid if self.status == "running" else None,
        }  # fmt: skip


def make_parser() -> Parser:
    """The options of `orca ps`."""
    parser = Parser("ps", "List containers.", EXAMPLES, usage="orca ps [options]")
    add = parser.add_argument
    add("-a", "--all", action="store_true", help="also containers that do not run")
    add("-q", "--quiet", action="store_true", help="print only ids")
    add("--no-trunc", action="store_true", help="print whole ids and commands")
    add("-f", "--filter", action="append", default=[], metavar="NAME=VALUE", help=f"only these: {', '.join(FILTERS)}")
    add("-n", "--last", metavar="N", help="the last N that were made, running or not")
    add("--format", metavar="TEMPLATE", help="a line for each, with {{.ID}}, {{.Names}}, {{.Status}} …; or json")
    add("--json", action="store_true", help="print JSON: one object for each container")
    add("--noheading", action="store_true", help="no line with the names of the columns")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Print the table."""
    given = make_parser().parse(arguments)
    filters = [parse_filter(word) for word in given.filter]
    if given.last is not None and not given.last.isdecimal():
        raise UsageError(f"--last {given.last[:40]!r} is no number")
    everything = given.all or given.last is not None or any(name in ("status", "exited") for name, _ in filters)
    rows = [look(entry) for entry in containers.listing(Store.open())]
    rows = [row for row in rows if everything or row.status in ("running", "created")]
    rows = [row for row in rows if all(fits(row, name, value) for name, value in filters)]
    rows = rows if given.last is None else rows[: int(given.last)]
    if given.json or given.format == "json":
        print_json([row.to_json() for row in rows])
    elif given.format is not None:
        for row in rows:
            print(formatted(given.format, fields(row, whole=given.no_trunc)))
    elif given.quiet:
        print("".join(f"{row.entry.id if given.no_trunc else row.entry.id[:SHORT]}\n" for row in rows), end="")
    else:
        cells = [tuple(fields(row, whole=given.no_trunc)[name] for name in COLUMNS) for row in rows]
        text = human.table(cells, HEADERS)
        print("\n".join(text.splitlines()[1:]) if given.noheading else text)
    return 0


def look(entry: Entry) -> Row:
    """A container as it is now."""
    status = entry.status()
    found = entry.health().get("Status", "") if status == "running" else ""
    return Row(entry, entry.state(), status, str(found))


COLUMNS = ("ID", "Image", "Command", "CreatedAgo", "Status", "Ports", "Names")


def fields(row: Row, *, whole: bool = False) -> Mapping[str, str]:
    """What a template may name."""
    config = row.entry.config
    command = shlex.join(config.command)
    return {
        "ID": config.id if whole else config.id[:SHORT],
        "Names": config.name,
        "Image": config.image,
        "Command": command if whole else human.cut(command, COMMAND_WIDTH),
        "CreatedAt": stamp(config.created) or "",
        "CreatedAgo": human.ago(time.time() - config.created),
        "RunningFor": human.ago(time.time() - config.created),
        "Status": sentence(row),
        "State": row.status,
        "Health": row.health,
        "Ports": ", ".join(config.ports),
        "Labels": ",".join(f"{name}={text}" for name, text in config.labels.items()),
        "ExitCode": "" if row.state.exit_code is None else str(row.state.exit_code),
        "Pid": str(row.state.pid) if row.status == "running" else "",
    }


def sentence(row: Row) -> str:
    """How it is, for people."""
    now = time.time()
    if row.status == "running":
        health = f" ({row.health})" if row.health else ""
        return f"up {human.ago(max(1.0, now - (row.state.started or now))).removesuffix(' ago')}{health}"
    if row.status == "exited":
        return f"exited ({row.state.exit_code}) {human.ago(now - (row.state.finished or now))}"
    return row.status


def formatted(template: str, values: Mapping[str, str]) -> str:
    """A template with its fields filled in. Raises UsageError for one that is not there."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise UsageError(f"--format: there is no {{{{.{match[1]}}}}}", hint=f"there is {', '.join(values)}")
        return visible(values[match[1]])

    rest = _FIELD.sub("", template)
    if "{{" in rest:
        raise UsageError("--format takes fields only", hint="{{.Names}}, for example; --json has everything")
    return _FIELD.sub(value, template.removeprefix("table ").replace("\\t", "\t").replace("\\n", "\n"))


def parse_filter(word: str) -> tuple[str, str]:
    """NAME=VALUE. Raises UsageError."""
    name, equals, value = word.partition("=")
    if not equals or name not in FILTERS:
        raise UsageError(f"bad --filter {word[:80]!r}", hint=f"NAME=VALUE, where NAME is one of {', '.join(FILTERS)}")
    return name, value


def fits(row: Row, name: str, value: str) -> bool:
    """Does a filter let it through?"""
    config = row.entry.config
    key, equals, text = value.partition("=")
    image = {config.image, config.image.partition(":")[0], config.image.partition("@")[0], config.manifest}
    return {
        "name": value in config.name,
        "id": config.id.startswith(value),
        "status": row.status == value,
        "health": (row.health or "none") == value,
        "label": config.labels.get(key) == text if equals else key in config.labels,
        "exited": row.status == "exited" and str(row.state.exit_code) == value,
        "ancestor": value in image or value.removesuffix(":latest") in image,
    }[name]


def stamp(seconds: float | None) -> str | None:
    """A time in UTC."""
    return None if seconds is None else rfc3339(int(seconds * 1_000_000_000))
