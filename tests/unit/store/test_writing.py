"""Files of the store: whole or not at all, ours alone, one writer at a time."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from orca.errors import StoreError
from orca.store import files


def test_a_write_replaces_at_once(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    with open(path) as reader:
        files.write_atomically(path, b"new and longer")
        assert reader.read() == "old"  # who has it open sees all of the old one
    assert path.read_bytes() == b"new and longer"
    assert os.listdir(tmp_path) == ["f"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_write_does_not_follow_a_link(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("other")
    (tmp_path / "f").symlink_to("other")
    files.write_atomically(tmp_path / "f", b"mine")
    assert (tmp_path / "other").read_text() == "other"
    assert not (tmp_path / "f").is_symlink()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_full_disk_leaves_the_old_file(
    number: int, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / "f").write_text("old")
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StoreError, match="no space left on the device while writing f") as caught:
        files.write_atomically(tmp_path / "f", b"new")
    assert caught.value.hint and "orca prune" in caught.value.hint
    assert os.listdir(tmp_path) == ["f"] and (tmp_path / "f").read_text() == "old"


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write_atomically(tmp_path / "f", b"x")
    assert os.listdir(tmp_path) == []


def test_caches_are_not_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: pytest.fail("fsync of a cache"))
    files.write_json(tmp_path / "f", {"a": "\udcff"}, durable=False)
    assert files.read_json(tmp_path / "f") == {"a": "\udcff"}


def test_other_troubles_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"No such file or directory while writing f \(.*missing"):
        files.write_atomically(tmp_path / "missing" / "f", b"x")


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"a":' + b"1" * 5000 + b"}"])
def test_damaged_json_is_none(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(data)
    assert files.read_json(tmp_path / "f") is None


def test_missing_json_is_none_and_a_directory_an_error(tmp_path: Path) -> None:
    assert files.read_json(tmp_path / "nothing") is None
    (tmp_path / "file").touch()
    assert files.read_json(tmp_path / "file" / "below") is None
    with pytest.raises(StoreError, match="Is a directory while reading"):
        files.read_json(tmp_path)


def test_json_is_read_from_regular_files_alone(tmp_path: Path) -> None:
    """A FIFO would keep us waiting, a device or a file with holes would fill the memory."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "holes").touch()
    os.truncate(tmp_path / "holes", 1 << 40)
    for name, message in (("fifo", "fifo is not a regular"), ("zero", "zero is not a regular"), ("holes", "has more")):
        with pytest.raises(StoreError, match=message):
            files.read_json(tmp_path / name)


# -- own_directory


def test_own_directory_is_made_for_us_alone(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    files.own_directory(path)
    files.own_directory(path)  # again is fine
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_a_directory_that_others_can_write_is_refused(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "d"
    path.mkdir()
    path.chmod(mode)
    with pytest.raises(StoreError, match="can be written by others") as caught:
        files.own_directory(path)
    assert caught.value.hint == f"chmod go-w {path}"


def test_a_link_and_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "link").symlink_to("d")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="is not a directory"):
        files.own_directory(tmp_path / "link")
    for bad in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError):
            files.own_directory(bad)


@pytest.mark.root
def test_another_users_directory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d"
    path.mkdir()
    os.chown(path, 12345, 0)
    with pytest.raises(StoreError, match="belongs to user 12345"):
        files.own_directory(path)


# -- locks


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with files.lock(path) as held:
        assert held
        with files.lock(path, wait=False) as second:
            assert not second
        with files.lock(path, wait=False, shared=True) as third:
            assert not third
    with files.lock(path, wait=False) as again:
        assert again


def test_a_shared_lock_has_many(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with files.lock(path, shared=True) as one, files.lock(path, shared=True, wait=False) as two:
        assert one and two
        with files.lock(path, wait=False) as alone:
            assert not alone


def test_a_lock_is_no_link(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to("elsewhere")
    with pytest.raises(OSError), files.lock(tmp_path / "lock"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def _count(lock: Path, counter: Path) -> None:
    for _ in range(20):
        with files.lock(lock):
            number = json.loads(counter.read_text())
            time.sleep(0.0005)
            counter.write_text(json.dumps(number + 1))


def test_a_lock_holds_between_processes(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=_count, args=(tmp_path / "lock", counter)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert counter.read_text() == "80"


@pytest.mark.root
def test_an_ordinary_users_unwritable_tree_can_be_removed(open_path: Path) -> None:
    top = open_path / "top"
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "b" / "f").touch()
    for path in (top / "a" / "b" / "f", top / "a" / "b", top / "a", top, open_path):
        os.chown(path, 65534, 65534)
    (top / "a" / "b").chmod(0)
    (top / "a").chmod(0o500)
    child = os.fork()
    if child == 0:
        try:
            os.setresuid(65534, 65534, 65534)
            files.remove_tree(top)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not top.exists()
