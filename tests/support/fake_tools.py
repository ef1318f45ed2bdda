"""Stand-ins for skopeo, umoci and the like: they log how they were called and say what the test told them to."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

TOOLS = ("skopeo", "umoci", "runc", "slirp4netns", "pasta")

SCRIPT = r"""
import json, os, stat, sys
here = os.path.dirname(os.path.abspath(__file__))
argv = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
with open(os.path.join(here, "calls.jsonl"), "a") as log:
    log.write(json.dumps(argv) + "\n")
for name in argv[1:]:  # a FIFO has somebody at its other end, who waits
    if os.path.exists(name) and stat.S_ISFIFO(os.stat(name).st_mode):
        open(name, "rb").read()
with open(os.path.join(here, "answers.json")) as f:
    answers = json.load(f)
def fits(words):
    rest = iter(argv)
    return all(word in rest for word in words)
for answer in reversed(answers):
    if fits(answer["words"]):
        for path, text in answer["files"].items():
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            with open(path, "w") as f:
                f.write(text)
        sys.stdout.write(answer["stdout"])
        sys.stderr.write(answer["stderr"])
        sys.exit(answer["code"])
"""


class FakeTools:
    """A directory for the front of PATH. A tool that was not told anything says nothing and succeeds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        self._answers: list[dict[str, object]] = []
        self._save()
        for tool in TOOLS:
            program = path / tool
            # -I -S: no site directory, which makes it start twice as fast.
            program.write_text(f"#!{sys.executable} -IS\n{SCRIPT}")
            program.chmod(0o755)

    def answer(
        self,
        *words: str,
        stdout: str = "",
        stderr: str = "",
        code: int = 0,
        files: Mapping[str, str] | None = None,
    ) -> None:
        """A call with all `words` in this order (`"skopeo", "inspect"`) gets this answer; `files` are written first.

        The latest answer that fits wins.
        """
        self._answers.append(
            {"words": words, "stdout": stdout, "stderr": stderr, "code": code, "files": dict(files or {})}
        )
        self._save()

    def remove(self, tool: str) -> None:
        """As if it were not installed (the real one may still be later on PATH)."""
        (self.path / tool).unlink()

    @property
    def calls(self) -> list[list[str]]:
        """Every call until now: the tool's name and its arguments."""
        log = self.path / "calls.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def _save(self) -> None:
        (self.path / "answers.json").write_text(json.dumps(self._answers))
