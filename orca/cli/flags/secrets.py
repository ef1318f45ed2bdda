"""--secret and --ssh: what a build may use and no image may keep."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from orca.errors import OrcaError, UsageError
from orca.executor.inputs import read_small

LIMIT = 500 * 1024
"""Bytes of one secret, as BuildKit has it."""
KEY_LIMIT = 64 * 1024


def secrets(words: Sequence[str], environ: Mapping[str, str]) -> dict[str, bytes]:
    """The secrets of `id=NAME[,src=FILE|,env=VARIABLE]` words. Raises UsageError; OrcaError for an unreadable file."""
    return dict(_secret(word, environ) for word in words)


def _secret(word: str, environ: Mapping[str, str]) -> tuple[str, bytes]:
    fields = dict(part.partition("=")[::2] for part in word.split(","))
    kind = fields.pop("type", "")
    source, variable = fields.pop("src", "") or fields.pop("source", ""), fields.pop("env", "")
    name = fields.pop("id", "") or posixpath.basename(source)
    if fields or not name or kind not in ("", "file", "env") or (source and variable):
        raise UsageError(f"bad --secret {word!r}", hint="write id=NAME,src=FILE or id=NAME,env=VARIABLE")
    if kind == "env" and source:
        source, variable = "", source
    if not source and not variable and (kind == "env" or (not kind and name in environ)):
        variable = name
    if variable:
        if variable not in environ:
            raise UsageError(f"--secret {name}: {variable} is not in the environment")
        return name, os.fsencode(environ[variable])
    return name, _read(source or name, name)


def _read(path: str, name: str) -> bytes:
    try:
        return read_small(Path(path), LIMIT)
    except OrcaError as error:
        raise OrcaError(f"--secret {name}: {error.message}") from error


def agents(words: Sequence[str], environ: Mapping[str, str]) -> tuple[dict[str, str], dict[str, tuple[bytes, ...]]]:
    """What `default`, `NAME`, `NAME=SOCKET` or `NAME=KEY[,KEY]` words give: agents' sockets, and keys, by id.

    Raises UsageError; OrcaError for a key that cannot be read.
    """
    sockets, keys = {}, {}
    for word in words:
        name, _, path = word.partition("=")
        path = path or environ.get("SSH_AUTH_SOCK", "")
        if not name or not path:
            hint = "start one (SSH_AUTH_SOCK), or --ssh NAME=SOCKET, or --ssh NAME=KEY"
            raise UsageError(f"--ssh {word!r}: there is no agent", hint=hint)
        if name in sockets or name in keys:
            raise UsageError(f"--ssh {name} is given twice")
        if _is_socket(path, name):
            sockets[name] = os.path.abspath(path)
        else:
            keys[name] = tuple(_key(part, name) for part in path.split(","))
    return sockets, keys


def _is_socket(path: str, name: str) -> bool:
    """One socket, or keys? Raises UsageError for what is not there, and for a socket among keys."""
    kinds = []
    for part in path.split(",") if not os.path.exists(path) else [path]:
        try:
            kinds.append(stat.S_ISSOCK(os.stat(part).st_mode))
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "no path"
            raise UsageError(f"--ssh {name}: {part}: {why}") from error
    if any(kinds) and len(kinds) > 1:
        raise UsageError(f"--ssh {name}: one socket, or keys, not both")
    return kinds[0]


def _key(path: str, name: str) -> bytes:
    """A private key that needs no passphrase."""
    try:
        data = read_small(Path(path), KEY_LIMIT)
    except OrcaError as error:
        raise OrcaError(f"--ssh {name}: {error.message}") from error
    if b"PRIVATE KEY-----" not in data:
        raise UsageError(f"--ssh {name}: {path} is no private key", hint="give the file without .pub")
    if is_protected(data):
        hint = "add it to an agent, which asks for it: ssh-add FILE, then --ssh default"
        raise UsageError(f"--ssh {name}: {path} has a passphrase", hint=hint)
    return data if data.endswith(b"\n") else data + b"\n"


def is_protected(key: bytes) -> bool:
    """Does a private key (OpenSSH's form, or PEM) need a passphrase?"""
    import base64
    import binascii

    if b"ENCRYPTED" in key:
        return True
    body = key.partition(b"-----BEGIN OPENSSH PRIVATE KEY-----")[2].partition(b"-----END")[0]
    try:
        text = base64.b64decode(b"".join(body.split()))
    except binascii.Error:
        return False
    # "openssh-key-v1" NUL, then the cipher's name behind its length.
    return bool(body) and not text[15:].startswith(b"\0\0\0\x04none")
