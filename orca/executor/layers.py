"""An image's layers, unpacked into plain tar files, and the one tree that they make together.

For outputs and for --squash: nothing is mounted, nothing is extracted, and devices, owners and attributes are
as the layers have them. See the image-layer chapter of the OCI image spec.
"""

from __future__ import annotations

import gzip
import hashlib
import posixpath
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from orca.errors import ImageError
from orca.executor.archives import BoundedHeader
from orca.executor.layer import OPAQUE, WHITEOUT
from orca.oci.image import Descriptor
from orca.store.layout import CHUNK, Layout
from orca.tools import bounds
from orca.tools.command import Command, Runner

LINKS_LIMIT = 40


@dataclass(frozen=True)
class Content:
    """The entry that holds a file's bytes: which layer, and its header there."""

    layer: int
    info: tarfile.TarInfo


@dataclass(frozen=True)
class Node:
    """One path of a tree ("" is the root). `link` is an earlier path of the same file; a `marker` is a whiteout."""

    path: str
    content: Content | None = None
    link: str | None = None
    marker: bool = False


def unpack(layers: Sequence[tuple[Descriptor, str]], layout: Layout, scratch: Path, runner: Runner) -> list[Path]:
    """Each (layer, diff id) as a plain tar file below `scratch`, checked. Raises ImageError."""
    most = bounds.limit(sum(layer.size for layer, _ in layers))
    paths = []
    for number, (layer, diff_id) in enumerate(layers):
        path = scratch / f"layer-{number}.tar"
        found, size = unpack_one(layer, layout.blob_path(layer.digest), path, runner, most)
        if found != diff_id:
            raise ImageError(f"layer {layer.digest} does not match its diff id {diff_id}")
        most -= size
        paths.append(path)
    return paths


def unpack_one(layer: Descriptor, blob: Path, path: Path, runner: Runner, most: int) -> tuple[str, int]:
    """The layer without its compression at `path`; returns digest and size of that. Raises ImageError, ToolError."""
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as plain:

        def keep(data: bytes, stream: str = "stdout") -> None:
            nonlocal size
            if stream == "stdout":
                size += len(data)
                if size > most:
                    raise bounds.exceeded("the image", most)
                digest.update(data)
                plain.write(data)

        with blob.open("rb") as packed:
            if layer.media_type.endswith("zstd"):
                runner.run(Command(("zstd", "-dc"), "unpack a layer"), stdin=packed, on_output=keep)
            else:
                _read(packed, layer, keep)
    return f"sha256:{digest.hexdigest()}", size


def _read(packed: IO[bytes], layer: Descriptor, keep: object) -> None:
    assert callable(keep)
    file = gzip.GzipFile(fileobj=packed) if layer.media_type.endswith("gzip") else packed
    try:
        while data := file.read(CHUNK):
            keep(data)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ImageError(f"layer {layer.digest} is damaged: {error}") from error


@dataclass
class _Layer:
    """What one layer says: entries by path (later ones win), whiteouts, directories that hide what is below them."""

    entries: dict[str, tarfile.TarInfo] = field(default_factory=dict)
    whiteouts: set[str] = field(default_factory=set)
    opaque: set[str] = field(default_factory=set)


def clean(name: str) -> str:
    """A member's name below the root: no slash before it, no way up."""
    return posixpath.normpath("/" + name).lstrip("/")


def _scan(path: Path) -> _Layer:
    result = _Layer()
    try:
        with tarfile.open(path, "r:", tarinfo=BoundedHeader, errors="surrogateescape") as archive:
            for member in archive:
                place = clean(member.name)
                directory, name = posixpath.split(place)
                if name == OPAQUE:
                    result.opaque.add(directory)
                elif name.startswith(WHITEOUT):
                    result.whiteouts.add(posixpath.join(directory, name.removeprefix(WHITEOUT)))
                else:
                    result.entries.pop(place, None)
                    result.entries[place] = member
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        raise ImageError(f"a layer is a damaged archive: {error}") from error
    return result


def above(path: str) -> Iterator[str]:
    """Every directory above `path`, the nearest first; the root is not named."""
    while path := posixpath.dirname(path):
        yield path


class Merged:
    """Several layers as one. `nodes` is sorted: directories before their content, a file before links to it."""

    def __init__(self, paths: Sequence[Path], *, whiteouts: bool = False) -> None:
        """`whiteouts`: keep those that hide something below these layers."""
        self.paths = list(paths)
        self._layers = [_scan(path) for path in paths]
        self._kept: dict[str, tuple[int, tarfile.TarInfo]] = {}
        self._removed: set[str] = set()
        self._hidden: set[str] = set()
        for number in range(len(self._layers) - 1, -1, -1):
            self._take(number)
        markers = self._markers() if whiteouts else []
        self.nodes = sorted([*self._nodes(), *markers], key=lambda node: node.path.split("/"))

    def _take(self, number: int) -> None:
        """What layer `number` adds to what the layers above it have."""
        layer = self._layers[number]
        for path, member in layer.entries.items():
            if path not in self._kept and path not in self._removed and not self._covered(path):
                self._kept[path] = (number, member)
        self._removed |= layer.whiteouts
        self._hidden |= layer.whiteouts | layer.opaque
        self._hidden |= {path for path, member in layer.entries.items() if path and not member.isdir()}

    def _covered(self, path: str) -> bool:
        return "" in self._hidden or any(place in self._hidden for place in above(path))

    def _stands(self, path: str) -> bool:
        """Is all above `path` a directory? (One layer can say two things.)"""
        return all(place not in self._kept or self._kept[place][1].isdir() for place in above(path))

    def _nodes(self) -> Iterable[Node]:
        """The kept entries. Of those that are one file, the first by path has the content, the others link to it."""
        first: dict[int, str] = {}
        result = []
        for path in sorted(self._kept, key=lambda path: path.split("/")):
            if not self._stands(path):
                continue
            content = self._resolve(*self._kept[path])
            identity = id(content.info)
            if identity in first and not content.info.isdir():
                result.append(Node(path, content, link=first[identity]))
            else:
                first[identity] = path
                result.append(Node(path, content))
        return result

    def _resolve(self, number: int, member: tarfile.TarInfo) -> Content:
        """The entry that a hard link leads to. Raises ImageError."""
        for _ in range(LINKS_LIMIT):
            if not member.islnk():
                return Content(number, member)
            target = clean(member.linkname)
            for below in range(number, -1, -1):
                found = self._layers[below].entries.get(target)
                if found is not None:
                    number, member = below, found
                    break
            else:
                break
        raise ImageError(f"a layer has the hard link /{clean(member.name)}, whose target is not in it")

    def _markers(self) -> Iterable[Node]:
        """Whiteouts for what was removed, opaque markers for directories that began anew."""
        for path in self._hidden:
            if path in self._kept:
                if self._kept[path][1].isdir() and not self._covered(path):
                    yield Node(posixpath.join(path, OPAQUE), marker=True)
            elif path in self._removed and not self._covered(path):
                directory, name = posixpath.split(path)
                yield Node(posixpath.join(directory, WHITEOUT + name), marker=True)
        if "" in self._hidden and "" not in self._kept:
            yield Node(OPAQUE, marker=True)
