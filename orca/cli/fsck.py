"""orca fsck."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from orca.cli.options import Parser, print_json
from orca.cli.prune import has_trees
from orca.store import fsck
from orca.store.fsck import Finding, Report
from orca.store.store import Store
from orca.ui import Terminal, human
from orca.ui.escape import visible

EXAMPLES = """\
  orca fsck                 check everything; the exit code is 0 when all is well, 1 when not
  orca fsck --repair        drop what is broken and can be made again
  orca fsck --quick         sizes and references only: reads no layer and no snapshot
  orca fsck --json          the same for programs"""


def make_parser() -> Parser:
    """The options of `orca fsck`."""
    parser = Parser(
        "fsck",
        "Check the store: digests and sizes of all blobs, what names and cached steps lead to, snapshots against\n"
        "their layers, records of builds, and what killed processes left.\n"
        "An image that has a name is never deleted.",
        EXAMPLES,
        usage="orca fsck [options]",
    )
    add = parser.add_argument
    add("--repair", action="store_true", help="drop what is broken and can be made again, and leftovers")
    add("--quick", action="store_true", help="read no layer and no snapshot")
    add("--json", action="store_true", help="print JSON: every finding, and what was checked")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Check and repair; prints the findings. Returns 1 when something is, or stays, wrong."""
    given = make_parser().parse(arguments)
    store = Store.open()
    repository = store.root / "ostree" / "repo"
    if os.geteuid() and (has_trees(store) or repository.is_dir()):
        from orca.executor import sandbox
        from orca.tools.command import Runner

        sandbox.enter(Runner())
    with store.perhaps_alone() as alone:
        left = fsck.leftovers(store) if alone else []
    with store.alone() if given.repair else store.in_use():
        left = fsck.leftovers(store) if given.repair else left
        alone = alone or given.repair
        progress, broken = Progress(), tuple[Finding, ...]()
        try:
            report = fsck.Check(store, left, given.quick, progress.tell).run()
            if repository.is_dir() and not given.quick:
                broken = ostree_findings(repository)
                report = replace(report, findings=(*report.findings, *broken))
        finally:
            progress.clear()
        repaired = tuple(finding for finding in report.findings if given.repair and finding.repairable)
        if repaired:
            fsck.repair(store, repaired)
            # Who repairs wants to know how it is now: a named image stays damaged until it is made again.
            after = (*fsck.Check(store, fsck.leftovers(store), quick=True).run().findings, *broken)
        else:
            after = report.findings
    if given.json:
        print_json(summary(report, repaired, after, alone=alone))
    else:
        tell(report, repaired, after, alone=alone)
    return int(bool(after))


def ostree_findings(repository: Path) -> tuple[Finding, ...]:
    """What ostree itself finds in its repository."""
    from orca.tools import ostree
    from orca.tools.command import Runner

    done = Runner().run(ostree.fsck(repository), check=False)
    if not done.exit_code:
        return ()
    words = " ".join(done.stderr.split()) or f"ostree fsck ended with code {done.exit_code}"
    return (Finding("image", "ostree/repo", words, fsck.OSTREE),)


class Progress:
    """One line on a terminal that says how far the check is."""

    def __init__(self) -> None:
        self._terminal = Terminal(sys.stderr)
        self._last = 0.0
        self._shown = False

    def tell(self, what: str, done: int, total: int) -> None:
        """`done` of `total`: bytes of blobs, a number of other things."""
        now = time.monotonic()
        if not self._terminal.tty or self._terminal.dumb or now - self._last < 0.1:
            return
        self._last, self._shown = now, True
        amount = f"{human.size(done)} of {human.size(total)}" if what == "blobs" else f"{done} of {total}"
        self._terminal.write(f"\r\x1b[Kchecking {what}: {amount}")

    def clear(self) -> None:
        """Leave the line empty."""
        if self._shown:
            self._terminal.write("\r\x1b[K")


def summary(report: Report, repaired: Sequence[Finding], after: Sequence[Finding], *, alone: bool) -> dict[str, object]:
    """The result for programs."""
    return {
        "clean": not after,
        "alone": alone,
        "checked": report.checked,
        "hashedBytes": report.hashed,
        "findings": [{**found.to_json(), "repaired": found in repaired} for found in report.findings],
        "remaining": [found.to_json() for found in after],
    }


SHOWN = 20
"""Findings of a kind that are listed."""


def tell(report: Report, repaired: Sequence[Finding], after: Sequence[Finding], *, alone: bool) -> None:
    """The result for people: each finding with its remedy, then what was checked."""
    terminal = Terminal(sys.stdout)
    for line in _lines(report.findings, repaired):
        terminal.line(line)
    if repaired:
        for line in _lines([found for found in after if found not in report.findings], ()):
            terminal.line(line)
    words = [f"{number} {kind}" for kind, number in report.checked.items()]
    terminal.line(f"checked {', '.join(words)}; hashed {human.size(report.hashed)}")
    if not alone:
        Terminal(sys.stderr).line("the store is in use: what is half done was taken for work, not for leftovers")
    if after:
        terminal.line(human.count(len(after), "finding"))
    else:
        terminal.line("clean" if not repaired else f"clean now: {human.count(len(repaired), 'finding')} repaired")


def _lines(findings: Sequence[Finding], repaired: Sequence[Finding]) -> Iterator[str]:
    """The findings, of each kind the first ones."""
    for kind in dict.fromkeys(found.kind for found in findings):
        here = [found for found in findings if found.kind == kind]
        for found in here[:SHOWN]:
            yield f"{found.kind} {visible(found.where)}: {visible(found.problem)}"
            yield "  repaired" if found in repaired else f"  {visible(found.remedy)}"
        if len(here) > SHOWN:
            yield f"  … and {len(here) - SHOWN} more of this kind (--json has them all)"
