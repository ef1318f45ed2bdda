"""`orca load`: images out of archives and layouts that anybody may have written.

Of an OCI archive only blobs are taken, each by its digest and checked on the way in; nothing of it is unpacked
anywhere. Docker's older archives are converted by skopeo, and what that drops is put back.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import lzma
import os
import stat
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from orca.errors import ImageError, ToolError, UsageError
from orca.events import Warned
from orca.executor.archives import BoundedHeader
from orca.executor.layers import clean
from orca.executor.outputs import CONTAINERD_NAME
from orca.oci import image, reference
from orca.oci.image import Descriptor, ImageConfig
from orca.oci.index import Index
from orca.sources.packed import ZSTD
from orca.store.layout import CHUNK, Image, Layout
from orca.store.store import Store
from orca.tools import bounds, skopeo
from orca.tools.command import Command, Runner

_TAG = "loaded"
_PACKERS: tuple[tuple[bytes, Any], ...] = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\x00", lzma.open))
_DAMAGED = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, OverflowError, RecursionError)


@dataclass(frozen=True)
class Loaded:
    """What is in the store now: full names, none for what the archive does not name."""

    names: tuple[str, ...]
    descriptor: Descriptor


def load(path: Path, store: Store, runner: Runner, scratch: Path) -> list[Loaded]:
    """All images of an archive (plain or compressed) or of an OCI layout's directory. Raises OrcaError."""
    try:
        if path.is_dir():
            return _Oci(_Directory(path), store, runner, scratch).load()
        plain = _plain(path, scratch, runner)
        with tarfile.open(plain, "r:", tarinfo=BoundedHeader, errors="surrogateescape") as tar:
            source = _Tar(tar)
            if source.has("index.json"):
                return _Oci(source, store, runner, scratch).load()
            if source.has("manifest.json"):
                return _Docker(source, plain, store, runner, scratch).load()
    except _DAMAGED as error:
        raise ImageError(f"{path.name} is no archive of images, or damaged: {error}") from error
    raise ImageError(
        f"{path.name} has neither index.json nor manifest.json",
        hint="it reads what orca, docker and podman save",
    )


def _plain(path: Path, scratch: Path, runner: Runner) -> Path:
    """The archive without its compression, if it has one. Raises ImageError when that is too much."""
    with path.open("rb", buffering=0) as file:  # nothing is read ahead: zstd, too, reads from the beginning
        head = file.read(6)
        file.seek(0)
        packer = next((packer for magic, packer in _PACKERS if head.startswith(magic)), None)
        if packer is None and not head.startswith(ZSTD):
            return path
        target, most = scratch / "plain.tar", bounds.limit(os.fstat(file.fileno()).st_size)
        with target.open("wb") as plain:

            def keep(data: bytes, stream: str = "stdout") -> None:
                if stream == "stdout" and plain.write(data) and plain.tell() > most:
                    raise bounds.exceeded(path.name, most)

            if packer is None:
                runner.run(Command(("zstd", "-dc"), "unpack the archive"), stdin=file, on_output=keep)
                return target
            with packer(file) as unpacked:
                while data := _unpacked(unpacked, path.name):
                    keep(data)
    return target


def _unpacked(file: IO[bytes], name: str) -> bytes:
    try:
        return file.read(CHUNK)
    except OSError as error:
        if error.errno is not None:
            raise
        # Python's way of saying that the data is bad: a checksum of gzip's, any mistake of bzip2's.
        raise ImageError(f"{name} is no archive of images, or damaged: {error}") from error


class _Tar:
    """The regular files of an archive, by name; of two with one name the last counts, as for tar."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._members = {clean(member.name): member for member in tar if member.isreg()}

    def has(self, name: str) -> bool:
        return name in self._members

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        file = self._tar.extractfile(self._members[name]) if name in self._members else None
        if file is None:
            raise ImageError(f"{name} is missing in the archive")
        with file:
            yield file


class _Directory:
    """The same for a directory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def has(self, name: str) -> bool:
        return (self._path / name).is_file()

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        try:
            fd = os.open(self._path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise ImageError(f"{name} is missing in {self._path}") from error
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ImageError(f"{name} in {self._path} is not a regular file")
            yield file


def _json(source: _Tar | _Directory, name: str) -> Any:
    with source.open(name) as file:
        data = file.read(image.JSON_LIMIT + 1)
    return image.load_object(b'{"all":' + data + b"}", name)["all"]


def _blob(digest: str) -> str:
    return f"blobs/sha256/{image.check_digest(digest).removeprefix('sha256:')}"


class _Oci:
    """An OCI layout, in a directory or in a tar."""

    def __init__(self, source: _Tar | _Directory, store: Store, runner: Runner, scratch: Path) -> None:
        self.source = source
        self.store = store
        self.runner = runner
        self.scratch = scratch

    def load(self) -> list[Loaded]:
        index = _json(self.source, "index.json")
        entries = index.get("manifests") if isinstance(index, dict) else None
        if not isinstance(entries, list) or not entries:
            raise ImageError("the archive's index.json names no image")
        found: dict[str, Loaded] = {}
        for entry in map(Descriptor.from_json, entries):
            before = found.get(entry.digest)
            brought = before.descriptor if before else self._bring(replace(entry, annotations={}))
            names = (*(before.names if before else ()), *self._named(entry.annotations))
            found[entry.digest] = Loaded(tuple(dict.fromkeys(names)), brought)
        # Names are given at the end: all of the archive is there, or none of it is named.
        for each in found.values():
            if each.names:
                self.store.tag(each.names, each.descriptor)
        return list(found.values())

    def _named(self, notes: Mapping[str, str]) -> Iterator[str]:
        text = notes.get(CONTAINERD_NAME) or notes.get(image.REF_NAME)
        if isinstance(text, str) and text:
            yield from valid_names([text], self.runner)

    def _bring(self, descriptor: Descriptor, *, nested: bool = False) -> Descriptor:
        """The manifest or index and all below it into the store, checked. Raises ImageError."""
        value = image.load_object(self._read(descriptor), "a manifest")
        if not isinstance(value.get("manifests"), list):
            self._image(descriptor)
            return descriptor.plain()
        if nested:
            raise ImageError("an index of images holds another index")
        whole = Index.from_json(value)
        # docker saves the whole index, and of its images those that it has.
        present = [entry for entry in whole.manifests if self.source.has(_blob(entry.digest))]
        for entry in present:
            self._bring(entry, nested=True)
        if len(present) == len(whole.manifests):
            return replace(descriptor.plain(), media_type=image.INDEX)
        if not present:
            raise ImageError("none of the images of the archive's index is in it")
        images = Index(tuple(present)).images()
        return images[0].plain() if len(images) == 1 else self.store.images.put_index(replace(whole, manifests=images))

    def _read(self, descriptor: Descriptor) -> bytes:
        """A small blob, checked and stored."""
        if descriptor.size > image.JSON_LIMIT:
            raise ImageError(f"a manifest of {descriptor.size} bytes")
        self._copy(descriptor)
        return self.store.images.read(descriptor, "the manifest")

    def _image(self, descriptor: Descriptor) -> None:
        value = image.load_object(self.store.images.read(descriptor, "the manifest"), "the manifest")
        manifest = image.Manifest.from_json(value)
        for blob in (manifest.config, *manifest.layers):
            self._copy(blob)
        self.store.images.verify(self.store.images.image(descriptor.plain()), layers=False)

    def _copy(self, blob: Descriptor) -> None:
        if self.store.images.has(blob):
            return
        place, digest, left = self.scratch / f"blob-{os.urandom(4).hex()}", hashlib.sha256(), blob.size
        with self.source.open(_blob(blob.digest)) as file, place.open("xb") as target:
            while left >= 0 and (data := file.read(min(CHUNK, left + 1))):
                left -= len(data)
                digest.update(data)
                target.write(data)
        if left or f"sha256:{digest.hexdigest()}" != blob.digest:
            raise ImageError(f"blob {blob.digest} does not match its size or digest", hint="the archive is damaged")
        self.store.images.adopt(place, blob.digest)


class _Docker:
    """What docker saved before it knew OCI's layout: manifest.json, a config and plain layers."""

    def __init__(self, source: _Tar, path: Path, store: Store, runner: Runner, scratch: Path) -> None:
        self.source = source
        self.store = store
        self.runner = runner
        self.scratch = scratch
        self.path = scratch / "archive.tar"  # skopeo ends a path at its first colon
        self.path.symlink_to(path.absolute())

    def load(self) -> list[Loaded]:
        entries = _json(self.source, "manifest.json")
        if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
            raise ImageError("the archive's manifest.json names no image")
        found = []
        for number, entry in enumerate(entries):
            tags = entry.get("RepoTags") or []
            names = tuple(valid_names([tag for tag in tags if isinstance(tag, str)], self.runner))
            found.append(Loaded(names, self._convert(number, entry).descriptor))
        for each in found:
            if each.names:
                self.store.tag(each.names, each.descriptor)
        return found

    def _convert(self, number: int, entry: Mapping[str, Any]) -> Image:
        layout = Layout(self.scratch / f"layout-{number}").create(blobs=self.store.images.path / "blobs")
        command = skopeo.copy(
            f"docker-archive:{self.path}:@{number}",
            f"oci:{layout.path}:{_TAG}",
            why="convert the image",
        )
        most = bounds.limit(self.path.stat().st_size)
        try:
            if not bounds.run(self.runner, command, lambda process: bounds.written(process.pid) > most, step=None):
                raise bounds.exceeded("the archive", most)
        except ToolError as error:
            last = (error.stderr.splitlines() or ["no message"])[-1]
            raise ImageError(f"skopeo cannot read the archive: {last[-240:]}") from error
        made = layout.image(layout.index()[_TAG])
        layout.verify(made, layers=False)
        data = _json(self.source, clean(str(entry.get("Config", ""))))
        original = ImageConfig.from_json(data if isinstance(data, dict) else {})
        config = replace(
            made.config, healthcheck=original.healthcheck, onbuild=original.onbuild, shell=original.shell,
            args_escaped=original.args_escaped,
        )  # fmt: skip
        return made if config == made.config else self.store.images.put_image(made.manifest, config)


def valid_names(texts: list[str], runner: Runner) -> Iterator[str]:
    """Full names for what an archive calls its image; what is no name is told, and left out."""
    for text in texts:
        try:
            yield str(reference.local(text))
        except UsageError as error:
            runner.emit(Warned(f"the archive calls an image {text[:80]!r}, which is no name: {error.message}"))


def spool(stream: IO[bytes], scratch: Path) -> Path:
    """What comes from standard input, as a file. Raises StoreError, UsageError when nothing comes."""
    path = scratch / "standard-input.tar"
    with path.open("xb") as file:
        while data := stream.read(CHUNK):
            file.write(data)
        if not file.tell():
            raise UsageError("nothing came on standard input", hint="orca load -i FILE, or orca load < FILE")
    return path
