"""What orca needs of a machine: the tools, their packages, their versions; the distribution; file systems.

Everything here only looks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orca.errors import OrcaError
from orca.tools import command
from orca.tools.command import Command, Runner

DEBIAN, FEDORA, SUSE, ARCH, ALPINE = "Debian, Ubuntu", "Fedora", "openSUSE", "Arch", "Alpine"

INSTALL: dict[str, str] = {
    DEBIAN: "apt-get install",
    FEDORA: "dnf install",
    SUSE:   "zypper install",
    ARCH:   "pacman -S",
    ALPINE: "apk add",
}  # fmt: skip

# The words of ID and ID_LIKE in os-release(5).
_FAMILIES = {
    "debian": DEBIAN, "ubuntu": DEBIAN,
    "fedora": FEDORA, "rhel": FEDORA, "centos": FEDORA,
    "suse": SUSE, "opensuse": SUSE, "opensuse-leap": SUSE, "opensuse-tumbleweed": SUSE, "sles": SUSE,
    "arch": ARCH, "alpine": ALPINE,
}  # fmt: skip


@dataclass(frozen=True)
class Tool:
    """A program that orca runs. `packages` names its package where that is not called like the tool."""

    name: str
    about: str
    needed: bool = True
    minimum: tuple[int, ...] = ()
    packages: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ("--version",)
    pattern: str = r"(\d+(?:\.\d+)+)"

    def package(self, family: str) -> str:
        return self.packages.get(family, self.name)


_UIDMAP = {DEBIAN: "uidmap", FEDORA: "shadow-utils", SUSE: "shadow", ARCH: "shadow", ALPINE: "shadow-uidmap"}
_PASST = dict.fromkeys(INSTALL, "passt")

TOOLS = (
    Tool("skopeo", "copies images from and to registries", minimum=(1, 0)),
    Tool("umoci", "unpacks images and adds layers to them", minimum=(0, 4)),
    Tool("runc", "runs the container of a RUN", minimum=(1, 0)),
    Tool("slirp4netns", "gives a RUN its network", minimum=(1, 0)),
    Tool("tar", "packs layers (GNU tar)", pattern=r"GNU tar\) (\d+\.\d+)"),
    Tool("newuidmap", "gives an ordinary user's builds more than one user id", packages=_UIDMAP, options=()),
    Tool("newgidmap", "the same for groups", packages=_UIDMAP, options=()),
    Tool("pasta", "another network helper", needed=False, packages=_PASST, pattern=r"pasta (\d\S*)"),
    Tool("fuse-overlayfs", "stacks layers where the kernel does not let users do it", needed=False,
         pattern=r"fuse-overlayfs: version (\S+)"),
    Tool("zstd", "reads archives and layers packed with zstd", needed=False),
    Tool("ostree", "keeps layers with --storage=ostree", needed=False, pattern=r"Version: '?(\d[\d.]*)"),
    Tool("git", "gets build contexts from repositories", needed=False),
)  # fmt: skip


def family(os_release: str) -> str | None:
    """The family of distributions that an os-release(5) text names; None when it is none we know."""
    fields = {}
    for line in os_release.splitlines():
        name, _, text = line.partition("=")
        fields[name.strip()] = text.strip().strip("\"'")
    words = (fields.get("ID", "").lower(), *fields.get("ID_LIKE", "").lower().split())
    return next((_FAMILIES[word] for word in words if word in _FAMILIES), None)


def this_family() -> str | None:
    """The family of the distribution that we run on."""
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            return family(Path(path).read_text("utf-8", "replace"))
        except OSError:
            continue
    return None


def install(tools: Sequence[Tool], known: str | None) -> tuple[str, ...]:
    """The command that installs `tools` on the family `known`; one for each family when it is None."""
    lines = []
    for name in [known] if known else INSTALL:
        packages = " ".join(dict.fromkeys(tool.package(name) for tool in tools))
        lines.append(f"{as_root()}{INSTALL[name]} {packages}" + ("" if known else f"  # {name}"))
    return tuple(lines)


def as_root() -> str:
    """What an ordinary user writes before a command for root."""
    return "" if os.geteuid() == 0 else "sudo "


def hint(name: str) -> str:
    """What to do when the tool `name` is not there."""
    tool = next((tool for tool in TOOLS if tool.name == name), None)
    known = this_family()
    if tool is None or known is None:
        return "orca doctor names the package to install"
    return f"{install([tool], known)[0]} (orca doctor checks everything)"


def where(tool: Tool) -> str | None:
    """The path of a tool, None when it is missing."""
    try:
        return command.find(tool.name)
    except OrcaError:
        return None


def version(tool: Tool, runner: Runner) -> str | None:
    """What the tool says its version is; None when it says nothing that looks like one. Raises OrcaError."""
    if not tool.options:
        return None
    asked = Command((tool.name, *tool.options), "ask for its version")
    finished = runner.run(asked, check=False, limit=1 << 20)
    return parse_version(tool, finished.stdout.decode("utf-8", "replace") + "\n" + finished.stderr)


def parse_version(tool: Tool, text: str) -> str | None:
    """The version in what a tool printed."""
    match = re.search(tool.pattern, text)
    return match[1] if match else None


def older(found: str, minimum: tuple[int, ...]) -> bool:
    """Is a version lower than `minimum`?"""
    numbers = tuple(int(word) for word in re.findall(r"\d+", found)[: len(minimum)])
    return numbers < minimum


@dataclass(frozen=True)
class FileSystem:
    """Where a directory is, or would be made: the mounted file system's type, its size and what is free of it."""

    kind: str
    mount_point: str
    free: int
    size: int


def file_system(path: Path) -> FileSystem:
    """The file system that holds `path` or its nearest existing parent."""
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    real = existing.resolve()
    mount_point, kind = "/", "unknown"
    for line in Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines():
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), before.split()[4])
        if real.is_relative_to(point) and len(point) >= len(mount_point):
            mount_point, kind = point, after.split()[0]
    found = os.statvfs(real)
    return FileSystem(kind, mount_point, found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)


def setting(name: str) -> str | None:
    """A kernel setting as sysctl(8) shows it; None when this kernel does not have it."""
    try:
        return Path("/proc/sys", *name.split(".")).read_text("utf-8", "replace").strip()
    except OSError:
        return None
