"""Those who are compared. Each builds a context on its own store, cold or warm, as its users would."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from pathlib import Path

from data import RUNS
from support.images import Layout
from support.orca import load
from support.proc import run
from support.users import myself

BASE = "localhost/bench-base:latest"
TAG = "localhost/bench:latest"
ORCA = Path(__file__).parents[2] / "bin" / "orca"


class Buildah:
    """Debian's buildah with its own storage on the overlay driver, running containers with runc."""

    name = "buildah"

    def __init__(self, work: Path, base: Layout) -> None:
        root, runroot = work / "buildah", work / "buildah-run"
        self.storage = f"containers-storage:[overlay@{root}+{runroot}]"
        self.command = ["buildah", "--root", str(root), "--runroot", str(runroot), "--storage-driver", "overlay"]
        self.base = base
        run("skopeo", "copy", "-q", base.ref, f"{self.storage}{BASE}")

    def reset(self) -> None:
        """Forget everything but the base image."""
        run(*self.command, "rmi", "--all", "--force")
        run("skopeo", "copy", "-q", self.base.ref, f"{self.storage}{BASE}")

    def argv(self, context: Path, *, cold: bool, network: str = "host") -> list[str]:
        """Its default network needs plugins that Debian does not install with it, so it always has the host's."""
        # It would ask for more open files than a caller's hard limit may allow.
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        flags = ["--layers", "--runtime", "runc", "--isolation", "oci", "--network", "host"]
        flags += ["--ulimit", f"nofile={limit}:{limit}", *(["--no-cache"] if cold else [])]
        return [*self.command, "bud", *flags, "-q", "-t", TAG, str(context)]

    def env(self) -> dict[str, str]:
        return dict(os.environ)

    def image(self) -> str:
        return f"{self.storage}{TAG}"


class Orca:
    """This checkout's orca with its own store. A cold build starts from a store that holds the unpacked base only."""

    name = "orca"

    def __init__(self, work: Path, base: Layout) -> None:
        self.store, self.template = work / "orca", work / "orca-template"
        self.work = work
        load(self.store, base, BASE, myself())
        # Buildah unpacks an image when it is pulled, orca when a step needs it: let it happen before, for both.
        context = work / "prime"
        context.mkdir()
        (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN true\n")
        run(ORCA, "build", "-q", "--network", "host", "-t", "localhost/prime", context, env=self.env())
        for record in (self.store / "steps").iterdir():
            record.unlink() if record.is_file() else shutil.rmtree(record)
        run("cp", "-a", self.store, self.template)

    def reset(self) -> None:
        """Forget everything but the base image."""
        shutil.rmtree(self.store)
        run("cp", "-a", self.template, self.store)

    def argv(self, context: Path, *, cold: bool, network: str = "host") -> list[str]:
        flags = ["-q", "--network", network, "-t", TAG, *(["--no-cache"] if cold else [])]
        return [str(ORCA), "build", *flags, str(context)]

    def env(self) -> dict[str, str]:
        return {**os.environ, "ORCA_ROOT": str(self.store)}

    def image(self) -> str:
        return f"oci:{self.store / 'images'}:{TAG}"


class BareRunc:
    """The fastest that a builder on runc could be: the same commands, one `runc run` each, in one unpacked bundle.

    Nothing is snapshotted, compared, packed or recorded.
    """

    name = "bare runc"

    def __init__(self, work: Path, base: Layout) -> None:
        self.bundle, self.state = work / "bundle", work / "runc"
        run("umoci", "unpack", "--image", f"{base.path}:{base.tag}", self.bundle)
        self.config = json.loads((self.bundle / "config.json").read_text())
        self.config["process"]["terminal"] = False
        self.config["linux"]["namespaces"] = [n for n in self.config["linux"]["namespaces"] if n["type"] != "network"]
        for n in range(1, RUNS + 1):
            self._write_step(n)

    def _write_step(self, n: int) -> None:
        command = f"mkdir -p /srv/site && echo step {n} > /srv/site/{n}.txt"
        self.config["process"]["args"] = ["/bin/sh", "-c", command]
        step = self.bundle.with_name(f"bundle{n}")
        step.mkdir()
        self.config["root"]["path"] = str(self.bundle / "rootfs")
        (step / "config.json").write_text(json.dumps(self.config))

    def reset(self) -> None:
        shutil.rmtree(self.bundle / "rootfs" / "srv" / "site", ignore_errors=True)

    def run_all(self) -> None:
        for n in range(1, RUNS + 1):
            step = str(self.bundle.with_name(f"bundle{n}"))
            command = ["runc", "--root", str(self.state), "run", "--bundle", step, f"bench{n}"]
            subprocess.run(command, stdin=subprocess.DEVNULL, check=True)
