"""The runtime's config.json, word for word."""

from __future__ import annotations

from typing import Any

import pytest

from orca.oci import runtime, seccomp
from orca.oci.runtime import Mount, Process

CAPABILITIES = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
    "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
]  # fmt: skip
# Linux' numbers of them, to compare with the mask that BuildKit gives a RUN.
NUMBERS = dict(zip(CAPABILITIES, (0, 1, 4, 3, 27, 13, 6, 7, 31, 8, 10, 18, 5, 29), strict=True))


def config(process: Process, **options: Any) -> dict[str, Any]:
    chosen = {"hostname": "orca", "architecture": "amd64", "netns": "/run/netns", **options}
    return runtime.config(process, "/root/fs", **chosen)


def test_a_run_of_root() -> None:
    process = Process(("/bin/sh", "-c", "true"), {"HOME": "/root", "PATH": "/bin"}, "/srv")
    assert config(process, mounts=[Mount("/host/hosts", "/etc/hosts")], annotations={"a": "b"}) == {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0, "umask": 0o022, "additionalGids": [0]},
            "args": ["/bin/sh", "-c", "true"],
            "env": ["HOME=/root", "PATH=/bin"],
            "cwd": "/srv",
            "capabilities": {"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES},
            "noNewPrivileges": False,
        },
        "root": {"path": "/root/fs", "readonly": False},
        "hostname": "orca",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            },
            {
                "destination": "/dev/shm",
                "type": "tmpfs",
                "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
            },
            {
                "destination": "/dev/mqueue",
                "type": "mqueue",
                "source": "mqueue",
                "options": ["nosuid", "noexec", "nodev"],
            },
            {
                "destination": "/sys",
                "type": "sysfs",
                "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"],
            },
            {
                "destination": "/etc/hosts",
                "type": "bind",
                "source": "/host/hosts",
                "options": ["bind", "ro", "nosuid", "nodev", "noexec"],
            },
        ],
        "annotations": {"a": "b"},
        "linux": {
            "namespaces": [
                {"type": "pid"},
                {"type": "ipc"},
                {"type": "uts"},
                {"type": "mount"},
                {"type": "network", "path": "/run/netns"},
            ],
            "seccomp": seccomp.profile("amd64"),
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
                "/sys/devices/virtual/powercap", "/sys/firmware",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }  # fmt: skip


def test_capabilities_are_those_that_buildkit_gives() -> None:
    bounding = config(Process(("x",), {}, "/"))["process"]["capabilities"]["bounding"]
    assert sum(1 << NUMBERS[name] for name in bounding) == 0xA80425FB


def test_an_ordinary_user_holds_no_capability() -> None:
    found = config(Process(("id",), {}, "/", uid=33, gid=34, groups=(4, 24), terminal=True))["process"]
    assert found["user"] == {"uid": 33, "gid": 34, "umask": 0o022, "additionalGids": [34, 4, 24]}
    assert found["capabilities"] == {"bounding": CAPABILITIES, "effective": [], "permitted": []}
    assert found["terminal"] is True


def test_group_0_alone_makes_no_root() -> None:
    assert config(Process(("id",), {}, "/", uid=5, gid=0))["process"]["capabilities"]["effective"] == []


def test_hosts_network_binds_sys_read_only() -> None:
    found = config(Process(("x",), {}, "/"), netns=None)
    assert {"type": "network", "path": "/run/netns"} not in found["linux"]["namespaces"]
    assert all(namespace["type"] != "network" for namespace in found["linux"]["namespaces"])
    assert [mount for mount in found["mounts"] if mount["destination"] == "/sys"] == [
        {
            "destination": "/sys",
            "type": "bind",
            "source": "/sys",
            "options": ["rbind", "nosuid", "noexec", "nodev", "ro"],
        }
    ]


def test_no_resources_and_no_user_namespace() -> None:
    found = config(Process(("x",), {}, "/"))["linux"]
    assert not {"resources", "cgroupsPath", "uidMappings"} & found.keys()


@pytest.mark.parametrize("architecture", ["mips64le", "loong64", ""])
def test_unknown_architecture_has_no_profile(architecture: str) -> None:
    assert config(Process(("x",), {}, "/"), architecture=architecture)["linux"]["seccomp"] is None
