"""USER and --chown, looked up in files that an image's author wrote."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orca.executor import users
from orca.executor.users import Identity, UnknownUser

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
# bob:x:66:66:commented:/:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
  www-data:x:33:33:www:/var/www:/bin/false
bob:x:1000:1001:Bob\x0cwith a form feed:/home/bob:/bin/sh
nohome:x:1002:1002::::
short:x:7
zeros:x:0042:0042::/z:/bin/sh
badid:x:abc:1::/:/bin/sh
emptyid:x::1::/:/bin/sh
hugeid:x:4294967296:1::/:/bin/sh
longid:x:99999999999999999999:1::/:/bin/sh
minus:x:-1:1::/:/bin/sh
super:x:²:1::/:/bin/sh
1234:x:77:78:named like a number:/seventyseven:/bin/sh
second:x:1000:5:the same uid:/second:/bin/sh
"""
GROUP = """\
root:x:0:
daemon:x:1:
adm:x:4:bob,daemon
staff:x:50:bob
staff2:x:50:bob
bad:x:²:bob
huge:x:4294967296:bob
neg:x:-5:bob
bobs:x:1001:
almost:x:60:bobby, bob
short
5:x:55:
"""


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Identity(0, 0, (), "/root")),
        ("root", Identity(0, 0, (), "/root")),
        ("0", Identity(0, 0, (), "/root")),
        ("00", Identity(0, 0, (), "/root")),
        ("daemon", Identity(1, 1, (4,), "/usr/sbin")),
        ("www-data", Identity(33, 33, (), "/var/www")),
        ("33", Identity(33, 33, (), "/var/www")),
        ("bob", Identity(1000, 1001, (4, 50), "/home/bob")),
        ("1000", Identity(1000, 1001, (4, 50), "/home/bob")),
        ("bob:adm", Identity(1000, 4, (), "/home/bob")),
        ("bob:7", Identity(1000, 7, (), "/home/bob")),
        ("bob:", Identity(1000, 1001, (4, 50), "/home/bob")),
        (":adm", Identity(0, 4, (), "/root")),
        ("5000", Identity(5000, 0, (), "/")),
        ("5000:6000", Identity(5000, 6000, (), "/")),
        ("5000:staff", Identity(5000, 50, (), "/")),
        ("5000:5", Identity(5000, 55, (), "/")),  # a group that is called 5
        ("1234", Identity(77, 78, (), "/seventyseven")),  # a user that is called 1234
        ("nohome", Identity(1002, 1002, (), "/")),
        ("zeros", Identity(42, 42, (), "/z")),
        ("42", Identity(42, 42, (), "/z")),
        ("4294967294", Identity(4294967294, 0, (), "/")),
    ],
)
def test_identity(text: str, expected: Identity, root: int) -> None:
    assert users.identity(root, text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nobody", "no user 'nobody' in the image"),
        ("short", "no user 'short'"),
        ("# bob", "no user '# bob'"),
        ("-1", "no user '-1'"),
        ("²", "no user '²'"),
        ("bob:nogroup", "no group 'nogroup'"),
        ("bob:short", "no group 'short'"),
        ("bob:bad", "no group 'bad'"),
        ("bob:huge", "no group 'huge'"),
        ("4294967295", "id 4294967295 is out of range"),
        ("9" * 5000, "is out of range"),
        ("1:4294967295", "is out of range"),
        # A bad entry never becomes root.
        ("badid", "user 'badid' has no usable ids"),
        ("emptyid", "user 'emptyid' has no usable ids"),
        ("hugeid", "no usable ids"),
        ("longid", "no usable ids"),
        ("minus", "no usable ids"),
        ("super", "no usable ids"),
    ],
)
def test_who_is_not_there(text: str, message: str, root: int) -> None:
    with pytest.raises(UnknownUser, match=message):
        users.identity(root, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", (5, 5)),
        ("0", (0, 0)),
        ("5:6", (5, 6)),
        ("5:adm", (5, 4)),
        ("bob", (1000, 1001)),
        ("bob:adm", (1000, 4)),
        ("bob:9", (1000, 9)),
        ("bob:", (1000, 1001)),
        ("1000", (1000, 1000)),
        ("1000:", (1000, 1001)),
        (":adm", (0, 4)),
    ],
)
def test_owner(text: str, expected: tuple[int, int], root: int) -> None:
    assert users.owner(root, text) == expected


def test_numbers_need_no_files(bare: int) -> None:
    assert users.owner(bare, "5") == (5, 5)
    assert users.owner(bare, "5:6") == (5, 6)
    assert users.identity(bare, "") == Identity(0, 0, (), "/root")
    assert users.identity(bare, "5:6") == Identity(5, 6, (), "/")
    with pytest.raises(UnknownUser):
        users.owner(bare, "bob")


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _device(path: Path) -> None:
    os.mknod(path, 0o20666, os.makedev(1, 5))  # /dev/zero has no end


HOSTILE: dict[str, Callable[[Path], object]] = {
    "fifo": _fifo,
    "device": _device,
    "directory": lambda path: path.mkdir(),
    "loop": lambda path: path.symlink_to(path.name),
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 100),
    "one long line": lambda path: path.write_bytes(b"bob:" * 100_000),
    "a link to the host's": lambda path: path.symlink_to("/etc/hostile"),
    "a link out": lambda path: path.symlink_to("../../../../../../etc/hostile"),
    "a magic link": lambda path: path.symlink_to("/proc/self/fd/0"),
}


@pytest.mark.root
@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("name", ["passwd", "group"])
def test_hostile_files_are_as_if_missing(kind: str, name: str, bare: int, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    HOSTILE[kind](tmp_path / "etc" / name)
    before = len(os.listdir("/proc/self/fd"))
    assert users.identity(bare, "5:6") == Identity(5, 6, (), "/")
    with pytest.raises(UnknownUser):
        users.identity(bare, "bob")
    with pytest.raises(UnknownUser):
        users.group_id(bare, "bob")
    assert len(os.listdir("/proc/self/fd")) == before


def test_links_stay_inside_the_image(bare: int, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "real").write_text("bob:x:7:8::/home:/bin/sh\n")
    (tmp_path / "etc/passwd").symlink_to("/../../real")
    assert users.identity(bare, "bob") == Identity(7, 8, (), "/home")


def test_only_the_beginning_of_a_huge_file_is_read(bare: int, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    text = "bob:x:7:8::/:/bin/sh\n" + "#" * users.SIZE_LIMIT + "\neve:x:9:9::/:/bin/sh\n"
    (tmp_path / "etc/passwd").write_text(text)
    assert users.identity(bare, "bob").uid == 7
    with pytest.raises(UnknownUser):
        users.identity(bare, "eve")
