"""--output: a word of the command line as a value. buildx's spelling, skopeo's transports, or a path."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from orca.cli.flags.annotations import annotation
from orca.errors import OrcaError, UsageError
from orca.executor.options import STDOUT, Naming, Output
from orca.oci import reference
from orca.store.layout import check_place

_IMAGE = (
    *("name", "annotation", "compression", "compression-level", "force-compression"),
    *("oci-mediatypes", "rewrite-timestamp"),
)
FIELDS: dict[str, tuple[str, ...]] = {
    "oci": (*_IMAGE, "dest", "tar"),
    "docker": (*_IMAGE, "dest", "tar"),
    "image": (*_IMAGE, "push", "registry.insecure"),
    "registry": (*_IMAGE, "registry.insecure"),
    "local": ("dest", "platform-split", "rewrite-timestamp"),
    "tar": ("dest", "platform-split", "rewrite-timestamp"),
    "cacheonly": (),
}
DOCKER_SOCKET = "/var/run/docker.sock"
TRANSPORTS = ("oci", "oci-archive", "docker-archive", "dir", "containers-storage", "docker-daemon")
_WITH_PATH = ("oci", "oci-archive", "docker-archive", "dir")
_LEVELS = {"gzip": 9, "zstd": 22}
_HINT = "write type=oci|docker|tar|local|image|registry|cacheonly[,dest=PATH], a path, or oci:DIR:TAG"


def outputs(words: Sequence[str], naming: Naming, *, push: bool) -> tuple[Output, ...]:
    """All outputs of a command line. Raises UsageError for words that mean nothing, or do not go together."""
    found = [parse(word) for word in words]
    if push:
        # As buildx has it: --push turns an image that is to be made into one that is pushed.
        found = [replace(each, push=True) if each.kind == "image" else each for each in found]
        if not any(each.kind == "registry" or each.push for each in found):
            found.append(Output("registry"))
    if any(each.rewrite_timestamp for each in found) and naming.epoch is None:
        raise UsageError("rewrite-timestamp: to which time?", hint="give --source-date-epoch=SECONDS too")
    named = tuple(_named(each, naming) for each in found)
    if sum(each.dest == STDOUT for each in named) > 1:
        raise UsageError("only one output can go to standard output", hint="give the others a dest=FILE")
    return named


def parse(word: str) -> Output:
    """One --output. Raises UsageError."""
    transport, colon, place = word.partition(":")
    if colon and (transport in TRANSPORTS or word.startswith("docker://")):
        return _transport(transport, place, word)
    fields = _split(word)
    if len(fields) == 1 and not word.startswith("type="):
        if word.partition("=")[0] in {field for fields in FIELDS.values() for field in fields}:
            raise UsageError(f"bad --output {word!r}: no type", hint=_HINT)
        if colon and re.fullmatch(r"[a-z][a-z0-9-]*", transport):
            raise UsageError(f"bad --output {word!r}: no such transport", hint=f"{_HINT}; ./{word} is a path")
        return _placed(Output("tar", STDOUT) if word == "-" else Output("local", word), word)
    given = _fields(fields, word)
    kind = given.pop("type", "")
    if kind not in FIELDS:
        raise UsageError(f"bad --output {word!r}: {f'no type {kind!r}' if kind else 'no type'}", hint=_HINT)
    return _placed(_of_kind(kind, given, word), word)


def _split(word: str) -> list[str]:
    """Fields between commas; one in double quotes may hold commas."""
    import csv

    try:
        (fields,) = csv.reader([word], strict=True)
    except (csv.Error, ValueError) as error:
        raise UsageError(f"bad --output {word!r}", hint=_HINT) from error
    return fields


def _fields(fields: Sequence[str], word: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for field in fields:
        name, equals, value = field.partition("=")
        name = name.strip() if name.startswith("annotation") else name.strip().lower()
        if not equals or not name or name in given:
            raise UsageError(f"bad --output {word!r}: {field!r} is not one NAME=VALUE", hint=_HINT)
        given[name] = value
    return given


def _of_kind(kind: str, given: Mapping[str, str], word: str) -> Output:
    """`type=KIND` with its other fields."""
    output = Output(kind)
    for name, value in given.items():
        field = "annotation" if re.match(r"annotation(?:-[a-z-]+)?(?:\[[^]]*\])?\.", name) else name
        if field not in FIELDS[kind]:
            known = ", ".join(FIELDS[kind]) or "nothing else"
            raise UsageError(f"--output type={kind} has no {name}", hint=f"it takes {known}")
        output = _READERS[field](output, name, value)
    if output.level is not None:
        most = _LEVELS.get(output.compression or "gzip", -1)
        if not 0 <= output.level <= most:
            raise UsageError(f"bad --output {word!r}: compression-level {output.level}", hint="gzip 0-9, zstd 0-22")
    return output


def _flag(value: str, name: str) -> bool:
    known = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}
    if value.lower() not in known:
        raise UsageError(f"--output {name}={value}: neither true nor false")
    return known[value.lower()]


def _compression(output: Output, name: str, value: str) -> Output:
    if value not in ("gzip", "zstd", "uncompressed"):
        raise UsageError(f"--output compression={value} is not supported", hint="gzip, zstd or uncompressed")
    return replace(output, compression=value)


def _level(output: Output, name: str, value: str) -> Output:
    if not value.isascii() or not value.isdigit() or len(value) > 2:
        raise UsageError(f"--output compression-level={value} is not a number", hint="gzip 0-9, zstd 0-22")
    return replace(output, level=int(value))


def _names(output: Output, name: str, value: str) -> Output:
    return replace(output, names=tuple(str(reference.local(text.strip())) for text in value.split(",")))


def _annotation(output: Output, name: str, value: str) -> Output:
    level, _, key = name.removeprefix("annotation").partition(".")
    level = level.removeprefix("-") if level.startswith("-") else f"manifest{level}"
    return replace(output, annotations=(*output.annotations, annotation(f"{level}:{key}={value}")))


_READERS: dict[str, Callable[[Output, str, str], Output]] = {
    "annotation": _annotation,
    "compression": _compression,
    "compression-level": _level,
    "dest": lambda output, name, value: replace(output, dest=value),
    "force-compression": lambda output, name, value: replace(output, force=_flag(value, name)),
    "name": _names,
    "oci-mediatypes": lambda output, name, value: replace(output, docker=not _flag(value, name)),
    "platform-split": lambda output, name, value: replace(output, split=_flag(value, name)),
    "push": lambda output, name, value: replace(output, push=_flag(value, name)),
    "registry.insecure": lambda output, name, value: replace(output, insecure=_flag(value, name)),
    "rewrite-timestamp": lambda output, name, value: replace(output, rewrite_timestamp=_flag(value, name)),
    "tar": lambda output, name, value: replace(output, archive=_flag(value, name)),
}  # fmt: skip


def _transport(transport: str, place: str, word: str) -> Output:
    """skopeo's spelling; paths become absolute."""
    if word.startswith("docker://"):
        found = reference.parse(place.removeprefix("//"))
        if found.digest:
            raise UsageError(f"a digest cannot be chosen: {word}", hint="docker://REGISTRY/NAME:TAG")
        return Output("transport", f"docker://{found.tagged()}")
    path, colon, rest = place.partition(":") if transport != "dir" else (place, "", "")
    if not path:
        raise UsageError(f"{word} does not say where", hint=_HINT)
    if transport not in _WITH_PATH:
        return Output("transport", word)
    if transport == "oci" and not rest:
        colon, rest = ":", "latest"
    path = os.path.abspath(path)
    _check_parent(path, word)
    if transport in ("oci", "dir"):
        _check_directory(path, word, layout=transport == "oci")
    return Output("transport", f"{transport}:{path}{colon}{rest}")


def _placed(output: Output, word: str) -> Output:
    """With an absolute `dest`, which could be written to."""
    if output.kind == "local" and output.dest in ("", STDOUT):
        raise UsageError("--output type=local needs dest=DIRECTORY", hint="type=tar,dest=- writes to standard output")
    if output.kind not in ("oci", "docker", "tar", "local"):
        return output
    if output.kind == "docker" and not output.dest:
        return output  # for docker's daemon
    if not output.dest or output.dest == STDOUT:
        if not output.archive:
            raise UsageError("tar=false needs dest=DIRECTORY", hint=f"--output type={output.kind},tar=false,dest=DIR")
        if sys.stdout.isatty():
            raise UsageError("an archive is not written to a terminal", hint="dest=FILE, or redirect standard output")
        return replace(output, dest=STDOUT)
    path = os.path.abspath(output.dest)
    if output.kind == "local" or not output.archive:
        if os.path.lexists(path) and not os.path.isdir(path):
            raise UsageError(f"--output {word}: {output.dest} is not a directory")
        _check_directory(path, word, layout=output.kind == "oci")
        return replace(output, dest=path)
    if os.path.isdir(path):
        raise UsageError(f"--output {word}: {output.dest} is a directory", hint="name a file")
    _check_parent(path, word)
    return replace(output, dest=path)


def _check_directory(path: str, word: str, *, layout: bool) -> None:
    """Not the root of this machine; and where it is an OCI layout already, one that skopeo can read at once."""
    if os.path.isdir(path) and os.path.samefile(path, "/"):
        raise UsageError(
            f"--output {word}: the image's files would go over this machine's own", hint="name a directory for them"
        )
    if layout:
        check_place(Path(path))


def _check_parent(path: str, word: str) -> None:
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        raise UsageError(f"--output {word}: {parent} is not a directory", hint=f"mkdir -p {parent}")


def _named(output: Output, naming: Naming) -> Output:
    """With the names that it goes by; those that are pushed must say where to. Raises UsageError."""
    names = output.names or naming.tags
    if output.kind == "registry" or output.push:
        if not names:
            raise UsageError("a push needs a name", hint="-t REGISTRY/NAME:TAG")
        for name in names:
            if reference.parse(name).registry == reference.LOCAL:
                short = name.removeprefix(f"{reference.LOCAL}/")
                raise UsageError(f"{short} says no registry, so it cannot be pushed", hint=f"-t REGISTRY/{short}")
    daemon = output.dest.startswith("docker-daemon:") or (output.kind == "docker" and not output.dest)
    if daemon and not output.dest and not names:
        raise UsageError("docker's daemon needs a name for the image", hint="-t NAME, or dest=FILE for docker load")
    if daemon and not os.path.exists(DOCKER_SOCKET):
        hint = "--output type=docker,dest=FILE writes an archive for docker load"
        raise OrcaError(f"docker's daemon is not running here: there is no {DOCKER_SOCKET}", hint=hint)
    descriptors = tuple(each for each in naming.annotations if each.level.endswith("-descriptor"))
    return replace(output, names=names, annotations=(*descriptors, *output.annotations))
