"""orca images."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from orca.cli import storage
from orca.cli.imagefilters import Row, split_name, timestamp, wanted
from orca.cli.options import Parser, print_json
from orca.oci.image import Descriptor
from orca.store import facts as known
from orca.store.layout import Layout
from orca.store.store import Store
from orca.ui import Terminal, human
from orca.ui.escape import visible

EXAMPLES = """\
  orca images                    every image in the store, the newest first
  orca images 'app*' debian      those with such names
  orca images --filter label=team=web --filter until=24h
  orca images --format '{{.Repository}}:{{.Tag}} {{.Size}}'
  orca images --json             the same for programs
  orca rm $(orca images -q app)  -q prints the digests alone, and every command takes them

filters: reference=PATTERN, label=KEY[=VALUE], label!=KEY[=VALUE], before=IMAGE, since=IMAGE, until=TIME, dangling=BOOL
fields for --format: .Repository .Tag .Name .ID .Digest .CreatedAt .CreatedSince .Size .Layers .Platform .Labels"""

HEADERS = ("REPOSITORY", "TAG", "DIGEST", "CREATED", "SIZE", "LAYERS")
NOTHING = "-"
NARROWEST = 16
"""Columns that REPOSITORY gets at least, however narrow the terminal is."""


def make_parser() -> Parser:
    """The options of `orca images`."""
    parser = Parser("images", "List the images in the store.", EXAMPLES, usage="orca images [options] [PATTERN ...]")
    add = parser.add_argument
    add("patterns", metavar="PATTERN", nargs="*", help="names to list; * and ? stand for any characters")
    add("-a", "--all", action="store_true", help="also images without a name: what earlier builds left")
    add("-q", "--quiet", action="store_true", help="print only digests, each once")
    add("-f", "--filter", metavar="KEY=VALUE", action="append", default=[], help="list only such images; see below")
    add("--no-trunc", "--digests", action="store_true", dest="whole", help="print whole digests and names")
    storage.add_option(add)
    add(
        "--format", metavar="TEMPLATE", help="print this for each: '{{.Repository}}', 'table {{.ID}}\\t{{.Size}}', json"
    )
    add("-n", "--noheading", action="store_true", help="print the table without its first line")
    add("--json", action="store_true", help="print JSON: one object for each name")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Print the table."""
    given = make_parser().parse(arguments)
    store = storage.open_store(given)
    tags = {name: found for name, found in store.tags().items() if wanted(name, given.patterns)}
    if given.quiet and not given.filter and not given.all:
        return _digests([found.digest for found in tags.values()])
    rows = _rows(store, tags, given.filter, everything=given.all, patterns=bool(given.patterns))
    if given.quiet:
        return _digests([row.digest for row in rows])
    if given.json or given.format == "json":
        print_json([to_json(row) for row in rows])
    elif given.format is not None:
        _print_formatted(rows, given.format, whole=given.whole, heading=not given.noheading)
    else:
        terminal = Terminal(sys.stdout)
        text = render(rows, terminal.width if terminal.tty and not given.whole else None, whole=given.whole)
        text = text.partition("\n")[2] if given.noheading else text
        print(text, end="\n" if text else "")
    return 0


def _digests(digests: Sequence[str]) -> int:
    print("".join(f"{digest}\n" for digest in dict.fromkeys(digests)), end="")
    return 0


def _rows(
    store: Store, tags: dict[str, Descriptor], filters: Sequence[str], *, everything: bool, patterns: bool
) -> list[Row]:
    """The rows that the filters let through. Raises UsageError, StoreError."""
    # Layers in OSTree storage are no blobs: whether they are there is not asked of a file.
    cache_file = store.root / "cache/facts.json" if store.images.path.parent == store.root else None
    if not filters and not everything:
        return read(store.images, tags, cache_file, others=patterns)
    from orca.cli import imagefilters
    from orca.sources import names

    test, dangling = imagefilters.parse(filters, lambda text: names.find(store, text)[2].config.created)
    rows = [] if dangling else read(store.images, tags, cache_file, others=True)
    if dangling or (everything and dangling is None and not patterns):
        named = {found.digest for found in store.tags().values()}
        found = known.nameless(store.root / "chains", store.images, named)
        rows += [Row("", descriptor.digest, known.look(store.images, descriptor)[0]) for descriptor in found]
    return newest([row for row in rows if test(row)])


def to_json(row: Row) -> dict[str, object]:
    """A row for programs."""
    repository, tag = split_name(row.name)
    names = {"name": row.name or None, "repository": repository or None, "tag": tag or None}
    return {**names, "digest": row.digest, **asdict(row.facts)}


def read(
    layout: Layout, tags: Mapping[str, Descriptor], path: Path | None = None, *, others: bool = False
) -> list[Row]:
    """A row for every name, the newest first; manifest and config of each image are read once.

    What was read is remembered in the file `path`; `others` says that `tags` are not all.
    """
    memory, seen = known.Known(layout, path), {}
    for descriptor in tags.values():
        if descriptor.digest not in seen:
            seen[descriptor.digest] = memory.of(descriptor)
    memory.remember(others=others)
    return newest([Row(name, found.digest, seen[found.digest]) for name, found in sorted(tags.items())])


def newest(rows: Sequence[Row]) -> list[Row]:
    """The rows, the newest first."""
    return sorted(rows, key=lambda row: -(timestamp(row.facts.created) or 0))


def fields(row: Row, *, whole: bool) -> dict[str, Any]:
    """What --format can name."""
    repository, tag = split_name(row.name)
    facts = row.facts
    return {
        "Repository": repository or "<none>",
        "Tag": tag or "<none>",
        "Name": row.name,
        "ID": row.digest if whole else short(row.digest),
        "Digest": row.digest,
        "CreatedAt": facts.created or NOTHING,
        "CreatedSince": age(facts.created),
        "Created": age(facts.created),
        "Size": human.size(facts.size),
        "Bytes": facts.size,
        "Layers": facts.layers,
        "Platform": facts.platform,
        "Labels": dict(facts.labels),
    }


def _print_formatted(rows: Sequence[Row], text: str, *, whole: bool, heading: bool) -> None:
    from orca.ui.template import print_rows

    print_rows(text, [fields(row, whole=whole) for row in rows], heading=heading)


def render(rows: Sequence[Row], width: int | None, *, whole: bool) -> str:
    """The table; where it is wider than `width`, repositories lose their beginnings."""
    lines = [[visible(text) for text in cells(row, whole=whole)] for row in rows]
    if width is not None:
        widths = [max(human.cells(text) for text in column) for column in zip(HEADERS, *lines, strict=True)]
        room = max(width - sum(widths[1:]) - 2 * (len(HEADERS) - 1), NARROWEST)
        for line in lines:
            line[0] = ending(line[0], room)
    return human.table(lines, HEADERS, right=("SIZE", "LAYERS"))


def ending(text: str, width: int) -> str:
    """`text` if it fits into `width` columns, else "…" and its end, which says more than its beginning."""
    if human.cells(text) <= width:
        return text
    while human.cells(text) > width - 1:
        text = text[1:]
    return "…" + text


def cells(row: Row, *, whole: bool) -> tuple[str, ...]:
    """The row as text."""
    repository, tag = split_name(row.name)
    digest = row.digest if whole else short(row.digest)
    facts = row.facts
    if facts.error is not None:
        return (repository, tag or NOTHING, digest, "damaged", NOTHING, NOTHING)
    return (repository, tag or NOTHING, digest, age(facts.created), human.size(facts.size), str(facts.layers))


def short(digest: str) -> str:
    """The beginning of a digest, long enough to name it."""
    return digest.removeprefix("sha256:")[:12]


@cache
def age(text: str | None) -> str:
    """How long ago a time of RFC 3339 was."""
    then = timestamp(text)
    return NOTHING if then is None else human.ago(time.time() - then)
