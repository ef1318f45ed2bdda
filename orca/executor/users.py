"""USER and --chown: names looked up in the image's own passwd and group files, and nowhere else.

The files are read with the image's root as the root of every symbolic link; only regular files of
modest size are read. See passwd(5), group(5).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from orca.errors import ImageError, OrcaError
from orca.tools import kernel

SIZE_LIMIT = 4 * 1024 * 1024
ID_LIMIT = 4294967294


@dataclass(frozen=True)
class Identity:
    """Numbers for a user: ids, supplementary groups, and the home directory."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = "/"


class UnknownUser(OrcaError):
    """A name that the image's files do not have, or a number out of range."""


def _lines(root: int, path: str, fields: int) -> Iterator[list[str]]:
    """The entries of a colon-separated file in the image; none when it cannot be read safely."""
    try:
        fd = kernel.open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return
    with open(fd, "rb") as file:
        text = file.read(SIZE_LIMIT).decode("utf-8", "replace")
    for line in text.split("\n"):  # splitlines() would cut at form feeds and the like, too
        parts = line.strip().split(":")
        if len(parts) >= fields and not line.startswith("#"):
            yield parts


def _decimal(text: str) -> int | None:
    """A number of ASCII digits that is a possible id, else None."""
    digits = text.lstrip("0") or text[:1]
    if not (text.isascii() and text.isdigit()) or len(digits) > 10:
        return None
    number = int(digits)
    return number if number <= ID_LIMIT else None


def check_files(root: int) -> None:
    """runc reads these files too, and would wait for ever for a FIFO. Raises ImageError."""
    for path in ("etc/passwd", "etc/group"):
        with contextlib.suppress(OSError):
            fd = kernel.open_in_root(root, path, os.O_PATH)
            try:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise ImageError(f"/{path} in the image is not a regular file")
            finally:
                os.close(fd)


def _number(text: str) -> int | None:
    """What a user wrote as a number; None for a name. Raises UnknownUser when it is out of range."""
    if not (text.isascii() and text.isdigit()):
        return None
    number = _decimal(text)
    if number is None:
        raise UnknownUser(f"id {text[:40]} is out of range", hint=f"ids go up to {ID_LIMIT}")
    return number


def _entry(parts: list[str]) -> tuple[int, int]:
    """The ids of a passwd entry. Raises UnknownUser for what is no id: it must not become root's."""
    uid, gid = _decimal(parts[2]), _decimal(parts[3])
    if uid is None or gid is None:
        raise UnknownUser(
            f"user {parts[0]!r} has no usable ids in the image", hint="see its line in the image's /etc/passwd"
        )
    return uid, gid


def _passwd(root: int, word: str) -> list[str] | None:
    number = _number(word)
    for parts in _lines(root, "etc/passwd", 7):
        if parts[0] == word or (number is not None and _decimal(parts[2]) == number):
            return parts
    return None


def group_id(root: int, word: str) -> int:
    """The number of a group by name or number. Raises UnknownUser."""
    for parts in _lines(root, "etc/group", 3):
        if parts[0] == word and (number := _decimal(parts[2])) is not None:
            return number
    number = _number(word)
    if number is None:
        raise UnknownUser(f"no group {word!r} in the image", hint="the image's /etc/group has no such name")
    return number


def _supplementary(root: int, name: str) -> tuple[int, ...]:
    found = []
    for parts in _lines(root, "etc/group", 4):
        number = _decimal(parts[2])
        if number is not None and name in parts[3].split(","):
            found.append(number)
    return tuple(dict.fromkeys(found))


def identity(root: int, text: str) -> Identity:
    """Who `USER text` is: `name`, `uid`, `name:group` or `uid:gid`; an empty text is root.

    `root` is a descriptor of the image's root. An explicit group drops the supplementary ones.
    """
    word, colon, group = text.partition(":")
    entry = _passwd(root, word or "0")
    groups: tuple[int, ...] = ()
    if entry is None:
        uid = _number(word or "0")
        if uid is None:
            raise UnknownUser(f"no user {word!r} in the image", hint="the image's /etc/passwd has no such name")
        gid, home = 0, "/root" if uid == 0 else "/"
    else:
        uid, gid = _entry(entry)
        home = entry[5] or "/"
        groups = _supplementary(root, entry[0])
    if colon and group:
        return Identity(uid, group_id(root, group), (), home)
    return Identity(uid, gid, groups, home)


def owner(root: int, text: str) -> tuple[int, int]:
    """The owner that `--chown=text` means. A number alone is uid and gid; a name alone brings its group."""
    word, colon, group = text.partition(":")
    number = _number(word)
    if not colon and number is not None:
        return number, number
    found = identity(root, word)
    return (found.uid, group_id(root, group)) if colon and group else (found.uid, found.gid)
