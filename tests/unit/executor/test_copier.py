"""COPY into a root file system, every kind of destination; as root, in a directory of its own."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from orca.errors import OrcaError
from orca.executor import copier
from orca.executor.copier import CopyError, Ownership, Target
from orca.sources.tree import Tree

pytestmark = pytest.mark.root

SOURCE = {
    "f": "f", "g": "g", "d/x": "x", "d/sub/y": "y", "d/link": "-> x", "d/out": "-> /etc/passwd", "e/x": "other x",
    "link": "-> f", "dlink": "-> d", ".hidden": "h",
}  # fmt: skip


def fill(root: Path, files: Mapping[str, str]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if text.startswith("-> "):
            path.symlink_to(text[3:])
        elif not name.endswith("/"):
            path.write_text(text)
    return root


def content(root: Path) -> dict[str, str]:
    """Everything in a tree: directories with a final slash, links with an arrow."""
    found = {}
    for directory, names, files in os.walk(root):
        for name in [*names, *files]:
            path = Path(directory, name)
            where = str(path.relative_to(root))
            if path.is_symlink():
                found[where] = f"-> {os.readlink(path)}"
            elif path.is_dir():
                found[f"{where}/"] = ""
            else:
                found[where] = path.read_text()
    return found


class Place:
    """A source and a destination."""

    def __init__(self, tmp_path: Path) -> None:
        self.source = fill(tmp_path / "source", SOURCE)
        self.root = tmp_path / "root"
        self.root.mkdir()
        self.outside = fill(tmp_path / "outside", {"precious": "precious"})

    def copy(self, patterns: str, destination: str, *, owners: bool = False, **ownership: Any) -> int:
        fd = os.open(self.root, os.O_RDONLY)
        target = Target(fd, Ownership(**ownership))
        try:
            with Tree(self.source, owners=owners) as tree:
                items = [item for pattern in patterns.split() for item in tree.find(pattern)]
                return copier.copy(items, tree, target, destination)
        finally:
            os.close(fd)

    def write(self, place: str, data: bytes = b"doc\n", mode: int = 0o644, **ownership: Any) -> None:
        fd = os.open(self.root, os.O_RDONLY)
        try:
            copier.write_file(Target(fd, Ownership(**ownership)), place, data, mode, 1000)
        finally:
            os.close(fd)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


D = {"x": "x", "sub/": "", "sub/y": "y", "link": "-> x", "out": "-> /etc/passwd"}


def below(directory: str, files: Mapping[str, str]) -> dict[str, str]:
    return {f"{directory}/": "", **{f"{directory}/{name}": text for name, text in files.items()}}


@pytest.mark.parametrize(
    ("there", "patterns", "destination", "expected"),
    [
        # a file
        ({}, "f", "/new", {"new": "f"}),
        ({}, "f", "/new/", {"new/": "", "new/f": "f"}),
        ({}, "f", "/", {"f": "f"}),
        ({}, "f", "/a/b/c", {"a/": "", "a/b/": "", "a/b/c": "f"}),
        ({"old": "1"}, "f", "/old", {"old": "f"}),
        ({"dir/": ""}, "f", "/dir", {"dir/": "", "dir/f": "f"}),
        ({"dir/f": "1"}, "f", "/dir", {"dir/": "", "dir/f": "f"}),
        ({}, "./f", "/new/", {"new/": "", "new/f": "f"}),
        ({}, "f/", "/new/", {"new/": "", "new/f": "f"}),
        ({}, "d/../f", "/new/", {"new/": "", "new/f": "f"}),
        ({}, ".hidden", "/", {".hidden": "h"}),
        # several
        ({}, "f g", "/new/", {"new/": "", "new/f": "f", "new/g": "g"}),
        ({}, "f g", "/new", {"new": "g"}),
        ({}, "[fg]", "/n/", {"n/": "", "n/f": "f", "n/g": "g"}),
        # a directory: its contents
        ({}, "d", "/new", below("new", D)),
        ({}, "d", "/new/", below("new", D)),
        ({}, "d", "/", D),
        ({"new/x": "old", "new/z": "z"}, "d", "/new", {**below("new", D), "new/z": "z"}),
        ({}, "d e", "/new", {**below("new", D), "new/x": "other x"}),
        ({}, "d/sub f", "/new/", {"new/": "", "new/y": "y", "new/f": "f"}),
        # source links are followed when named
        ({}, "link", "/new/", {"new/": "", "new/link": "f"}),
        ({}, "dlink", "/new", below("new", D)),
        # destination links are written through, inside the root
        ({"l": "-> old", "old": "1"}, "f", "/l", {"l": "-> old", "old": "f"}),
        ({"l": "-> new"}, "f", "/l", {"l": "-> new", "new": "f"}),
        ({"l": "-> sub/new"}, "f", "/l", {"l": "-> sub/new", "sub/": "", "sub/new": "f"}),
        ({"l": "-> /abs"}, "f", "/l", {"l": "-> /abs", "abs": "f"}),
        ({"l": "-> ../../../up"}, "f", "/l", {"l": "-> ../../../up", "up": "f"}),
        ({"l": "-> m", "m": "-> n"}, "f", "/l", {"l": "-> m", "m": "-> n", "n": "f"}),
        ({"l": "-> dir", "dir/": ""}, "f", "/l", {"l": "-> dir", "dir/": "", "dir/f": "f"}),
        ({"l": "-> dir", "dir/": ""}, "f", "/l/", {"l": "-> dir", "dir/": "", "dir/f": "f"}),
        ({"l": "-> dir", "dir/": ""}, "d/sub", "/l", {"l": "-> dir", "dir/": "", "dir/y": "y"}),
        ({"l": "-> dir"}, "d/sub", "/l", {"l": "-> dir", "dir/": "", "dir/y": "y"}),
        ({"l": "-> dir"}, "f", "/l/", {"l": "-> dir", "dir/": "", "dir/f": "f"}),
        ({"l": "-> /a/b"}, "f", "/l/c/d", {"l": "-> /a/b", "a/": "", "a/b/": "", "a/b/c/": "", "a/b/c/d": "f"}),
        ({"l": "-> /"}, "f", "/l", {"l": "-> /", "f": "f"}),
        # a link among what is replaced by a directory's content is replaced itself
        ({"new/x": "-> keep", "new/keep": "k"}, "d/x", "/new/x", {"new/": "", "new/x": "-> keep", "new/keep": "x"}),
        ({"new/x": "-> keep", "new/keep": "k"}, "e", "/new", {"new/": "", "new/x": "other x", "new/keep": "k"}),
    ],
)
def test_destinations(
    there: dict[str, str], patterns: str, destination: str, expected: dict[str, str], place: Place
) -> None:
    fill(place.root, there)
    place.copy(patterns, destination)
    assert content(place.root) == expected


@pytest.mark.parametrize(
    ("there", "patterns", "destination", "message"),
    [
        ({"x/f/": ""}, "f", "/x/", "cannot copy a file over the directory f"),
        ({"x": "file"}, "d", "/x", "cannot copy the directory d over /x, which is no directory"),
        ({"x": "file"}, "f", "/x/", "something that is not a directory is in the way"),
        ({"x": "file"}, "f", "/x/y", "something that is not a directory is in the way"),
        ({"new/sub": "file"}, "d", "/new", "cannot copy the directory sub over something that is no directory"),
        ({"new/sub": "-> /", "keep": "k"}, "d", "/new", "cannot copy the directory sub over something"),
        ({"new/x/": ""}, "d", "/new", "cannot copy x over the directory x"),
        ({"l": "-> l"}, "f", "/l", "too many symbolic links|symbolic links"),
        ({"l": "-> m", "m": "-> l"}, "d", "/l", "symbolic links"),
        ({"l": "-> l"}, "f", "/l/x", "symbolic links"),
    ],
)
def test_what_does_not_fit(there: dict[str, str], patterns: str, destination: str, message: str, place: Place) -> None:
    fill(place.root, there)
    with pytest.raises(CopyError, match=message):
        place.copy(patterns, destination)


@pytest.mark.parametrize("depth", [0, 1, 9])
@pytest.mark.parametrize("patterns", ["f", "d", "d/sub"])
def test_nothing_is_written_outside(depth: int, patterns: str, place: Place) -> None:
    way_out = "../" * depth + str(place.outside).lstrip("/") if depth else str(place.outside)
    fill(place.root, {"l": f"-> {way_out}", "in/m": f"-> {way_out}/precious"})
    for destination in ("/l", "/l/", "/l/x", "/in/m"):
        try:
            place.copy(patterns, destination)
        except OrcaError:
            continue
    assert content(place.outside) == {"precious": "precious"}
    assert len(content(place.root)) > 3


# -- owners, modes, times


def facts(path: Path) -> tuple[int, int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


def test_everything_belongs_to_root(place: Place) -> None:
    for path in (place.source / "f", place.source / "d", place.source / "d/x"):
        os.chown(path, 7, 8)
    place.copy("f d", "/a/b/")
    for path in (place.root / "a", place.root / "a/b", *(place.root / "a/b").rglob("*")):
        assert facts(path)[:2] == (0, 0)


def test_chown_counts_for_parents_and_links_too(place: Place) -> None:
    place.copy("d", "/a/b/", owner=(5, 6))
    for path in (place.root / "a", place.root / "a/b", *(place.root / "a/b").rglob("*")):
        assert facts(path)[:2] == (5, 6)


def test_existing_directories_keep_their_facts(place: Place) -> None:
    fill(place.root, {"a/sub/": ""})
    os.chown(place.root / "a", 9, 9)
    (place.root / "a").chmod(0o700)
    place.copy("f", "/a/", owner=(5, 6))
    assert facts(place.root / "a") == (9, 9, 0o700)
    place.copy("d/sub", "/a", owner=(5, 6))
    assert facts(place.root / "a") == (9, 9, 0o700)


def test_a_stages_owners_are_kept(place: Place) -> None:
    os.chown(place.source / "d/x", 7, 8)
    os.chown(place.source / "d/link", 9, 9, follow_symlinks=False)
    place.copy("d", "/new", owners=True, owner=None)
    assert facts(place.root / "new/x")[:2] == (7, 8)
    assert facts(place.root / "new/link")[:2] == (9, 9)
    assert facts(place.root / "new/sub")[:2] == (0, 0)


@pytest.mark.parametrize("mode", [0o4755, 0o2750, 0o1777, 0o000, 0o640])
def test_modes_are_kept(mode: int, place: Place) -> None:
    (place.source / "f").chmod(mode)
    (place.source / "d/sub").chmod(mode)
    place.copy("f d", "/new/", owner=(5, 6))
    assert facts(place.root / "new/f") == (5, 6, mode)
    assert facts(place.root / "new/sub") == (5, 6, mode)


def test_chmod_counts_for_directories_not_for_parents(place: Place) -> None:
    place.copy("d", "/a/new", mode=0o600)
    assert facts(place.root / "a")[2] == 0o755
    assert [facts(place.root / "a/new" / name)[2] for name in (".", "x", "sub", "sub/y")] == [0o755] + [0o600] * 3


def test_a_strange_umask_changes_nothing(place: Place) -> None:
    before = os.umask(0o077)
    try:
        place.copy("f", "/a/b/f")
        place.write("/a/doc")
    finally:
        os.umask(before)
    modes = [facts(place.root / name)[2] for name in ("a", "a/b", "a/b/f", "a/doc")]
    assert modes == [0o755, 0o755, stat.S_IMODE((place.source / "f").stat().st_mode), 0o644]


@pytest.mark.parametrize(("clamp", "expected"), [(None, 1234567890), (1000, 1000), (2**31, 1234567890)])
def test_times_are_whole_seconds(clamp: int | None, expected: int, place: Place) -> None:
    moment = 1234567890_987654321
    for name in ("f", "d", "d/sub", "d/x"):
        os.utime(place.source / name, ns=(moment, moment))
    os.utime(place.source / "d/link", ns=(moment, moment), follow_symlinks=False)
    place.copy("f d", "/new/", clamp=clamp)
    for name in ("f", "x", "sub"):
        assert (place.root / "new" / name).lstat().st_mtime_ns == expected * 10**9
    assert (place.root / "new/link").lstat().st_mtime_ns % 10**9 == 0


def test_hard_links_stay_hard_links(place: Place) -> None:
    os.link(place.source / "d/x", place.source / "d/sub/x2")
    os.link(place.source / "d/x", place.source / "f2")
    fill(place.root, {"new/sub/x2": "old"})
    place.copy("d f2", "/new/")
    inodes = {(place.root / "new" / name).stat().st_ino for name in ("x", "sub/x2", "f2")}
    assert len(inodes) == 1
    assert (place.root / "new/x").stat().st_nlink == 3
    assert (place.source / "d/x").stat().st_ino not in inodes


def test_an_old_hard_link_is_not_written_through(place: Place) -> None:
    fill(place.root, {"a": "shared"})
    os.link(place.root / "a", place.root / "b")
    place.copy("f", "/a")
    assert content(place.root) == {"a": "f", "b": "shared"}


def test_attributes(place: Place) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    os.setxattr(place.source / "f", "security.capability", capability)
    place.copy("f", "/context", owner=(5, 6))
    assert os.getxattr(place.root / "context", "security.capability") == capability
    try:
        for name in ("user.mine", "user.overlay.opaque"):
            os.setxattr(place.source / "f", name, b"y")
    except OSError:
        pytest.skip("no user.* attributes here")
    place.copy("f", "/context2")
    place.copy("f", "/stage", owners=True, owner=None)
    assert os.listxattr(place.root / "context2") == ["security.capability"]
    assert sorted(os.listxattr(place.root / "stage")) == ["security.capability", "user.mine"]


def test_big_and_empty_files(place: Place) -> None:
    data = os.urandom(3 * 2**20 + 17)
    (place.source / "big").write_bytes(data)
    (place.source / "empty").write_bytes(b"")
    assert place.copy("big empty", "/new/") == 2
    assert (place.root / "new/big").read_bytes() == data
    assert (place.root / "new/empty").read_bytes() == b""


def test_without_copy_file_range(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> int:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    data = os.urandom(2**20 + 5)
    (place.source / "big").write_bytes(data)
    place.copy("big", "/big")
    assert (place.root / "big").read_bytes() == data


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text("longer than before"),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.symlink_to("/etc/passwd")),
        lambda path: (path.unlink(), os.mkfifo(path)),
        lambda path: os.utime(path, (1, 1)),
    ],
)
def test_a_source_that_changes_meanwhile(change: Callable[[Path], object], place: Place) -> None:
    with Tree(place.source) as tree:
        items = tree.find("f")
        change(place.source / "f")
        fd = os.open(place.root, os.O_RDONLY)
        try:
            with pytest.raises(CopyError, match="changed while it was copied"):
                copier.copy(items, tree, Target(fd), "/f")
        finally:
            os.close(fd)


def test_count_and_no_descriptor_left(place: Place) -> None:
    place.copy("f", "/warm")
    before = len(os.listdir("/proc/self/fd"))
    assert place.copy("d f", "/new/") == 7
    with pytest.raises(CopyError):
        place.copy("d", "/new/x")
    assert len(os.listdir("/proc/self/fd")) == before


# -- heredocs' files and WORKDIR's directories


def test_a_heredocs_file(place: Place) -> None:
    fill(place.root, {"l": "-> deep/target"})
    place.write("/new/doc", owner=(5, 6))
    place.write("/l", mode=0o755)
    assert (place.root / "new/doc").read_text() == "doc\n"
    assert facts(place.root / "new/doc") == (5, 6, 0o644)
    assert (place.root / "new/doc").stat().st_mtime == 1000
    assert facts(place.root / "deep/target") == (0, 0, 0o755)
    with pytest.raises(CopyError, match="over the directory"):
        place.write("/new")


@pytest.mark.parametrize(
    ("there", "path", "made"),
    [
        ({}, "/a/b", {"a/": "", "a/b/": ""}),
        ({"a/": ""}, "/a/b/c", {"a/": "", "a/b/": "", "a/b/c/": ""}),
        ({}, "/", {}),
        ({}, "/./a//b/", {"a/": "", "a/b/": ""}),
        ({"l": "-> a/b"}, "/l/c", {"l": "-> a/b", "a/": "", "a/b/": "", "a/b/c/": ""}),
        ({"l": "-> /x", "x/": ""}, "/l/y", {"l": "-> /x", "x/": "", "x/y/": ""}),
    ],
)
def test_open_directory(there: dict[str, str], path: str, made: dict[str, str], place: Place) -> None:
    fill(place.root, there)
    fd = os.open(place.root, os.O_RDONLY)
    try:
        target = Target(fd, Ownership((7, 8)))
        os.close(target.open_directory(path))
        assert target.is_directory(path.lstrip("/") or ".")
    finally:
        os.close(fd)
    assert content(place.root) == made
    new = [place.root / name for name in made if name.endswith("/") and name not in there]
    assert {facts(path_) for path_ in new if "-> a/b" not in there.values()} <= {(7, 8, 0o755)}


def test_open_directory_makes_nothing_unasked(place: Place) -> None:
    fd = os.open(place.root, os.O_RDONLY)
    try:
        with pytest.raises(CopyError, match="No such file"):
            Target(fd).open_directory("/not/there", make=False)
    finally:
        os.close(fd)
    assert content(place.root) == {}
