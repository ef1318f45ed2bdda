"""The runtime spec's config.json for one container. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orca.oci import seccomp

CAPABILITIES = tuple(
    f"CAP_{name}"
    for name in (
        "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP "
        "NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"
    ).split()
)
EVERY_CAPABILITY = tuple(
    f"CAP_{name}"
    for name in (
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
        "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT "
        "SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE "
        "AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ "
        "PERFMON BPF CHECKPOINT_RESTORE"
    ).split()
)
"""All that Linux has, by number. In a user namespace each reaches as far as the namespace does."""
SHM_SIZE = 64 << 20
_MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
    "/sys/devices/virtual/powercap", "/sys/firmware",
)  # fmt: skip
_READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_QUIET = ["nosuid", "noexec", "nodev"]
_PTS = ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")


@dataclass(frozen=True)
class Process:
    """Who runs what where. `groups` are supplementary group ids."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    terminal: bool = False


@dataclass(frozen=True)
class Rlimit:
    """A resource limit: `name` as setrlimit(2) has it, RLIMIT_NOFILE."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True)
class Limits:
    """What a container may do and use. `shm_size` counts bytes.

    `insecure`: every capability, every system call, nothing of /proc masked, /sys writable unless `sys_read_only`.
    """

    capabilities: tuple[str, ...] = CAPABILITIES
    rlimits: tuple[Rlimit, ...] = ()
    shm_size: int = SHM_SIZE
    insecure: bool = False
    sys_read_only: bool = True

    @property
    def changed(self) -> bool:
        """Are the capabilities others than usual?"""
        return self.capabilities != CAPABILITIES


USUAL = Limits()


@dataclass(frozen=True)
class Mount:
    """A mount into the container: a bind mount unless `kind` says another file system."""

    source: str
    destination: str
    options: tuple[str, ...] = ("bind", "ro", "nosuid", "nodev", "noexec")
    kind: str = "bind"

    def to_json(self) -> dict[str, Any]:
        return {
            "destination": self.destination,
            "type": self.kind,
            "source": self.source,
            "options": list(self.options),
        }


def config(
    process: Process,
    root: str,
    *,
    hostname: str,
    architecture: str,
    netns: str | None,
    mounts: Sequence[Mount] = (),
    annotations: Mapping[str, str] | None = None,
    limits: Limits = USUAL,
    read_only: bool = False,
) -> dict[str, Any]:
    """A whole config.json. `netns` is the path of a network namespace, None for the surrounding one.

    There are no cgroups in it: an ordinary user may make none.
    """
    capabilities = list(EVERY_CAPABILITY if limits.insecure else limits.capabilities)
    # A user other than root has no effective ones; execve keeps what the bounding set leaves to set-uid files.
    held = capabilities if process.uid == 0 else []
    # The primary group is among them: a process could otherwise drop it where it denies something (CVE-2022-36109).
    groups = list(dict.fromkeys((process.gid, *process.groups)))
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": process.terminal,
            "user": {"uid": process.uid, "gid": process.gid, "umask": 0o022, "additionalGids": groups},
            "args": list(process.argv),
            "env": [f"{name}={text}" for name, text in process.environment.items()],
            "cwd": process.directory,
            "capabilities": {"bounding": capabilities, "effective": held, "permitted": held},
            "noNewPrivileges": False,
            **_rlimits(limits),
        },
        "root": {"path": root, "readonly": read_only},
        "hostname": hostname,
        "mounts": [*_system_mounts(limits, own_network=netns is not None), *(mount.to_json() for mount in mounts)],
        "annotations": dict(annotations or {}),
        "linux": {
            "namespaces": [
                *({"type": kind} for kind in ("pid", "ipc", "uts", "mount")),
                *([{"type": "network", "path": netns}] if netns else []),
            ],
            **({} if limits.insecure else _shields(architecture, limits)),
        },
    }


def _shields(architecture: str, limits: Limits) -> dict[str, Any]:
    """What keeps a container from parts of the kernel."""
    return {
        "seccomp": seccomp.profile(architecture, limits.capabilities),
        "maskedPaths": list(_MASKED),
        "readonlyPaths": list(_READONLY),
    }


def _rlimits(limits: Limits) -> dict[str, Any]:
    found = [{"type": one.name, "soft": one.soft, "hard": one.hard} for one in limits.rlimits]
    return {"rlimits": found} if found else {}


def _system_mounts(limits: Limits, *, own_network: bool) -> list[dict[str, Any]]:
    def mount(destination: str, kind: str, source: str, options: list[str]) -> dict[str, Any]:
        return {"destination": destination, "type": kind, "source": source, "options": options}

    # sysfs shows the network namespace it was mounted in; the host's may only be bound, and read-only.
    access = "ro" if limits.sys_read_only or not limits.insecure else "rw"
    sys_ = (
        mount("/sys", "sysfs", "sysfs", [*_QUIET, access])
        if own_network
        else mount("/sys", "bind", "/sys", ["rbind", *_QUIET, "ro"])
    )
    return [
        mount("/proc", "proc", "proc", list(_QUIET)),
        mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", [*_PTS]),
        mount("/dev/shm", "tmpfs", "shm", [*_QUIET, "mode=1777", f"size={limits.shm_size >> 10}k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", list(_QUIET)),
        sys_,
    ]  # fmt: skip
