"""Two images of one Dockerfile: what is different, path by path and field by field.

Images may come from anybody: layers are read in one pass, with a bound on what they unpack to, and nothing of
them is written anywhere.
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from orca.errors import ImageError
from orca.oci.image import Descriptor, ImageConfig
from orca.store.layout import Image, Layout
from orca.tools import bounds

TIMES = ("created", "mtime")
_KINDS = {
    tarfile.REGTYPE: "file", tarfile.AREGTYPE: "file", tarfile.DIRTYPE: "directory", tarfile.SYMTYPE: "symbolic link",
    tarfile.LNKTYPE: "hard link", tarfile.CHRTYPE: "character device", tarfile.BLKTYPE: "block device",
    tarfile.FIFOTYPE: "FIFO",
}  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """`place` is "config", "history 3" or "layer 2"; `what` a field, or a path of the layer; `kind` is "added" (only
    the rebuilt image has it), "missing" (only the first one) or "changed": then `fields` are NAME → (first, rebuilt).
    """

    place: str
    what: str
    kind: str
    fields: Mapping[str, tuple[str, str]]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def timeless(self) -> Difference | None:
        """The same without times; None when nothing else is different."""
        rest = {name: pair for name, pair in self.fields.items() if name not in TIMES}
        if self.kind == "changed" and not rest:
            return None
        return Difference(self.place, self.what, self.kind, rest)


@dataclass(frozen=True)
class Entry:
    """One entry of a layer, as far as it is compared; `content` is a digest, a link's target or a device's numbers."""

    kind: str
    mode: str
    owner: str
    mtime: str
    size: str
    content: str
    xattrs: str


def compare(first: Image, there: Layout, rebuilt: Image, here: Layout) -> list[Difference]:
    """All differences between two images, in the order config, history, layers. Raises ImageError for a bad layer."""
    found = [*_config(first.config, rebuilt.config), *_history(first.config, rebuilt.config)]
    ours, theirs = rebuilt.manifest.layers, first.manifest.layers
    for number in range(max(len(ours), len(theirs))):
        place = f"layer {number + 1}"
        if number >= len(ours) or number >= len(theirs):
            kind = "missing" if number >= len(ours) else "added"
            found.append(Difference(place, (theirs if kind == "missing" else ours)[number].digest, kind, {}))
        elif ours[number].digest != theirs[number].digest:
            same = first.config.diff_ids[number : number + 1] == rebuilt.config.diff_ids[number : number + 1]
            found += _layer(place, (theirs[number], there), (ours[number], here), same_content=same)
    if not found and first.manifest.annotations != rebuilt.manifest.annotations:
        found += _fields("annotations", dict(first.manifest.annotations), dict(rebuilt.manifest.annotations))
    if not found and first.descriptor.digest != rebuilt.descriptor.digest:
        pair = (first.descriptor.digest, rebuilt.descriptor.digest)
        found.append(Difference("manifest", "written differently, with the same meaning", "changed", {"digest": pair}))
    return found


def _config(first: ImageConfig, rebuilt: ImageConfig) -> Iterator[Difference]:
    one, two = (_flat(config) for config in (first, rebuilt))
    yield from _fields("config", one, two)


def _flat(config: ImageConfig) -> dict[str, str]:
    """The config's fields by their names; what has names of its own (Env, Labels) one by one."""
    value = config.to_json()
    run = value.pop("config")
    flat = {name: str(text) for name, text in value.items() if name not in ("rootfs", "history")}
    flat |= {f"Env.{name}": text for name, text in config.env}
    for name, item in run.items():
        if isinstance(item, dict):
            flat |= {f"{name}.{key}": str(text) for key, text in item.items()}
        elif name != "Env":
            flat[name] = str(item)
    return flat


def _fields(place: str, one: Mapping[str, str], two: Mapping[str, str]) -> Iterator[Difference]:
    for name in sorted({*one, *two}):
        if name not in two:
            yield Difference(place, f"{name}={one[name]}", "missing", {})
        elif name not in one:
            yield Difference(place, f"{name}={two[name]}", "added", {})
        elif one[name] != two[name]:
            yield Difference(place, name, "changed", {name: (one[name], two[name])})


def _history(first: ImageConfig, rebuilt: ImageConfig) -> Iterator[Difference]:
    for number in range(max(len(first.history), len(rebuilt.history))):
        place = f"history {number + 1}"
        if number >= len(rebuilt.history):
            yield Difference(place, first.history[number].created_by or "", "missing", {})
        elif number >= len(first.history):
            yield Difference(place, rebuilt.history[number].created_by or "", "added", {})
        else:
            one, two = first.history[number].to_json(), rebuilt.history[number].to_json()
            changed = {name: (str(one.get(name, "")), str(two.get(name, ""))) for name in sorted({*one, *two})}
            changed = {name: pair for name, pair in changed.items() if pair[0] != pair[1]}
            if changed:
                yield Difference(place, first.history[number].created_by or "", "changed", changed)


def _layer(
    place: str, first: tuple[Descriptor, Layout], rebuilt: tuple[Descriptor, Layout], *, same_content: bool
) -> Iterator[Difference]:
    digests = (first[0].digest, rebuilt[0].digest)
    if same_content:
        yield Difference(place, "the same archive, compressed differently", "changed", {"digest": digests})
        return
    one, two = (read_layer(descriptor, layout) for descriptor, layout in (first, rebuilt))
    differences = list(_entries(place, one, two))
    if not differences:
        what = "the same files in another order" if list(one) != list(two) else "the same files, archived differently"
        differences = [Difference(place, what, "changed", {"digest": digests})]
    yield from differences


def _entries(place: str, one: Mapping[str, Entry], two: Mapping[str, Entry]) -> Iterator[Difference]:
    for path in sorted({*one, *two}):
        if path not in two:
            yield Difference(place, path, "missing", {})
        elif path not in one:
            yield Difference(place, path, "added", {})
        elif one[path] != two[path]:
            before, after = asdict(one[path]), asdict(two[path])
            fields = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
            yield Difference(place, path, "changed", fields)


def read_layer(layer: Descriptor, layout: Layout) -> dict[str, Entry]:
    """The entries of a layer by path, in the archive's order. Raises ImageError, also for too much of them."""
    if layer.media_type.endswith("zstd"):
        raise ImageError(f"layer {layer.digest} is compressed with zstd, which cannot be looked into here")
    most = bounds.limit(layer.size)
    try:
        with _plain(layout.blob_path(layer.digest), most) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            found: dict[str, Entry] = {}
            for member in tar:
                found["/" + member.name.removeprefix("./").strip("/")] = _entry(tar, member)
                if len(found) * bounds.ENTRY > most:
                    raise bounds.exceeded(f"layer {layer.digest}", most)
            return found
    except (OSError, EOFError, tarfile.TarError, zlib.error, ValueError) as error:
        raise ImageError(f"layer {layer.digest} cannot be read: {error}") from error


class _Bounded:
    """A stream to read that ends in an error when it is longer than it may be."""

    def __init__(self, stream: gzip.GzipFile | IO[bytes], most: int) -> None:
        self._stream = stream
        self._most = self._left = most

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise bounds.exceeded("a layer", self._most)
        return data

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stream.close()


def _plain(path: Path, most: int) -> _Bounded:
    """The layer's archive without its compression."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return _Bounded(gzip.open(path) if packed else path.open("rb"), most)


def _entry(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    content = member.linkname
    if member.isreg():
        digest = hashlib.sha256()
        file = tar.extractfile(member)
        while file is not None and (data := file.read(1 << 20)):
            digest.update(data)
        content = f"sha256:{digest.hexdigest()}"
    elif member.isdev() and not member.isfifo():
        content = f"{member.devmajor}:{member.devminor}"
    xattrs = {
        k.removeprefix("SCHILY.xattr."): v for k, v in member.pax_headers.items() if k.startswith("SCHILY.xattr.")
    }
    return Entry(
        _KINDS.get(member.type, "?"),
        f"{member.mode:04o}",
        f"{member.uid}:{member.gid}",
        _when(member.mtime),
        str(member.size) if member.isreg() else "",
        content,
        " ".join(f"{name}={text!r}" for name, text in sorted(xattrs.items())),
    )


def _when(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return str(seconds)
