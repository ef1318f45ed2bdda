"""Removing trees that nobody made for being removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orca.errors import Interrupted
from orca.store import files


def test_a_tree_deeper_than_pythons_stack_and_the_descriptors(tmp_path: Path) -> None:
    top = tmp_path / "tree"
    top.mkdir()
    fd = os.open(top, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=fd)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        fd, old = os.open("d", os.O_RDONLY, dir_fd=fd), fd
        os.close(old)
    os.close(fd)
    files.remove_tree(top)
    assert not top.exists()


def test_links_are_removed_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    top = tmp_path / "tree"
    (top / "d").mkdir(parents=True)
    (top / "d/link").symlink_to(outside)
    files.remove_tree(top)
    assert (outside / "precious").exists()
    (tmp_path / "link").symlink_to(outside)
    files.remove_tree(tmp_path / "link")
    assert (outside / "precious").exists()
    assert not (tmp_path / "link").is_symlink()


def test_directories_without_any_permission(tmp_path: Path) -> None:
    top = tmp_path / "tree"
    (top / "a/b").mkdir(parents=True)
    (top / "a/b/file").touch()
    (top / "a/b").chmod(0)
    (top / "a").chmod(0)
    files.remove_tree(top)
    assert not top.exists()


def test_what_is_not_there_is_fine(tmp_path: Path) -> None:
    files.remove_tree(tmp_path / "nothing")
    assert os.listdir(tmp_path) == []


def test_patience_with_a_lock(tmp_path: Path) -> None:
    """Who waits can be told to give up, and gets the lock when it is free."""
    asked: list[int] = []

    def patience() -> None:
        asked.append(1)
        if len(asked) == 3:
            raise Interrupted("interrupted")

    with files.lock(tmp_path / "lock"):
        with pytest.raises(Interrupted), files.lock(tmp_path / "lock", patience=patience):
            pass
        assert len(asked) == 3
    with files.lock(tmp_path / "lock", patience=patience) as got:
        assert got
    assert len(asked) == 3
