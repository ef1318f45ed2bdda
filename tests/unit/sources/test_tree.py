"""What COPY finds in a tree, and what it refuses."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from orca.dockerfile.ignore import IgnoreRules
from orca.sources import statcache
from orca.sources.statcache import StatCache
from orca.sources.tree import SourceError, Tree, digest_items

Files = Mapping[str, str]
FILES = {
    "a.txt": "a", "b.txt": "b", ".env": "secret", "..odd": "o", "dir/one": "1", "dir/two": "2", "dir/sub/three": "3",
    "dir2/.hidden/f": "h", "empty/": "", "sp ace": "s", "[x]": "x", "link": "-> dir", "file-link": "-> ../../a.txt",
    "dangling": "-> nowhere", "loop": "-> loop", "up": "-> ../../../dir/one", "dir/inner-link": "-> one",
}  # fmt: skip


def fill(root: Path, files: Files) -> Path:
    for name, text in files.items():
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if text.startswith("-> "):
            path.symlink_to(text[3:])
        elif not name.endswith("/"):
            path.write_text(text)
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Tree]:
    """`tree(ignore="*.o", owners=True)`: FILES as a tree."""
    root = fill(tmp_path / "context", FILES)

    def make(ignore: str = "", *, owners: bool = False, cache: StatCache | None = None) -> Tree:
        return Tree(root, rules=IgnoreRules.parse(ignore, ".dockerignore"), cache=cache, owners=owners)

    return make


def listed(tree: Tree, pattern: str) -> dict[str, list[str]]:
    with tree:
        return {item.path: [entry.path for entry in item.entries] for item in tree.find(pattern)}


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("a.txt", {"a.txt": [""]}),
        ("/a.txt", {"a.txt": [""]}),
        ("./dir/../a.txt", {"a.txt": [""]}),
        ("../../a.txt", {"a.txt": [""]}),
        (".env", {".env": [""]}),
        ("..odd", {"..odd": [""]}),
        ("sp ace", {"sp ace": [""]}),
        ("[[]x]", {"[x]": [""]}),
        ("*.txt", {"a.txt": [""], "b.txt": [""]}),
        ("?.txt", {"a.txt": [""], "b.txt": [""]}),
        ("[b-c].txt", {"b.txt": [""]}),
        ("dir/t*", {"dir/two": [""]}),
        ("d*/one", {"dir/one": [""]}),
        ("*/sub", {"dir/sub": ["", "three"]}),
        ("*.nothing", {}),
        ("nowhere/*", {}),
        ("dir/*/three", {"dir/sub/three": [""]}),
        ("empty", {"empty": [""]}),
        ("dir", {"dir": ["", "inner-link", "one", "sub", "sub/three", "two"]}),
        ("dir/", {"dir": ["", "inner-link", "one", "sub", "sub/three", "two"]}),
        ("dir2", {"dir2": ["", ".hidden", ".hidden/f"]}),
        ("dir2/.hidden", {"dir2/.hidden": ["", "f"]}),
        # Links are followed when they are named, by a pattern too; the root is the root of all of them.
        ("link", {"dir": ["", "inner-link", "one", "sub", "sub/three", "two"]}),
        ("link/one", {"dir/one": [""]}),
        ("file-link", {"a.txt": [""]}),
        ("up", {"dir/one": [""]}),
        ("lin?", {"dir": ["", "inner-link", "one", "sub", "sub/three", "two"]}),
        ("dir/inner-link", {"dir/one": [""]}),
    ],
)
def test_find(pattern: str, paths: dict[str, list[str]], tree: Callable[..., Tree]) -> None:
    assert listed(tree(), pattern) == paths


def test_the_whole_context(tree: Callable[..., Tree]) -> None:
    for pattern in (".", "/", "dir/..", "../.."):
        with tree() as opened:
            (item,) = opened.find(pattern)
            paths = [entry.path for entry in item.entries]
            assert item.path == "" and paths[0] == "" and item.is_directory
            assert len(paths) == len(set(paths)) == 22
            for path in filter(None, paths):
                assert path in paths and (os.path.dirname(path) in paths)
                assert paths.index(os.path.dirname(path)) < paths.index(path)


def test_entries_tell_kinds(tree: Callable[..., Tree]) -> None:
    with tree() as opened:
        (item,) = opened.find("dir")
    kinds = {entry.path: entry.kind for entry in item.entries}
    assert kinds == {"": "dir", "inner-link": "link", "one": "file", "sub": "dir", "sub/three": "file", "two": "file"}
    assert {entry.digest for entry in item.entries if entry.kind == "link"} == {"one"}


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("b.tx", "b.tx: no such file or directory in the build context", "did you mean b.txt?"),
        ("dir/on", "dir/on: no such file", "did you mean dir/one?"),
        ("zzz", "zzz: no such file", "sources are looked up below the root of the build context"),
        ("a.txt/x", "a.txt/x: no such file", "sources are looked up below"),
        ("dangling", "dangling is a symbolic link that leads nowhere in the build context", "it points to nowhere"),
        ("loop", "cannot read loop: Too many levels of symbolic links", None),
        ("nowhere/x", "nowhere/x: no such file", "sources are looked up below"),
    ],
)
def test_what_is_missing(name: str, message: str, hint: str | None, tree: Callable[..., Tree]) -> None:
    with tree() as opened, pytest.raises(SourceError) as caught:
        opened.find(name)
    assert caught.value.message.startswith(message)
    assert caught.value.hint == hint or (hint and (caught.value.hint or "").startswith(hint))


def test_what_is_missing_in_a_stage(tree: Callable[..., Tree]) -> None:
    with tree(owners=True) as opened, pytest.raises(SourceError, match="in the stage"):
        opened.find("zzz")


def test_no_directory_to_read(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        Tree(tmp_path / "nothing")


# -- ignore rules


@pytest.mark.parametrize(
    ("ignore", "pattern", "paths"),
    [
        ("*.txt", ".", None),
        ("*.txt", "*.txt", {}),
        ("dir/sub", "dir", {"dir": ["", "inner-link", "one", "two"]}),
        ("dir\n!dir/two", "dir", {"dir": ["", "two"]}),
        ("dir\n!dir/sub/three", "dir", {"dir": ["", "sub", "sub/three"]}),
        ("dir\n!dir/sub/three", "di*", {"dir": ["", "sub", "sub/three"], "dir2": ["", ".hidden", ".hidden/f"]}),
        ("**/f", "dir2", {"dir2": ["", ".hidden"]}),
        ("dir/*\n!dir/one", "dir", {"dir": ["", "one"]}),
        ("*\n!a.txt", "*", {"a.txt": [""]}),
        ("dir", "link-is-no-way-round", SourceError),
        ("dir", "link", SourceError),
        ("dir", "link/one", SourceError),
        ("a.txt", "file-link", SourceError),
    ],
)
def test_ignored(ignore: str, pattern: str, paths: object, tree: Callable[..., Tree]) -> None:
    if paths is SourceError:
        with pytest.raises(SourceError):
            listed(tree(ignore), pattern)
        return
    found = listed(tree(ignore), pattern)
    if paths is None:
        assert "a.txt" not in found[""] and "dir/one" in found[""]
    else:
        assert found == paths


def test_which_line_hides_it(tree: Callable[..., Tree]) -> None:
    with tree("# comment\n*.o\n*.txt") as opened, pytest.raises(SourceError) as caught:
        opened.find("a.txt")
    assert caught.value.message == "a.txt is excluded from the build context"
    assert caught.value.hint == "line 3 of .dockerignore hides it: *.txt"


# -- what is refused


@pytest.mark.parametrize(("kind", "name"), [("fifo", "FIFO"), ("socket", "socket"), ("device", "device")])
@pytest.mark.parametrize("pattern", ["special", "."])
def test_special_files_are_refused(kind: str, name: str, pattern: str, tmp_path: Path) -> None:
    path = tmp_path / "special"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    else:
        if os.getuid():
            pytest.skip("needs root")
        os.mknod(path, 0o20600, os.makedev(1, 3))
    with Tree(tmp_path) as tree, pytest.raises(SourceError, match=f"special is a {name}, which is not copied"):
        tree.find(pattern)
    with Tree(tmp_path, rules=IgnoreRules.parse("special", "x")) as tree:
        assert len(tree.find(".")[0].entries) == 1


@pytest.mark.root
def test_unreadable_files_and_directories(open_path: Path) -> None:
    fill(open_path, {"dir/f": "x", "file": "y"})
    (open_path / "dir").chmod(0)
    (open_path / "file").chmod(0)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setresuid(65534, 65534, 65534)
            said = []
            with Tree(open_path) as tree:
                for name in (".", "file", "dir"):
                    try:
                        tree.find(name)
                    except (SourceError, PermissionError) as error:
                        said.append(str(error))
            code = 0 if len(said) == 3 and "cannot read dir" in said[0] and "cannot read file" in said[1] else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_no_descriptor_stays_open(tree: Callable[..., Tree]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with tree() as opened:
        for name in (".", "link", "*", "zzz", "loop"):
            try:
                opened.find(name)
            except SourceError:
                continue
    assert len(os.listdir("/proc/self/fd")) == before


# -- digests


def digest(root: Path, pattern: str = ".", *, owners: bool = False) -> str:
    with Tree(root, owners=owners) as tree:
        return digest_items(tree.find(pattern), owners=owners)


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda root: (root / "dir/f").write_text("g"),
    "mode": lambda root: (root / "dir/f").chmod(0o755),
    "directory mode": lambda root: (root / "dir").chmod(0o700),
    "name": lambda root: (root / "dir/f").rename(root / "dir/g"),
    "new file": lambda root: (root / "dir/g").touch(),
    "new directory": lambda root: (root / "dir/g").mkdir(),
    "gone": lambda root: (root / "dir/f").unlink(),
    "link target": lambda root: ((root / "link").unlink(), (root / "link").symlink_to("dir/g")),
    "link to file": lambda root: ((root / "link").unlink(), (root / "link").write_text("dir/f")),
    "capability": lambda root: os.setxattr(
        root / "dir/f", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000")
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_everything_that_is_copied_counts(change: str, tmp_path: Path) -> None:
    if change == "capability" and os.getuid():
        pytest.skip("needs root")
    fill(tmp_path, {"dir/f": "f", "link": "-> dir/f"})
    (tmp_path / "dir").chmod(0o755)
    (tmp_path / "dir/f").chmod(0o644)
    before = digest(tmp_path)
    CHANGES[change](tmp_path)
    assert digest(tmp_path) != before


def test_times_do_not_count(tmp_path: Path) -> None:
    fill(tmp_path, {"dir/f": "f", "link": "-> dir/f"})
    before = digest(tmp_path)
    os.utime(tmp_path / "dir/f", (1, 1))
    os.utime(tmp_path / "dir", (1, 1))
    assert digest(tmp_path) == before


def test_the_name_counts_where_it_is_kept(tmp_path: Path) -> None:
    fill(tmp_path, {"a": "same", "b": "same"})
    assert digest(tmp_path, "a") != digest(tmp_path, "b")
    assert digest(tmp_path, "a") == digest(tmp_path, "./a") == digest(tmp_path, "/a/")


def test_names_with_newlines_are_not_mixed_up(tmp_path: Path) -> None:
    fill(tmp_path / "1", {"l": "-> t\na", "z": "-> t"})
    fill(tmp_path / "2", {"l": "-> t", "z": "-> t\na"})
    assert digest(tmp_path / "1") != digest(tmp_path / "2")


@pytest.mark.root
def test_owners_count_in_stages_only(tmp_path: Path) -> None:
    fill(tmp_path, {"f": "f"})
    before = digest(tmp_path), digest(tmp_path, owners=True)
    os.chown(tmp_path / "f", 5, 6)
    after = digest(tmp_path), digest(tmp_path, owners=True)
    assert before[0] == after[0] and before[1] != after[1]


def test_user_attributes_count_in_stages_only(tmp_path: Path) -> None:
    fill(tmp_path, {"f": "f"})
    before = digest(tmp_path), digest(tmp_path, owners=True)
    try:
        os.setxattr(tmp_path / "f", "user.mine", b"1")
    except OSError:
        pytest.skip("no user.* attributes here")
    after = digest(tmp_path), digest(tmp_path, owners=True)
    assert before[0] == after[0] and before[1] != after[1]


def test_hard_links_are_known(tmp_path: Path) -> None:
    fill(tmp_path, {"a": "x", "c": "x"})
    os.link(tmp_path / "a", tmp_path / "b")
    with Tree(tmp_path) as tree:
        entries = {entry.path: entry.identity for entry in tree.find(".")[0].entries}
    assert entries["a"] == entries["b"] != entries["c"] is None


# -- the stat cache


@pytest.fixture
def cache_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(statcache, "SETTLED_NS", -(10**12))  # nothing is too young to be remembered
    return tmp_path / "cache.json"


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    read: list[str] = []
    original = Tree._hash

    def counted(self: Tree, directory: int, name: str, where: str) -> str:
        read.append(where)
        return original(self, directory, name, where)

    monkeypatch.setattr(Tree, "_hash", counted)
    return read


def test_a_second_look_reads_nothing(
    tree: Callable[..., Tree], cache_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = count_reads(monkeypatch)
    first = second = ""
    with tree(cache=StatCache(cache_file)) as opened:
        first = digest_items(opened.find("."), owners=False)
        opened.remember()
    assert len(read) > 5
    read.clear()
    with tree(cache=StatCache(cache_file)) as opened:
        second = digest_items(opened.find("."), owners=False)
    assert read == [] and first == second


def test_a_changed_file_is_read_again(cache_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = count_reads(monkeypatch)
    root = fill(tmp_path / "context", {"a": "1", "b": "1"})
    with Tree(root, cache=StatCache(cache_file)) as opened:
        opened.find(".")
        opened.remember()
    (root / "a").write_text("2")
    os.utime(root / "a", ns=((root / "b").stat().st_mtime_ns,) * 2)  # the same time and size: ctime tells
    read.clear()
    with Tree(root, cache=StatCache(cache_file)) as opened:
        opened.find(".")
    assert read == ["a"]


def test_young_files_are_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = count_reads(monkeypatch)
    root = fill(tmp_path / "context", {"young": "1"})
    for _ in range(2):
        with Tree(root, cache=StatCache(tmp_path / "cache.json")) as opened:
            opened.find(".")
            opened.remember()
    assert read == ["young", "young"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a.txt": 7}', '{"a.txt": []}', '{"a.txt": [1, 2]}'])
def test_a_damaged_cache_is_no_trouble(text: str, cache_file: Path, tree: Callable[..., Tree]) -> None:
    cache_file.write_text(text)
    with tree(cache=StatCache(cache_file)) as opened:
        assert len(opened.find("a.txt")) == 1


def test_each_directory_has_a_cache_of_its_own(tmp_path: Path) -> None:
    one, two = (StatCache.for_directory(tmp_path, Path(name))._path for name in ("/a", "/b\udcff"))
    assert one != two and one is not None and one.parent == tmp_path


def test_a_cache_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    cache = StatCache(tmp_path / "missing" / "cache.json")
    cache.put("a", (1, 2, 3, 4), "digest")
    cache.save()
    assert not (tmp_path / "missing").exists()
