"""Values of the OCI image spec: descriptors, manifests, image configs, history. No I/O.

`from_json` accepts only what the spec allows, because what it reads may come from anybody;
everything else raises ImageError.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from orca.errors import ImageError

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYERS = (
    LAYER,
    f"{LAYER}+gzip",
    f"{LAYER}+zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
)
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYERS = {LAYER: _DOCKER_LAYER, f"{LAYER}+gzip": f"{_DOCKER_LAYER}.gzip"}
"""What Docker's format calls OCI's layers. It has no zstd."""
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
REF_NAME = "org.opencontainers.image.ref.name"

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
JSON_LIMIT = 8 * 1024 * 1024

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def check_digest(text: object) -> str:
    """`text` if it is a sha256 digest as the spec writes it; else ImageError.

    Nothing that failed this check ever becomes part of a path.
    """
    if not isinstance(text, str) or not _DIGEST.fullmatch(text):
        raise ImageError(f"not a digest: {str(text)[:80]!r}", hint="digests are sha256: and 64 hexadecimal digits")
    return text


def digest_of(data: bytes) -> str:
    """The digest of `data`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no blanks: equal values are equal bytes, different ones different bytes."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogateescape")


def document(value: Any) -> bytes:
    """The same as a blob that anybody can read: what is not UTF-8 in it (of a command line) becomes U+FFFD."""
    return canonical(value).decode("utf-8", "replace").encode()


def load_object(data: bytes, what: str) -> dict[str, Any]:
    """`data` as a JSON object, at most JSON_LIMIT bytes. Raises ImageError, naming `what`."""
    if len(data) > JSON_LIMIT:
        raise ImageError(f"{what} is larger than {JSON_LIMIT} bytes")
    try:
        value = json.loads(data)
        if b"\\ud" in data or b"\\uD" in data:
            json.dumps(value, ensure_ascii=False).encode()  # fails for half a surrogate pair, which is no text
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{what} is not JSON") from error
    if not isinstance(value, dict):
        raise ImageError(f"{what} is not a JSON object")
    return value


def _typed(value: Any, kind: type, what: str) -> Any:
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool) != (kind is bool)):
        raise ImageError(f"{what} should be a {kind.__name__}")
    return value


def _strings(value: Any, what: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ImageError(f"{what} should be a list of strings")
    return tuple(value)


@dataclass(frozen=True)
class Descriptor:
    """A reference to a blob: its media type, digest and size in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Mapping[str, Any] | None = None

    @classmethod
    def from_json(cls, value: Any) -> Descriptor:
        if not isinstance(value, dict):
            raise ImageError("a descriptor is not a JSON object")
        size = _typed(value.get("size"), int, "a descriptor's size")
        if size is None or size < 0:
            raise ImageError("a descriptor has no size")
        return cls(
            _typed(value.get("mediaType"), str, "a media type") or "",
            check_digest(value.get("digest")),
            size,
            _typed(value.get("annotations"), dict, "annotations") or {},
            _typed(value.get("platform"), dict, "a platform"),
        )

    def to_json(self) -> dict[str, Any]:
        result: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.annotations:
            result["annotations"] = dict(self.annotations)
        if self.platform:
            result["platform"] = dict(self.platform)
        return result

    def plain(self) -> Descriptor:
        """The same blob without annotations and platform."""
        return Descriptor(self.media_type, self.digest, self.size)


def descriptor_of(data: bytes, media_type: str) -> Descriptor:
    """The descriptor of a blob that holds `data`."""
    return Descriptor(media_type, digest_of(data), len(data))


@dataclass(frozen=True)
class Manifest:
    """An image manifest: OCI's, or Docker's version 2 schema 2, which differs in its media types only."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Manifest:
        layers = value.get("layers")
        if value.get("schemaVersion") != 2 or not isinstance(layers, list):
            raise ImageError("not an OCI image manifest")
        parsed = tuple(Descriptor.from_json(layer) for layer in layers)
        for layer in parsed:
            if layer.media_type not in LAYERS and layer.media_type not in DOCKER_LAYERS.values():
                raise ImageError(f"unknown layer media type {layer.media_type[:120]!r}")
        annotations = _typed(value.get("annotations"), dict, "annotations") or {}
        return cls(Descriptor.from_json(value.get("config")), parsed, annotations)

    def to_json(self) -> dict[str, Any]:
        result: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": self.config.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
        }
        if self.annotations:
            result["annotations"] = dict(sorted(self.annotations.items()))
        return result

    @property
    def size(self) -> int:
        """Bytes of all layers as they are stored."""
        return sum(layer.size for layer in self.layers)

    @property
    def docker(self) -> bool:
        """Is it in Docker's format?"""
        return self.config.media_type == DOCKER_CONFIG

    @property
    def media_type(self) -> str:
        return DOCKER_MANIFEST if self.docker else MANIFEST

    def as_docker(self) -> Manifest:
        """The same in Docker's format, which has no annotations. ImageError: it has no name for a layer."""
        unknown = {layer.media_type for layer in self.layers} - {*DOCKER_LAYERS, *DOCKER_LAYERS.values()}
        if unknown:
            raise ImageError(f"Docker's format has no layers of type {min(unknown)}", hint="leave it in OCI's format")
        layers = tuple(replace(layer, media_type=DOCKER_LAYERS.get(layer.media_type, layer.media_type))
                       for layer in self.layers)  # fmt: skip
        return Manifest(replace(self.config, media_type=DOCKER_CONFIG), layers)

    def as_oci(self) -> Manifest:
        """The same in OCI's format."""
        names = {docker: oci for oci, docker in DOCKER_LAYERS.items()}
        layers = tuple(
            replace(layer, media_type=names.get(layer.media_type, layer.media_type)) for layer in self.layers
        )
        return replace(self, config=replace(self.config, media_type=CONFIG), layers=layers)


@dataclass(frozen=True)
class History:
    """One entry of an image's history; `empty_layer` says that it made no layer."""

    created: str | None = None
    created_by: str | None = None
    author: str | None = None
    comment: str | None = None
    empty_layer: bool = False

    @classmethod
    def from_json(cls, value: Any) -> History:
        if not isinstance(value, dict):
            raise ImageError("a history entry is not a JSON object")
        names = ("created", "created_by", "author", "comment")
        text = {name: _typed(value.get(name), str, name) for name in names}
        return cls(**text, empty_layer=bool(value.get("empty_layer")))

    def to_json(self) -> dict[str, Any]:
        names = ("created", "created_by", "author", "comment")
        result: dict[str, Any] = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.empty_layer:
            result["empty_layer"] = True
        return result


@dataclass(frozen=True)
class ImageConfig:
    """An image config: the OCI fields and those that only Docker's format names
    (Healthcheck, OnBuild, Shell, ArgsEscaped), which builders keep all the same.

    Sequences of pairs keep their order; None means that the field is absent.
    """

    architecture: str = ""
    os: str = "linux"
    variant: str | None = None
    created: str | None = None
    author: str | None = None
    user: str = ""
    env: tuple[tuple[str, str], ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    working_dir: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    volumes: tuple[str, ...] = ()
    exposed_ports: tuple[str, ...] = ()
    stop_signal: str | None = None
    healthcheck: Mapping[str, Any] | None = None
    onbuild: tuple[str, ...] = ()
    shell: tuple[str, ...] | None = None
    args_escaped: bool = False
    diff_ids: tuple[str, ...] = ()
    history: tuple[History, ...] = ()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ImageConfig:
        """Raises ImageError on anything that the spec does not allow."""
        run = _typed(value.get("config"), dict, "config") or {}
        rootfs = _typed(value.get("rootfs"), dict, "rootfs") or {}
        if rootfs.get("type") != "layers" or not isinstance(rootfs.get("diff_ids") or [], list):
            raise ImageError("the image config has no rootfs of type layers")
        history = _typed(value.get("history"), list, "history") or []
        labels = _typed(run.get("Labels"), dict, "Labels") or {}
        return cls(
            architecture=_typed(value.get("architecture"), str, "architecture") or "",
            os=_typed(value.get("os"), str, "os") or "linux",
            variant=_typed(value.get("variant"), str, "variant") or None,
            created=_typed(value.get("created"), str, "created"),
            author=_typed(value.get("author"), str, "author") or None,
            user=_typed(run.get("User"), str, "User") or "",
            env=_environment(_strings(run.get("Env"), "Env") or ()),
            entrypoint=_strings(run.get("Entrypoint"), "Entrypoint") or None,
            cmd=_strings(run.get("Cmd"), "Cmd") or None,
            working_dir=_typed(run.get("WorkingDir"), str, "WorkingDir") or "",
            labels=tuple((name, str(text)) for name, text in labels.items()),
            volumes=tuple(_typed(run.get("Volumes"), dict, "Volumes") or ()),
            exposed_ports=tuple(_typed(run.get("ExposedPorts"), dict, "ExposedPorts") or ()),
            stop_signal=_typed(run.get("StopSignal"), str, "StopSignal") or None,
            healthcheck=_typed(run.get("Healthcheck"), dict, "Healthcheck"),
            onbuild=_strings(run.get("OnBuild"), "OnBuild") or (),
            shell=_strings(run.get("Shell"), "Shell"),
            args_escaped=bool(run.get("ArgsEscaped")),
            diff_ids=tuple(check_digest(item) for item in rootfs.get("diff_ids") or ()),
            history=tuple(History.from_json(entry) for entry in history),
        )

    def to_json(self) -> dict[str, Any]:
        top = {"architecture": self.architecture, "os": self.os, "variant": self.variant}
        top |= {"created": self.created, "author": self.author}
        return {
            **{name: text for name, text in top.items() if text},
            "config": self.run_json(),
            "rootfs": {"type": "layers", "diff_ids": list(self.diff_ids)},
            "history": [entry.to_json() for entry in self.history],
        }

    def run_json(self) -> dict[str, Any]:
        """The `config` object: what a container gets by default."""
        fields: dict[str, Any] = {
            "User": self.user,
            "ExposedPorts": {port: {} for port in self.exposed_ports},
            "Env": [f"{name}={text}" for name, text in self.env],
            "Entrypoint": _list(self.entrypoint),
            "Cmd": _list(self.cmd),
            "Healthcheck": self.healthcheck,
            "Volumes": {path: {} for path in self.volumes},
            "WorkingDir": self.working_dir,
            "OnBuild": list(self.onbuild),
            "Labels": dict(self.labels),
            "StopSignal": self.stop_signal,
            "Shell": _list(self.shell),
            "ArgsEscaped": self.args_escaped,
        }
        return {name: value for name, value in fields.items() if value}

    def environment(self) -> dict[str, str]:
        return dict(self.env)

    def with_env(self, pairs: Mapping[str, str]) -> ImageConfig:
        """`pairs` set; a name keeps the place it had, new ones follow."""
        return replace(self, env=tuple({**dict(self.env), **pairs}.items()))

    def with_labels(self, pairs: Mapping[str, str]) -> ImageConfig:
        return replace(self, labels=tuple({**dict(self.labels), **pairs}.items()))


def _list(value: tuple[str, ...] | None) -> list[str] | None:
    return None if value is None else list(value)


def _environment(words: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Env entries as pairs; one without `=` or without a name is refused."""
    pairs: dict[str, str] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name or "\0" in word:
            raise ImageError(f"the image has a bad Env entry {word[:80]!r}", hint="each entry must be NAME=value")
        pairs[name] = text
    return tuple(pairs.items())
