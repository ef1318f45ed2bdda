"""A tree that COPY and ADD read from: a build context, or the root of a stage or an image.

Everything in it is hostile. Its root is the root of every symbolic link; files are opened without
following links; what is neither file, directory nor link is refused. Ignore rules hide paths.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import posixpath
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from orca.dockerfile import glob
from orca.dockerfile.ignore import IgnoreRules, State
from orca.errors import OrcaError
from orca.sources.statcache import StatCache
from orca.tools import kernel

FILE, DIRECTORY, LINK = "file", "dir", "link"
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK = 1 << 20


class SourceError(OrcaError):
    """A source that is missing, unreadable or of a kind that is not copied; it has no location yet."""


class Entry(NamedTuple):
    """One file, directory or link. `path` is relative to its item ("" for the item itself).

    `digest` covers the content (a link's target) and the attributes that are copied; `identity` is
    (device, inode) when the file has several names.
    """

    path: str
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    digest: str
    identity: tuple[int, int] | None


@dataclass(frozen=True)
class Item:
    """One source as it was found: `path` in the tree (links followed), the `name` it was asked by, its entries."""

    path: str
    name: str
    entries: tuple[Entry, ...]

    @property
    def is_directory(self) -> bool:
        return self.entries[0].kind == DIRECTORY


@dataclass
class _Level:
    """A directory on the way down: open at `fd`, at `place` in the tree, `below` in the item."""

    fd: int
    place: str
    below: str
    states: tuple[State, ...]
    entries: Iterator[os.DirEntry[str]]


class Tree:
    """The tree below `root`. `owners` says whether owners and user.* attributes mean anything in it."""

    def __init__(
        self,
        root: Path,
        *,
        rules: IgnoreRules | None = None,
        rules_name: str = ".dockerignore",
        cache: StatCache | None = None,
        owners: bool = False,
    ) -> None:
        self.root = root
        self._rules_name = rules_name
        self.owners = owners
        self._rules = rules if rules is not None and rules.rules else None
        self._cache = cache or StatCache(None)
        try:
            self.fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise SourceError(f"cannot read {root}: {error.strerror}") from error
        self._real = os.readlink(f"/proc/self/fd/{self.fd}")

    @property
    def has_rules(self) -> bool:
        """May anything below the root be hidden?"""
        return self._rules is not None

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self.fd)

    def remember(self) -> None:
        """Save what the stat cache has learnt."""
        self._cache.save()

    # -- finding

    def find(self, pattern: str, exclude: IgnoreRules | None = None) -> list[Item]:
        """What a COPY source means, in order; nothing for a pattern that matches nothing.

        `exclude` counts from each directory that is found, and for each file from where it lies.

        Raises SourceError for a name that is not there (with near names), glob.GlobError for a bad pattern.
        """
        clean = posixpath.normpath(posixpath.join("/", pattern)).lstrip("/")
        if not glob.has_meta(clean):
            items = [self._item(clean, pattern, exclude)]
        else:
            items = [self._item(path, path, exclude) for path in self._matches(clean.split("/"), "")]
        return [item for item in items if item.is_directory or not _excluded(item, exclude)]

    def find_below(self, pattern: str, exclude: IgnoreRules | None = None) -> list[Item]:
        """What a source of COPY --parents means: one directory with what the pattern matches below it.

        The directory is what stands before a `/./`, else the root. Links below it are not followed. Nothing for a
        pattern that matches nothing. Raises as `find`.
        """
        above, pivot, rest = pattern.partition("/./")
        start, below = (above, rest) if pivot else ("", pattern)
        clean = posixpath.normpath(posixpath.join("/", below)).lstrip("/")
        base = posixpath.normpath(posixpath.join("/", start)).lstrip("/")
        wanted = IgnoreRules.of(["**", f"!{clean}"] if clean else [])
        several = glob.has_meta(base)
        bases = filter(self._is_directory, self._matches(base.split("/"), "")) if several else [base]
        items = [self._item(path, pattern, exclude, wanted) for path in bases]
        if not all(item.is_directory for item in items):
            raise SourceError(f"{start} is not a directory", hint="what stands before /./ is where the copy begins")
        found = [item for item in items if len(item.entries) > 1]
        if clean and not found and not several and not glob.has_meta(clean):
            self._refuse_link(base, clean, pattern)
            self._resolve(posixpath.join(base, clean), pattern)
        return found

    def _refuse_link(self, base: str, path: str, name: str) -> None:
        """Raises SourceError when the way to `path` below `base` leads through a link."""
        parts = path.split("/")
        for length in range(1, len(parts)):
            link = "/".join(parts[:length])
            if self._link_target(posixpath.join(base, link)) is not None:
                hint = f"{link} is a symbolic link; write {link}/./… to begin the copy behind it"
                raise SourceError(f"COPY --parents does not go through links: {name}", hint=hint)

    def find_one(self, path: str) -> Item:
        """What a path without patterns means. Raises SourceError."""
        return self._item(posixpath.normpath(posixpath.join("/", path)).lstrip("/"), path)

    def _matches(self, parts: list[str], below: str) -> Iterator[str]:
        """The paths that the pattern's elements match, in order, links among directories followed."""
        head, rest = parts[0], parts[1:]
        for name in self._names(below):
            path = posixpath.join(below, name)
            if not glob.match_element(head, name):
                continue
            if not rest:
                if not self._hidden(path) or self._reappears(path):
                    yield path
            elif self._is_directory(path):
                yield from self._matches(rest, path)

    def _names(self, directory: str) -> list[str]:
        try:
            fd = kernel.open_in_root(self.fd, directory or ".", os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return []
        try:
            return sorted(os.listdir(fd))
        finally:
            os.close(fd)

    def _is_directory(self, path: str) -> bool:
        with contextlib.suppress(OSError):
            os.close(kernel.open_in_root(self.fd, path, os.O_PATH | os.O_DIRECTORY))
            return True
        return False

    def _hidden(self, path: str) -> bool:
        return self._rules is not None and path != "" and self._rules.excludes(path)

    def _reappears(self, path: str) -> bool:
        """May something below the hidden directory `path` be shown again by a `!` line?"""
        return self._rules is not None and self._rules.may_reinclude_below(path)

    def _item(self, path: str, name: str, *filters: IgnoreRules | None) -> Item:
        """What is at `path`; of what is below a directory, what neither the ignore rules nor `filters` hide."""
        real, found = self._resolve(path, name)
        if stat.S_ISDIR(found.st_mode):
            entries = tuple(self._walk_item(real, found, [rules for rules in filters if rules and rules.rules]))
        else:
            entries = (self._single(real, found),)
        if self._hidden(real) and (len(entries) == 1 or not self._reappears(real)):
            raise self._missing(path, name)
        return Item(real, name, entries)

    def _resolve(self, path: str, name: str) -> tuple[str, os.stat_result]:
        """Follow the links of a source, the last one too, within the root."""
        if self._hidden(path) and not self._reappears(path):
            raise self._missing(path, name)
        try:
            fd = kernel.open_in_root(self.fd, path or ".", os.O_PATH)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                raise self._missing(path, name) from error
            raise SourceError(f"cannot read {name}: {error.strerror}") from error
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
            real = os.path.relpath(target, self._real)
            return "" if real == "." else real, os.fstat(fd)
        finally:
            os.close(fd)

    def _missing(self, path: str, name: str) -> SourceError:
        """Why `path` cannot be found: an ignore line, or a wrong name."""
        if self._rules is not None:
            decision = self._rules.decide(path)
            if decision.excluded and os.path.lexists(self.root / path):
                return SourceError(
                    f"{name} is excluded from the build context",
                    hint=f"line {decision.line} of {self._rules_name} hides it: {decision.pattern}",
                )
        if (target := self._link_target(path)) is not None:
            return SourceError(
                f"{name} is a symbolic link that leads nowhere in the {self._place}", hint=f"it points to {target}"
            )
        import difflib

        near = difflib.get_close_matches(path, self._names_around(path), 1)
        hint = f"did you mean {near[0]}?" if near else "sources are looked up below the root of the build context"
        return SourceError(f"{name}: no such file or directory in the {self._place}", hint=hint)

    @property
    def _place(self) -> str:
        return "stage" if self.owners else "build context"

    def _link_target(self, path: str) -> str | None:
        """Where the link `path` points to; None when it is no link."""
        with contextlib.suppress(OSError):
            fd = kernel.open_in_root(self.fd, path, os.O_PATH | os.O_NOFOLLOW)
            try:
                return os.readlink("", dir_fd=fd)
            finally:
                os.close(fd)
        return None

    def _names_around(self, path: str) -> list[str]:
        directory = posixpath.dirname(path)
        return [posixpath.join(directory, name) for name in self._names(directory)[:5000]]

    # -- walking

    def _walk_item(self, real: str, found: os.stat_result, filters: list[IgnoreRules]) -> Iterator[Entry]:
        """The directory `real` and all below it, sorted, depth first; hidden ones only where something shows again."""
        yield self._directory("", found)
        fd = kernel.open_in_root(self.fd, real or ".", os.O_RDONLY | os.O_DIRECTORY)
        every = [*([self._rules] if self._rules else []), *filters]
        begin = (*([self._state(real)] if self._rules else []), *(rules.root for rules in filters))
        levels = [_Level(fd, real, "", begin, self._listing(fd))]
        unsaid: list[Entry] = []  # hidden directories on the way down, told only when something below shows
        try:
            while levels:
                level = levels[-1]
                entry = next(level.entries, None)
                if entry is None:
                    os.close(levels.pop().fd)
                    if unsaid and unsaid[-1].path == level.below:
                        unsaid.pop()
                    continue
                states = tuple(rules.enter(state, entry.name) for rules, state in zip(every, level.states, strict=True))
                found = entry.stat(follow_symlinks=False)
                directory = stat.S_ISDIR(found.st_mode)
                hidden = any(state.excluded for state in states)
                if hidden and not (directory and all(map(_may_show, every, states))):
                    continue
                where = f"{level.place}/{entry.name}" if level.place else entry.name
                path = f"{level.below}/{entry.name}" if level.below else entry.name
                if directory:
                    unsaid.append(self._directory(path, found))
                if not hidden:
                    yield from unsaid
                    unsaid.clear()
                if directory:
                    inner = self._enter(level.fd, entry.name, where)
                    levels.append(_Level(inner, where, path, states, self._listing(inner)))
                else:
                    yield self._entry(level.fd, entry.name, where, path, found)
        finally:
            for level in levels:
                os.close(level.fd)

    @staticmethod
    def _listing(fd: int) -> Iterator[os.DirEntry[str]]:
        with os.scandir(fd) as listing:
            return iter(sorted(listing, key=lambda entry: entry.name))

    def _state(self, path: str) -> State:
        assert self._rules is not None
        state = self._rules.root
        for name in path.split("/") if path else ():
            state = self._rules.enter(state, name)
        return state

    def _enter(self, fd: int, name: str, where: str) -> int:
        try:
            return os.open(name, _READ | os.O_DIRECTORY, dir_fd=fd)
        except OSError as error:
            raise SourceError(f"cannot read {where}: {error.strerror}", hint=_readable_hint(error)) from error

    def _directory(self, path: str, found: os.stat_result) -> Entry:
        mode = stat.S_IMODE(found.st_mode)
        return Entry(path, DIRECTORY, mode, found.st_uid, found.st_gid, 0, found.st_mtime_ns, "", None)

    def _single(self, real: str, found: os.stat_result) -> Entry:
        parent, name = posixpath.split(real)
        fd = kernel.open_in_root(self.fd, parent or ".", os.O_PATH | os.O_DIRECTORY)
        try:
            return self._entry(fd, name, real, "", found)
        finally:
            os.close(fd)

    def _entry(self, fd: int, name: str, where: str, path: str, found: os.stat_result) -> Entry:
        """A file or link in the directory `fd`; hashing it unless the stat cache knows it."""
        kind = FILE if stat.S_ISREG(found.st_mode) else LINK if stat.S_ISLNK(found.st_mode) else ""
        if not kind:
            raise SourceError(
                f"{where} is a {_special(found.st_mode)}, which is not copied",
                hint="remove it, or name it in .dockerignore",
            )
        facts = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        digest = self._cache.get(where, facts)
        if digest is None:
            digest = self._hash(fd, name, where) if kind == FILE else os.readlink(name, dir_fd=fd)
            self._cache.put(where, facts, digest)
        identity = (found.st_dev, found.st_ino) if found.st_nlink > 1 and kind == FILE else None
        mode = stat.S_IMODE(found.st_mode)
        return Entry(path, kind, mode, found.st_uid, found.st_gid, found.st_size, found.st_mtime_ns, digest, identity)

    def _hash(self, directory: int, name: str, where: str) -> str:
        """The digest of a file's content, and of its attributes if it has any that are copied."""
        try:
            fd = os.open(name, _READ, dir_fd=directory)
        except OSError as error:
            raise SourceError(f"cannot read {where}: {error.strerror}", hint=_readable_hint(error)) from error
        try:
            digest = hashlib.sha256()
            while data := os.read(fd, _CHUNK):
                digest.update(data)
            for attribute, value in attributes(fd, owners=self.owners):
                digest.update(b"\0" + attribute.encode("utf-8", "surrogateescape") + b"\0" + value)
            return digest.hexdigest()
        finally:
            os.close(fd)


def _may_show(rules: IgnoreRules, state: State) -> bool:
    return rules.may_reinclude(state)


def _hides(rules: IgnoreRules | None, path: str) -> bool:
    return rules is not None and rules.excludes(path)


def _excluded(item: Item, exclude: IgnoreRules | None) -> bool:
    """Is the file that a source named excluded? The pattern sees its name, as it lies in its directory."""
    return _hides(exclude, posixpath.basename(posixpath.normpath("/" + item.name)))


def attributes(fd: int, *, owners: bool) -> list[tuple[str, bytes]]:
    """The extended attributes that a copy keeps: file capabilities, and user.* where they are the image's own."""
    try:
        names = os.listxattr(fd)
    except OSError:
        return []
    kept = [
        name
        for name in names
        if name == "security.capability"
        or (owners and name.startswith("user.") and not name.startswith("user.overlay."))
    ]
    return [(name, os.getxattr(fd, name)) for name in sorted(kept)]


def digest_items(items: list[Item], *, owners: bool) -> str:
    """One digest over everything a copy of `items` depends on. Times are not among it."""
    digest = hashlib.sha256()
    for item in items:
        # NUL ends each field: it is the one character that no name and no link's target can hold.
        name = posixpath.basename(posixpath.normpath("/" + item.name))
        digest.update(f"\1{name}\0".encode("utf-8", "surrogateescape"))
        for entry in item.entries:
            owner = f"{entry.uid}:{entry.gid}" if owners else ""
            line = f"{entry.path}\0{entry.kind}\0{entry.mode:o}\0{owner}\0{entry.digest}\0"
            digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _special(mode: int) -> str:
    kinds = ((stat.S_ISFIFO, "FIFO"), (stat.S_ISSOCK, "socket"), (stat.S_ISCHR, "device"), (stat.S_ISBLK, "device"))
    return next((name for test, name in kinds if test(mode)), "special file")


def _readable_hint(error: OSError) -> str | None:
    return "make it readable, or name it in .dockerignore" if error.errno == errno.EACCES else None
