"""Images that no honest tool would make, and a registry that serves whatever a test wants."""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import io
import json
import struct
import tarfile
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
PATH_ENV = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Answer = Callable[["Handler"], None]
"""How to answer a request, instead of with bytes."""


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


# --- layers


@dataclass(frozen=True)
class Member:
    """One entry of a tar, with whatever a test wants in it."""

    name: str
    data: bytes = b""
    kind: bytes = tarfile.REGTYPE
    target: str = ""
    mode: int = 0o644
    device: tuple[int, int] = (0, 0)
    pax: Mapping[str, str] = field(default_factory=dict)
    size: int | None = None

    def info(self) -> tarfile.TarInfo:
        info = tarfile.TarInfo(self.name)
        info.type, info.linkname, info.mode = self.kind, self.target, self.mode
        info.size = len(self.data) if self.size is None else self.size
        info.devmajor, info.devminor = self.device
        info.pax_headers, info.mtime = dict(self.pax), 1_000_000_000
        return info


def file(name: str, data: bytes = b"x", *, mode: int = 0o644, **pax: str) -> Member:
    return Member(name, data, mode=mode, pax=pax)


def directory(name: str, *, mode: int = 0o755, pax: Mapping[str, str] | None = None) -> Member:
    return Member(name, kind=tarfile.DIRTYPE, mode=mode, pax=pax or {})


def link(name: str, target: str | Path) -> Member:
    return Member(name, kind=tarfile.SYMTYPE, target=str(target), mode=0o777)


def hard_link(name: str, target: str | Path) -> Member:
    return Member(name, kind=tarfile.LNKTYPE, target=str(target))


def special(name: str, kind: bytes, device: tuple[int, int] = (0, 0)) -> Member:
    return Member(name, kind=kind, device=device)


def tar(*members: Member) -> bytes:
    """A plain tar of these entries, names and all as they are."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            archive.addfile(member.info(), io.BytesIO(member.data))
    return buffer.getvalue()


def zeros(name: str, size: int) -> bytes:
    """A gzipped tar of about `size` / 1000 bytes that holds `size` zeros (a multiple of 1 MiB, or of 64)."""
    info = tarfile.TarInfo(name)
    info.size = size
    step = min(size, 64 << 20)
    head, chunk, tail = zlib.compressobj(6, wbits=-15), zlib.compressobj(6, wbits=-15), zlib.compressobj(6, wbits=-15)
    # After a full flush nothing refers back: the same bytes, again and again, are the same zeros.
    packed = [head.compress(info.tobuf()) + head.flush(zlib.Z_FULL_FLUSH)]
    packed += [chunk.compress(bytes(step)) + chunk.flush(zlib.Z_FULL_FLUSH)] * (size // step)
    packed += [tail.compress(bytes(1024)) + tail.flush()]
    check = zlib.crc32(info.tobuf())
    for _ in range(size // step):
        check = zlib.crc32(bytes(step), check)
    check = zlib.crc32(bytes(1024), check)
    length = (len(info.tobuf()) + size + 1024) & 0xFFFFFFFF
    return gzip.compress(b"")[:10] + b"".join(packed) + struct.pack("<II", check, length)


# --- images


@dataclass(frozen=True)
class Image:
    """An image: layers (tars, packed or not), the `config` object of its config; `edit` has the last word on both."""

    layers: Sequence[bytes] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    edit: Callable[[dict[str, Any], dict[str, Any]], None] = lambda config, manifest: None

    def blobs(self) -> tuple[bytes, dict[str, bytes]]:
        """The manifest and every other blob by its digest."""
        packed = [data if data[:2] == b"\x1f\x8b" else gzip.compress(data, 1, mtime=0) for data in self.layers]
        config: dict[str, Any] = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": [PATH_ENV], **self.config},
            "rootfs": {"type": "layers", "diff_ids": [_diff_id(data) for data in self.layers]},
        }
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "layers": [{"mediaType": LAYER, "digest": digest(data), "size": len(data)} for data in packed],
        }
        self.edit(config, manifest)
        raw = json.dumps(config).encode()
        manifest.setdefault("config", {"mediaType": CONFIG, "digest": digest(raw), "size": len(raw)})
        return json.dumps(manifest).encode(), {digest(data): data for data in (*packed, raw)}


@functools.cache
def _diff_id(data: bytes) -> str:
    if data[:2] != b"\x1f\x8b":
        return digest(data)
    if struct.unpack("<I", data[-4:])[0] > 1 << 30:
        return digest(b"nobody gets to the end of it")
    found = hashlib.sha256()
    with gzip.open(io.BytesIO(data)) as plain:
        while chunk := plain.read(1 << 20):
            found.update(chunk)
    return f"sha256:{found.hexdigest()}"


# --- the registry


class Handler(BaseHTTPRequestHandler):
    """Answers from the registry's tables and writes down what it is asked."""

    protocol_version = "HTTP/1.1"
    registry: ClassVar[HostileRegistry]

    def do_GET(self) -> None:
        self.registry.requests.append((self.path, dict(self.headers)))
        answer = self.registry.answer(self.path)
        if callable(answer):
            with contextlib.suppress(OSError):
                answer(self)
        elif answer is None:
            self.say(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}')
        else:
            self.say(200, answer[1], **{"Content-Type": answer[0]})

    do_HEAD = do_GET

    def say(self, code: int, body: bytes, **headers: str) -> None:
        """A whole answer. Underscores of header names are hyphens."""
        self.send_response(code)
        headers = {"Content-Length": str(len(body)), **headers}
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class HostileRegistry:
    """A registry on loopback: `add` an image, then change what it answers."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.table: dict[str, tuple[str, bytes] | Answer] = {}
        handler = type("Bound", (Handler,), {"registry": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_port}"

    def answer(self, path: str) -> tuple[str, bytes] | Answer | None:
        if path in ("/v2", "/v2/"):
            return self.table.get("/v2/", ("application/json", b"{}"))
        return self.table.get(path)

    def add(self, name: str, image: Image) -> str:
        """Serve an image; returns what FROM says."""
        manifest, blobs = image.blobs()
        self.manifest(name, "latest", MANIFEST, manifest)
        for found, data in blobs.items():
            self.table[f"/v2/{name}/blobs/{found}"] = ("application/octet-stream", data)
        return f"{self.address}/{name}:latest"

    def manifest(self, name: str, tag: str, kind: str, data: bytes) -> str:
        """Serve a manifest or index by tag and by digest; returns the digest."""
        for word in (tag, digest(data)):
            self.table[f"/v2/{name}/manifests/{word}"] = (kind, data)
        return digest(data)

    def write_registries_conf(self, path: Path) -> Path:
        path.write_text(f'[[registry]]\nlocation = "{self.address}"\ninsecure = true\n')
        return path


@contextlib.contextmanager
def serve() -> Iterator[HostileRegistry]:
    """A hostile registry until the block is left."""
    registry = HostileRegistry()
    thread = threading.Thread(target=registry.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        registry.server.shutdown()
        registry.server.server_close()
