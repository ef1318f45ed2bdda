"""orca why."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from orca.cli.options import Parser, print_json
from orca.errors import StoreError
from orca.executor import trace as traces
from orca.oci import reference
from orca.plan import why
from orca.plan.why import Json, Missed
from orca.store.store import Store
from orca.ui import Terminal, human
from orca.ui.escape import visible

EXAMPLES = """\
  orca why               the last build that did something: which step was not cached, and what changed
  orca why -t app        the last one that made this name
  orca why 20260102T1    the build whose record begins so (they are in the store, below builds/)
  orca why --json        the same for programs, with every file"""

SHOWN = 20
"""Changed files that are listed."""


def make_parser() -> Parser:
    """The options of `orca why`."""
    parser = Parser(
        "why",
        "Say why a build carried steps out: for each stage the first step that was not in the cache, and which of\n"
        "the things it was made of changed since an earlier build of the same Dockerfile and context.\n"
        "A build that came from the cache entirely leaves no record.",
        EXAMPLES,
        usage="orca why [options] [BUILD]",
    )
    add = parser.add_argument
    add("build", metavar="BUILD", nargs="?", help="the beginning of a build's id (default: the last one)")
    add("-t", "--tag", metavar="NAME", help="the last build of this name")
    add("--json", action="store_true", help="print JSON")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Print why."""
    given = make_parser().parse(arguments)
    store = Store.open()
    tag = str(reference.local(given.tag)) if given.tag else None
    found = _find(store, given.build, tag)
    others = traces.older(store, found)
    missed = list(why.missed(found, others, traces.memory(store)))
    if given.json:
        print_json(_value(found, missed))
    else:
        terminal = Terminal(sys.stdout)
        for line in _text(found, missed):
            terminal.line(line)
    return 0


def _find(store: Store, prefix: str | None, tag: str | None) -> Json:
    """The newest trace that fits. Raises StoreError."""
    for found in traces.every(store):
        if (prefix is None or found["build"].startswith(prefix)) and (tag is None or tag in found["tags"]):
            return found
    what = f" {prefix}" if prefix else f" of {tag}" if tag else ""
    raise StoreError(f"no record of a build{what}", hint="orca build makes one; the newest 50 are kept")


def _value(found: Json, missed: list[tuple[Missed, Json | None]]) -> dict[str, object]:
    steps = [{**each.to_json(), "compared": before["build"] if before else None} for each, before in missed]
    return {
        "build": found["build"],
        "dockerfile": found["dockerfile"],
        "tags": found["tags"],
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(found["time"])),
        "session": found.get("session"),
        "steps": len(found["steps"]),
        "cached": sum(step["cached"] for step in found["steps"]),
        "missed": steps,
    }


def _text(found: Json, missed: list[tuple[Missed, Json | None]]) -> list[str]:
    total, cached = len(found["steps"]), sum(step["cached"] for step in found["steps"])
    names = f" {', '.join(found['tags'])}" if found["tags"] else ""
    ago = human.ago(max(time.time() - found["time"], 0))
    source = f"of the scripted build {session}" if (session := found.get("session")) else f"from {found['dockerfile']}"
    lines = [visible(f"Build {found['build']}{names} {source}, {ago}: {cached} of {total} cached")]
    for each, before in missed:
        step = each.step
        line = "" if session else f"  (line {step['line']})"
        lines += ["", visible(f"[{step['step']}/{total}] {why.masked(step['text'])}{line}")]
        lines += [f"  {visible(str(reason))}" for reason in each.reasons[:SHOWN]]
        if len(each.reasons) > SHOWN:
            lines.append(f"  … and {len(each.reasons) - SHOWN} more: orca why --json lists them")
        if before is not None:
            lines.append(f"  compared with build {visible(before['build'])}")
    if not missed:
        lines.append("Every step was cached." if cached == total else "Nothing but FROM was carried out.")
    return lines
