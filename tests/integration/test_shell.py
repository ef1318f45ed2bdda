"""orca shell: at a terminal, and without one."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.kitchen import BASE, Kitchen
from support.proc import die_with_parent

SCRIPT = """\
# a comment
ENV A=1 \\
  B=2

RUN <<EOF
echo $A-$B > /made
EOF
RUN touch /gone
undo
COPY f /
commit tried
RUN exit 9
RUN touch /never
"""


class Terminal:
    """An `orca shell` on a terminal of its own, which Ctrl-C comes from."""

    def __init__(self, kitchen: Kitchen, *options: str, cwd: Path) -> None:
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))

        def begin() -> None:
            die_with_parent()
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        more = {"TERM": "xterm", "NO_COLOR": "1", "XDG_STATE_HOME": str(kitchen.orca.top / "state")}
        self.process = subprocess.Popen(
            kitchen.orca.command("shell", *options), stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, cwd=cwd,
            env=kitchen.orca.environment(None, more), preexec_fn=begin,
        )  # fmt: skip
        os.close(theirs)
        self.said = ""

    def until(self, word: str) -> str:
        """What was said until `word` came, which is taken away too."""
        deadline = time.monotonic() + 60
        while word not in self.said:
            assert time.monotonic() < deadline, self.said
            if select.select([self.ours], [], [], 0.2)[0]:
                self.said += os.read(self.ours, 65536).decode(errors="replace").replace("\r", "")
        before, _, self.said = self.said.partition(word)
        return before

    def type(self, text: str) -> None:
        time.sleep(0.3)  # readline shows its prompt a moment before it listens: a Ctrl-C in between waits for a key
        os.write(self.ours, text.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.ours)


@pytest.fixture
def terminal(fresh: Kitchen) -> Iterator[Terminal]:
    shell = Terminal(fresh, "--name", "tried", BASE, cwd=fresh.context({"site/index.html": "x"}))
    yield shell
    shell.close()


def test_at_a_terminal(terminal: Terminal, fresh: Kitchen) -> None:
    terminal.until("tried [1]> ")
    terminal.type("COPY si\tin\t /page\n")
    assert "COPY site/index.html  /page" in terminal.until("tried [2]> ")
    terminal.type("RUN <<X\necho a > /a\nX\n")
    assert "runc" in terminal.until("tried [3]> ")  # the tool calls are shown
    terminal.type("RUN echo begun; sleep 600\n")
    terminal.until("[4] begun")
    terminal.type("\x03")
    terminal.until("nothing has changed")
    terminal.until("tried [3]> ")
    terminal.type("half a line\x03")
    terminal.until("tried [3]> ")
    terminal.type("RUN exit 3\n")
    assert "exit code 3" in terminal.until("tried [3]> ")
    terminal.type("undo\n")
    terminal.until("tried [2]> ")
    terminal.type("sh cat /page\n")
    assert "cat /page\nx" in terminal.until("tried [2]> ")
    terminal.type("steps\n")
    assert "COPY site/index.html" in terminal.until("tried [2]> ")
    terminal.type("\x04")
    assert terminal.process.stdout is not None
    # The Dockerfile is all that standard output gets.
    assert terminal.process.stdout.read().decode() == f"FROM {BASE}\nCOPY site/index.html  /page\n"
    assert terminal.process.wait(60) == 0
    assert fresh.orca("steps", "-q").stdout == "tried\n"  # it has a name, so it is kept
    assert "COPY site/index.html" in (fresh.orca.top / "state/orca/history").read_text()


def test_without_a_terminal(fresh: Kitchen) -> None:
    place = fresh.context({"f": "x"})
    found = fresh.orca("shell", "-q", "-f", "made", BASE, stdin=SCRIPT, cwd=place, check=False)
    assert found.returncode == 9 and "exit code 9" in found.stderr, found
    assert found.stdout.startswith("sha256:") and found.stdout.count("\n") == 1
    text = (place / "made").read_text()
    assert text == f"FROM {BASE}\nENV A=1 \\\n  B=2\nRUN <<EOF\necho $A-$B > /made\nEOF\nCOPY f /\n"
    assert (
        fresh.orca("run", "tried", "sh", "-c", "cat /made /f; ls -d /gone /never /f 2>&1 | tail -n 1").stdout
        == "1-2\nx/f\n"
    )
    assert fresh.orca("steps", "-q").stdout == ""  # nobody gave it a name
    again = fresh.orca("shell", "-f", "made", BASE, cwd=place, check=False)
    assert again.returncode == 2 and "is there already" in again.stderr


def test_going_on_with_a_scripted_build(fresh: Kitchen) -> None:
    orca = fresh.orca
    orca("from", "--name", "web", BASE)
    assert orca("shell", "-q", "web", stdin="ENV A=1\nexit\nENV B=2\n").returncode == 0
    assert orca("dockerfile", "web").stdout == f"FROM {BASE}\nENV A=1\n"
    for words, stdin, code, message in (
        (("web",), "undo 7\n", 2, "not 7 steps"),
        (("web",), "NOPE x\n", 125, "NOPE"),
        (("web",), "RUN <<X\nnever ends\n", 125, "does not end"),
        (("--context", "nowhere", BASE), "", 2, "does not exist"),
        (("a b",), "", 2, "bad image"),
    ):
        wrong = orca("shell", *words, stdin=stdin, check=False)
        assert wrong.returncode == code and message in wrong.stderr, wrong
        assert "bug in orca" not in wrong.stderr
