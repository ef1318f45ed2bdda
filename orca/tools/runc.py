"""runc's command lines. Pure."""

from __future__ import annotations

from pathlib import Path

from orca.tools.command import Command


def run(state: Path, bundle: Path, container: str, log: Path, *, pid_file: Path | None = None) -> Command:
    """Run the bundle's config.json to its end; runc's own complaints go to `log` as JSON lines.

    `pid_file` gets the pid of the container's first process once it runs.

    Rootless is said, not left for runc to find out: it takes a namespace that maps all ids for the
    initial one, and then insists on cgroups.
    """
    pid = (f"--pid-file={pid_file}",) if pid_file else ()
    return Command(
        (
            "runc", "--rootless=true", "--root", str(state), "--log", str(log), "--log-format", "json",
            "run", *pid, "--bundle", str(bundle), container,
        ),
        "run the command in a container",
    )  # fmt: skip


def exec_(
    state: Path, container: str, process: Path, log: Path, *, pid_file: Path | None = None, terminal: bool = False
) -> Command:
    """Run one more process in a container; the file `process` holds it as the runtime spec's `process` object."""
    pid = (f"--pid-file={pid_file}",) if pid_file else ()
    tty = ("--tty",) if terminal else ()
    return Command(
        (
            "runc", "--rootless=true", "--root", str(state), "--log", str(log), "--log-format", "json",
            "exec", *pid, *tty, "--process", str(process), container,
        ),
        "run a command in the running container",
    )  # fmt: skip
