"""orca files."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from orca.cli import choice
from orca.cli.options import Parser, print_json
from orca.executor import contents
from orca.executor.contents import Placed, Tree
from orca.sources import names
from orca.store.store import Store
from orca.ui import human
from orca.ui.escape import visible

EXAMPLES = """\
  orca files app                 the root directory of the image, as ls -l shows it
  orca files -R app /etc         everything below /etc
  orca files app@3 /srv          as it was after step 3 of the build
  orca files --json -R app       all of it for programs, with the layer of each file"""

_TYPES = {
    "directory": stat.S_IFDIR, "link": stat.S_IFLNK, "character": stat.S_IFCHR, "block": stat.S_IFBLK,
    "fifo": stat.S_IFIFO,
}  # fmt: skip


def make_parser() -> Parser:
    """The options of `orca files`."""
    parser = Parser(
        "files", "List files of an image. Nothing is unpacked.", EXAMPLES, usage="orca files [options] IMAGE [PATH]"
    )
    add = parser.add_argument
    add("image", metavar="IMAGE", help="a name, a digest, or the id of a scripted build")
    add("path", metavar="PATH", nargs="?", default="/", help="a file, or a directory (default: /)")
    add("-R", "--recursive", action="store_true", help="everything below it")
    add("-d", "--directory", action="store_true", help="the directory itself, not what is in it")
    choice.add_option(add)
    add("--json", action="store_true", help="print JSON: one object for each path")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Print the table. Raises UsageError for a path that is not there."""
    given = make_parser().parse(arguments)
    wanted = choice.wanted(given)
    store = Store.open()
    with store.in_use():
        found = names.look(store, given.image, wanted)
        tree = contents.tree(contents.listings(found, store))
    start = tree.resolve(given.path, last=given.path.endswith("/") or not given.directory)
    rows = chosen(tree, contents.must_be_there(start, given.path), deep=given.recursive, itself=given.directory)
    if given.json:
        digests = [layer.digest for layer in found.manifest.layers]
        print_json([to_json(row, digests) for row in rows])
    else:
        lines = [cells(row) for row in rows]
        text = human.table(lines, ("MODE", "OWNER", "SIZE", "TIME", "PATH"), right=("SIZE",))
        print(text.partition("\n")[2], end="\n" if lines else "")
    return 0


def chosen(tree: Tree, start: Placed, *, deep: bool, itself: bool) -> list[Placed]:
    """What is to be listed."""
    if itself or start.entry.kind != "directory":
        return [start]
    return list(tree.walk(start.path)) if deep else tree.children(start.path)


def cells(row: Placed) -> tuple[str, ...]:
    """A row as ls -l shows it. Hard links name the file that they are."""
    entry = row.entry
    mode = stat.filemode(entry.mode | _TYPES.get(entry.kind, stat.S_IFREG))
    size = entry.target if entry.kind in ("character", "block") else str(entry.size)
    name = f"/{row.path}"
    if entry.kind == "link":
        name += f" -> {entry.target}"
    elif row.same:
        name += f" = /{row.same}"
    return mode, f"{entry.uid}:{entry.gid}", size, when(entry.mtime), visible(name)


def when(seconds: int) -> str:
    """A file's time, in UTC."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def to_json(row: Placed, layers: Sequence[str]) -> dict[str, Any]:
    """A row for programs."""
    entry = row.entry
    return {
        "path": f"/{row.path}",
        "kind": entry.kind,
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "size": entry.size,
        "mtime": entry.mtime,
        "target": entry.target or None,
        "sha256": entry.content or None,
        "xattrs": dict(entry.xattrs),
        "hardLinkTo": f"/{row.same}" if row.same else None,
        "layer": layers[row.layer] if layers else None,
    }
