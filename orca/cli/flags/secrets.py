"""--secret and --ssh: what a build may use and no image may keep."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from orca.errors import NotYet, OrcaError, UsageError
from orca.executor.inputs import read_small

LIMIT = 500 * 1024
"""Bytes of one secret, as BuildKit has it."""


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


def agents(words: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """The agents' sockets of `default`, `NAME` or `NAME=SOCKET` words. Raises UsageError, NotYet."""
    found = {}
    for word in words:
        name, _, path = word.partition("=")
        socket = path or environ.get("SSH_AUTH_SOCK", "")
        if not name or not socket:
            raise UsageError(
                f"--ssh {word!r}: there is no agent", hint="start one (SSH_AUTH_SOCK), or --ssh NAME=SOCKET"
            )
        try:
            mode = os.stat(socket).st_mode
        except OSError as error:
            raise UsageError(f"--ssh {name}: {socket}: {error.strerror}") from error
        if not stat.S_ISSOCK(mode):
            raise NotYet(f"--ssh {name}: {socket} is a key, not a socket", hint="add it to an agent: ssh-add FILE")
        found[name] = os.path.abspath(socket)
    return found
