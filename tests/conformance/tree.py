"""A flattened image: its config and its root file system, from wherever they are, and how two of them differ."""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
_SHORT = 400
_OURS = ("user.", "trusted.", "security.capability")
_OVERLAY = ("user.overlay.", "trusted.overlay.", "user.fuseoverlayfs.")


@dataclass(frozen=True, eq=False)
class Node:
    """What is at a path. Two paths with the same object are hard links. `xattrs` are (name, value) pairs, sorted."""

    kind: str
    mode: int
    uid: int
    gid: int
    mtime: int = 0
    size: int = 0
    digest: str = ""
    data: bytes = b""
    target: str = ""
    device: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[str, bytes], ...] = ()

    def facts(self) -> tuple[object, ...]:
        """All that matters but the time and the hard links."""
        mode = 0 if self.kind == "link" else self.mode
        return self.kind, mode, self.uid, self.gid, self.size, self.digest, self.target, self.device, self.xattrs

    def __str__(self) -> str:
        if self.kind == "link":
            return f"link {self.uid}:{self.gid} -> {self.target}"
        words = [self.kind, f"{self.mode:o}", f"{self.uid}:{self.gid}"]
        words += [f"xattr.{name}={json.dumps(value.decode('latin-1'))}" for name, value in self.xattrs]
        if self.kind == "file":
            shown = self.size <= _SHORT
            words.append(json.dumps(self.data.decode("latin-1")) if shown else f"{self.size} bytes {self.digest[:12]}")
        if self.kind in ("char", "block"):
            words.append(f"{self.device[0]},{self.device[1]}")
        return " ".join(words)


Tree = Mapping[str, Node]


@dataclass(frozen=True)
class Flat:
    """An image. `config` is flat: see `flat_config`; `tree` has absolute paths; `history` the texts of its steps."""

    config: Mapping[str, Any]
    tree: Tree
    history: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)


EMPTY = Flat({"WorkingDir": "/"}, {})


# --- configs


def flat_config(image: Mapping[str, Any]) -> dict[str, Any]:
    """A config blob as one table: Env.NAME and Labels.NAME for their entries, sorted lists for sets; no empty values.

    Left out: times, history, what only Docker's daemon reads.
    """
    config = image.get("config") or {}
    flat: dict[str, Any] = {"WorkingDir": "/"}
    for key in ("architecture", "os", "variant", "author"):
        flat[key] = image.get(key)
    for word in config.get("Env") or ():
        name, _, value = word.partition("=")
        assert f"Env.{name}" not in flat, f"{name} is in Env twice"
        flat[f"Env.{name}"] = value
    for name, value in (config.get("Labels") or {}).items():
        flat[f"Labels.{name}"] = value
    for key in ("ExposedPorts", "Volumes"):
        flat[key] = sorted(config.get(key) or ())
    for key in ("User", "Entrypoint", "Cmd", "StopSignal", "Healthcheck", "OnBuild", "Shell", "ArgsEscaped"):
        flat[key] = config.get(key)
    if config.get("WorkingDir"):
        flat["WorkingDir"] = config["WorkingDir"]
    return {key: value for key, value in flat.items() if value not in (None, "", [], {}, False) or "." in key}


# --- trees out of layers


def apply(tree: dict[str, Node], layer: Mapping[str, Node | str], deleted: Mapping[str, bool]) -> None:
    """Put a layer on a tree: first what it deletes ({path: only what is below it}), then its entries.

    An entry that is a string is a hard link to that path.
    """
    for path, keep in deleted.items():
        for name in [n for n in tree if n.startswith(f"{path.rstrip('/')}/") or (n == path and not keep)]:
            del tree[name]
    for path, node in layer.items():
        if isinstance(node, str):
            node = tree[node]
        if node.kind != "dir" and path in tree and tree[path].kind == "dir":
            for name in [n for n in tree if n.startswith(f"{path}/")]:
                del tree[name]
        tree[path] = node


def from_layout(layout: Path, digest: str) -> Flat:
    """An image of an OCI image layout by the digest of its manifest."""

    def blob(digest: str) -> Path:
        return layout / "blobs" / digest.replace(":", "/")

    manifest = json.loads(_checked(blob(digest)))
    image = json.loads(_checked(blob(manifest["config"]["digest"])))
    tree: dict[str, Node] = {}
    layers = [read_layer(blob(entry["digest"])) for entry in manifest["layers"]]
    assert [found[2] for found in layers] == image["rootfs"]["diff_ids"]
    for entries, deleted, _ in layers:
        apply(tree, entries, deleted)
    history = [entry.get("created_by", "") for entry in image.get("history", ())]
    full = [entry for entry in image.get("history", ()) if not entry.get("empty_layer")]
    assert len(full) == len(layers), f"history tells of {len(full)} layers, there are {len(layers)}"
    return Flat(flat_config(image), tree, tuple(history), manifest.get("annotations", {}))


def _checked(path: Path) -> bytes:
    data = path.read_bytes()
    assert hashlib.sha256(data).hexdigest() == path.name, f"{path} is not what its name says"
    return data


@functools.lru_cache(maxsize=64)
def read_layer(path: Path) -> tuple[dict[str, Node | str], dict[str, bool], str]:
    """(entries, deletions, diff id) of a layer blob: see `apply`."""
    data = unpacked(_checked(path))
    entries: dict[str, Node | str] = {}
    deleted: dict[str, bool] = {}
    for name, node in tar_entries(data):
        directory, _, last = name.rpartition("/")
        if last == OPAQUE:
            deleted[directory or "/"] = True
        elif last.startswith(WHITEOUT):
            deleted[f"{directory}/{last.removeprefix(WHITEOUT)}"] = False
        else:
            assert name not in entries, f"{name} is twice in the layer"
            entries[name] = node
    return entries, deleted, f"sha256:{hashlib.sha256(data).hexdigest()}"


def unpacked(data: bytes) -> bytes:
    """A blob without its compression."""
    if data[:2] == b"\x1f\x8b":
        return gzip.decompress(data)
    if data[:4] == b"\x28\xb5\x2f\xfd":
        return subprocess.run(["zstd", "-dcq"], input=data, capture_output=True, check=True).stdout
    return data


_KINDS = {
    tarfile.REGTYPE: "file", tarfile.AREGTYPE: "file", tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "link",
    tarfile.CHRTYPE: "char", tarfile.BLKTYPE: "block", tarfile.FIFOTYPE: "fifo",
}  # fmt: skip


def tar_entries(data: bytes) -> Iterator[tuple[str, Node | str]]:
    """The entries of a tar by absolute path; the root directory is left out."""
    import io

    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for e in tar:
            name = "/" + e.name.removeprefix("./").strip("/")
            if name in ("/", "/."):
                continue
            if e.islnk():
                yield name, "/" + e.linkname.removeprefix("./").strip("/")
                continue
            content = cast(BinaryIO, tar.extractfile(e)).read() if e.isreg() else b""
            kept = tuple(
                (key.removeprefix("SCHILY.xattr."), value.encode("utf-8", "surrogateescape"))
                for key, value in sorted(e.pax_headers.items())
                if key.startswith("SCHILY.xattr.") and _counts(key.removeprefix("SCHILY.xattr."))
            )
            yield name, Node(
                _KINDS[e.type], e.mode, e.uid, e.gid, int(e.mtime // 1), *_content(content, e.isreg()), e.linkname,
                (e.devmajor, e.devminor) if e.isdev() and not e.isfifo() else (0, 0), kept,
            )  # fmt: skip


def _counts(xattr: str) -> bool:
    return xattr.startswith(_OURS) and not xattr.startswith(_OVERLAY)


def _content(data: bytes, regular: bool) -> tuple[int, str, bytes]:
    """(size, digest, data) as a Node keeps them."""
    if not regular:
        return 0, "", b""
    return len(data), hashlib.sha256(data).hexdigest(), data if len(data) <= _SHORT else b""


# --- trees on a disk


def walk(top: Path) -> tuple[dict[str, Node], dict[str, bool]]:
    """(entries, deletions) of a directory, which may be the upper directory of an overlay."""
    entries: dict[str, Node] = {}
    deleted: dict[str, bool] = {}
    seen: dict[tuple[int, int], Node] = {}
    for directory, directories, files in os.walk(top):
        for name in (*directories, *files):
            full = os.path.join(directory, name)
            path = "/" + os.path.relpath(full, top)
            found = os.lstat(full)
            if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
                deleted[path] = False
                continue
            if stat.S_ISDIR(found.st_mode) and _opaque(full):
                deleted[path] = True
            known = (found.st_dev, found.st_ino)
            entries[path] = seen[known] if known in seen else _node(full, found)
            if not stat.S_ISDIR(found.st_mode):
                seen[known] = entries[path]
    return entries, deleted


def _opaque(path: str) -> bool:
    names = os.listxattr(path, follow_symlinks=False)
    return any(os.getxattr(path, n) == b"y" for n in ("trusted.overlay.opaque", "user.overlay.opaque") if n in names)


_MODES = {
    stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link", stat.S_IFCHR: "char", stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket",
}  # fmt: skip


def _node(full: str, found: os.stat_result) -> Node:
    kind = _MODES[stat.S_IFMT(found.st_mode)]
    data = Path(full).read_bytes() if kind == "file" else b""
    names = [name for name in sorted(os.listxattr(full, follow_symlinks=False)) if _counts(name)]
    device = (os.major(found.st_rdev), os.minor(found.st_rdev)) if kind in ("char", "block") else (0, 0)
    return Node(
        kind, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, int(found.st_mtime // 1),
        *_content(data, kind == "file"), os.readlink(full) if kind == "link" else "", device,
        tuple((name, os.getxattr(full, name, follow_symlinks=False)) for name in names),
    )  # fmt: skip


# --- differences


def twins(tree: Tree) -> dict[str, tuple[str, ...]]:
    """For each path with hard links, all paths of that file."""
    groups: dict[int, list[str]] = {}
    for path, node in tree.items():
        if node.kind != "dir":
            groups.setdefault(id(node), []).append(path)
    return {path: tuple(sorted(group)) for group in groups.values() if len(group) > 1 for path in group}


def differences(theirs: Flat, ours: Flat, *, young: int) -> dict[str, str]:
    """{what: "theirs != ours"}; what is a path or a key of the config.

    A time before `young` was preserved, and must be the same on both sides. `theirs` may give a directory the time of
    the build.
    """
    found: dict[str, str] = {}
    for key in sorted({*theirs.config, *ours.config}):
        if theirs.config.get(key) != ours.config.get(key):
            found[key] = f"{json.dumps(theirs.config.get(key))} != {json.dumps(ours.config.get(key))}"
    links = twins(theirs.tree), twins(ours.tree)
    for path in sorted({*theirs.tree, *ours.tree}):
        one, two = theirs.tree.get(path), ours.tree.get(path)
        if one is None or two is None or one.facts() != two.facts():
            found[path] = f"{one} != {two}"
        elif links[0].get(path) != links[1].get(path):
            found[path] = f"hard links {links[0].get(path)} != {links[1].get(path)}"
        elif one.mtime != two.mtime and (one.mtime < young if one.kind == "dir" else min(one.mtime, two.mtime) < young):
            found[path] = f"time {one.mtime} != {two.mtime}"
    return found


def change(base: Flat, built: Flat) -> list[str]:
    """What a build made of its base, as the lines of an `expect` section (without times)."""
    lines = [f"history {json.dumps(text, ensure_ascii=False)}" for text in built.history[len(base.history) :]]
    lines += [f"annotations.{key} {json.dumps(value)}" for key, value in built.annotations.items()]
    for key in sorted({*base.config, *built.config}):
        if base.config.get(key) != built.config.get(key):
            value = json.dumps(built.config[key], ensure_ascii=False, sort_keys=True) if key in built.config else "gone"
            lines.append(f"{key} {value}")
    links, before = twins(built.tree), twins(base.tree)
    for path in sorted({*base.tree, *built.tree}):
        old, new = base.tree.get(path), built.tree.get(path)
        shown = json.dumps(path) if " " in path else path
        first = links.get(path, (path,))[0]
        if new is None:
            lines.append(f"{shown} gone")
        elif first != path and links[path] != before.get(path):
            lines.append(f"{shown} = {first}")
        elif old is None or old.facts() != new.facts():
            lines.append(f"{shown} {new}")
    return lines
