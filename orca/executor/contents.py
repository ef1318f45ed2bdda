"""What is in an image, path by path, without unpacking it anywhere.

A layer's list of entries never changes, so it is made once and kept in the store as `cache/toc-DIFFID`; whoever makes
it has read the layer to its end and checked its diff id. Layers are hostile: names are taken below the root, what a
layer unpacks to is bounded, nothing is written but the list. See the image-layer chapter of the OCI image spec.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import posixpath
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import IO, Any

from orca.errors import ImageError, StoreError, UsageError
from orca.executor.archives import BoundedHeader
from orca.executor.layer import OPAQUE, WHITEOUT
from orca.executor.layers import LINKS_LIMIT, clean, unpack_one
from orca.oci.image import Descriptor
from orca.store import files
from orca.store.layout import CHUNK, Image, Layout
from orca.store.store import Store
from orca.tools import bounds
from orca.tools.command import Runner

VERSION = 1
_XATTR = "SCHILY.xattr."
_KINDS = {
    tarfile.DIRTYPE: "directory", tarfile.SYMTYPE: "link", tarfile.LNKTYPE: "hard link", tarfile.CHRTYPE: "character",
    tarfile.BLKTYPE: "block", tarfile.FIFOTYPE: "fifo",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One path ("" is the root) as a layer has it. `target` is a link's, or a device's numbers; `content` the sha256
    of a file's bytes in hexadecimal digits; `mtime` whole seconds since 1970; `xattrs` pairs of name and value.
    """

    path: str
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    target: str = ""
    content: str = ""
    xattrs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Listing:
    """A layer: its entries in the archive's order, what it removes, and the directories that it empties."""

    entries: tuple[Entry, ...]
    whiteouts: tuple[str, ...] = ()
    opaque: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        entries = [astuple(entry) for entry in self.entries]
        return {"version": VERSION, "entries": entries, "whiteouts": self.whiteouts, "opaque": self.opaque}

    @classmethod
    def from_json(cls, value: Any) -> Listing:
        """Raises KeyError, TypeError or ValueError when it is not what `to_json` wrote."""
        if value["version"] != VERSION:
            raise ValueError("another version")
        entries = (Entry(*(*fields[:9], tuple(map(tuple, fields[9])))) for fields in value["entries"])
        return cls(tuple(entries), tuple(value["whiteouts"]), tuple(value["opaque"]))


def listing(layer: Descriptor, diff_id: str, store: Store) -> Listing:
    """What a layer holds: as remembered, else by reading it. Raises ImageError."""
    path = store.root / "cache" / f"toc-{diff_id.removeprefix('sha256:')}"
    with contextlib.suppress(KeyError, TypeError, ValueError):
        return Listing.from_json(files.read_json(path))
    found = _scan(layer, diff_id, store.images)
    with contextlib.suppress(StoreError):  # it can be read again
        files.write_json(path, found.to_json(), durable=False)
    return found


class _Checked:
    """A stream that is hashed as it is read, and ends in an error when it is longer than it may be."""

    def __init__(self, stream: IO[bytes], most: int) -> None:
        self._stream = stream
        self._most = self._left = most
        self._digest = hashlib.sha256()

    def read(self, size: int = CHUNK) -> bytes:
        data = self._stream.read(min(size, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise bounds.exceeded("a layer", self._most)
        self._digest.update(data)
        return data

    def rest(self) -> str:
        """Read what is left; returns the digest of all."""
        while self.read():
            pass
        return f"sha256:{self._digest.hexdigest()}"


@contextlib.contextmanager
def _plain(layer: Descriptor, layout: Layout) -> Iterator[_Checked]:
    """The layer's archive without its compression."""
    if not layout.has(layer):
        raise ImageError(f"layer {layer.digest} is missing or has the wrong size", hint="orca pull gets it again")
    blob, most = layout.blob_path(layer.digest), bounds.limit(layer.size)
    if layer.media_type.endswith("zstd"):
        import tempfile

        with tempfile.NamedTemporaryFile() as plain:
            unpack_one(layer, blob, Path(plain.name), Runner(), most)
            yield _Checked(plain.file, most)
        return
    with blob.open("rb") as packed:
        file: Any = gzip.GzipFile(fileobj=packed) if layer.media_type.endswith("gzip") else packed
        yield _Checked(file, most)


@contextlib.contextmanager
def _archive(layer: Descriptor, stream: _Checked) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=BoundedHeader, errors="surrogateescape") as tar:  # type: ignore[call-overload]
            yield tar
    except (OSError, EOFError, tarfile.TarError, zlib.error, ValueError, OverflowError, RecursionError) as error:
        raise ImageError(f"layer {layer.digest} cannot be read: {error}") from error


def _scan(layer: Descriptor, diff_id: str, layout: Layout) -> Listing:
    most, entries, whiteouts, opaque = bounds.limit(layer.size), [], [], []
    with _plain(layer, layout) as stream, _archive(layer, stream) as tar:
        for member in tar:
            path = clean(member.name)
            directory, name = posixpath.split(path)
            if name == OPAQUE:
                opaque.append(directory)
            elif name.startswith(WHITEOUT):
                whiteouts.append(posixpath.join(directory, name.removeprefix(WHITEOUT)))
            else:
                entries.append(_entry(tar, member, path))
            if (len(entries) + len(whiteouts)) * bounds.ENTRY > most:
                raise bounds.exceeded(f"layer {layer.digest}", most)
        if stream.rest() != diff_id:
            raise ImageError(f"layer {layer.digest} does not match its diff id {diff_id}")
    return Listing(tuple(entries), tuple(whiteouts), tuple(opaque))


def _entry(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> Entry:
    kind, content, target = _KINDS.get(member.type, "file"), "", member.linkname
    if kind == "file":
        digest, file = hashlib.sha256(), tar.extractfile(member)
        while file is not None and (data := file.read(CHUNK)):
            digest.update(data)
        content = digest.hexdigest()
    elif kind == "hard link":
        target = clean(member.linkname)
    elif kind in ("character", "block"):
        target = f"{member.devmajor}, {member.devminor}"
    xattrs = ((k.removeprefix(_XATTR), v) for k, v in member.pax_headers.items() if k.startswith(_XATTR))
    size = member.size if kind == "file" else 0
    return Entry(
        path, kind, member.mode & 0o7777, member.uid, member.gid, size, int(member.mtime),
        target, content, tuple(sorted(xattrs)),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Placed:
    """A path of an image: `layer` counts from 0; a hard link has the `entry` of its file, and names it in `same`."""

    path: str
    entry: Entry
    layer: int
    same: str = ""


@dataclass
class Tree:
    """An image's whole tree, as its layers make it one after the other."""

    nodes: dict[str, Placed] = field(default_factory=dict)
    below: dict[str, set[str]] = field(default_factory=dict)

    def apply(self, number: int, layer: Listing) -> None:
        """Put a layer on top: first what it removes, then what it has."""
        for path in layer.whiteouts:
            self._remove(path)
        for path in layer.opaque:
            for name in tuple(self.below.get(path, ())):
                self._remove(posixpath.join(path, name))
        for entry in layer.entries:
            self._put(number, entry)

    def _remove(self, path: str) -> None:
        waiting = [path]
        while waiting:
            current = waiting.pop()
            waiting += [posixpath.join(current, name) for name in self.below.pop(current, ())]
            self.nodes.pop(current, None)
        directory, name = posixpath.split(path)
        self.below.get(directory, set()).discard(name)

    def _put(self, number: int, entry: Entry) -> None:
        if not self._make_room(number, entry.path):
            return  # a layer says that what is above it is no directory
        placed = Placed(entry.path, entry, number)
        if entry.kind == "hard link" and (file := self.nodes.get(entry.target)) and file.entry.kind != "directory":
            placed = Placed(entry.path, file.entry, file.layer, file.same or entry.target)
        if entry.kind != "directory" and entry.path in self.below:
            self._remove(entry.path)
        self._add(placed)

    def _make_room(self, number: int, path: str) -> bool:
        """The directories above `path`, where no layer has named them."""
        missing = []
        above = posixpath.dirname(path)
        while above and above not in self.nodes:
            missing.append(above)
            above = posixpath.dirname(above)
        if above and self.nodes[above].entry.kind != "directory":
            return False
        for directory in reversed(missing):
            self._add(Placed(directory, Entry(directory, "directory", 0o755, 0, 0, 0, 0), number))
        return True

    def _add(self, placed: Placed) -> None:
        self.nodes[placed.path] = placed
        if placed.path:
            directory, name = posixpath.split(placed.path)
            self.below.setdefault(directory, set()).add(name)

    def children(self, path: str) -> list[Placed]:
        """What is in a directory, by name."""
        return [self.nodes[posixpath.join(path, name)] for name in sorted(self.below.get(path, ()))]

    def walk(self, path: str = "") -> Iterator[Placed]:
        """Everything below a directory, each directory before its content."""
        waiting = self.children(path)[::-1]
        while waiting:
            current = waiting.pop()
            yield current
            waiting += self.children(current.path)[::-1]

    def resolve(self, path: str, *, last: bool = True) -> Placed | None:
        """What `path` names, with links followed inside the image (the last one only if `last`); None when nothing.

        Raises ImageError when links lead round in circles.
        """
        current, links = "", 0
        waiting = [part for part in path.split("/") if part not in ("", ".")][::-1]
        while waiting:
            part = waiting.pop()
            if part == "..":
                current = posixpath.dirname(current)
                continue
            found = self.nodes.get(posixpath.join(current, part))
            if found is None:
                return None
            if found.entry.kind == "link" and (waiting or last):
                links += 1
                if links > LINKS_LIMIT:
                    raise ImageError(f"/{path.strip('/')} leads through more than {LINKS_LIMIT} links")
                target = found.entry.target
                current = "" if target.startswith("/") else current
                waiting += [part for part in target.split("/") if part not in ("", ".")][::-1]
            elif waiting and found.entry.kind != "directory":
                return None
            else:
                current = found.path
        return self.nodes.get(current) or (Placed("", ROOT, 0) if not current else None)


ROOT = Entry("", "directory", 0o755, 0, 0, 0, 0)


def listings(found: Image, store: Store) -> list[Listing]:
    """What each layer of an image holds. Raises ImageError."""
    store.images.verify(found, layers=False)
    pairs = zip(found.manifest.layers, found.config.diff_ids, strict=True)
    return [listing(layer, diff_id, store) for layer, diff_id in pairs]


def tree(layers: Sequence[Listing]) -> Tree:
    """The tree that layers make together."""
    result = Tree()
    for number, layer in enumerate(layers):
        result.apply(number, layer)
    return result


def chunks(found: Image, store: Store, wanted: Placed) -> Iterator[bytes]:
    """The bytes of a regular file. Raises ImageError."""
    layer = found.manifest.layers[wanted.layer]
    with _plain(layer, store.images) as stream, _archive(layer, stream) as tar:
        for member in tar:
            if clean(member.name) == wanted.entry.path and member.isreg():
                file, digest = tar.extractfile(member), hashlib.sha256()
                while file is not None and (data := file.read(CHUNK)):
                    digest.update(data)
                    yield data
                if digest.hexdigest() == wanted.entry.content:
                    return
    raise ImageError(f"layer {layer.digest} is not what it was: /{wanted.path} cannot be read")


@dataclass(frozen=True)
class Change:
    """A path that two trees do not have alike: `kind` is "A", "C" or "D"; `fields` say what is different of a "C".

    `size` counts the bytes of the newer file; of what is removed, those of the older one and all below it.
    """

    kind: str
    path: str
    size: int
    fields: tuple[str, ...] = ()


def diff(one: Tree, two: Tree, *, whole: bool = False) -> Iterator[Change]:
    """From the tree `one` to `two`, by path.

    Without `whole`, directories of which the time alone differs are left out, and of what is removed with its
    directory only that is named.
    """
    for path in sorted(one.nodes.keys() | two.nodes.keys(), key=lambda path: path.split("/")):
        before, after = one.nodes.get(path), two.nodes.get(path)
        if before is None and after is not None:
            yield Change("A", path, after.entry.size)
        elif after is None and before is not None:
            if whole or posixpath.dirname(path) in two.nodes or not posixpath.dirname(path):
                below = 0 if whole else sum(each.entry.size for each in one.walk(path))
                yield Change("D", path, before.entry.size + below)
        elif before is not None and after is not None:
            fields = tuple(_different(before.entry, after.entry))
            if fields and (whole or fields != ("time",) or after.entry.kind != "directory"):
                yield Change("C", path, after.entry.size, fields)


def _different(one: Entry, two: Entry) -> Iterator[str]:
    if one.kind != two.kind:
        yield "kind"
    elif (one.content, one.target) != (two.content, two.target):
        yield "content"
    if one.mode != two.mode:
        yield "mode"
    if (one.uid, one.gid) != (two.uid, two.gid):
        yield "owner"
    if one.mtime != two.mtime:
        yield "time"
    if one.xattrs != two.xattrs:
        yield "xattr"


def touches(layers: Sequence[Listing], path: str) -> Iterator[tuple[int, Change]]:
    """Which layers have put, changed or removed `path` (below the root), the lowest first."""
    result, there = Tree(), None
    for number, layer in enumerate(layers):
        result.apply(number, layer)
        now = result.nodes.get(path)
        named = any(entry.path == path for entry in layer.entries)
        if there is None and now is not None:
            yield number, Change("A", path, now.entry.size)
        elif there is not None and now is None:
            yield number, Change("D", path, there.entry.size)
        elif there is not None and now is not None and named:
            yield number, Change("C", path, now.entry.size, tuple(_different(there.entry, now.entry)))
        there = now


def must_be_there(found: Placed | None, path: str) -> Placed:
    """Raises UsageError for a path that is not in the image."""
    if found is None:
        raise UsageError(f"{path} is not in the image", hint="orca files IMAGE DIRECTORY lists what is")
    return found
