"""orca info."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orca import __version__
from orca.cli.options import Parser, print_json
from orca.errors import OrcaError
from orca.oci import platform as platforms
from orca.sources import registries
from orca.store.store import Store, default_root
from orca.tools import probe
from orca.tools.command import Runner
from orca.ui import Terminal, human
from orca.ui.escape import visible
from orca.ui.terminal import styled

EXAMPLES = """\
  orca info                  where things are, and how many
  orca info --json           the same for programs"""


def make_parser() -> Parser:
    """The options of `orca info`."""
    parser = Parser("info", "Show the store, the platform, the tools and the configuration in use.", EXAMPLES)
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Show it."""
    given = make_parser().parse(arguments)
    value = collect(default_root(), os.environ)
    if given.json:
        print_json(value)
    else:
        show(value, Terminal(sys.stdout))
    return 0


def collect(root: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """All of it as JSON. Nothing is made: a store that is not there yet is empty."""
    found = probe.file_system(root)
    return {
        "version": __version__,
        "python": ".".join(map(str, sys.version_info[:3])),
        "platform": str(platforms.host()),
        "kernel": os.uname().release,
        "rootless": os.geteuid() != 0,
        "store": {
            "root": str(root),
            "file_system": found.kind,
            "free": found.free,
            "size": found.size,
            **count(Store(root)),
        },
        "tools": versions(),
        "configuration": configuration(environ),
    }


def count(store: Store) -> dict[str, int]:
    """How much there is of what: names, different images, steps, snapshots, build records."""
    tags = store.tags()
    return {
        "names": len(tags),
        "images": len({found.digest for found in tags.values()}),
        "steps": sum(1 for _ in (store.root / "steps").glob("*/*")),
        "snapshots": sum(1 for _ in (store.root / "snapshots").glob("*")),
        "builds": sum(1 for _ in (store.root / "builds").glob("*")),
    }


def versions() -> dict[str, str | None]:
    """The tools that are there, with their versions; None where a tool does not say."""
    runner = Runner()
    result = {}
    for tool in probe.TOOLS:
        if tool.options and probe.where(tool):
            try:
                result[tool.name] = probe.version(tool, runner)
            except (OrcaError, ImportError):
                result[tool.name] = None
    return result


def configuration(environ: Mapping[str, str]) -> dict[str, list[str]]:
    """The files that decide about registries, signatures and credentials: those that are there and in use."""
    home = Path(environ.get("HOME") or os.path.expanduser("~"))
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config", "containers")
    runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    policies = [config / "policy.json", Path("/etc/containers/policy.json")]
    if environ.get("REGISTRY_AUTH_FILE"):
        credentials = [Path(environ["REGISTRY_AUTH_FILE"])]
    else:
        docker = Path(environ.get("DOCKER_CONFIG") or home / ".docker", "config.json")
        credentials = [Path(runtime, "containers", "auth.json"), config / "auth.json", docker]
    return {
        "registries": [str(path) for path in registries.configuration_files() if path.is_file()],
        "policy": [str(path) for path in policies if path.is_file()][:1],
        "credentials": [str(path) for path in credentials if _is_file(path)],
    }


def _is_file(path: Path) -> bool:
    """Is there a file, as far as we may see?"""
    try:
        return path.is_file()
    except OSError:
        return False


def show(value: Mapping[str, Any], terminal: Terminal) -> None:
    """The same in lines of a name and its text."""
    store, tools, files = value["store"], value["tools"], value["configuration"]
    size = f"{human.size(store['free'])} free of {human.size(store['size'])}"
    counts = ", ".join(
        human.count(store[plural], noun)
        for plural, noun in (
            ("images", "image"), ("names", "name"), ("steps", "cached step"), ("snapshots", "snapshot"),
            ("builds", "build record"),
        )
    )  # fmt: skip
    lines = [
        ("orca", f"{value['version']}, python {value['python']}"),
        ("platform", f"{value['platform']}, kernel {value['kernel']}, {'rootless' if value['rootless'] else 'root'}"),
        ("store", store["root"]),
        ("", f"{store['file_system']}, {size}"),
        ("", counts),
        ("tools", ", ".join(f"{name} {version or '(version unknown)'}" for name, version in tools.items()) or "none"),
        ("registries", ", ".join(files["registries"]) or "no registries.conf: short names mean docker.io"),
        ("policy", ", ".join(files["policy"]) or "no policy.json: skopeo refuses to pull"),
        ("credentials", ", ".join(files["credentials"]) or "none stored"),
    ]
    for name, text in lines:
        first = f"{name:<13}"
        wrapped = human.wrap(visible(text), terminal.width, first=first, indent=" " * len(first))
        terminal.line(styled(first, "bold", color=terminal.color) + wrapped[0][len(first) :])
        for more in wrapped[1:]:
            terminal.line(more)
