"""What a container stands in: ids, name files, ports, overlay stacks, the working directory, its output."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fake_tools import FakeTools

from orca.errors import ImageError, OrcaError, ToolError, ToolMissing, UsageError
from orca.events import Output
from orca.executor import agent, bundle, network, overlay, sandbox
from orca.executor.bundle import Container, LineCutter
from orca.executor.network import Network, Port
from orca.executor.sandbox import IdRange
from orca.oci.platform import Platform
from orca.tools.command import Runner

# -- sandbox: ids


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("me:100000:65536\n", [(100000, 65536)]),
        ("you:1:2\nme:100000:65536\nme:300000:10\n", [(100000, 65536), (300000, 10)]),
        ("1000:5:6\n", [(5, 6)]),
        ("me2:5:6\n10001:5:6\n", []),
        ("me:5:0\nme:x:5\nme:5:\nme\nme:5\n:5:6\nme:-5:6\n", []),
        ("me:5:6 \n", [(5, 6)]),
        ("# me:1:2\n", []),
        ("", []),
    ],
)
def test_subordinate_ids(text: str, expected: list[tuple[int, int]], tmp_path: Path) -> None:
    (tmp_path / "subuid").write_text(text)
    assert sandbox.subordinate_ids(tmp_path / "subuid", "me", 1000) == expected


def test_no_subordinate_ids_file(tmp_path: Path) -> None:
    assert sandbox.subordinate_ids(tmp_path / "missing", "me", 1000) == []


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([], [IdRange(0, 1000, 1)]),
        ([(100000, 65536)], [IdRange(0, 1000, 1), IdRange(1, 100000, 65536)]),
        ([(500, 10), (100, 20), (900, 1)],
         [IdRange(0, 1000, 1), IdRange(1, 500, 10), IdRange(11, 100, 20), IdRange(31, 900, 1)]),
    ],
)  # fmt: skip
def test_id_map_is_without_gaps(ranges: list[tuple[int, int]], expected: list[IdRange]) -> None:
    assert sandbox.id_map(1000, ranges) == expected


def test_roots_map_is_not_the_initial_one_but_has_every_id() -> None:
    lines = [[int(word) for word in line.split()] for line in sandbox.EVERY_ID.splitlines()]
    assert len(lines) == 2
    assert lines[0][0] == lines[0][1] == 0 and lines[1][0] == lines[1][1] == lines[0][2]
    assert sum(count for _, _, count in lines) == 4294967295


def test_a_user_without_a_name() -> None:
    assert sandbox.user_name(0) == "root"
    assert sandbox.user_name(3_999_999_999) == "3999999999"


# -- network: name files and ports


def test_resolv_conf(monkeypatch: pytest.MonkeyPatch) -> None:
    host = (
        "# a comment\nnameserver 127.0.0.53\nsearch example.org corp\noptions edns0 trust-ad\ndomain x\nsearching y\n"
    )
    monkeypatch.setattr(network, "host_resolv_conf", lambda: host)
    assert network.resolv_conf("default") == (
        "nameserver 10.0.2.3\nsearch example.org corp\noptions edns0 trust-ad\ndomain x\n"
    )
    assert network.resolv_conf("none") == ""
    monkeypatch.setattr(network, "host_resolv_conf", lambda: "")
    assert network.resolv_conf("default") == "nameserver 10.0.2.3\n"


def test_the_hosts_network_has_the_hosts_resolver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "host_resolv_conf", lambda: "nameserver 192.0.2.1\n")
    with network.network("host", tmp_path, Runner()) as found:
        assert found == Network(None, "nameserver 192.0.2.1\n")


def test_hosts() -> None:
    assert network.hosts("orca", (("db", "10.0.0.1"), ("v6", "2001:db8::1"))) == (
        "127.0.0.1\tlocalhost\n"
        "::1\tlocalhost ip6-localhost ip6-loopback\n"
        "127.0.0.1\torca\n"
        "10.0.0.1\tdb\n"
        "2001:db8::1\tv6\n"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8080:80", Port("0.0.0.0", 8080, 80)),
        ("127.0.0.1:8080:80", Port("127.0.0.1", 8080, 80)),
        (":8080:80", Port("0.0.0.0", 8080, 80)),
        ("53:53/udp", Port("0.0.0.0", 53, 53, "udp")),
    ],
)
def test_ports(text: str, expected: Port) -> None:
    assert network.parse_port(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "80", "0:80", "80:0", "65536:1", "1:65536", "999999:1", "a:b", "1:2:3:4", "localhost:1:2", "[::1]:1:2",
     "1:2/sctp", "1:2/", "-1:2", "²:1", "300.0.0.1:1:2"],
)  # fmt: skip
def test_bad_ports(text: str) -> None:
    with pytest.raises(UsageError, match=r"bad port|bad address"):
        network.parse_port(text)


# -- overlay


def test_stacks_that_fit_into_one_mount(tmp_path: Path) -> None:
    def stack(count: int, name: str) -> list[Path]:
        return [tmp_path / f"{name}{number}" / "fs" for number in range(count)]

    assert overlay.fits(tmp_path, stack(200, "abcd"))
    assert not overlay.fits(tmp_path, stack(491, ""))
    assert not overlay.fits(tmp_path, stack(60, "x" * 60))
    assert overlay.fits(tmp_path, [])


@pytest.mark.root
def test_what_is_visible_through_a_stack(tmp_path: Path) -> None:
    top, middle, bottom = (tmp_path / name for name in ("top", "middle", "bottom"))
    for path in (top, middle, bottom):
        path.mkdir()
    for name in ("a", "b", "c"):
        (bottom / name).mkdir()
    os.mknod(middle / "a", 0o20000, 0)
    (middle / "b").symlink_to("/elsewhere")
    (top / "b").touch()
    os.mknod(top / "d", 0o20666, os.makedev(1, 3))
    found = {name: overlay.visible([top, middle, bottom], name) for name in "abcde"}
    assert found["a"] is None and found["e"] is None
    assert found["b"] is not None and stat.S_ISREG(found["b"].st_mode)
    assert found["c"] is not None and stat.S_ISDIR(found["c"].st_mode)
    assert found["d"] is not None and stat.S_ISCHR(found["d"].st_mode)
    below = overlay.visible([middle, bottom], "b")
    assert below is not None and stat.S_ISLNK(below.st_mode)


@pytest.mark.root
def test_copy_attributes(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    os.chown(one, 5, 6)
    one.chmod(0o1770)
    os.utime(one, (100, 200))
    overlay.copy_attributes(one.stat(), two)
    assert (two.stat().st_uid, two.stat().st_gid, two.stat().st_mode & 0o7777, two.stat().st_mtime) == (
        5,
        6,
        0o1770,
        200,
    )


# -- bundle: the stub, the working directory, the output


@pytest.mark.root
def test_the_stub_has_real_directories(tmp_path: Path) -> None:
    image = tmp_path / "image"
    (image / "etc").mkdir(parents=True)
    (image / "etc").chmod(0o700)
    (image / "dev").symlink_to("/")
    stub = bundle.make_stub(tmp_path / "stub", [image])
    found = {str(path.relative_to(stub)): path.lstat().st_mode for path in stub.rglob("*")}
    assert set(found) == {"dev", "proc", "sys", "etc", "etc/resolv.conf", "etc/hosts", "etc/hostname"}
    assert stat.S_ISDIR(found["dev"]) and stat.S_IMODE(found["etc"]) == 0o700


@pytest.mark.parametrize("kind", ["link", "file"])
def test_an_image_whose_etc_is_no_directory(kind: str, tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    etc = tmp_path / "image" / "etc"
    etc.touch() if kind == "file" else etc.symlink_to("/usr/etc")
    with pytest.raises(ImageError, match="/etc in the image is not a directory"):
        bundle.make_stub(tmp_path / "stub", [tmp_path / "image"])


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "root"
    for name in ("srv/app", "proc", "real"):
        (path / name).mkdir(parents=True)
    for name, target in {"l": "srv/app", "abs": "/real", "up": "../../../real", "p": "/proc", "loop": "loop",
                         "dangling": "nowhere"}.items():  # fmt: skip
        (path / name).symlink_to(target)
    (path / "file").touch()
    fd = os.open(path, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("path", "real"),
    [("/", "/"), ("/srv/app", "/srv/app"), ("/l", "/srv/app"), ("/abs", "/real"), ("/up", "/real"),
     ("/srv/../real", "/real"), ("//srv//app/", "/srv/app")],
)  # fmt: skip
def test_working_directory(path: str, real: str, root: int) -> None:
    assert bundle.working_directory(root, path, lambda made: pytest.fail(f"made {made}")) == real


def test_a_missing_working_directory_is_made(root: int, tmp_path: Path) -> None:
    made = []

    def make(path: str) -> None:
        made.append(path)
        (tmp_path / "root" / path.lstrip("/")).mkdir(parents=True)

    assert bundle.working_directory(root, "/new/one", make) == "/new/one"
    assert made == ["/new/one"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("relative", "'relative' is not absolute"),
        ("", "is not absolute"),
        ("/proc", "leads to /proc"),
        ("/p", "leads to /proc"),
        ("/proc/self/cwd", "belongs to the container"),
        ("/dev/shm", "belongs to the container"),
        ("/file", "cannot be used: Not a directory"),
        ("/loop", "cannot be used: Too many levels"),
        ("/dangling", "cannot be used: No such file"),
    ],
)
def test_where_a_container_must_not_stand(path: str, message: str, root: int) -> None:
    with pytest.raises(ImageError, match=message):
        bundle.working_directory(root, path, lambda made: None)


def test_output_is_cut_into_lines(tmp_path: Path) -> None:
    events: list[Output] = []
    with LineCutter(tmp_path / "log", events.append, 3) as cutter:
        for data, stream in (
            (b"one\ntw", "stdout"),
            (b"err", "stderr"),
            (b"o\n\nthree", "stdout"),
            (b"\xff\n", "stderr"),
        ):
            cutter.take(data, stream)
    assert [(event.step, event.text, event.stream) for event in events] == [
        (3, "one", "stdout"), (3, "two", "stdout"), (3, "", "stdout"), (3, "err\ufffd", "stderr"),
        (3, "three", "stdout"),
    ]  # fmt: skip
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n\nerr\xff\nthree"  # whole lines, whatever their stream
    assert cutter.tail == [event.text for event in events]


def test_a_log_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is shown goes on; what is kept on disk ends, and says so."""
    monkeypatch.setattr(bundle, "LOG_LIMIT", 20)
    events: list[Output] = []
    with LineCutter(tmp_path / "log", events.append, 1) as cutter:
        for number in range(10):
            cutter.take(f"line {number}\n".encode(), "stdout")
    text = (tmp_path / "log").read_text()
    assert text == "line 0\nline 1\nline 2\n\n[orca: this log ends here, after 20 bytes; the RUN went on]\n"
    assert len(events) == 10
    assert cutter.tail[-1] == "line 9"


@pytest.mark.parametrize("at", range(14))
def test_secrets_are_masked_wherever_output_is_cut(tmp_path: Path, at: int) -> None:
    events: list[Output] = []
    with LineCutter(tmp_path / "log", events.append, 1, [b"hidden word\nabc\n"]) as cutter:
        cutter.take(b"x" * (bundle.LINE_LIMIT + 1 - at) + b"hidden word"[:at], "stdout")
        cutter.take(b"hidden word"[at:] + b"y" * bundle.LINE_LIMIT, "stdout")
        cutter.take(b" abc\n", "stdout")
    text = "".join(event.text for event in events)
    assert text == "x" * (bundle.LINE_LIMIT + 1 - at) + "*****" + "y" * bundle.LINE_LIMIT + " abc"
    assert b"hidden" not in (tmp_path / "log").read_bytes()


def test_a_line_without_an_end_and_many_lines(tmp_path: Path) -> None:
    events: list[Output] = []
    with LineCutter(tmp_path / "log", events.append, 1) as cutter:
        cutter.take(b"x" * (bundle.LINE_LIMIT + 1), "stdout")
        assert len(events) == 1
        cutter.take(b"".join(b"%d\n" % number for number in range(100)), "stdout")
    assert cutter.tail == [str(number) for number in range(60, 100)]


# -- bundle: runc's call, with a stand-in


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    path = tmp_path / "rootfs"
    (path / "etc").mkdir(parents=True)
    (path / "srv").mkdir()
    (path / "etc/passwd").write_text("web:x:33:34::/var/www:/bin/sh\n")
    return path


def run(container: Container, rootfs: Path) -> int:
    scratch = rootfs.parent / "volatile" / "run-1"
    scratch.mkdir(parents=True)
    code, _ = bundle.run(
        container, rootfs, scratch, Runner(), net=Network(None, "nameserver 10.0.2.3\n"),
        platform=Platform("linux", "amd64"), make_directory=lambda path: None, on_output=lambda data, stream: None,
        step=1,
    )  # fmt: skip
    return code


def test_the_call_of_a_run(rootfs: Path, fake_tools: FakeTools) -> None:
    container = Container(
        ("/bin/sh", "-c", "x"), {"PATH": "/bin", "A": "1"}, "/srv", "web", (("db", "10.0.0.1"),),
        ("/dev/pipes/EOF", "#!/bin/x\n"),
    )  # fmt: skip
    assert run(container, rootfs) == 0
    scratch = rootfs.parent / "volatile" / "run-1"
    assert fake_tools.calls == [
        ["runc", "--rootless=true", "--root", str(scratch.parent / "runc"), "--log", str(scratch / "runc.log"),
         "--log-format", "json", "run", "--bundle", str(scratch), "orca-run-1"],
    ]  # fmt: skip
    config = json.loads((scratch / "config.json").read_text())
    assert config["process"]["user"] == {"uid": 33, "gid": 34, "umask": 18, "additionalGids": [34]}
    assert config["process"]["env"] == ["HOME=/var/www", "PATH=/bin", "A=1"]
    assert (config["process"]["cwd"], config["root"]["path"], config["hostname"]) == ("/srv", str(rootfs), "orca")
    mounts = {mount["destination"]: mount for mount in config["mounts"][-4:]}
    assert {place: Path(mount["source"]).read_text() for place, mount in mounts.items()} == {
        "/etc/resolv.conf": "nameserver 10.0.2.3\n",
        "/etc/hosts": network.hosts("orca", (("db", "10.0.0.1"),)),
        "/etc/hostname": "orca\n",
        "/dev/pipes/EOF": "#!/bin/x\n",
    }
    assert "noexec" not in mounts["/dev/pipes/EOF"]["options"]


def test_an_image_can_set_home(rootfs: Path, fake_tools: FakeTools) -> None:
    run(Container(("x",), {"HOME": "/mine"}, "/", "web"), rootfs)
    config = json.loads((rootfs.parent / "volatile/run-1/config.json").read_text())
    assert config["process"]["env"] == ["HOME=/mine"]


@pytest.mark.parametrize(
    ("said", "code", "error", "message", "exit_code"),
    [
        (
            'exec: "/bin/sh": stat /bin/sh: no such file or directory',
            1,
            OrcaError,
            "/bin/sh: not found in the image",
            127,
        ),
        ('exec: "/bin/sh": executable file not found in $PATH', 1, OrcaError, "/bin/sh: not found in the image", 127),
        ("exec /bin/sh: permission denied", 1, OrcaError, "/bin/sh: cannot be executed: permission denied", 126),
        ("exec /bin/sh: exec format error", 1, OrcaError, "/bin/sh: cannot be executed: exec format error", 126),
        ("error mounting proc: operation not permitted", 1, ToolError, "runc failed", 125),
    ],
)
def test_what_runc_complains_of(
    said: str, code: int, error: type[OrcaError], message: str, exit_code: int, rootfs: Path, fake_tools: FakeTools
) -> None:
    log = rootfs.parent / "volatile" / "run-1" / "runc.log"
    line = json.dumps({"level": "error", "msg": said})
    fake_tools.answer("runc", code=code, files={str(log): f"{line}\n"})
    with pytest.raises(error, match=message) as caught:
        run(Container(("/bin/sh", "-c", "x"), {}, "/", ""), rootfs)
    assert caught.value.exit_code == exit_code


@pytest.mark.parametrize("log_text", ["", "no json\n", '{"level":"warning","msg":"cgroup"}\n'])
def test_a_commands_own_code_is_no_failure_of_runc(log_text: str, rootfs: Path, fake_tools: FakeTools) -> None:
    log = rootfs.parent / "volatile" / "run-1" / "runc.log"
    fake_tools.answer("runc", code=7, files={str(log): log_text})
    assert run(Container(("x",), {}, "/", ""), rootfs) == 7


def test_keys_need_openssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise ToolMissing(f"{name} is not installed (not found in PATH)")

    monkeypatch.setattr(agent, "find", missing)
    with (
        pytest.raises(ToolMissing, match="ssh-agent is not installed") as caught,
        agent.holding([b"key"], tmp_path, Runner(), None),
    ):
        pass
    assert "openssh-client" in (caught.value.hint or "")
