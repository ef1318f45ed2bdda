"""Reading a built image back: its config, its history, every file of every layer, with Python's own libraries."""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from support.proc import Result, run

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"


@dataclass(frozen=True)
class File:
    """One entry of a layer. `kind` is file, dir, link (symbolic), hard, or other; `target` is a link's."""

    kind: str
    mode: int
    uid: int
    gid: int
    mtime: float
    target: str = ""
    data: bytes = b""
    attributes: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        return self.data.decode()

    @property
    def owner(self) -> tuple[int, int]:
        return self.uid, self.gid

    @property
    def permissions(self) -> str:
        """The mode as one types it: 755."""
        return f"{self.mode:o}"


_KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "dir",
    tarfile.SYMTYPE: "link",
    tarfile.LNKTYPE: "hard",
}


@functools.lru_cache(maxsize=64)
def read_layer(blob: Path) -> dict[str, File]:
    """The entries of a layer by name, in the order of the archive; checks the blob's digest on the way."""
    data = blob.read_bytes()
    assert hashlib.sha256(data).hexdigest() == blob.name
    found: dict[str, File] = {}
    with gzip.open(blob) as stream, tarfile.open(fileobj=stream) as tar:  # type: ignore[arg-type]
        for e in tar:
            file = tar.extractfile(e) if e.isreg() else None
            attributes = tuple(sorted((k, v) for k, v in e.pax_headers.items() if k.startswith("SCHILY.xattr")))
            name = e.name.removeprefix("./").strip("/") or "."
            assert name not in found, f"{name} is twice in the layer"
            content = file.read() if file else b""
            kind = _KINDS.get(e.type, "other")
            found[name] = File(kind, e.mode, e.uid, e.gid, e.mtime, e.linkname, content, attributes)
    return found


def diff_id(blob: Path) -> str:
    """The digest of a layer when it is not compressed."""
    return f"sha256:{hashlib.sha256(gzip.decompress(blob.read_bytes())).hexdigest()}"


@dataclass(frozen=True)
class Built:
    """An image in the OCI layout `images`, and what the build said."""

    images: Path
    digest: str
    result: Result | None = None

    @property
    def stderr(self) -> str:
        assert self.result is not None
        return self.result.stderr

    def blob(self, digest: str) -> Path:
        return self.images / "blobs" / digest.replace(":", "/")

    def _json(self, digest: str) -> dict[str, Any]:
        data = self.blob(digest).read_bytes()
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == digest
        value = json.loads(data)
        assert isinstance(value, dict)
        return value

    @property
    def manifest(self) -> dict[str, Any]:
        return self._json(self.digest)

    @property
    def image(self) -> dict[str, Any]:
        """The whole config blob."""
        return self._json(self.manifest["config"]["digest"])

    @property
    def config(self) -> dict[str, Any]:
        """The `config` in the config blob: what a container gets."""
        value = self.image["config"]
        assert isinstance(value, dict)
        return value

    @property
    def env(self) -> dict[str, str]:
        return dict(word.split("=", 1) for word in self.config.get("Env", ()))

    @property
    def history(self) -> list[str]:
        """What each step is called, the oldest first."""
        return [entry.get("created_by", "") for entry in self.image["history"]]

    @property
    def layers(self) -> list[dict[str, File]]:
        return [read_layer(self.blob(layer["digest"])) for layer in self.manifest["layers"]]

    @property
    def last(self) -> dict[str, File]:
        """The uppermost layer."""
        return self.layers[-1]

    @property
    def files(self) -> dict[str, File]:
        """The root file system: all layers, with what their whiteouts say. Hard links have their file's content."""
        tree: dict[str, File] = {}
        for layer in self.layers:
            for name in layer:
                directory, _, last = name.rpartition("/")
                if last == OPAQUE:
                    _remove(tree, directory, keep=True)
                elif last.startswith(WHITEOUT):
                    _remove(tree, f"{directory}/{last.removeprefix(WHITEOUT)}".lstrip("/"))
            for name, file in layer.items():
                if WHITEOUT in name:
                    continue
                if file.kind != "dir" and name in tree:
                    _remove(tree, name)
                tree[name] = replace(file, data=tree[file.target.strip("./")].data) if file.kind == "hard" else file
        return tree

    def unpack(self, place: Path) -> Path:
        """The root file system as umoci unpacks it; needs the right to chown."""
        layout = place.with_name(place.name + ".oci")
        layout.mkdir()
        (layout / "blobs").symlink_to(self.images / "blobs")
        (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        entry = {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": self.digest,
            "size": self.blob(self.digest).stat().st_size,
            "annotations": {"org.opencontainers.image.ref.name": "x"},
        }
        (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
        run("umoci", "raw", "unpack", "--image", f"{layout}:x", place)
        return place

    def check(self) -> None:
        """The image is whole: sizes, digests, diff ids, and one history entry for each layer."""
        for layer in self.manifest["layers"]:
            assert self.blob(layer["digest"]).stat().st_size == layer["size"]
        assert self.image["rootfs"]["diff_ids"] == [
            diff_id(self.blob(layer["digest"])) for layer in self.manifest["layers"]
        ]
        full = [entry for entry in self.image["history"] if not entry.get("empty_layer")]
        assert len(full) == len(self.manifest["layers"]), self.image["history"]


def _remove(tree: dict[str, File], path: str, *, keep: bool = False) -> None:
    for name in [n for n in tree if n.startswith(f"{path}/") or (n == path and not keep)]:
        del tree[name]
