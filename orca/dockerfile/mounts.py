"""RUN --mount: its options, checked against what each kind of mount knows. Pure.

Whatever is not in the table of its kind is an error: an option that is silently ignored may be the
one that was meant to protect something.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from orca.errors import OrcaError

SECRETS = "/run/secrets"
AGENT = "/run/buildkit/ssh_agent"
SHARING = ("shared", "private", "locked")
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_ID = re.compile(r"[^\0\n]{1,1024}")


class MountError(OrcaError):
    """A --mount that cannot be understood; it has no location yet."""


@dataclass(frozen=True)
class Mount:
    """One mount of a RUN. `target` is absolute. `source` is relative to the root of `from_` (None: the context).

    `read_only` is what the RUN sees; writes to a bind that is not read-only are thrown away all the
    same. `size` is bytes. `env` is the variable that a secret comes in, `file` whether it is (also) a file.
    """

    kind: str
    target: str = ""
    source: str = ""
    from_: str | None = None
    read_only: bool = False
    id: str = ""
    sharing: str = "shared"
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    size: int | None = None
    required: bool = False
    env: str | None = None

    def to_json(self) -> dict[str, Any]:
        """What a cache key holds of it: all but the defaults."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}


def _flag(text: str) -> bool:
    if text.lower() in ("", "true", "1"):
        return True
    if text.lower() in ("false", "0"):
        return False
    raise ValueError("true or false")


def _inverse(text: str) -> bool:
    return not _flag(text)


def _path(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError("a path")
    return text


def _octal(text: str) -> int:
    if not re.fullmatch(r"[0-7]{1,5}", text) or int(text, 8) > 0o7777:
        raise ValueError("an octal mode such as 0400")
    return int(text, 8)


def _id(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) > 4294967294:
        raise ValueError("a number")
    return int(text)


def size(text: str) -> int:
    """Bytes, with a suffix such as k, M, GiB. Raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,18})(?:([kmgt]?)(?:i?b)?)", text.lower())
    if match is None:
        raise ValueError("a size such as 64m")
    return int(match[1]) * _UNITS[match[2]]


def _sharing(text: str) -> str:
    if text not in SHARING:
        raise ValueError(f"one of {', '.join(SHARING)}")
    return text


def _stage(text: str) -> str:
    if "$" in text:
        raise ValueError("a stage or image without variables: name it by a FROM … AS of its own")
    return _name(text)


def _variable(text: str) -> str:
    if "=" in text:
        raise ValueError("the name of a variable")
    return _name(text)


def _name(text: str) -> str:
    if not _ID.fullmatch(text):
        raise ValueError("a name")
    return text


Reader = Callable[[str], Any]
_TARGET: dict[str, tuple[str, Reader]] = dict.fromkeys(("target", "dst", "destination"), ("target", _path))
_SOURCE: dict[str, tuple[str, Reader]] = {
    "source": ("source", _path),
    "src": ("source", _path),
    "from": ("from_", _stage),
}
_WRITING: dict[str, tuple[str, Reader]] = {
    "ro": ("read_only", _flag), "readonly": ("read_only", _flag),
    "rw": ("read_only", _inverse), "readwrite": ("read_only", _inverse),
}  # fmt: skip
_OWNER: dict[str, tuple[str, Reader]] = {"mode": ("mode", _octal), "uid": ("uid", _id), "gid": ("gid", _id)}
_NAMED: dict[str, tuple[str, Reader]] = {"id": ("id", _name), "required": ("required", _flag)}

# Kind → option → (field, how its value is read).
OPTIONS: Mapping[str, Mapping[str, tuple[str, Reader]]] = {
    "bind":   {**_TARGET, **_SOURCE, **_WRITING},
    "cache":  {**_TARGET, **_SOURCE, **_WRITING, **_OWNER, "id": ("id", _name), "sharing": ("sharing", _sharing)},
    "tmpfs":  {**_TARGET, "size": ("size", size)},
    "secret": {**_TARGET, **_NAMED, **_OWNER, "env": ("env", _variable)},
    "ssh":    {**_TARGET, **_NAMED, **_OWNER},
}  # fmt: skip
_WITHOUT_VALUE = ("ro", "readonly", "rw", "readwrite", "required")


def parse(text: str, expand: Callable[[str], str], directory: str) -> Mount:
    """The mount that `--mount=text` describes. `expand` replaces variables; `directory` is the working directory.

    Raises MountError.
    """
    words = _words(text)
    kind = expand(next((value for name, value in words if name == "type"), None) or "bind")
    if kind not in OPTIONS:
        raise MountError(f"unknown mount type {kind!r}", hint=_near(kind, list(OPTIONS)))
    found: dict[str, Any] = {"read_only": kind == "bind"}
    for name, value in words:
        if name == "type":
            continue
        if name not in OPTIONS[kind]:
            known = list(OPTIONS[kind])
            raise MountError(f"unknown option {name!r} of --mount=type={kind}", hint=_near(name, known))
        attribute, read = OPTIONS[kind][name]
        try:
            found[attribute] = read(_value(name, value, expand))
        except ValueError as error:
            given = name if value is None else f"{name}={value}"
            raise MountError(f"--mount: {given} should be {error}") from error
    return _complete(Mount(kind, **found), directory)


def source_stage(text: str) -> str | None:
    """The stage or image that `--mount=text` names by from=, None if it names none. Raises MountError."""
    return next((value for name, value in _words(text) if name == "from"), None)


def _words(text: str) -> list[tuple[str, str | None]]:
    """The comma-separated words, as one record of CSV: a word in double quotes may hold commas."""
    import csv  # most Dockerfiles have no mount

    try:
        record = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise MountError(f"--mount={text} cannot be read: {error}") from error
    words = []
    for word in record:
        name, equals, value = word.partition("=")
        if not name.strip():
            raise MountError(f"--mount={text} has an empty option")
        words.append((name.strip().lower(), value if equals else None))
    return words


def _value(name: str, value: str | None, expand: Callable[[str], str]) -> str:
    """The value with its variables replaced; `from` keeps them, since stages are planned before any has a value."""
    if value is not None:
        return value if name == "from" else expand(value)
    if name not in _WITHOUT_VALUE:
        raise ValueError("given a value")
    return ""


def _near(word: str, known: list[str]) -> str:
    import difflib  # only a mistake needs it

    near = difflib.get_close_matches(word, known, 1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"


def _complete(mount: Mount, directory: str) -> Mount:
    """Defaults that depend on other options, and what a kind cannot do without."""
    if mount.kind == "secret":
        name = mount.id or posixpath.basename(mount.target)
        if not name:
            raise MountError("a secret needs an id", hint="--mount=type=secret,id=NAME")
        target = mount.target or ("" if mount.env else f"{SECRETS}/{name}")
        mount = replace(mount, id=name, target=target, mode=0o400 if mount.mode is None else mount.mode)
    elif mount.kind == "ssh":
        mode = 0o600 if mount.mode is None else mount.mode
        mount = replace(mount, id=mount.id or "default", mode=mode)
    elif not mount.target:
        raise MountError(f"--mount=type={mount.kind} needs a target", hint="add target=/PATH")
    if mount.kind == "cache":
        mount = replace(
            mount, id=mount.id or posixpath.normpath(mount.target), mode=0o755 if mount.mode is None else mount.mode
        )
    if not mount.target:
        return mount
    # Two slashes in front would stay.
    target = "/" + posixpath.normpath(posixpath.join("/", directory, mount.target)).lstrip("/")
    if target == "/":
        raise MountError("a mount cannot have / as its target")
    return replace(mount, target=target)
