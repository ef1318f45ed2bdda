"""A layer as a tree that OSTree can hold, written as a tar archive that `ostree commit` reads.

OSTree knows directories, regular files and symbolic links, whose names are UTF-8. A layer may hold more, and says
something about the layers below it. What OSTree cannot hold stands beside the rest as files whose names no layer can
have (`.wh..wh.` begins none, so that `ostree checkout --whiteouts` passes over them too):

    .wh..wh..opq            as in the layer: nothing of this directory shows from below
    .wh.NAME                as in the layer: NAME of the layers below is gone
    .wh..wh..orca           the layer does not speak of this directory, only of what is in it; with a content: and only
                            of what is not in it, so that it need not be made
    .wh..wh..orca.N         JSON, a `Mark`: a FIFO, a hard link, or the real name of .wh..wh..orca.N.d

Nothing is extracted: names are resolved in a tree in memory, as if the layer were unpacked into an empty root.
"""

from __future__ import annotations

import io
import json
import posixpath
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from orca.errors import ImageError
from orca.executor.archives import BoundedHeader
from orca.executor.layer import OPAQUE, WHITEOUT
from orca.executor.layers import LINKS_LIMIT

RESERVED = ".wh..wh."
IMPLIED = ".wh..wh..orca"
MARK = ".wh..wh..orca."
REAL = ".d"
"""Ends the name under which something is kept whose own name is not UTF-8."""

DEEPEST = 256
LONGEST = 255
HIGHEST_ID = 0xFFFFFFFE
_XATTR = "SCHILY.xattr."
_OVERLAY = ("user.overlay.", "user.fuseoverlayfs.")
_DEVICES = (tarfile.CHRTYPE, tarfile.BLKTYPE)


@dataclass(frozen=True)
class Mark:
    """What stands for something that OSTree cannot hold.

    `kind` is "fifo" (with mode and owner), "symlink" (to `target`, with owner), "link" (a hard link to `target`, a
    path from the root), "name" (the thing kept as MARK N REAL is called `name`), or "whiteout" (`name` is gone).
    """

    kind: str
    name: str
    target: str = ""
    mode: int = 0
    uid: int = 0
    gid: int = 0

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Mark:
        """Raises ImageError for what `to_bytes` did not write."""
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError) as error:
            raise ImageError("the OSTree repository holds a mark that cannot be read") from error


class Node:
    """One path of a layer. A directory has `children`; without a `member` the layer does not speak of it itself."""

    __slots__ = ("children", "late", "member", "opaque", "same", "whiteouts")

    def __init__(self, member: tarfile.TarInfo | None = None, *, directory: bool = False) -> None:
        self.member = member
        self.children: dict[str, Node] | None = {} if directory else None
        self.whiteouts: set[str] = set()
        self.opaque = False
        self.same: tuple[Node, str] | None = None  # of a hard link: the file, and its path
        self.late: str | None = None  # of a hard link into layers below: the path

    @property
    def speaks(self) -> bool:
        """Does the layer put anything here, and does not only take away?"""
        return self.member is not None or any(child.speaks for child in (self.children or {}).values())

    @property
    def symlink(self) -> str | None:
        return self.member.linkname if self.member is not None and self.member.issym() else None


class LayerTree:
    """What a layer holds, after its last word on each path. Raises ImageError for what no root could hold."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self.root = Node(directory=True)
        for member in archive:
            self._add(member)

    def _add(self, member: tarfile.TarInfo) -> None:
        path = posixpath.normpath("/" + member.name).lstrip("/")
        _check(member, path)
        if not path:
            if not member.isdir():
                raise ImageError("the layer's root is not a directory")
            self.root.member = member
            return
        directory, name = posixpath.split(path)
        parent, where = self._directory(directory)
        assert parent.children is not None
        if name == OPAQUE:
            parent.opaque = True
        elif name.startswith(WHITEOUT):
            hidden = name.removeprefix(WHITEOUT)
            if not name.startswith(RESERVED) and hidden not in ("", ".", ".."):
                parent.whiteouts.add(hidden)
        elif member.isdir():
            there = parent.children.get(name)
            if there is not None and there.children is not None:
                there.member = member
            else:
                parent.children[name] = Node(member, directory=True)
        else:
            node = Node(member)
            if member.islnk():
                self._link(node, where, name)
            parent.children[name] = node

    def _link(self, node: Node, where: str, name: str) -> None:
        """Find what a hard link means: a file of this layer, else one of those below."""
        assert node.member is not None
        target = posixpath.normpath("/" + node.member.linkname).lstrip("/")
        found, place = self._find(target)
        if found is None:
            if place == posixpath.join(where, name):
                raise ImageError(f"/{place} is a hard link to itself")
            node.late = place
        elif found.children is not None:
            raise ImageError(f"/{where}/{name} is a hard link to a directory")
        elif found.late is not None:
            node.late = found.late
        else:
            node.same = found.same or (found, place)

    def _find(self, path: str) -> tuple[Node | None, str]:
        """What is at `path` (the last part is not followed), and where it is without links."""
        directory, name = posixpath.split(path)
        parent, where = self._directory(directory, make=False)
        found = parent.children.get(name) if parent.children is not None else None
        return found, posixpath.join(where, name)

    def _directory(self, path: str, *, make: bool = True) -> tuple[Node, str]:
        """The directory at `path` and its path without links, which are followed within the root.

        Without `make`, one that is missing is an empty one that is in no tree.
        """
        stack: list[tuple[Node, str]] = [(self.root, "")]
        waiting = [part for part in reversed(path.split("/")) if part]
        links = 0
        while waiting:
            part = waiting.pop()
            if part == "..":
                stack = stack[: max(1, len(stack) - 1)]
                continue
            node = self._step(stack[-1][0], part, make=make)
            if (target := node.symlink) is not None:
                links += 1
                if links > LINKS_LIMIT:
                    raise ImageError(f"/{path} in the layer: too many symbolic links")
                stack = stack[:1] if target.startswith("/") else stack
                waiting += [word for word in reversed(target.split("/")) if word not in ("", ".")]
                continue
            if node.children is None:
                raise ImageError(f"/{path} in the layer is below something that is not a directory")
            stack.append((node, part))
            if len(stack) > DEEPEST:
                raise ImageError(f"the layer has directories more than {DEEPEST} levels deep")
        return stack[-1][0], "/".join(name for _, name in stack[1:])

    @staticmethod
    def _step(parent: Node, name: str, *, make: bool) -> Node:
        assert parent.children is not None
        node = parent.children.get(name)
        if node is None:
            node = Node(directory=True)
            if make:
                parent.children[name] = node
        return node


def _check(member: tarfile.TarInfo, path: str) -> None:
    if any(len(part.encode("utf-8", "surrogateescape")) > LONGEST for part in path.split("/")):
        raise ImageError(f"the layer has a name of more than {LONGEST} bytes")
    if not (0 <= member.uid <= HIGHEST_ID and 0 <= member.gid <= HIGHEST_ID):
        raise ImageError(f"/{path} in the layer has an owner out of range")
    if member.issym() and not 0 < len(member.linkname.encode("utf-8", "surrogateescape")) < 4096:
        raise ImageError(f"/{path} in the layer is a symbolic link that no system can hold")


class _Writer:
    """Writes a tree, each directory before its content and everything in the order of names."""

    def __init__(self, archive: tarfile.TarFile, out: tarfile.TarFile) -> None:
        self.archive = archive
        self.out = out
        self.written: dict[int, str] = {}

    def directory(self, node: Node, path: str) -> None:
        self._entry(path or ".", node.member, tarfile.DIRTYPE, mode=0o755)
        marks: list[Mark] = []
        if node.member is None:
            self._small(path, IMPLIED, b"" if node.speaks else b"whiteouts")
        if node.opaque:
            self._small(path, OPAQUE)
        for name in sorted(node.whiteouts):
            if _plain(name):
                self._small(path, WHITEOUT + name)
            else:
                marks.append(Mark("whiteout", name))
        assert node.children is not None
        for name, child in sorted(node.children.items()):
            kept = name
            if not _plain(name) and _holds(child):
                kept = f"{MARK}{len(marks)}{REAL}"
                marks.append(Mark("name", name))
            self._child(child, name, posixpath.join(path, kept), marks)
        for number, mark in enumerate(marks):
            self._small(path, f"{MARK}{number}", mark.to_bytes())

    def _child(self, node: Node, name: str, path: str, marks: list[Mark]) -> None:
        member = node.member
        if node.children is not None:
            self.directory(node, path)
        elif node.late is not None:
            marks.append(Mark("link", name, node.late))
        elif node.same is not None:
            marks.append(Mark("link", name, node.same[1]))
            self._link(node.same[0], name, path)
        elif member is not None and member.isfifo():
            marks.append(Mark("fifo", name, "", member.mode & 0o7777, member.uid, member.gid))
        elif member is not None and member.issym() and not _plain(member.linkname):
            marks.append(Mark("symlink", name, member.linkname, 0, member.uid, member.gid))
        elif member is not None and member.issym():
            self._entry(path, member, tarfile.SYMTYPE, target=member.linkname)
        else:
            self._file(path, node)

    def _link(self, node: Node, name: str, path: str) -> None:
        """A second name of a file: the checkout links it, by its mark; for `ostree checkout` alone it is here too."""
        if _plain(name) and node.member is not None and not node.member.isfifo() and node.symlink is None:
            self._file(path, node)

    def _file(self, path: str, node: Node) -> None:
        """A regular file; a device becomes an empty one, as it does where no ordinary user may make devices."""
        member = node.member
        assert member is not None
        if member.type in _DEVICES:
            self._entry(path, member, tarfile.REGTYPE)
        elif not member.isreg():
            raise ImageError(f"/{path} in the layer is of an unknown kind")
        else:
            self._entry(path, member, tarfile.REGTYPE, data=self.archive.extractfile(member), size=member.size)

    def _small(self, directory: str, name: str, data: bytes = b"") -> None:
        self._entry(posixpath.join(directory, name), None, tarfile.REGTYPE, io.BytesIO(data), len(data), mode=0o600)

    def _entry(
        self,
        path: str,
        member: tarfile.TarInfo | None,
        kind: bytes,
        data: IO[bytes] | None = None,
        size: int = 0,
        *,
        target: str = "",
        mode: int = 0,
    ) -> None:
        info = tarfile.TarInfo(path)
        info.type, info.linkname, info.size, info.mode = kind, target, size, mode
        if member is not None:
            info.mode, info.uid, info.gid = member.mode & 0o7777, member.uid, member.gid
            if kind != tarfile.SYMTYPE and member.type not in _DEVICES:
                info.pax_headers = attributes(member.pax_headers)
        if kind == tarfile.SYMTYPE:
            info.mode = 0o777
        self.out.addfile(info, data)


def _plain(text: str) -> bool:
    """May OSTree hold this as a name or as the target of a link?"""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _holds(node: Node) -> bool:
    """Is it kept as itself, not as a mark alone?"""
    if node.late is not None or node.same is not None:
        return False
    symlink = node.symlink
    return not (node.member is not None and node.member.isfifo()) and (symlink is None or _plain(symlink))


def attributes(headers: Mapping[str, str]) -> dict[str, str]:
    """The extended attributes that a layer brings into a root: user.* and capabilities, nothing of overlay's own."""
    return {
        header: text
        for header, text in headers.items()
        if header.startswith(_XATTR)
        for name in [header.removeprefix(_XATTR)]
        if name == "security.capability" or (name.startswith("user.") and not name.startswith(_OVERLAY))
    }


def convert(layer: Path, out: IO[bytes]) -> None:
    """Read the plain tar file `layer`; write its tree as OSTree can hold it. Raises ImageError."""
    try:
        with tarfile.open(layer, "r:", tarinfo=BoundedHeader, encoding="utf-8", errors="surrogateescape") as archive:
            tree = LayerTree(archive)
            with tarfile.open(
                fileobj=out, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
            ) as written:
                _Writer(archive, written).directory(tree.root, "")
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        raise ImageError(f"the layer is a damaged archive: {error}") from error
