"""orca load."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from orca.cli.options import Parser
from orca.errors import UsageError
from orca.executor import loading, sandbox
from orca.store.store import Store
from orca.tools.command import Runner
from orca.ui import Mode, one_at_a_time, open_view
from orca.ui.escape import visible

EXAMPLES = """\
  orca load -i app.tar             what orca save, docker save or podman save wrote
  curl -s https://host.example/app.tar.gz | orca load
  orca load -i layout              an OCI layout in a directory"""


def make_parser() -> Parser:
    """The options of `orca load`."""
    parser = Parser(
        "load",
        "Read images from an archive (docker's or OCI's, plain or compressed with gzip, bzip2, xz or zstd)\n"
        "or from an OCI layout. Every blob is checked; short names become localhost/NAME.",
        EXAMPLES,
        usage="orca load [options]",
    )
    add = parser.add_argument
    add("-i", "--input", metavar="FILE", help="an archive or a layout's directory (default: standard input)")
    add("--explain", action="store_true", help="show every tool call")
    add("-q", "--quiet", action="store_true", help="show no progress")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Load; prints the names of what is there now, the digest of what has none."""
    given = make_parser().parse(arguments)
    if given.input in (None, "-") and sys.stdin.isatty():
        raise UsageError("standard input is a terminal", hint="orca load -i FILE, or orca load < FILE")
    if given.input not in (None, "-") and not Path(given.input).exists():
        raise UsageError(f"{given.input} is not there", hint="-i FILE names an archive or a directory")
    sandbox.catch_signals()
    store = Store.open()
    store.sweep()
    mode: Mode = "quiet" if given.quiet else "auto"
    with store.in_use(), store.scratch() as scratch:
        path = loading.spool(sys.stdin.buffer, scratch) if given.input in (None, "-") else Path(given.input)
        with open_view(mode, explain=given.explain) as show, one_at_a_time(show) as emit:
            found = loading.load(path, store, Runner(emit), scratch)
    for each in found:
        for word in each.names or (each.descriptor.digest,):
            print(visible(word))
    return 0
