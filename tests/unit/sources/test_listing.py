"""Listings of what a COPY consisted of."""

from __future__ import annotations

from pathlib import Path

import pytest

from orca.sources import listing
from orca.sources.tree import Tree, digest_items


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store/cache").mkdir(parents=True)
    return tmp_path / "store"


def listed(root: Path, store: Path) -> dict[str, listing.Facts]:
    with Tree(root) as tree:
        items = tree.find("dir")
        digest = digest_items(items, owners=False)
        listing.keep(store, digest, items)
        found = listing.read(store, digest)
        assert found == listing.facts(items)
        return found


def test_what_changed(tmp_path: Path, store: Path) -> None:
    root = tmp_path / "context"
    (root / "dir/sub").mkdir(parents=True)
    for name in ("changed", "mode", "gone", "type", "same", "sub/x\ny", "sub/\udcff"):
        (root / "dir" / name).write_text(name.encode("utf-8", "replace").decode("utf-8", "replace"))
    (root / "dir/link").symlink_to("same")
    old = listed(root, store)
    assert set(old) == {"dir", "dir/sub", "dir/link", *(f"dir/{n}" for n in (
        "changed", "mode", "gone", "type", "same", "sub/x\ny", "sub/\udcff"))}  # fmt: skip
    (root / "dir/changed").write_text("new")
    (root / "dir/mode").chmod(0o700)
    (root / "dir/gone").unlink()
    (root / "dir/type").unlink()
    (root / "dir/type").symlink_to("same")
    (root / "dir/link").unlink()
    (root / "dir/link").symlink_to("mode")
    (root / "dir/new").write_text("")
    assert list(listing.changes(old, listed(root, store))) == [
        ("dir/changed", "content"), ("dir/gone", "removed"), ("dir/link", "content"), ("dir/mode", "mode"),
        ("dir/new", "added"), ("dir/type", "type"),
    ]  # fmt: skip


def test_what_cannot_be_read(store: Path) -> None:
    digest = "a" * 64
    assert listing.read(store, digest) is None
    listing.path_of(store, digest).write_bytes(b"no zlib")
    assert listing.read(store, digest) is None
    assert listing.read(store, "../../etc/passwd") is None
    listing.keep(store, "../x", [])
    assert sorted(path.name for path in (store / "cache").iterdir()) == [f"list-{digest}"]


def test_a_listing_holds_no_content(tmp_path: Path, store: Path) -> None:
    import zlib

    root = tmp_path / "context"
    (root / "dir").mkdir(parents=True)
    (root / "dir/f").write_text("SENTINEL")
    (root / "dir/l").symlink_to("SENTINEL")
    listed(root, store)
    (path,) = (store / "cache").iterdir()
    assert b"dir/f" in zlib.decompress(path.read_bytes())
    assert b"SENTINEL" not in zlib.decompress(path.read_bytes())
