"""The file format of a case: README.md describes it. Pure, but for `Case.write`."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import re
import shlex
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

CASES = Path(__file__).parent / "cases"
KEYS = (
    "row", "options", "orca", "buildah", "env", "context", "base", "user", "no-buildah", "differs", "fails", "says",
    "read", "stdin", "not-yet",
)  # fmt: skip
REPEATED = ("row", "differs", "fails", "says", "env")
# Long before any build: a time that is still there afterwards was preserved.
MTIME = 1_111_111_111
_SECTION = re.compile(r"^-- (?P<name>.+?)(?: \| (?P<how>.+))? --$")


class BadCase(Exception):
    """A case file that says something unknown; the message names the file."""


@dataclass(frozen=True)
class File:
    """An entry of the build context, or of a directory beside it (a name that begins with `@`).

    `how` holds the words after `|`: mode= mtime= owner= link= hardlink= repeat= archive= xattr.NAME=, and the bare
    words dir, crlf, bom, noeol, fifo.
    """

    name: str
    content: str
    how: Mapping[str, str]

    def data(self) -> bytes:
        """The bytes of a regular file."""
        if "archive" in self.how:
            return archive(self.content, self.how["archive"])
        text = self.content.rstrip("\n") if "noeol" in self.how else self.content
        if "crlf" in self.how:
            text = text.replace("\n", "\r\n")
        start = "\ufeff" if "bom" in self.how else ""
        return (start + text).encode() * int(self.how.get("repeat", 1))


@dataclass(frozen=True)
class Case:
    """One Dockerfile with its context, how it is built, and what must come of it.

    `keys` is the header, each key with all its values; `expect` is the text of that section, None if there is none.
    """

    name: str
    title: str
    keys: Mapping[str, tuple[str, ...]]
    files: tuple[File, ...]
    expect: str | None
    text: str = field(repr=False)

    def one(self, key: str, default: str = "") -> str:
        """The value of a key that may be there once."""
        return self.keys.get(key, (default,))[0]

    def all(self, key: str) -> tuple[str, ...]:
        """The values of a key that may be repeated."""
        return self.keys.get(key, ())

    def words(self, key: str) -> list[str]:
        """The value of a key, split as a shell splits it."""
        return shlex.split(self.one(key))

    @property
    def uses_buildah(self) -> bool:
        return "no-buildah" not in self.keys

    @property
    def environment(self) -> dict[str, str]:
        return dict(word.split("=", 1) for word in self.all("env"))

    @property
    def digest(self) -> str:
        return hashlib.sha256(f"{self.name}\n{self.text}".encode()).hexdigest()[:20]

    def write(self, top: Path, fill: Callable[[str], str]) -> Path:
        """Write the files below `top`, the context as `top/context`; returns that. `fill` replaces placeholders."""
        context = top / "context"
        context.mkdir(parents=True)
        places = [(top / f.name if f.name.startswith("@") else context / f.name, f) for f in self.files]
        for place, entry in places:
            place.parent.mkdir(parents=True, exist_ok=True)
            _write(place, entry, fill, context)
        for place, entry in reversed(places):
            _set_attributes(place, entry)
        for directory in _directories(top, {place for place, _ in places}):
            os.chmod(directory, 0o755)
            os.utime(directory, (MTIME, MTIME))
        return context


def _write(place: Path, entry: File, fill: Callable[[str], str], context: Path) -> None:
    if "dir" in entry.how:
        place.mkdir(exist_ok=True)
    elif "link" in entry.how:
        place.symlink_to(entry.how["link"])
    elif "hardlink" in entry.how:
        place.hardlink_to(context / entry.how["hardlink"])
    elif "fifo" in entry.how:
        os.mkfifo(place)
    else:
        data = entry.data()
        place.write_bytes(data if "archive" in entry.how else fill(data.decode()).encode())


def _set_attributes(place: Path, entry: File) -> None:
    how = entry.how
    if "hardlink" in how:
        return
    if "owner" in how:
        uid, gid = how["owner"].split(":")
        os.chown(place, int(uid), int(gid), follow_symlinks=False)
    if "link" not in how:
        os.chmod(place, int(how.get("mode", "755" if "dir" in how else "644"), 8))
        for name, value in how.items():
            if name.startswith("xattr."):
                os.setxattr(place, name.removeprefix("xattr."), value.encode())
    time = int(how.get("mtime", MTIME))
    os.utime(place, (time, time), follow_symlinks=False)


def _directories(top: Path, named: set[Path]) -> list[Path]:
    """All directories that no section describes, the deepest first."""
    found = [Path(directory) for directory, _, _ in os.walk(top, topdown=False)]
    return [directory for directory in found if directory not in named]


def archive(listing: str, compression: str) -> bytes:
    """A tar whose entries are the lines of `listing`: `NAME MODE UID:GID [TEXT | -> TARGET | = HARDLINK]`."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for line in listing.splitlines():
            name, mode, owner, rest = ([*line.split(None, 3), "", ""])[:4]
            entry = tarfile.TarInfo(name.rstrip("/"))
            entry.mode, entry.mtime = int(mode, 8), MTIME
            entry.uid, entry.gid = (int(word) for word in owner.split(":"))
            data = b""
            if name.endswith("/"):
                entry.type = tarfile.DIRTYPE
            elif rest.startswith("-> "):
                entry.type, entry.linkname = tarfile.SYMTYPE, rest[3:]
            elif rest.startswith("= "):
                entry.type, entry.linkname = tarfile.LNKTYPE, rest[2:]
            else:
                data = f"{rest}\n".encode()
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return _COMPRESS[compression](out.getvalue())


def _zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True).stdout


_COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "tar": lambda data: data,
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": _zstd,
}


def parse(name: str, text: str) -> Case:
    """A case from the text of its file. Raises BadCase."""
    head, *sections = re.split(r"^(?=-- .+ --$)", text, flags=re.MULTILINE)
    title, *rest = head.strip("\n").split("\n")
    keys: dict[str, tuple[str, ...]] = {}
    for line in rest:
        key, colon, value = line.partition(":")
        if not colon or key not in KEYS:
            raise BadCase(f"{name}: {line!r} is no key; known are {' '.join(KEYS)}")
        if key in keys and key not in REPEATED:
            raise BadCase(f"{name}: {key} is there twice")
        keys[key] = (*keys.get(key, ()), value.strip())
    files, expect = [], None
    for section in sections:
        line, _, body = section.partition("\n")
        found = _SECTION.match(line)
        assert found
        if found["name"] == "expect":
            expect = body
            continue
        words = [word.partition("=") for word in shlex.split(found["how"] or "")]
        files.append(File(found["name"], body, {key: value for key, _, value in words}))
    case = Case(name, title, keys, tuple(files), expect, text)
    _check(case)
    return case


def _check(case: Case) -> None:
    if not case.title.strip() or not case.all("row"):
        raise BadCase(f"{case.name}: a title and a row are needed")
    if case.expect is None and not case.all("fails") and (not case.uses_buildah or case.all("differs")):
        raise BadCase(f"{case.name}: where buildah does not say it, `-- expect --` must")
    if case.one("no-buildah", "x") == "" or any(len(line.split()) < 2 for line in case.all("differs")):
        raise BadCase(f"{case.name}: a difference needs its reason")


def load() -> list[Case]:
    """All cases, by name. Raises BadCase."""
    return [
        parse(str(path.relative_to(CASES).with_suffix("")), path.read_text("utf-8"))
        for path in sorted(CASES.rglob("*.case"))
    ]
