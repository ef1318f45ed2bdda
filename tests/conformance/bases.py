"""The images that cases are built on, made here: as OCI layouts and in Docker's format."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.images import PATH_ENV, write_busybox_tar

TIME = 1_000_000_000
_PATH = PATH_ENV.removeprefix("PATH=")
_OCI = "application/vnd.oci.image"
_DOCKER = "application/vnd.docker"


@dataclass(frozen=True)
class Base:
    """An image: its layers as tars, and the `config` of its config blob."""

    name: str
    layers: tuple[bytes, ...]
    config: Mapping[str, Any]
    more: Mapping[str, Any] = field(default_factory=dict)
    architecture: str = "amd64"


def entry(
    name: str, mode: int = 0o644, data: str = "", *, kind: bytes = tarfile.REGTYPE, target: str = "",
    owner: tuple[int, int] = (0, 0), xattrs: Mapping[str, str] | None = None, device: tuple[int, int] = (0, 0),
) -> tuple[tarfile.TarInfo, bytes]:  # fmt: skip
    """An entry of a layer with its content. A name that ends in `/` is a directory."""
    info = tarfile.TarInfo(name.rstrip("/"))
    info.type = tarfile.DIRTYPE if name.endswith("/") else kind
    info.mode, info.linkname, info.mtime, info.size = mode, target, TIME, len(data.encode())
    info.uid, info.gid = owner
    info.devmajor, info.devminor = device
    info.pax_headers = {f"SCHILY.xattr.{key}": value for key, value in (xattrs or {}).items()}
    return info, data.encode()


def layer(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A layer's tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def make(scratch: Path) -> list[Base]:
    """All of them. README.md describes them for those who write cases."""
    write_busybox_tar(scratch)
    busybox = scratch.read_bytes()
    scratch.unlink()
    plain = {"Env": [PATH_ENV], "Cmd": ["/bin/sh"]}
    triggers = ["RUN echo run > /onbuild.run", "COPY f /onbuild.copy", "ENV ON=build", "LABEL on=$ON"]
    health = {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000, "Retries": 4}
    shell = ["/bin/sh", "-e", "-c"]
    return [
        Base("base", (busybox,), plain),
        Base("arm", (busybox,), plain, architecture="arm64"),
        Base("bare", (busybox,), {}),
        Base("rich", (busybox, _furniture(), _whiteouts()), _rich_config(), {"author": "somebody"}),
        Base("trigger", (busybox,), {**plain, "OnBuild": triggers, "Healthcheck": health, "Shell": shell}),
    ]


def _rich_config() -> dict[str, Any]:
    return {
        "Env": [f"PATH={_PATH}:/opt/bin", "A=one", "B=two words"],
        "Entrypoint": ["/bin/echo"],
        "Cmd": ["from", "base"],
        "WorkingDir": "/work",
        "User": "app",
        "Labels": {"kind": "rich", "keep": "yes"},
        "ExposedPorts": {"80/tcp": {}},
        "Volumes": {"/vol": {}},
        "StopSignal": "SIGINT",
    }


def _furniture() -> bytes:
    """Users, links of every kind, modes, an extended attribute, and what the next layer deletes."""
    link = tarfile.SYMTYPE
    return layer(
        entry("data/", 0o2775, owner=(1000, 29)),
        entry("data/f", 0o640, "data\n", owner=(1000, 29)),
        entry("data/sub/", 0o700, owner=(1000, 1000)),
        entry("data/sub/deep", 0o600, "deep\n", owner=(1000, 1000)),
        entry("etc/group", 0o644, data="root:x:0:\ndaemon:x:1:\naudio:x:29:app,www\napp:x:1000:\nwww:x:33:\n"),
        entry(
            "etc/passwd", 0o644,
            "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
            "app:x:1000:1000:app:/home/app:/bin/sh\nwww:x:33:33:www:/var/www:/bin/sh\n",
        ),
        entry("gone/", 0o755),
        entry("gone/file", 0o644, "gone\n"),
        entry("hard/", 0o755),
        entry("hard/one", 0o644, "linked\n"),
        entry("hard/two", kind=tarfile.LNKTYPE, target="hard/one"),
        entry("links/", 0o755),
        entry("links/absolute", 0o777, kind=link, target="/data"),
        entry("links/chain", 0o777, kind=link, target="absolute"),
        entry("links/dangling", 0o777, kind=link, target="/not/yet"),
        entry("links/file", 0o777, kind=link, target="../data/f"),
        entry("links/out", 0o777, kind=link, target="../../../../data"),
        entry("links/relative", 0o777, kind=link, target="../data"),
        entry("opaque/", 0o755),
        entry("opaque/old", 0o644, "old\n"),
        entry("setuid", 0o4755, "set\n"),
        entry("vol/", 0o755),
        entry("vol/kept", 0o644, "kept\n"),
        entry("work/", 0o755, owner=(1000, 1000)),
        entry("marked", 0o644, "marked\n", xattrs={"user.mark": "yes"}),
    )  # fmt: skip


def _whiteouts() -> bytes:
    return layer(
        entry(".wh.gone"),
        entry("opaque/", 0o755),
        entry("opaque/.wh..wh..opq"),
        entry("opaque/new", 0o644, "new\n"),
    )


# --- writing them


@dataclass
class _Blobs:
    directory: Path
    prefix: str = ""

    def put(self, data: bytes, kind: str) -> dict[str, Any]:
        """Write a blob; returns its descriptor."""
        digest = hashlib.sha256(data).hexdigest()
        (self.directory / digest).write_bytes(data)
        return {"mediaType": kind, "size": len(data), "digest": f"sha256:{digest}"}


def _image(base: Base, blobs: _Blobs, *, docker: bool) -> bytes:
    """Write the blobs of an image; returns its manifest."""
    kinds = (
        (f"{_DOCKER}.distribution.manifest.v2+json", f"{_DOCKER}.container.image.v1+json",
         f"{_DOCKER}.image.rootfs.diff.tar.gzip")
        if docker
        else (f"{_OCI}.manifest.v1+json", f"{_OCI}.config.v1+json", f"{_OCI}.layer.v1.tar+gzip")
    )  # fmt: skip
    created = "2001-09-09T01:46:40Z"
    config = {
        "created": created, "architecture": base.architecture, "os": "linux", **base.more, "config": dict(base.config),
        "rootfs": {
            "type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in base.layers],
        },
        "history": [{"created": created, "created_by": f"layer {n} of {base.name}"} for n in range(len(base.layers))],
    }  # fmt: skip
    manifest = {
        "schemaVersion": 2,
        "mediaType": kinds[0],
        "config": blobs.put(json.dumps(config).encode(), kinds[1]),
        "layers": [blobs.put(gzip.compress(tar, 1, mtime=0), kinds[2]) for tar in base.layers],
    }
    return json.dumps(manifest).encode()


def write_layout(base: Base, path: Path) -> str:
    """Write an OCI layout with the image as `path`, tagged with its name; returns the manifest's digest."""
    (path / "blobs" / "sha256").mkdir(parents=True)
    blobs = _Blobs(path / "blobs" / "sha256")
    descriptor = blobs.put(_image(base, blobs, docker=False), f"{_OCI}.manifest.v1+json")
    named = {**descriptor, "annotations": {"org.opencontainers.image.ref.name": base.name}}
    (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    return str(descriptor["digest"])


def write_docker(base: Base, path: Path) -> None:
    """Write the image in Docker's format, as skopeo's `dir:` has it."""
    path.mkdir(parents=True)
    (path / "manifest.json").write_bytes(_image(base, _Blobs(path), docker=True))
    (path / "version").write_text("Directory Transport Version: 1.1\n")


def write_all(top: Path) -> None:
    """Every base below `top`: NAME.oci, NAME.docker, and NAME.digest with its digest in the OCI layout."""
    top.mkdir()
    for base in make(top / "busybox.tar"):
        (top / f"{base.name}.digest").write_text(write_layout(base, top / f"{base.name}.oci"))
        write_docker(base, top / f"{base.name}.docker")
    for path in top.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def names(top: Path) -> Sequence[str]:
    """The names of all bases below `top`."""
    return [path.stem for path in sorted(top.glob("*.oci"))]
