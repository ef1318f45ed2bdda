"""The limits of RUN: what the flags come to, and what they refuse."""

from __future__ import annotations

import resource

import pytest

from orca.cli import build
from orca.cli.flags import limits, running
from orca.errors import UsageError
from orca.executor.options import Dns, Running, Volume
from orca.oci import runtime
from orca.oci.runtime import CAPABILITIES, EVERY_CAPABILITY, Limits, Rlimit


def read(*words: str) -> Running:
    return running.read(build.make_parser().parse([*words, "."]), {})


def test_nothing_asked() -> None:
    assert read() == Running()
    assert read().ingredients() == {}


@pytest.mark.parametrize(
    ("more", "less", "expected"),
    [
        ([], [], set(CAPABILITIES)),
        (["sys_time"], [], {*CAPABILITIES, "CAP_SYS_TIME"}),
        (["CAP_SYS_TIME,cap_syslog"], ["Mknod", "KILL"],
         {*CAPABILITIES, "CAP_SYS_TIME", "CAP_SYSLOG"} - {"CAP_MKNOD", "CAP_KILL"}),
        (["ALL"], ["CHOWN"], set(EVERY_CAPABILITY) - {"CAP_CHOWN"}),
        (["CHOWN"], ["all"], {"CAP_CHOWN"}),
        ([], ["ALL"], set()),
        (["CHOWN"], [], set(CAPABILITIES)),
    ],
)  # fmt: skip
def test_capabilities(more: list[str], less: list[str], expected: set[str]) -> None:
    found = limits.capabilities(more, less)
    assert set(found) == expected
    assert len(found) == len(expected)


def test_only_other_capabilities_are_in_the_key() -> None:
    assert read("--cap-add=chown", "--ulimit=core=0", "--shm-size=1m", "-m", "1g", "--dns=1.1.1.1").ingredients() == {}
    assert read("--cap-drop=ALL", "--cap-add=KILL").ingredients() == {"capabilities": ["CAP_KILL"]}
    assert read("--no-hosts", "--dns=none", "-v=/tmp:/x:ro").ingredients() == {
        "volumes": ["/tmp:/x:ro"], "own": ["resolv.conf", "hosts"],
    }  # fmt: skip


def test_rlimits() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    found = read("--ulimit=nofile=10:20", "--ulimit", "core=0", "--ulimit=nofile=5", "--shm-size=2m").limits
    assert found == Limits(rlimits=(Rlimit("RLIMIT_NOFILE", 5, 5), Rlimit("RLIMIT_CORE", 0, 0)), shm_size=2 << 20)
    if hard != resource.RLIM_INFINITY:
        with pytest.raises(UsageError, match=f"the hard limit here is {hard}") as caught:
            read("--ulimit=nofile=1:unlimited")
        assert f"nofile=1:{hard}" in (caught.value.hint or "")


def test_groups() -> None:
    words = "-m 64m --memory-swap=96m --cpu-period 50000 --cpu-quota 25000 -c 512 --cpuset-cpus 0-1,3 --cpuset-mems 0"
    found = read(*words.split(), "--cgroup-parent=/a")
    assert found.groups == {
        "memory": str(64 << 20), "swap": str(96 << 20), "period": "50000", "quota": "25000", "shares": "512",
        "cpus": "0-1,3", "mems": "0",
    }  # fmt: skip
    assert found.group_parent == "/a"
    assert read("--memory=64m", "--memory-swap=-1").groups["swap"] == "-1"
    with pytest.raises(UsageError, match="less than --memory"):
        read("--memory=64m", "--memory-swap=32m")


def test_names() -> None:
    found = read("--dns=1.1.1.1,2.2.2.2", "--dns=::1", "--dns-search=.", "--dns-option=ndots:1").dns
    assert found == Dns(("1.1.1.1", "2.2.2.2", "::1"), (".",), ("ndots:1",))
    before = "nameserver 9.9.9.9\nsearch x\ndomain y\noptions z\n# c\n"
    assert found.applied(before) == "".join(
        f"{line}\n" for line in ("nameserver 1.1.1.1", "nameserver 2.2.2.2", "nameserver ::1", "options ndots:1", "# c")
    )
    assert Dns().applied(before) == before
    assert Dns(search=("a", "b")).applied(before).splitlines()[0] == "search a b"
    for word in ("--dns-search=a b", "--dns-option=a\nnameserver 6.6.6.6"):
        with pytest.raises(UsageError, match="bad --dns"):
            read(word)
    with pytest.raises(UsageError, match=r"leaves resolv\.conf to the image"):
        read("--dns=none", "--dns=1.1.1.1")


def test_volumes_and_devices() -> None:
    assert read("-v", "/tmp:/a/../b:O,z", "--device=/dev/null:/dev/x:rwm", "--device", "/dev/zero").volumes == (
        Volume("/tmp", "/b", "O"),
        Volume("/dev/null", "/dev/x", device=True),
        Volume("/dev/zero", "/dev/zero", device=True),
    )
    for word in ("-v=/dev/null:/x", "-v=/tmp:x", "-v=:/x", "-v=/tmp:/..", "-v=/tmp:/x:shared", "--device=/dev/null:/x",
                 "--device=/none", "--device=a.b/c=d"):  # fmt: skip
        with pytest.raises(UsageError):
            read(word)


def test_networks_by_buildah_s_names() -> None:
    assert read("--network=private").network == "default"
    assert read("--allow=network.host,security.insecure").allowed == {"network.host", "security.insecure"}


def test_an_insecure_container() -> None:
    process = runtime.Process(("true",), {}, "/")
    chosen = {"hostname": "h", "architecture": "amd64", "netns": "/n"}
    usual = runtime.config(process, "/r", **chosen)  # type: ignore[arg-type]
    config = runtime.config(process, "/r", limits=Limits(insecure=True, sys_read_only=False), **chosen)  # type: ignore[arg-type]
    assert {"seccomp", "maskedPaths", "readonlyPaths"} & set(config["linux"]) == set()
    assert {"seccomp", "maskedPaths", "readonlyPaths"} <= set(usual["linux"])
    assert config["process"]["capabilities"]["effective"] == list(EVERY_CAPABILITY)
    (sys_,) = [mount for mount in config["mounts"] if mount["destination"] == "/sys"]
    assert "rw" in sys_["options"]
    (sys_,) = [mount for mount in usual["mounts"] if mount["destination"] == "/sys"]
    assert "ro" in sys_["options"]
    assert "rlimits" not in usual["process"]


def test_seccomp_follows_capabilities() -> None:
    process = runtime.Process(("true",), {}, "/")
    limited = Limits(capabilities=(*CAPABILITIES, "CAP_SYS_ADMIN", "CAP_SYS_TIME"))
    config = runtime.config(
        process, "/r", hostname="h", architecture="amd64", netns="/n", limits=limited
    )  # fmt: skip
    rules = config["linux"]["seccomp"]["syscalls"]
    allowed = {name for rule in rules if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    refused = {name for rule in rules if rule["action"] == "SCMP_ACT_ERRNO" for name in rule["names"]}
    assert {"mount", "unshare", "setns", "settimeofday"} <= allowed
    assert {"mount", "unshare", "settimeofday"} & refused == set()
    assert {"reboot", "init_module"} <= refused
