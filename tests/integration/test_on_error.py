"""--on-error: what is left of a RUN that failed, and what can be done with it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shlex
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.images import Layout
from support.kitchen import BASE, Kitchen
from support.leftovers import Leftovers
from support.orca import Orca
from support.proc import die_with_parent
from support.users import User, myself

SENTINEL = "sentinel-of-a-secret-77"
TEXT = f"""FROM {BASE}
ENV WHO=me
WORKDIR /w
RUN chown app /w
USER app
RUN --mount=type=secret,id=s,env=KEY --mount=type=secret,id=s,target=/k,uid=1000 --mount=target=/c \\
    --mount=type=cache,target=/cache,uid=1000 --mount=type=tmpfs,target=/t \\
    echo cached > /cache/f; echo of $WHO > made; cat /c/f made; test -s /k && echo full; exit 42
"""
CONTEXT = {"Dockerfile": TEXT, "f": "context\n"}


def told(text: str, word: str) -> str:
    """The rest of the line that begins with `word`."""
    (line,) = [line.strip() for line in text.splitlines() if line.strip().startswith(word)]
    return line.removeprefix(word).strip()


@pytest.fixture
def secret(open_path: Path) -> str:
    (open_path / "secret").write_text(SENTINEL)
    (open_path / "secret").chmod(0o644)
    return f"--secret=id=s,src={open_path}/secret"


def check_kept(orca: Orca, context: Path, secret: str, user: User | None) -> None:
    """What is kept runs again outside of orca, by what orca says."""
    who = user or myself()
    result = orca("build", "--on-error=keep", secret, context, user=user, check=False)
    assert result.returncode == 42, result
    root = Path(told(result.stderr, "kept"))
    for line in ("again:", "shell:"):
        command = told(result.stderr, line)
        assert command.startswith("runc "), result
    command = shlex.split(told(result.stderr, "again:"))
    again = who.run(*command, check=False)
    assert again.returncode == 42, again
    assert again.stdout == "context\nof me\n"
    assert "full" in result.stderr  # and the secret is not there again
    # A terminal is what `shell` needs.
    shell = shlex.join(shlex.split(told(result.stderr, "shell:")))
    words = f"script -qec {shlex.quote(shell)} /dev/null"
    typed = "id -u; pwd; cat made /cache/f /c/f; echo $WHO; exit 5\n"
    talk = who.run("sh", "-c", words, stdin=typed, check=False)
    assert talk.returncode == 5, talk
    lines = talk.stdout.replace("\r", "").splitlines()
    assert lines[-6:] == ["1000", "/w", "of me", "cached", "context", "me"], talk
    found = who.run("grep", "-rl", SENTINEL, orca.store_of(user), check=False)
    assert found.stdout == ""
    assert "slirp4netns --configure" in told(result.stderr, "network, from another terminal:")
    everything = orca("prune", "--all", user=user)
    assert "builds" in everything.stdout
    assert not root.exists()


def test_keep(orca: Orca, busybox: str, secret: str) -> None:
    leftovers = Leftovers(orca.top)
    check_kept(orca, Kitchen(orca).context(CONTEXT), secret, None)
    leftovers.assert_none()


@pytest.mark.user
def test_keep_as_an_ordinary_user(orca: Orca, busybox_layout: Layout, ordinary_user: User, secret: str) -> None:
    orca.load(busybox_layout, BASE, user=ordinary_user)
    context = Kitchen(orca).context(CONTEXT)
    check_kept(orca, context, secret, ordinary_user)


def test_only_the_newest_are_kept(fresh: Kitchen) -> None:
    for _ in range(4):
        fresh.fails(f"FROM {BASE}\nRUN false\n", "--on-error=keep", code=1)
    assert len(list((fresh.orca.store / "builds").glob("*/failed-*"))) == 3
    fresh.fails(f"FROM {BASE}\nRUN false\n", "--on-error=stop", code=1)
    assert len(list((fresh.orca.store / "builds").glob("*/failed-*"))) == 3


class Talk:
    """A build on a terminal."""

    def __init__(self, kitchen: Kitchen, context: Path, *options: str) -> None:
        self.terminal, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        self.before = termios.tcgetattr(theirs)
        self.theirs = theirs
        self.process = subprocess.Popen(
            kitchen.orca.command("build", "--on-error=shell", *options, str(context)),
            stdin=theirs, stdout=subprocess.PIPE, stderr=theirs,
            env=kitchen.orca.environment(None, {"TERM": "xterm", "NO_COLOR": "1"}), preexec_fn=die_with_parent,
        )  # fmt: skip
        self.said = ""

    def until(self, word: str, seconds: float = 60) -> str:
        """What was said until `word` came."""
        deadline = time.monotonic() + seconds
        while word not in self.said:
            assert time.monotonic() < deadline, self.said
            if select.select([self.terminal], [], [], 0.2)[0]:
                self.said += os.read(self.terminal, 65536).decode(errors="replace").replace("\r", "")
        before, _, self.said = self.said.partition(word)
        return before

    def type(self, line: str) -> None:
        os.write(self.terminal, line.encode() + b"\n")


@pytest.fixture
def talk(kitchen: Kitchen, secret: str) -> Iterator[Talk]:
    leftovers = Leftovers(kitchen.orca.top)
    talk = Talk(kitchen, kitchen.context(CONTEXT), secret)
    yield talk
    talk.process.kill()
    talk.process.wait()
    os.close(talk.terminal)
    os.close(talk.theirs)
    leftovers.assert_none()


def test_shell(talk: Talk) -> None:
    shown = talk.until("exit ends it")
    assert "RUN ended with exit code 42" in shown
    assert "Dockerfile:6" in shown
    talk.until("/w $ ")
    talk.type("echo $(id -u) $(pwd) $(cat made) $WHO $(cat /c/f /cache/f) $(wc -c < /k) $(stty size) end")
    talk.until("end\n")  # what was typed
    talk.until(f"1000 /w of me me context cached {len(SENTINEL)} 24 100 end")
    talk.type("exit 3")
    assert talk.process.wait(60) == 42
    assert talk.process.stdout is not None
    assert talk.process.stdout.read() == b""
    assert termios.tcgetattr(talk.theirs) == talk.before
    assert "error:" not in talk.said


def test_a_terminal_is_needed(kitchen: Kitchen) -> None:
    message = kitchen.fails(f"FROM {BASE}\n", "--on-error=shell", code=2)
    assert "needs a terminal" in message
    assert "--on-error=keep" in message


def test_a_shell_that_is_not_there(kitchen: Kitchen) -> None:
    """An image without one: said, and the step's own code stays."""
    binary = Path("/bin/busybox").read_bytes()
    text = 'FROM scratch\nCOPY --chmod=755 b /busybox\nRUN ["/busybox", "false"]\n'
    context = kitchen.context({"Dockerfile": text, "b": binary})
    talk = Talk(kitchen, context)
    try:
        talk.until("no such file or directory")
        assert talk.process.wait(60) == 1
    finally:
        talk.process.kill()
        os.close(talk.terminal)
        os.close(talk.theirs)


def test_one_shell_for_a_build(kitchen: Kitchen) -> None:
    """A stage that fails while the shell of another is open gets none; the first failure's code is orca's."""
    stages = "".join(
        f"FROM {BASE} AS {name}\nRUN sleep {wait}; exit {code}\n" for name, wait, code in (("a", 0, 5), ("b", 2, 6))
    )
    context = kitchen.context(f"{stages}FROM {BASE}\nCOPY --from=a /x /x\nCOPY --from=b /x /x\n")
    talk = Talk(kitchen, context, "--no-cache", "--jobs=3")
    try:
        talk.until("exit ends it")
        talk.until("/ # ")
        talk.type("sleep 3; exit 9")
        assert talk.process.wait(60) == 5
        rest = ""
        while select.select([talk.terminal], [], [], 0.2)[0]:
            rest += os.read(talk.terminal, 65536).decode(errors="replace")
        assert "exit ends it" not in rest
        assert "error:" not in rest
    finally:
        talk.process.kill()
        os.close(talk.terminal)
        os.close(talk.theirs)
