"""orca steps."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from orca.cli.options import Parser, print_json
from orca.errors import OrcaError
from orca.store import sessions
from orca.store.sessions import Session
from orca.store.store import Store
from orca.ui import Terminal, human

EXAMPLES = """\
  orca steps                 the scripted builds that have begun
  orca steps $b              what one has done
  orca steps --json $b       the same for programs
  orca steps -q              the ids alone"""


def make_parser() -> Parser:
    """The options of `orca steps`."""
    parser = Parser("steps", "List scripted builds, or the steps of one.", EXAMPLES, usage="orca steps [options] [ID]")
    add = parser.add_argument
    add("id", metavar="ID", nargs="?", help="what orca from has printed")
    add("-q", "--quiet", action="store_true", help="print only ids")
    add("--json", action="store_true", help="print JSON")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Print the table."""
    given = make_parser().parse(arguments)
    store = Store.open()
    if given.id is None:
        names = sessions.names(store)
        if given.quiet:
            print("".join(f"{name}\n" for name in names), end="")
            return 0
        found = [_about(store, name) for name in names]
        if given.json:
            print_json(found)
        else:
            print(human.table([_row(each) for each in found], ("ID", "FROM", "STEPS", "BEGAN")))
        return 0
    rows = steps_of(store, sessions.get(store, given.id))
    if given.json:
        print_json(rows)
    else:
        print(render(rows))
    return 0


def _about(store: Store, name: str) -> dict[str, object]:
    """A session in the list; of a damaged one only the name."""
    try:
        session = sessions.get(store, name)
    except OrcaError as error:
        return {"id": name, "error": error.message}
    return {
        "id": name,
        "from": session.base,
        "platform": session.platform,
        "steps": len(session.steps),
        "digest": session.last.manifest.digest,
        "created": session.created,
    }


def _row(found: dict[str, object]) -> tuple[str, ...]:
    if "error" in found:
        return str(found["id"]), "damaged", "-", "-"
    began = human.ago(time.time() - float(str(found["created"])))
    return str(found["id"]), str(found["from"]), str(found["steps"]), began


def steps_of(store: Store, session: Session) -> list[dict[str, object]]:
    """The steps as JSON has them; `size` counts the bytes of the layers that a step has added."""
    rows: list[dict[str, object]] = []
    before = 0
    for number, step in enumerate(session.steps, 1):
        size = store.images.image(step.manifest).manifest.size if store.complete(step.manifest) else None
        rows.append(
            {
                "number": number,
                "instruction": step.text,
                "key": step.key,
                "digest": step.manifest.digest,
                "size": None if size is None else size - before,
                "cached": step.cached,
                "context": step.context,
                "trigger": not step.own,
            }
        )
        before = size or before
    return rows


def render(rows: Sequence[dict[str, object]]) -> str:
    """The table of one session's steps."""
    lines = []
    for row in rows:
        size = row["size"]
        text = " ".join(str(row["instruction"]).split())
        lines.append(
            (
                str(row["number"]),
                str(row["digest"])[7:19],
                human.size(size) if isinstance(size, int) else "gone",
                "yes" if row["cached"] else "no",
                text if len(text) <= 100 else f"{text[:99]}…",
            )
        )
    return human.table(lines, ("STEP", "DIGEST", "SIZE", "CACHED", "INSTRUCTION"))


def show(store: Store, name: str) -> None:
    """The table on standard error: for `orca shell`."""
    Terminal(sys.stderr).line(render(steps_of(store, sessions.get(store, name))))
