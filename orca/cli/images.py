"""orca images."""

from __future__ import annotations

import fnmatch
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from orca.cli.options import Parser, print_json
from orca.errors import OrcaError
from orca.oci.image import Descriptor
from orca.oci.platform import of
from orca.store.layout import Layout
from orca.store.store import Store
from orca.ui import Terminal, human
from orca.ui.escape import visible

EXAMPLES = """\
  orca images                    every image in the store, the newest first
  orca images 'app*' debian      those with such names
  orca images --json             the same for programs
  orca rm $(orca images -q app)  -q prints the digests alone, and every command takes them"""

HEADERS = ("REPOSITORY", "TAG", "DIGEST", "CREATED", "SIZE", "LAYERS")
NOTHING = "-"
NARROWEST = 16
"""Columns that REPOSITORY gets at least, however narrow the terminal is."""


@dataclass(frozen=True)
class Facts:
    """What an image says of itself. `error` is why it cannot be read, or None; then the rest is empty.

    `platforms` are those of an index, whose `size` and `layers` count each layer of all its images once; an image
    has none of them.
    """

    created: str | None = None
    size: int = 0
    layers: int = 0
    platform: str = ""
    platforms: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class Row:
    """One name of an image."""

    name: str
    digest: str
    facts: Facts

    def to_json(self) -> dict[str, object]:
        repository, tag = split_name(self.name)
        names = {"name": self.name, "repository": repository, "tag": tag or None}
        return {**names, "digest": self.digest, **asdict(self.facts)}


def make_parser() -> Parser:
    """The options of `orca images`."""
    parser = Parser("images", "List the images in the store.", EXAMPLES, usage="orca images [options] [PATTERN ...]")
    add = parser.add_argument
    add("patterns", metavar="PATTERN", nargs="*", help="names to list; * and ? stand for any characters")
    add("-q", "--quiet", action="store_true", help="print only digests, each once")
    add("--no-trunc", "--digests", action="store_true", dest="whole", help="print whole digests and names")
    add("--json", action="store_true", help="print JSON: one object for each name")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Print the table."""
    given = make_parser().parse(arguments)
    store = Store.open()
    tags = {name: found for name, found in store.tags().items() if wanted(name, given.patterns)}
    if given.quiet:
        print("".join(f"{digest}\n" for digest in dict.fromkeys(found.digest for found in tags.values())), end="")
        return 0
    rows = read(store.images, tags)
    if given.json:
        print_json([row.to_json() for row in rows])
    else:
        terminal = Terminal(sys.stdout)
        print(render(rows, terminal.width if terminal.tty and not given.whole else None, whole=given.whole))
    return 0


def wanted(name: str, patterns: Sequence[str]) -> bool:
    """Does one of the patterns (none: anything goes) mean this image: by full name, repository, short name?"""
    repository, _ = split_name(name)
    spellings = {name, repository, name.removeprefix("localhost/"), repository.removeprefix("localhost/")}
    spellings |= {repository.rpartition("/")[2]}
    return not patterns or any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns for text in spellings)


def read(layout: Layout, tags: dict[str, Descriptor]) -> list[Row]:
    """A row for every name, the newest first; manifest and config of each image are read once."""
    facts: dict[str, Facts] = {}
    for descriptor in tags.values():
        if descriptor.digest not in facts:
            facts[descriptor.digest] = look(layout, descriptor)
    rows = [Row(name, found.digest, facts[found.digest]) for name, found in sorted(tags.items())]
    return sorted(rows, key=lambda row: -(timestamp(row.facts.created) or 0))


def look(layout: Layout, descriptor: Descriptor) -> Facts:
    """What the image says; for a damaged one, what is wrong with it."""
    try:
        index, images = layout.whole(descriptor)
        for image in images:
            layout.verify(image, layers=False)
    except OrcaError as error:
        return Facts(error=error.message)
    if index is not None:
        layers = {layer.digest: layer.size for image in images for layer in image.manifest.layers}
        created = max((image.config.created or "" for image in images), default="") or None
        names = tuple(str(of(entry.platform) or NOTHING) for entry in index.images())
        return Facts(created, sum(layers.values()), len(layers), ", ".join(names), names)
    (found,) = images
    config = found.config
    platform = "/".join(part for part in (config.os, config.architecture, config.variant) if part)
    return Facts(config.created, found.manifest.size, len(found.manifest.layers), platform)


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


def split_name(name: str) -> tuple[str, str]:
    """Repository and tag; the tag is empty for a name that has none."""
    name = name.partition("@")[0]
    repository, colon, tag = name.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (name, "")


def short(digest: str) -> str:
    """The beginning of a digest, long enough to name it."""
    return digest.removeprefix("sha256:")[:12]


def timestamp(text: str | None) -> float | None:
    """A time of RFC 3339 in seconds since 1970; None for anything else."""
    try:
        found = datetime.fromisoformat(text or "")
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def age(text: str | None) -> str:
    """How long ago a time of RFC 3339 was."""
    then = timestamp(text)
    return NOTHING if then is None else human.ago(time.time() - then)
