"""Building in a test: a store that a whole module shares, and contexts made of dictionaries."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.built import Built
from support.orca import Orca
from support.proc import Result

BASE = "localhost/busybox:latest"


def parse_events(text: str) -> list[dict[str, Any]]:
    """What `--progress json` printed, one object a line; every line must be one."""
    return [json.loads(line) for line in text.splitlines()]


@dataclass
class Kitchen:
    """Builds with `orca`, whose store has the busybox image as `BASE`."""

    orca: Orca
    env: dict[str, str] = field(default_factory=dict)

    def context(self, files: Mapping[str, str | bytes | Path] | str) -> Path:
        """A new build context. A string alone is the Dockerfile; a name with `/` at its end is a directory; a Path
        is the target of a symbolic link."""
        context = Path(tempfile.mkdtemp(prefix="context", dir=self.orca.top))
        context.chmod(0o755)
        for name, content in ({"Dockerfile": files} if isinstance(files, str) else files).items():
            path = context / name
            (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                path.symlink_to(content)
            elif not name.endswith("/"):
                path.write_bytes(content.encode() if isinstance(content, str) else content)
        return context

    def run(
        self,
        what: Mapping[str, str | bytes | Path] | str | Path,
        *options: str,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        check: bool = False,
    ) -> Result:
        """`orca build` of a context (see `context`; a Path is one), however it ends."""
        place = what if isinstance(what, Path) else self.context(what)
        return self.orca("build", *options, place, env={**self.env, **(env or {})}, stdin=stdin, check=check)

    def build(
        self,
        what: Mapping[str, str | bytes | Path] | str | Path,
        *options: str,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
    ) -> Built:
        """Build it and read it back; on standard output is the digest and nothing else."""
        result = self.run(what, *options, env=env, stdin=stdin, check=True)
        assert result.stdout.startswith("sha256:"), result
        assert result.stdout.count("\n") == 1, result
        built = Built(self.orca.store / "images", result.out, result)
        built.check()
        return built

    def output(self, command: str, *options: str, before: str = "", env: Mapping[str, str] | None = None) -> list[str]:
        """What a RUN prints. `before` are instructions between FROM and it."""
        text = f"FROM {BASE}\n{before}\nRUN {command}\n"
        result = self.run(text, "--progress=json", "--no-cache", *options, env=env, check=True)
        return [event["text"] for event in parse_events(result.stderr) if event["event"] == "output"]

    def fails(
        self,
        what: Mapping[str, str | bytes | Path] | str | Path,
        *options: str,
        code: int = 125,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
    ) -> str:
        """Build what cannot be built; returns what it said. Nothing on stdout, no traceback, no bug report."""
        result = self.run(what, *options, env=env, stdin=stdin)
        assert result.returncode == code, result
        assert result.stdout == "", result
        assert "Traceback" not in result.stderr, result
        assert "bug in orca" not in result.stderr, result
        assert "error: " in result.stderr, result
        return result.stderr
