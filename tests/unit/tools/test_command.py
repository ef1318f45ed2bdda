"""The runner, with small real programs."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orca.errors import Interrupted, ToolError, ToolMissing
from orca.events import Event, ToolFinished, ToolStarted
from orca.tools import command as commands
from orca.tools.command import Command, Runner, environment, find, pipe, plain_words


def sh(script: str) -> Command:
    return Command(("sh", "-c", script), "a test")


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def runner(events: list[Event]) -> Iterator[Runner]:
    made = Runner(events.append)
    yield made
    made.cancel()


# -- running to the end


def test_output_is_collected(runner: Runner) -> None:
    finished = runner.run(sh("echo out; echo err >&2"))
    assert (finished.stdout, finished.stderr, finished.exit_code) == (b"out\n", "err\n", 0)
    assert 0 < finished.seconds < 10


def test_output_comes_while_it_runs(runner: Runner, tmp_path: Path) -> None:
    go, seen = tmp_path / "go", []

    def take(data: bytes, stream: str) -> None:
        seen.append((stream, data))
        go.touch()  # without which the second line never comes

    finished = runner.run(sh(f"echo one; while [ ! -e {go} ]; do sleep 0.01; done; echo two >&2"), on_output=take)
    assert seen == [("stdout", b"one\n"), ("stderr", b"two\n")]
    assert (finished.stdout, finished.stderr) == (b"", "two\n")


def test_words_arrive_as_they_are(runner: Runner) -> None:
    words = ["", "a b", "*", "$HOME", "--x=y", "'\"\\", "ü\n", "\udcff", "-"]
    finished = runner.run(Command(("printf", "%s\\0", *words), "a test"))
    assert finished.stdout == b"".join(os.fsencode(word) + b"\0" for word in words)


def test_stdin(runner: Runner, tmp_path: Path) -> None:
    assert runner.run(Command(("cat",), "a test")).stdout == b""  # nothing is /dev/null, not the terminal
    (tmp_path / "f").write_bytes(b"\0\xffx")
    with open(tmp_path / "f", "rb") as file:
        assert runner.run(Command(("cat",), "a test"), stdin=file).stdout == b"\0\xffx"


def test_nothing_is_a_terminal(runner: Runner) -> None:
    assert runner.run(sh("test -t 0 || test -t 1 || test -t 2; echo $?")).stdout == b"1\n"


def test_working_directory(runner: Runner, tmp_path: Path) -> None:
    assert runner.run(Command(("pwd", "-P"), "a test"), cwd=tmp_path).stdout.decode().strip() == str(tmp_path)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -9 $$", 137),
        ("kill -15 $$", 143),
        ("kill -PIPE $$", 141),
    ],
)
def test_exit_codes(script: str, code: int, runner: Runner, events: list[Event]) -> None:
    assert runner.run(sh(script), check=False).exit_code == code
    assert isinstance(events[-1], ToolFinished) and events[-1].exit_code == code


def test_a_failure_tells_the_last_words(runner: Runner) -> None:
    with pytest.raises(ToolError, match=r"^sh failed with exit code 3$") as caught:
        runner.run(sh("echo one >&2; echo two >&2; exit 3"))
    assert (caught.value.returncode, caught.value.stderr) == (3, "one\ntwo")
    assert caught.value.argv[0] == "sh"


def test_stderr_keeps_its_end(runner: Runner) -> None:
    finished = runner.run(sh("head -c 200000 /dev/zero | tr '\\0' x >&2; echo end >&2"), check=False)
    assert len(finished.stderr) == commands.STDERR_KEPT
    assert finished.stderr.endswith("xend\n")


def test_too_much_output_ends_the_tool(runner: Runner) -> None:
    with pytest.raises(ToolError, match="yes printed more than 100000 bytes"):
        runner.run(Command(("yes",), "a test"), limit=100_000)


def test_an_error_in_the_callback_ends_the_tool(runner: Runner) -> None:
    def take(data: bytes, stream: str) -> None:
        raise ValueError(data)

    begun = time.monotonic()
    with pytest.raises(ValueError, match="x"):
        runner.run(sh("echo x; sleep 60"), on_output=take)
    assert time.monotonic() - begun < 10


# -- what is told


def test_events(runner: Runner, events: list[Event]) -> None:
    runner.run(Command(("true",), "first"), step=4)
    runner.run(Command(("true", "x"), "second"))
    assert [(e.step, e.call, e.argv, e.why) for e in events if isinstance(e, ToolStarted)] == [
        (4, 1, ("true",), "first"),
        (None, 2, ("true", "x"), "second"),
    ]
    assert [(e.step, e.call, e.exit_code) for e in events if isinstance(e, ToolFinished)] == [(4, 1, 0), (None, 2, 0)]


def test_a_command_as_one_would_type_it() -> None:
    assert str(Command(("umoci", "config", "--author=A B"), "")) == "umoci config '--author=A B'"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ('time="2024-01-01T00:00:00Z" level=fatal msg="no \\"x\\": gone"', 'no "x": gone'),
        ('time="now" level=error msg="bad" error=EPERM', "bad"),
        ('time="now" level=info msg="fine"', 'time="now" level=info msg="fine"'),
        ("plain words\nof two lines", "plain words\nof two lines"),
        ("", ""),
    ],
)
def test_the_loggers_frame_is_dropped(said: str, shown: str) -> None:
    assert plain_words(said) == shown


# -- environment and descriptors


def test_environment_is_an_allow_list(monkeypatch: pytest.MonkeyPatch, runner: Runner) -> None:
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, text in {"PATH": "/usr/bin:/bin", "HOME": "/h", "https_proxy": "p", "SECRET": "s", "LD_PRELOAD": "",
                       "LC_ALL": "de_DE", "PYTHONPATH": "x", "REGISTRY_AUTH_FILE": "/a"}.items():  # fmt: skip
        monkeypatch.setenv(name, text)
    expected = {"PATH": "/usr/bin:/bin", "HOME": "/h", "https_proxy": "p", "REGISTRY_AUTH_FILE": "/a"}
    assert environment() == {**expected, "LC_ALL": "C.UTF-8"}
    command = Command(("env",), "a test", (("EXTRA", "1"), ("HOME", "/other")))
    seen = dict(line.split("=", 1) for line in runner.run(command).stdout.decode().splitlines())
    assert seen == {**expected, "LC_ALL": "C.UTF-8", "EXTRA": "1", "HOME": "/other"}


def test_a_path_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PATH")
    assert "/usr/bin" in environment()["PATH"].split(":")


def test_only_passed_descriptors_arrive(runner: Runner, tmp_path: Path) -> None:
    with open(tmp_path / "secret", "w") as secret, pipe() as (read, write):
        os.set_inheritable(secret.fileno(), True)
        finished = runner.run(
            sh(f"echo hello >/proc/self/fd/{write.fileno()}; ls -l /proc/self/fd"), pass_fds=(write.fileno(),)
        )
        write.close()
        assert read.read() == b"hello\n"
    assert b"secret" not in finished.stdout


def test_no_descriptor_and_no_thread_stays_behind(runner: Runner) -> None:
    def everything() -> None:
        runner.run(sh("echo x; echo y >&2"))
        runner.pipeline(sh("echo x"), Command(("cat",), "a test"))
        for failing in (lambda: runner.run(sh("exit 1")), lambda: runner.pipeline(sh("exit 1"), sh("exit 2")),
                        lambda: runner.run(Command(("no-such-tool-here",), ""))):  # fmt: skip
            with pytest.raises((ToolError, ToolMissing)):
                failing()

    everything()  # what is imported and opened once
    before, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(5):
        everything()
    assert len(os.listdir("/proc/self/fd")) == before
    deadline = time.monotonic() + 5
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= threads


# -- tools that are not there


def test_a_missing_tool(runner: Runner, events: list[Event]) -> None:
    with pytest.raises(ToolMissing, match="no-such-tool-here is not installed") as caught:
        runner.run(Command(("no-such-tool-here",), "a test"))
    assert caught.value.hint
    assert events == []


def test_sbin_is_looked_through_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find("chroot") in ("/usr/sbin/chroot", "/sbin/chroot")


def test_the_current_directory_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no-such-tool-here").write_text("#!/bin/sh\n")
    (tmp_path / "no-such-tool-here").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", ":/usr/bin:")
    with pytest.raises(ToolMissing):
        find("no-such-tool-here")


def test_a_tool_that_cannot_be_executed(runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken").write_text("#!/no/such/interpreter\n")
    (tmp_path / "broken").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(ToolError, match=r"^cannot start broken: FileNotFoundError: .*No such file or directory"):
        runner.run(Command(("broken",), "a test"))


# -- pipelines


def test_a_pipeline(runner: Runner) -> None:
    finished = runner.pipeline(sh("echo a; echo warning >&2"), Command(("wc", "-c"), "a test"))
    assert (finished.stdout.strip(), finished.exit_code) == (b"2", 0)


def test_a_producer_that_complains_a_lot(runner: Runner) -> None:
    timer = threading.Timer(20, runner.cancel)
    timer.start()
    finished = runner.pipeline(sh("head -c 300000 /dev/zero >&2; echo data"), Command(("cat",), "a test"))
    timer.cancel()
    assert finished.stdout == b"data\n"


@pytest.mark.parametrize(
    ("producer", "consumer", "message", "words"),
    [
        ("echo x; echo why >&2; exit 4", "cat >/dev/null", "exit code 4", "why"),
        ("echo x", "cat >/dev/null; echo because >&2; exit 5", "exit code 5", "because"),
        # The consumer's failure breaks the producer's pipe: its words are the cause.
        ("yes; echo pipe broke >&2; exit 1", "echo cause >&2; exit 6", "exit code 6", "cause"),
        ("exit 2", "cat >/dev/null; exit 3", "exit code 3", ""),
        ("sleep 60", "exit 3", "exit code 3", ""),
        ("kill -9 $$", "cat >/dev/null", "exit code 137", ""),
    ],
)
def test_a_pipeline_that_fails(producer: str, consumer: str, message: str, words: str, runner: Runner) -> None:
    begun = time.monotonic()
    with pytest.raises(ToolError, match=message) as caught:
        runner.pipeline(sh(producer), sh(consumer))
    assert caught.value.stderr == words
    assert time.monotonic() - begun < 10


def test_a_missing_consumer_ends_the_producer(runner: Runner, events: list[Event]) -> None:
    with pytest.raises(ToolMissing):
        runner.pipeline(Command(("yes",), "a test"), Command(("no-such-tool-here",), "a test"))
    assert isinstance(events[-1], ToolFinished) and events[-1].exit_code in (137, 141)


# -- ending


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def test_leaving_the_block_kills_the_group(runner: Runner, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with runner.running(sh(f"sleep 60 & echo $! >{pid_file}.new; mv {pid_file}.new {pid_file}; wait")) as process:
        while not pid_file.exists():
            time.sleep(0.01)
        child = int(pid_file.read_text())
        assert not Path(f"/proc/{child}/stat").read_text().endswith("Z")
    assert gone(process.pid) and gone(child)
    assert process.wait() == 137


def test_cancel(runner: Runner) -> None:
    found: list[BaseException] = []

    def work() -> None:
        try:
            runner.run(sh("sleep 60"))
        except ToolError as error:
            found.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    while len(runner._processes) < 3:
        time.sleep(0.01)
    runner.cancel()
    for thread in threads:
        thread.join(10)
    assert [error.returncode for error in found if isinstance(error, ToolError)] == [137] * 3
    with pytest.raises(Interrupted):
        runner.run(sh("true"))


def test_tools_do_not_get_the_terminals_signals(runner: Runner) -> None:
    with runner.running(sh("sleep 60")) as process:
        assert os.getsid(process.pid) == process.pid
        assert process.seconds >= 0
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait() == 143
