"""Hostile build contexts: links out, special files, traps below a name, archives for ADD, races."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from security.conftest import Attack
from support.hostile import Member, directory, file, hard_link, link, special, tar, zeros
from support.users import User

from orca.store import files

Base = Callable[..., str]

# --- links


def test_links_out_of_the_context(attack: Attack, busybox: str, canary: Path) -> None:
    context = attack.context({"Dockerfile": "", "sub/": ""})
    (context / "l").symlink_to(canary)
    (context / "f").symlink_to(canary / "file")
    (context / "sub" / "up").symlink_to("../../../../../../../../.." + str(canary))
    (context / "x").symlink_to(canary / "nothing-here")
    for words in (
        "l/shadow /",
        "l/ /x/",
        "l /x",
        "f /",
        "sub/up /x",
        "sub/up/file /",
        "x /x",
        "l/* /",
        "*/up/file /",
        f"..{canary}/file /",
        "../../../etc/passwd /",
        f"{canary}/file /",
        "sub/../l/file /",
    ):
        for verb in ("COPY", "ADD"):
            (context / "Dockerfile").write_text(f"FROM {busybox}\n{verb} {words}\n")
            result = attack(context)
            # A pattern that matches nothing copies nothing.
            assert result.returncode == 125 or "*" in words, str(result)
    for path in attack.orca.store.glob("snapshots/*/fs/*"):
        assert not path.is_file() or "4242" not in path.read_text("latin-1"), path
    # Inside a directory a link is copied as the link it is.
    (context / "Dockerfile").write_text(f"FROM {busybox}\nCOPY sub /s/\nRUN readlink /s/up && ! ls /s/up/\n")
    attack.fine(context)


def test_copy_into_traps(attack: Attack, base: Base, canary: Path) -> None:
    """The base has links to the host where COPY and ADD shall write."""
    up = "../../../../../../.." + str(canary)
    image = base(
        tar(
            link("app", canary),
            link("up", up),
            link("f", canary / "file"),
            link("g", f"{up}/file"),
            link("a", "a"),
            link("b", "m/../b"),
            link("c", "m/../c/d"),
            link("loop1", "loop2/x"),
            link("loop2", "loop1/y"),
            *(link(f"n{i}", f"n{i + 1}/x") for i in range(60)),
            special("fifo", tarfile.FIFOTYPE),
        )
    )
    context = attack.context(
        {"Dockerfile": "", "x": "PWN", "d/file": "PWN", "t.tar": tar(file("file"), file("dir/inner"))}
    )
    for place in ("/app/", "/app/new/", "/up/", "/f", "/g", "/app/../up/y"):
        for source in ("COPY x", "ADD t.tar"):
            (context / "Dockerfile").write_text(f"FROM {image}\n{source} {place}\nCOPY <<E {place}\nPWN\nE\n")
            attack(context)
    for place in ("/a", "/a/", "/b", "/b/", "/c/", "/loop1", "/loop1/", "/n0", "/n0/"):
        for words in (f"COPY x {place}", f"WORKDIR {place}"):
            (context / "Dockerfile").write_text(f"FROM {image}\n{words}\n")
            attack(context)
    (context / "Dockerfile").write_text(f"FROM {image}\nCOPY x /fifo\n")
    attack(context)


def test_copy_from_traps(attack: Attack, base: Base, busybox: str, canary: Path) -> None:
    """The same out of an image."""
    image = base(
        tar(
            link("out", canary),
            special("fifo", tarfile.FIFOTYPE),
            special("d/fifo", tarfile.FIFOTYPE),
            link("zero", "/dev/zero"),
        )
    )
    for path in ("/out", "/out/file", "/out/.", "/fifo", "/d", "/zero", "/proc/self/root", "/../../etc/shadow"):
        attack.refused(f"FROM {busybox}\nCOPY --from={image} {path} /x\n", "no such|FIFO|leads nowhere")


# --- special files


@pytest.fixture
def fifo(open_path: Path) -> Path:
    os.mkfifo(open_path / "fifo")
    return open_path / "fifo"


def test_special_files(attack: Attack, busybox: str) -> None:
    context = attack.context(f"FROM {busybox}\nCOPY . /x/\n")
    with contextlib.chdir(context), socket.socket(socket.AF_UNIX) as server:
        os.mkfifo("fifo")
        attack.refused(context, "fifo is a FIFO, which is not copied")
        os.unlink("fifo")
        server.bind("socket")
        attack.refused(context, "socket is a socket")
        os.unlink("socket")
        if not os.getuid():
            os.mknod("device", 0o666 | 0o020000, os.makedev(1, 5))
            attack.refused(context, "device is a device")
            os.unlink("device")
        os.symlink("/dev/zero", "zero")
        attack.fine(context)
        for name in ("fifo", "zero"):
            with contextlib.suppress(FileExistsError):
                os.mkfifo("fifo")
            Path("Dockerfile").write_text(f"FROM {busybox}\nADD {name} /x\n")
            attack.refused(context, "FIFO|no such file|leads nowhere")


@pytest.mark.parametrize("name", ["Dockerfile", ".dockerignore", "Dockerfile.dockerignore"])
def test_control_files(attack: Attack, busybox: str, canary: Path, name: str) -> None:
    """The files that orca itself reads: not through a link out, not from a FIFO, nothing quoted from elsewhere."""
    context = attack.context({"Dockerfile": f"FROM {busybox}\nCOPY . /x/\n"})
    path = context / name
    secret = canary / "shadow"
    for target in (secret, Path("../../../../../../../..", *secret.parts[1:])):
        path.unlink(missing_ok=True)
        path.symlink_to(target)
        assert "4242" not in attack.refused(context, "leads out of the build context").stderr
    path.unlink()
    os.mkfifo(path)
    attack.refused(context, r"not a\s+regular file")
    path.unlink()
    os.mkfifo(context / "fifo")
    path.symlink_to("fifo")
    attack.refused(context, r"not a\s+regular file")
    path.unlink()
    path.symlink_to("/dev/zero")
    attack.refused(context, "leads out")
    path.unlink()
    path.symlink_to(name)
    attack.refused(context, "leads nowhere")
    path.unlink()
    path.mkdir()
    attack.refused(context, r"not\s+a\s+regular\s+file|cannot\s+read|directory")


@pytest.mark.parametrize(
    "text",
    [
        "*" * (1 << 20),
        "*\n" * (1 << 19),
        "**/*?" * 100_000,
        "a*" * 200_000 + "b",
        "!" * 100_000,
        "[a-" * 10_000,
        "**/" * 100_000 + "x",
        "\\" * 99_999,
    ],
)
def test_ignore_file_that_takes_time(attack: Attack, busybox: str, text: str) -> None:
    context = attack.context({"Dockerfile": f"FROM {busybox}\nCOPY . /x/\n", ".dockerignore": text, "a" * 200: "x"})
    result = attack(context)
    assert attack.seconds < 10, attack.seconds
    assert len(result.stderr) < 10_000


def test_glob_that_takes_time(attack: Attack, busybox: str) -> None:
    context = attack.context(
        {"Dockerfile": f"FROM {busybox}\nCOPY {'a*' * 60}b /x/\n", **{"a" * 200 + str(i): "x" for i in range(20)}}
    )
    attack(context)
    assert attack.seconds < 5


@pytest.mark.parametrize(
    "text",
    [
        "FROM x\0y\n",
        "FROM {0}\nRUN echo a\0b\n",
        'FROM {0}\nLABEL a="b\0c"\n',
        "FROM {0}\nENV A=\0\n",
        "FROM {0}\nCOPY a\0b /x\n",
        "FROM {0}\nWORKDIR /a\0b\n",
        "FROM {0}\nUSER a\0b\nRUN id\n",
        "FROM {0}\nRUN <<E\na\0b\nE\n",
        "FROM {0}\nADD Dockerfile /a\0b\n",
    ],
)
def test_nul(attack: Attack, busybox: str, text: str) -> None:
    attack(text.format(busybox))


def test_deep_context(attack: Attack, busybox: str) -> None:
    """2,000 directories one in the other: copied or refused, and every descriptor given back."""
    context = attack.context(f"FROM {busybox}\nCOPY . /x/\n")
    fd = os.open(context, os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    try:
        result = attack(context)
        assert result.returncode in (0, 125)
        files.remove_tree(attack.orca.store)
    finally:
        files.remove_tree(context)


def test_many_hard_links(attack: Attack, busybox: str) -> None:
    """More files with two names than there are descriptors."""
    context = attack.context(f"FROM {busybox}\nCOPY a /x/\nRUN ls /x | wc -l\n")
    for name in ("a", "elsewhere"):
        (context / name).mkdir()
    for i in range(1500):
        (context / "a" / str(i)).write_text("x")
        (context / "elsewhere" / str(i)).hardlink_to(context / "a" / str(i))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        assert "1500" in attack.fine(context).stderr
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


# --- races


@contextlib.contextmanager
def swapping(place: Path, outside: Path) -> Iterator[None]:
    """`place` (a file or directory with a twin `place`.twin) is now itself, now a link to `outside`."""
    end = threading.Event()
    twin, trap = place.with_name(place.name + ".twin"), place.with_name(place.name + ".link")

    def swap() -> None:
        trap.symlink_to(outside)
        while not end.is_set():
            os.rename(place, twin)
            os.rename(trap, place)
            os.rename(place, trap)
            os.rename(twin, place)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_race(attack: Attack, busybox: str, canary: Path, kind: str) -> None:
    """A source that is now itself and now a link: what arrives never comes from outside."""
    context = attack.context(
        {"Dockerfile": f"FROM {busybox}\nCOPY src /x/\nRUN cat /x/file /x/*/file /x/*/inner || true\n"}
    )
    for number in range(100):
        (context / "src" / f"d{number:03}").mkdir(parents=True)
        (context / "src" / f"d{number:03}" / "file").write_text("harmless\n")
    (context / "src" / "d050" / "inner").write_text("harmless\n")
    place, outside = (
        (context / "src" / "d050" / "file", canary / "file") if kind == "file" else (context / "src" / "d050", canary)
    )
    with swapping(place, outside):
        for _ in range(4):
            result = attack(context, "--no-cache")
            assert "4242" not in result.stderr
    for path in attack.orca.store.glob("snapshots/*/fs/x/**/*"):
        if path.is_file() and not path.is_symlink():
            assert path.read_text() == "harmless\n"


# --- ADD's archives


def _header(size: bytes, kind: bytes = b"0") -> bytes:
    """A header with this size field, and a right checksum."""
    info = tarfile.TarInfo("x")
    info.type = kind
    raw = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    raw[124:136] = size[:12].ljust(12, b"\0")
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


def _archives(canary: Path) -> dict[str, bytes]:
    up = "../" * 12 + str(canary).lstrip("/")
    return {
        "dots": tar(file(f"{up}/PWN"), file("../PWN")),
        "absolute": tar(file(f"{canary}/PWN")),
        "through a link": tar(link("l", canary), file("l/PWN"), file("l/file")),
        "through a relative link": tar(link("l", up), file("l/PWN")),
        "over a link": tar(link("l", canary / "file"), file("l", b"PWN")),
        "directory over a link": tar(link("l", canary), directory("l", mode=0o700), file("l/x")),
        "hard link": tar(hard_link("h", canary / "file"), file("h", b"PWN")),
        "relative hard link": tar(hard_link("h", f"{up}/file")),
        "hard link through a link": tar(link("l", canary), hard_link("h", "l/file")),
        "hard link to a link": tar(link("l", canary / "file"), hard_link("h", "l"), Member("h", b"PWN")),
        "hard link to itself": tar(hard_link("h", "h")),
        "root as a link": tar(link(".", canary), file("PWN")),
        "root as a file": tar(file(".", b"x"), file("/", b"x"), file("", b"x")),
        "devices": tar(special("d", tarfile.BLKTYPE, (7, 0))),
        "char 0:0": tar(special("bin", tarfile.CHRTYPE, (0, 0))),
        "fifo": tar(special("f", tarfile.FIFOTYPE)),
        "whiteouts": tar(file(".wh.bin"), file("etc/.wh..wh..opq")),
        "names": tar(file("a\nb"), file("c\x1b]0;title\x07d"), file("-rf")),
        "overlay mark": tar(directory("etc", pax={"SCHILY.xattr.user.overlay.opaque": "y"})),
        "set-uid": tar(file("s", mode=0o6755)),
    }


DAMAGED = {
    "pax path": tar(file("x", path="a\0b")),
    "pax nan": tar(file("x", mtime="nan")),
    "pax inf": tar(file("x", mtime="inf")),
    "pax huge id": tar(file("x", uid="99999999999999999999", gid="-5")),
    "pax negative size": tar(file("x", size="-512")),
    "pax huge size": tar(file("x", size=str(1 << 62))),
    "negative size": _header(b"\xff" * 12),
    "huge size": _header(b"\x80" + b"\xff" * 11),
    "endless long name": _header(b"%011o\0" % (1 << 32), kind=b"L"),
    "endless pax": _header(b"%011o\0" % (1 << 32), kind=b"x"),
    "many pax headers": b"".join(_header(b"%011o\0" % 0, kind=b"x") for _ in range(5000)),
    "slow pax": _header(b"%011o\0" % 400_000, kind=b"x") + b"1" * 400_384,
    "sparse": tar(
        Member(
            "x",
            b"1\n0\n%d\n" % (1 << 61),
            pax={
                "GNU.sparse.major": "1",
                "GNU.sparse.minor": "0",
                "GNU.sparse.name": "x",
                "GNU.sparse.realsize": str(1 << 62),
            },
        )
    ),
    "cut off": tar(file("x", b"x" * 4000))[:2000],
    "deep": tar(file("d/" * 3000 + "x")),
    "junk": b"\x1f\x8b" + os.urandom(4000),
    "junk with a magic": bytes(257) + b"ustar" + os.urandom(4000),
    "zstd": b"\x28\xb5\x2f\xfd" + os.urandom(4000),
    "xz": b"\xfd7zXZ\x00" + os.urandom(4000),
    "bzip2": b"BZh91AY&SY" + os.urandom(4000),
}


@pytest.mark.parametrize("name", list(DAMAGED))
def test_damaged_archive(attack: Attack, busybox: str, name: str) -> None:
    """Numbers and headers that nobody's tar writes: an error, or what can be made of it, soon."""
    result = attack(attack.context({"Dockerfile": f"FROM {busybox}\nADD a.tar /w/\n", "a.tar": DAMAGED[name]}))
    assert result.returncode in (0, 125)
    assert attack.seconds < 15


@pytest.mark.parametrize("name", list(_archives(Path("/x"))))
def test_archive(attack: Attack, busybox: str, canary: Path, name: str) -> None:
    command = "cat /h /l/file /w/h /w/l/file; echo PWN >/h; echo PWN >/w/h; true"
    dockerfile = f"FROM {busybox}\nADD a.tar /w/\nADD a.tar /\nRUN {command}\n"
    result = attack(attack.context({"Dockerfile": dockerfile, "a.tar": _archives(canary)[name]}))
    assert result.returncode in (0, 125)
    assert "4242" not in result.stderr


def test_archive_bomb(attack: Attack, busybox: str) -> None:
    """A file of 2 MB that unpacks to 2 GiB."""
    bomb = zeros("bomb", 2 << 30)
    assert len(bomb) < 3 << 20
    context = attack.context({"Dockerfile": f"FROM {busybox}\nADD a.tar.gz /\n", "a.tar.gz": bomb})
    attack.refused(context, r"unpacks\s+to\s+more\s+than\s+1\s+GiB")
    (context / "a.tar.gz").write_bytes(zeros("bomb", 8 << 20))
    attack.refused(context, r"unpacks\s+to\s+more\s+than\s+5\s+MiB", env={"ORCA_MAX_UNPACK": "5M"})
    attack.fine(context)


def test_tools_of_the_image_are_not_run(attack: Attack, base: Base, canary: Path) -> None:
    """CVE-2019-14271: what the image calls tar, or its C library, is nothing to COPY and ADD."""
    script = f"#!/bin/sh\necho PWN >{canary}/file\n".encode()
    names = ("tar", "gzip", "unpigz", "xz", "zstd", "bzip2", "python3", "umoci")
    layer = tar(
        *(file(f"{d}/{n}", script, mode=0o755) for n in names for d in ("usr/local/bin", "bin", "usr/bin")),
        file("lib/x86_64-linux-gnu/libnss_files.so.2", b"\x7fELF"),
        file("etc/nsswitch.conf", b"passwd: files evil\n"),
    )
    import lzma

    image = base(layer)
    context = attack.context(
        {
            "Dockerfile": f"FROM {image}\nADD a.tar.xz /x/\nCOPY --chown=app a.tar.xz /y\n",
            "a.tar.xz": lzma.compress(tar(file("f"))),
        }
    )
    attack.fine(context)


def test_context_of_another_user(attack: Attack, busybox: str, ordinary_user: User) -> None:
    """An ordinary user's build shows nothing that the user could not read."""
    image = attack.busybox(ordinary_user)
    context = attack.context({"Dockerfile": f"FROM {image}\nCOPY closed /x\n", "closed": "4242"})
    (context / "closed").chmod(0o600)
    if os.getuid() == 0:
        attack.refused(context, "cannot read|permission denied", user=ordinary_user)
    (context / "Dockerfile").write_text(f"FROM {image}\nCOPY d /x\n")
    (context / "d").mkdir(mode=0o700)
    if os.getuid() == 0:
        attack.refused(context, "cannot read|permission denied", user=ordinary_user)
