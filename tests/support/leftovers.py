"""What a command must not leave behind: mounts, processes, scratch files."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

# What a store keeps on purpose; everything else in it is scratch: what is in work/, and what nobody knows.
KEPT = (
    "images",
    "snapshots",
    "steps",
    "chains",
    "mounts",
    "sessions",
    "cache",
    "builds",
    "containers",
    "locks",
    "ostree",
)
WORK = "work"


@dataclass(frozen=True)
class Traces:
    """What was found: one line each."""

    mounts: frozenset[str]
    processes: frozenset[str]
    scratch: frozenset[str]

    def __sub__(self, other: Traces) -> Traces:
        return Traces(self.mounts - other.mounts, self.processes - other.processes, self.scratch - other.scratch)

    def __bool__(self) -> bool:
        return bool(self.mounts or self.processes or self.scratch)

    def __str__(self) -> str:
        return "\n".join(
            f"{kind}: {line}"
            for kind, lines in (("mount", self.mounts), ("process", self.processes), ("scratch", self.scratch))
            for line in sorted(lines)
        )


class Leftovers:
    """Compares with the moment it was made. Only what has to do with `top` counts: other tests run meanwhile."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.before = self.look()

    def look(self) -> Traces:
        """All traces of `top` now."""
        return Traces(self._mounts(), self._processes(), self._scratch())

    def found(self, wait: float = 3.0) -> Traces:
        """What is there that was not before. What is on its way out has `wait` seconds to go."""
        deadline = time.monotonic() + wait
        while (new := self.look() - self.before) and time.monotonic() < deadline:
            time.sleep(0.05)
        return new

    def assert_none(self, wait: float = 3.0) -> None:
        """Fail and name what is left."""
        new = self.found(wait)
        assert not new, f"left behind:\n{new}"

    def _mounts(self) -> frozenset[str]:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        return frozenset(line for line in mounts if str(self.top) in line)

    def _processes(self) -> frozenset[str]:
        """Every process but us whose command line, environment, root or directory names `top`."""
        found = set()
        needle = os.fsencode(self.top)
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    command = (entry / "cmdline").read_bytes()
                    places = (os.readlink(os.fsencode(entry / link)) for link in ("cwd", "root"))
                    texts = (command, (entry / "environ").read_bytes(), *places)
                except OSError:
                    continue
                if any(needle in text for text in texts):
                    found.add(f"{entry.name} {command.replace(bytes(1), b' ').decode(errors='replace')}")
        return frozenset(found)

    def _scratch(self) -> frozenset[str]:
        """Files of the stores in `top` outside what a store keeps."""
        found: set[str] = set()
        for store in self.top.glob("store-*"):
            strange = [path for path in store.iterdir() if path.name not in (*KEPT, WORK)]
            found.update(str(path) for path in (*strange, *store.glob(f"{WORK}/**/*"), *store.glob("containers/*")))
        return frozenset(found)
