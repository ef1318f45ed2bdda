"""However a build ends, nothing of it goes on; and the next one works."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.kitchen import Kitchen
from support.leftovers import Leftovers
from support.orca import Orca
from support.proc import run
from support.users import User

MIDST = """\
FROM localhost/busybox
RUN echo first > /first
RUN echo in the midst; sleep STAMP
"""


def stamp() -> str:
    """Many seconds, another number each time: by it the RUN's own process is known."""
    return str(5000 + int.from_bytes(os.urandom(4), "big"))


@pytest.fixture(params=["me", pytest.param("user", marks=pytest.mark.user)])
def who(request: pytest.FixtureRequest) -> User | None:
    """Whoever runs the tests, then an ordinary user."""
    if request.param == "me":
        return None
    user = request.getfixturevalue("ordinary_user")
    assert isinstance(user, User)
    return user


@pytest.fixture
def midst(orca: Orca, busybox: str, busybox_layout: object, who: User | None) -> Iterator[Midst]:
    if who is not None:
        orca.load(busybox_layout, busybox, user=who)  # type: ignore[arg-type]
    build = Midst(orca, who)
    yield build
    # A test that failed half-way must not leave it to itself.
    if build.process.poll() is None:
        build.process.kill()
        build.process.wait()


class Midst:
    """A build that is in the midst of a RUN that would take more than an hour."""

    def __init__(self, orca: Orca, who: User | None) -> None:
        self.orca = orca
        self.who = who
        self.leftovers = Leftovers(orca.top)
        self.namespaces = namespaces()
        self.stamp = stamp()
        self.context = Kitchen(orca).context(MIDST.replace("STAMP", self.stamp))
        # A process group of its own, as a shell gives each job.
        with orca.log.open("ab") as log:
            self.process = subprocess.Popen(
                orca.command("build", "--progress=plain", self.context, user=who),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=orca.environment(who),
                cwd=orca.top,
                start_new_session=True,
                **({"user": who.ids[0], "group": who.ids[1], "extra_groups": []} if who and who.ids else {}),
            )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 20
        while "] in the midst" not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)

    @property
    def said(self) -> str:
        return self.orca.log.read_text(errors="replace")

    def descendants(self) -> list[tuple[int, str]]:
        """The build's processes, (pid, command line), the first is orca's own."""
        found, queue = [], [self.process.pid]
        while queue:
            pid = queue.pop(0)
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                threads = list(Path(f"/proc/{pid}/task").iterdir())
                children = [int(c) for t in threads for c in (t / "children").read_text().split()]
            except OSError:
                continue
            found.append((pid, command))
            queue += children
        return found

    def find(self, tool: str) -> int:
        """The pid of the build's process of that name: it may just be about to begin."""
        for _ in range(200):
            for pid, command in self.descendants():
                if command and command.split()[0].rpartition("/")[2] == tool:
                    return pid
            time.sleep(0.05)
        raise AssertionError(f"the build runs no {tool}")

    def end(self) -> int:
        return self.process.wait(timeout=20)

    def check(self, *, scratch: bool = True) -> None:
        """Nothing is left. After SIGKILL scratch files may wait for the next build (`scratch` False)."""
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            new = self.leftovers.look() - self.leftovers.before
            if not (new.processes or new.mounts or (scratch and new.scratch)):
                break
            time.sleep(0.05)
        else:
            raise AssertionError(f"left behind:\n{new}")
        sleep = ["sleep", self.stamp]
        assert not [line for line in run("ps", "-eo", "args").stdout.splitlines() if line.split()[:2] == sleep]
        deadline = time.monotonic() + 3
        while (more := namespaces() - self.namespaces) and time.monotonic() < deadline:
            time.sleep(0.05)
        # Other tests make namespaces at the same time; those of ours have our processes in them, which are gone.
        assert not [n for n in more if str(self.orca.top) in n]

    def next_build_works(self) -> None:
        """The step that was done is cached, and what the killed one left is swept."""
        (self.context / "Dockerfile").write_text(MIDST.replace("sleep STAMP", "cat /first"))
        result = self.orca("build", self.context, user=self.who)
        assert result.out.startswith("sha256:")
        assert "] first" in result.stderr
        self.leftovers.assert_none()


def namespaces() -> set[str]:
    """Every namespace that a process is in, with that process's command line."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.update(f"{os.readlink(link)} {command}" for link in (entry / "ns").iterdir())
            except OSError:
                continue
    return found


# --- asked to end


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_to_the_process(midst: Midst, number: signal.Signals) -> None:
    midst.process.send_signal(number)
    assert midst.end() == 130
    assert "Traceback" not in midst.said
    assert "interrupted" in midst.said.lower()
    midst.check()
    midst.next_build_works()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_to_the_whole_group(midst: Midst, number: signal.Signals) -> None:
    """Ctrl-C: the terminal tells every process of the foreground."""
    os.killpg(midst.process.pid, number)
    assert midst.end() == 130
    assert "Traceback" not in midst.said
    assert "interrupted" in midst.said.lower()
    assert "RUN ended with" not in midst.said
    midst.check()
    midst.next_build_works()


def test_an_impatient_user(midst: Midst) -> None:
    """Ctrl-C again and again while it cleans up."""
    for _ in range(10):
        try:
            os.killpg(midst.process.pid, signal.SIGINT)
        except ProcessLookupError:
            break
        time.sleep(0.01)
    assert midst.end() == 130
    assert "Traceback" not in midst.said
    midst.check()


# --- killed


ORCA, MIDDLE, INNER = 0, 1, 2


@pytest.mark.parametrize("which", [ORCA, MIDDLE, INNER], ids=["orca", "middle", "inner"])
def test_kill(midst: Midst, which: int) -> None:
    """kill -9 of each of orca's three processes: the two outside and pid 1 of the sandbox."""
    ours = [pid for pid, command in midst.descendants() if "orca" in command and "build" in command]
    assert len(ours) == 3, midst.descendants()
    os.kill(ours[which], signal.SIGKILL)
    code = midst.end()
    assert code != 0
    assert "Traceback" not in midst.said
    midst.check(scratch=False)
    midst.next_build_works()


@pytest.mark.parametrize("tool", ["runc", "slirp4netns", "sleep"])
def test_kill_a_tool(midst: Midst, tool: str) -> None:
    """A tool that dies ends the build, or does no harm to it; it never hangs."""
    os.kill(midst.find(tool), signal.SIGKILL)
    if tool == "slirp4netns":  # the command goes on without a network
        time.sleep(0.3)
        midst.process.send_signal(signal.SIGINT)
        assert midst.end() == 130
    else:
        assert midst.end() == 137 if tool == "sleep" else midst.end() not in (0, 130)
        assert "Traceback" not in midst.said
    midst.check()
    midst.next_build_works()


def test_kill_during_a_commit(orca: Orca, busybox: str) -> None:
    """While a layer is being compressed: no half blob is believed."""
    kitchen = Kitchen(orca)
    leftovers = Leftovers(orca.top)
    text = f"FROM {busybox}\nRUN head -c 30000000 /dev/urandom > /big\nRUN sleep 3333\n"
    context = kitchen.context(text)
    process = orca.start("build", "--progress=json", context)
    deadline = time.monotonic() + 20
    while '"add-layer"' not in orca.log.read_text(errors="replace"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    (context / "Dockerfile").write_text(text.replace("sleep 3333", "ls -l /big > /listing"))
    built = kitchen.build(context)
    assert "30000000" in built.files["listing"].text
    assert len(built.files["big"].data) == 30000000
    leftovers.assert_none()


# --- at the same time


def test_two_builds_on_one_store(orca: Orca, busybox: str) -> None:
    kitchen = Kitchen(orca)
    leftovers = Leftovers(orca.top)
    contexts = [
        kitchen.context(f"FROM {busybox}\nRUN echo same > /same; sleep 0.3\nRUN echo {n} > /own\nENV N={n}\n")
        for n in range(4)
    ]
    builds = [orca.start("build", "-q", "-t", f"app{n}", context) for n, context in enumerate(contexts)]
    assert [build.wait(timeout=60) for build in builds] == [0] * 4, orca.log.read_text()
    for number in range(4):
        built = kitchen.build(f"FROM app{number}\nRUN cat /same /own > /both\n")
        assert built.files["both"].text == f"same\n{number}\n"
        assert built.env["N"] == str(number)
    leftovers.assert_none()


def test_the_same_build_at_the_same_time(orca: Orca, busybox: str) -> None:
    """From an unpacked base on, every step is a race: both win."""
    kitchen = Kitchen(orca)
    context = kitchen.context(
        {"Dockerfile": f"FROM {busybox}\nCOPY f /f\nRUN cat /f > /g\nRUN cat /g > /h\n", "f": "content"}
    )
    builds = [orca.start("build", "-q", "-t", "same", context) for _ in range(3)]
    assert [build.wait(timeout=60) for build in builds] == [0] * 3, orca.log.read_text()
    built = kitchen.build(context)
    assert built.stderr.count("CACHED") == 4
    assert built.files["h"].text == "content"


def test_a_killed_build_does_not_disturb_its_neighbour(orca: Orca, busybox: str) -> None:
    kitchen = Kitchen(orca)
    victim = orca.start("build", "-q", kitchen.context(MIDST.replace("STAMP", stamp())))
    neighbour = orca.start(
        "build", "-q", "-t", "neighbour", kitchen.context(f"FROM {busybox}\nRUN sleep 1.5; echo done > /done\n")
    )
    time.sleep(0.7)
    victim.kill()
    victim.wait()
    # Sweeps what the killed one left, not what the neighbour still needs.
    kitchen.build(f"FROM {busybox}\nRUN touch /third\n")
    assert neighbour.wait(timeout=60) == 0, orca.log.read_text()
    assert kitchen.build("FROM neighbour\n").files["done"].text == "done\n"


def test_output_that_nobody_reads(orca: Orca, busybox: str) -> None:
    """`orca build … 2>&1 | head -1`: ends, without a traceback, and leaves nothing."""
    leftovers = Leftovers(orca.top)
    context = Kitchen(orca).context(f"FROM {busybox}\nRUN yes | head -c 3000000; echo\n")
    command = " ".join(orca.command("build", "--progress=plain", str(context)))
    said = run("sh", "-c", f"{command} 2>&1 | head -1", env=orca.environment(), timeout=60)
    assert said.stdout.startswith("Building")
    assert "Traceback" not in said.stderr + said.stdout
    leftovers.assert_none(10)
