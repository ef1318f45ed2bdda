"""orca doctor."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from orca.cli.options import Parser, print_json
from orca.errors import EXIT_ORCA, OrcaError
from orca.executor import sandbox, trial
from orca.store.store import Store, default_root
from orca.tools import kernel, probe
from orca.tools.command import Runner
from orca.tools.probe import FileSystem, Tool
from orca.ui import Terminal, human
from orca.ui.escape import visible
from orca.ui.terminal import styled

EXAMPLES = """\
  orca doctor                 what is there, what is missing, and the command that mends it
  orca doctor --json          the same for programs
  orca doctor && orca build . build only where it can work

The exit code is 0 when builds work here, 125 when they do not."""

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
MAPPERS = ("newuidmap", "newgidmap")
OK, NOTE, PROBLEM = "ok", "note", "problem"
LITTLE_SPACE = 1_000_000_000
ENOUGH_IDS = 65536

# An overlay's upper directory must be on a file system with owners, modes and extended attributes of its own.
_UNFIT = ("nfs", "nfs4", "cifs", "smb3", "vfat", "exfat", "msdos", "9p", "fuse.sshfs", "ntfs", "ntfs3", "iso9660")


@dataclass(frozen=True)
class Check:
    """What was found out about one thing. `mend` are commands, one of which (or all in turn) puts it right."""

    group: str
    name: str
    state: str
    detail: str
    mend: tuple[str, ...] = ()


def make_parser() -> Parser:
    """The options of `orca doctor`."""
    parser = Parser("doctor", "Check that everything orca needs is there and works.", EXAMPLES)
    parser.add_argument("--json", action="store_true", help="print the checks as JSON")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Check; 0 when builds work."""
    given = make_parser().parse(arguments)
    checks = examine(default_root())
    works = not any(check.state == PROBLEM for check in checks)
    if given.json:
        print_json({"works": works, "checks": [asdict(check) for check in checks]})
    else:
        show(checks, works, Terminal(sys.stdout))
    return 0 if works else EXIT_ORCA


def examine(root: Path) -> list[Check]:
    """Every check; the trial build only if nothing is known to be wrong."""
    checks = [*check_python(), *check_machine(), *check_store(root)]
    # Trials fork, which is best done before any tool was started: sh starts threads.
    missing = [tool.name for tool in probe.TOOLS if needed(tool) and probe.where(tool) is None]
    usable = not missing and not any(check.state == PROBLEM for check in checks)
    tried = list(check_trial(root)) if usable else [_untried(missing)]
    return [*checks[:1], *check_tools(), *checks[1:], *tried]


# -- python and the tools


def check_python() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Check("Tools", "python", OK, version)
    for name, minimum, about in (("sh", (2,), "starts the tools"), ("rich", (13,), "draws the live screen")):
        mend = (install_package(f"{name}>={minimum[0]}"),)
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            # A copy beside orca has no metadata.
            found = "version unknown" if importable(name) else ""
        if not found:
            yield Check("Tools", name, PROBLEM, f"the Python package is missing: {about}", mend)
        elif found[0].isdigit() and probe.older(found, minimum):
            yield Check("Tools", name, PROBLEM, f"{found} is too old: {minimum[0]} or newer is needed", mend)
        else:
            yield Check("Tools", name, OK, found)


def install_package(requirement: str) -> str:
    """The command that brings a Python package: a checkout has its own way, and systems refuse pip outside a venv."""
    checkout = Path(__file__).parents[2]
    if (checkout / ".ci" / "setup").is_file() and sys.prefix == sys.base_prefix:
        return f"make -C {checkout} setup"
    return f"{sys.executable} -m pip install '{requirement}'"


def importable(name: str) -> bool:
    """Is a Python package there? (sh puts something without a spec into its own place.)"""
    return name in sys.modules or importlib.util.find_spec(name) is not None


def needed(tool: Tool) -> bool:
    """Are there no builds without it, for the user that we are?"""
    return tool.needed and not (tool.name in MAPPERS and os.geteuid() == 0)


def check_tools() -> Iterator[Check]:
    """Each tool: there, new enough? One line more when several are missing."""
    known = probe.this_family()
    runner = Runner() if importable("sh") else None
    missing = []
    for tool in probe.TOOLS:
        path = probe.where(tool)
        if path is not None:
            yield check_tool(tool, path, known, runner)
            continue
        found = missing_tool(tool, known)
        missing += [tool] if found.state == PROBLEM and not found.detail.startswith("missing from PATH") else []
        yield found
    if len(missing) > 1:
        text = f"{len(missing)} tools are missing; all of them at once:"
        yield Check("Tools", "all together", NOTE, text, probe.install(missing, known))


def missing_tool(tool: Tool, known: str | None) -> Check:
    """A tool that PATH does not lead to."""
    state = PROBLEM if needed(tool) else NOTE
    outside = shutil.which(tool.name, path=SYSTEM_PATH)
    if outside is not None:
        mend = (f"export PATH=$PATH:{os.path.dirname(outside)}",)
        return Check("Tools", tool.name, state, f"missing from PATH, though {outside} is there", mend)
    text = f"missing: {tool.about}" if needed(tool) else f"not there (optional): {tool.about}"
    return Check("Tools", tool.name, state, text, probe.install([tool], known))


def check_tool(tool: Tool, path: str, known: str | None, runner: Runner | None) -> Check:
    """A tool that is there."""
    bad = PROBLEM if tool.needed else NOTE
    mend = probe.install([tool], known)
    if tool.name in MAPPERS:
        return _check_mapper(tool, Path(path))
    try:
        version = probe.version(tool, runner) if runner else None
    except OrcaError as error:
        return Check("Tools", tool.name, bad, f"{path} cannot be run: {error.message}", mend)
    if tool.name == "tar" and version is None and runner is not None:
        return Check("Tools", tool.name, bad, f"{path} is not GNU tar", mend)
    if version and probe.older(version, tool.minimum):
        minimum = ".".join(map(str, tool.minimum))
        return Check("Tools", tool.name, bad, f"{version} is too old: {minimum} or newer is needed", mend)
    return Check("Tools", tool.name, OK, version or "version unknown")


def _check_mapper(tool: Tool, path: Path) -> Check:
    """newuidmap and newgidmap need privileges of their own."""
    how = None
    if path.stat().st_mode & stat.S_ISUID:
        how = "set-uid root"
    elif "security.capability" in os.listxattr(path):
        how = "with file capabilities"
    if how or os.geteuid() == 0:
        return Check("Tools", tool.name, OK, how or "not needed by root")
    mend = (f"{probe.as_root()}chmod u+s {path}",)
    return Check("Tools", tool.name, PROBLEM, f"{path} is neither set-uid root nor has capabilities", mend)


# -- the machine


def check_machine() -> Iterator[Check]:
    system = os.uname()
    yield Check("Machine", "kernel", OK, f"{system.release} {system.machine}")
    yield check_namespaces()
    if os.geteuid():
        yield from check_ids()
    yield check_tun()
    yield check_openat2()


def check_namespaces() -> Check:
    """The settings that forbid user namespaces."""
    refused = [
        (name, text, wanted)
        for name, bad, wanted in (
            ("user.max_user_namespaces", "0", "15000"),
            ("kernel.unprivileged_userns_clone", "0", "1"),
            ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
        )
        if (text := probe.setting(name)) == bad and (os.geteuid() or name == "user.max_user_namespaces")
    ]
    if not refused:
        return Check("Machine", "user namespaces", OK, f"allowed, {probe.setting('user.max_user_namespaces')} at most")
    detail = ", ".join(f"{name} is {text}" for name, text, _ in refused)
    mend = tuple(f"{probe.as_root()}sysctl -w {name}={wanted}" for name, _, wanted in refused)
    return Check("Machine", "user namespaces", PROBLEM, f"forbidden: {detail}", mend)


def check_ids() -> Iterator[Check]:
    """The ranges of subuid(5) and subgid(5) for an ordinary user."""
    user = sandbox.user_name(os.getuid())
    for name, option in (("subuid", "--add-subuids"), ("subgid", "--add-subgids")):
        path = Path("/etc", name)
        ranges = sandbox.subordinate_ids(path, user, os.getuid())
        count = sum(size for _, size in ranges)
        first = free_ids(path)
        mend = (f"{probe.as_root()}usermod {option} {first}-{first + ENOUGH_IDS - 1} {visible(user)}",)
        if count >= ENOUGH_IDS:
            yield Check("Machine", name, OK, f"{count} ids from {ranges[0][0]}")
        elif count:
            text = f"{count} ids only: files of users above {count - 1} cannot be made"
            yield Check("Machine", name, NOTE, text, mend)
        else:
            yield Check("Machine", name, PROBLEM, f"{path} gives {user} no ids", mend)


def free_ids(path: Path) -> int:
    """The first id behind all ranges of a subuid(5) file."""
    first = 100000
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return first
    for line in lines:
        _, _, rest = line.partition(":")
        start, _, count = rest.partition(":")
        if start.isdigit() and count.strip().isdigit():
            first = max(first, int(start) + int(count))
    return first


def check_tun() -> Check:
    path, load = "/dev/net/tun", f"{probe.as_root()}modprobe tun"
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return Check("Machine", path, PROBLEM, "not there: RUN has no network", (load,))
    except PermissionError:
        mend = (f"{probe.as_root()}chmod 0666 {path}",)
        return Check("Machine", path, PROBLEM, "not open to you: RUN has no network", mend)
    except OSError as error:
        return Check(
            "Machine", path, PROBLEM, f"cannot be opened: {error.strerror}", (f"{probe.as_root()}modprobe tun",)
        )
    return Check("Machine", path, OK, "can be opened")


def check_openat2() -> Check:
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        os.close(kernel.open_in_root(root, "etc"))
    except OSError as error:
        return Check("Machine", "openat2", PROBLEM, f"{error.strerror}: a kernel from 5.6 on is needed")
    finally:
        os.close(root)
    return Check("Machine", "openat2", OK, "works")


# -- the store, and the trials


def check_store(root: Path) -> Iterator[Check]:
    try:
        Store.open(root)
        found = probe.file_system(root)
    except OrcaError as error:
        yield Check("Store", str(root), PROBLEM, error.message, (error.hint or "set ORCA_ROOT",))
        return
    yield Check("Store", str(root), *judge(found))


def judge(found: FileSystem) -> tuple[str, str, tuple[str, ...]]:
    """State, detail and mending for the file system that the store is on."""
    detail = f"{found.kind}, {human.size(found.free)} free of {human.size(found.size)}"
    elsewhere = "export ORCA_ROOT=DIRECTORY  # a directory on a local file system"
    if found.kind in _UNFIT:
        return PROBLEM, f"{detail}: layers cannot be stacked on {found.kind}", (elsewhere,)
    if found.free < LITTLE_SPACE:
        return NOTE, f"{detail}: that is little", ("orca prune", elsewhere)
    return OK, detail, ()


def check_trial(root: Path) -> Iterator[Check]:
    """An overlay, then a whole build in a store of its own."""
    try:
        with Store.open(root).scratch() as directory:
            yield check_overlay(directory)
            (directory / "trial").mkdir()
            seconds = trial.build(directory / "trial")
    except OrcaError as error:
        yield Check("Trial", "build", PROBLEM, f"failed: {error.message}", (error.hint,) if error.hint else ())
        return
    except OSError as error:
        yield Check("Trial", "build", PROBLEM, f"failed: {error.strerror}", ())
        return
    yield Check("Trial", "build", OK, f"built, unpacked, ran and committed an image in {human.seconds(seconds)}")


def check_overlay(directory: Path) -> Check:
    """Raises Failed when there is not even a sandbox to try it in."""
    (directory / "overlay").mkdir()
    refused = trial.overlay(directory / "overlay")["overlay"]
    if refused is None:
        return Check("Trial", "overlay", OK, "the kernel mounts them in a user namespace")
    fuse = next(tool for tool in probe.TOOLS if tool.name == "fuse-overlayfs")
    if probe.where(fuse) and os.access("/dev/fuse", os.R_OK | os.W_OK):
        return Check("Trial", "overlay", NOTE, f"not by the kernel here ({refused}): fuse-overlayfs does it")
    detail = f"the kernel refuses them here ({refused}), and fuse-overlayfs cannot stand in"
    return Check("Trial", "overlay", PROBLEM, detail, probe.install([fuse], probe.this_family()))


def _untried(missing: Sequence[str]) -> Check:
    reason = f"{', '.join(missing)} missing" if missing else "see the problems above"
    return Check("Trial", "build", NOTE, f"not tried: {reason}")


# -- the page


def show(checks: Sequence[Check], works: bool, terminal: Terminal) -> None:
    """One line for each check, and below a problem the command that mends it."""
    marks = {OK: "✔", NOTE: "-", PROBLEM: "✘"} if terminal.unicode else {OK: "OK", NOTE: "--", PROBLEM: "NO"}
    styles = {OK: "green", NOTE: "yellow", PROBLEM: "bold red"}
    width = max(len(visible(check.name)) for check in checks)
    group = ""
    for check in checks:
        if check.group != group:
            terminal.line(("\n" if group else "") + styled(check.group, "bold", color=terminal.color))
            group = check.group
        mark = styled(human.pad(marks[check.state], 2), styles[check.state], color=terminal.color)
        terminal.line(f"  {mark} {human.pad(visible(check.name), width)}  {visible(check.detail)}".rstrip())
        if check.state == PROBLEM or (check.name == "all together" and check.mend):
            for command in check.mend:
                terminal.line(f"       {styled(visible(command), 'cyan', color=terminal.color)}")
    problems = sum(check.state == PROBLEM for check in checks)
    end = "orca can build images here." if works else f"{human.count(problems, 'problem')}: orca cannot build here yet."
    terminal.line("\n" + styled(end, "bold", color=terminal.color))
