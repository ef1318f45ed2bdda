"""orca run: streams, exit codes, signals, ports, and nothing left behind."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.images import Layout
from support.leftovers import Leftovers
from support.orca import Orca
from support.proc import fetch, free_port
from support.registry import RegistryImage
from support.users import User


@pytest.fixture(params=["me", pytest.param("user", marks=pytest.mark.user)])
def who(request: pytest.FixtureRequest, orca: Orca, busybox_layout: Layout) -> User | None:
    """Whoever runs the tests, then an ordinary user; both have `busybox` in their stores."""
    user = None if request.param == "me" else request.getfixturevalue("ordinary_user")
    orca.load(busybox_layout, "localhost/busybox:latest", user)
    assert user is None or isinstance(user, User)
    return user


def test_a_command(orca: Orca, who: User | None, leftovers: Leftovers) -> None:
    done = orca("run", "busybox", "sh", "-c", "echo out; echo err >&2; id -u; pwd", user=who)
    assert done.stdout == "out\n0\n/\n"
    assert done.stderr == "err\n"
    leftovers.assert_none()


def test_input_is_the_callers(orca: Orca, who: User | None) -> None:
    text = "".join(f"{number}\n" for number in range(50_000))
    assert orca("run", "busybox", "cat", user=who, stdin=text).stdout == text


def test_bytes_pass_unchanged(orca: Orca, busybox: str, open_path: Path) -> None:
    data = os.urandom(1 << 20)
    argv, env = orca.command("run", busybox, "cat"), orca.environment()
    done = subprocess.run(argv, input=data, capture_output=True, env=env, cwd=open_path, check=True, timeout=60)
    assert done.stdout == data


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["sh", "-c", "exit 7"], 7, ""),
        (["no-such-program"], 127, "no-such-program: not found in the image"),
        (["/etc/passwd"], 126, "/etc/passwd: cannot be executed"),
        (["sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137, ""),
    ],
)
def test_exit_codes(
    orca: Orca, busybox: str, leftovers: Leftovers, command: list[str], code: int, message: str
) -> None:
    done = orca("run", busybox, *command, check=False)
    assert done.returncode == code
    assert message in done.stderr
    assert "runc" not in done.stderr
    leftovers.assert_none()


def test_what_changes_is_thrown_away(orca: Orca, busybox: str) -> None:
    orca("run", busybox, "sh", "-c", "echo x > /new; rm -r /var; touch /tmp/file")
    assert orca("run", busybox, "sh", "-c", "ls -d /var; ls /new /tmp", check=False).stdout == "/var\n/tmp:\n"


@pytest.fixture
def app(orca: Orca, busybox: str, dockerfile_context: Callable[..., Path]) -> str:
    """An image that says all that can be said."""
    context = dockerfile_context(
        "FROM busybox\nENV A=image B=image\nWORKDIR /srv\nUSER app\nVOLUME /data\nSTOPSIGNAL SIGUSR1\n"
        'ENTRYPOINT ["sh", "-c", "echo $A $B $C; pwd; id -u; id -g; hostname; echo $@", "-"]\nCMD ["cmd", "line"]\n'
    )
    orca("build", "-q", "-t", "app", context)
    return "app"


def test_the_image_decides(orca: Orca, app: str) -> None:
    assert orca("run", app).stdout.splitlines() == ["image image", "/srv", "1000", "1000", "orca", "cmd line"]


def test_options_decide(orca: Orca, app: str) -> None:
    options = ["-e", "A=mine", "-e", "C", "-w", "/new/place", "-u", "daemon:audio", "--name", "box"]
    done = orca("run", *options, app, "-x", "y", env={"C": "here", "D": "not"})
    assert done.stdout.splitlines() == ["mine image here", "/new/place", "1", "29", "box", "-x y"]


def test_entrypoint(orca: Orca, app: str) -> None:
    assert orca("run", "--entrypoint", "id", app, "-un").out == "app"
    assert orca("run", "--entrypoint", "", app, "echo", "plain").out == "plain"


@pytest.mark.network
def test_networks(orca: Orca, who: User | None) -> None:
    names = {}
    for mode in ("default", "none"):
        links = orca("run", "--network", mode, "busybox", "ls", "/sys/class/net", user=who).out
        names[mode] = links.split()
    assert names == {"default": ["lo", "tap0"], "none": ["lo"]}
    resolver = orca("run", "busybox", "cat", "/etc/resolv.conf", user=who).out
    assert "nameserver 10.0.2.3" in resolver
    host = orca("run", "--network", "host", "busybox", "cat", "/proc/net/dev", user=who).out
    assert "tap0" not in host


@contextmanager
def running(orca: Orca, *argv: str, user: User | None = None) -> Iterator[subprocess.Popen[bytes]]:
    process = orca.start("run", *argv, user=user)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(orca: Orca, text: str) -> None:
    """Until the container has printed `text`."""
    deadline = time.monotonic() + 20
    while not (orca.log.exists() and text in orca.log.read_text()):
        assert time.monotonic() < deadline, orca.log.read_text() if orca.log.exists() else "it said nothing"
        time.sleep(0.02)


@pytest.mark.network
def test_a_published_port(orca: Orca, who: User | None, leftovers: Leftovers) -> None:
    port = free_port()
    serve = "mkdir /w; echo the page > /w/index.html; exec httpd -f -p 80 -h /w"
    with running(orca, "-p", f"127.0.0.1:{port}:80", "busybox", "sh", "-c", serve, user=who) as process:
        assert fetch(f"http://127.0.0.1:{port}/") == "the page\n"
        process.terminate()
        # httpd does not listen to SIGTERM: it is not waited for in vain.
        assert process.wait(timeout=5) == 137
    leftovers.assert_none()


@pytest.mark.network
def test_a_port_in_use(orca: Orca, busybox: str, leftovers: Leftovers) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = orca("run", "-p", f"127.0.0.1:{port}:80", busybox, "true", check=False)
    assert done.returncode == 125
    assert f"cannot publish port 127.0.0.1:{port}/tcp: it is already in use" in done.stderr
    leftovers.assert_none()


@pytest.mark.user
@pytest.mark.network
@pytest.mark.skipif(
    Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text().strip() == "0", reason="all ports are open here"
)
def test_a_port_for_root(orca: Orca, ordinary_user: User, busybox_layout: Layout) -> None:
    orca.load(busybox_layout, "localhost/busybox:latest", ordinary_user)
    done = orca("run", "-p", "127.0.0.1:81:80", "busybox", "true", user=ordinary_user, check=False)
    assert done.returncode == 125
    assert "ports below 1024 are for root" in done.stderr


TRAP = "trap 'echo got; exit 5' {}; echo ready; while :; do sleep 0.05; done"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_become_sigterm(orca: Orca, busybox: str, leftovers: Leftovers, number: signal.Signals) -> None:
    with running(orca, busybox, "sh", "-c", TRAP.format("TERM")) as process:
        wait_for(orca, "ready")
        process.send_signal(number)
        assert process.wait(timeout=8) == 5
    assert "got" in orca.log.read_text()
    leftovers.assert_none()


def test_signals_become_the_images_own(orca: Orca, app: str) -> None:
    with running(orca, "--entrypoint", "sh", app, "-c", TRAP.format("USR1")) as process:
        wait_for(orca, "ready")
        process.terminate()
        assert process.wait(timeout=8) == 5


def test_the_second_signal_kills(orca: Orca, busybox: str, leftovers: Leftovers) -> None:
    with running(orca, busybox, "sh", "-c", "trap 'echo no' TERM; echo ready; while :; do sleep 0.05; done") as process:
        wait_for(orca, "ready")
        process.terminate()
        wait_for(orca, "no")
        time.sleep(0.6)
        assert process.poll() is None
        process.terminate()
        assert process.wait(timeout=5) == 137
    leftovers.assert_none()


@pytest.mark.slow
def test_ten_seconds_are_enough(orca: Orca, busybox: str, leftovers: Leftovers) -> None:
    with running(orca, busybox, "sh", "-c", "trap 'echo no' TERM; echo ready; while :; do sleep 0.05; done") as process:
        wait_for(orca, "ready")
        begun = time.monotonic()
        process.terminate()
        assert process.wait(timeout=20) == 137
        assert 9.5 < time.monotonic() - begun < 13
    leftovers.assert_none()


def test_killed(orca: Orca, who: User | None, leftovers: Leftovers) -> None:
    with running(orca, "busybox", "sh", "-c", "echo ready; sleep 1000", user=who) as process:
        wait_for(orca, "ready")
        process.kill()
        process.wait()
    found = leftovers.found()
    assert not found.mounts
    assert not found.processes
    orca("run", "busybox", "true", user=who)  # sweeps what the killed one could not
    leftovers.assert_none()


def test_closed_streams(orca: Orca, busybox: str) -> None:
    script = f'{" ".join(orca.command("run", busybox, "sh", "-c"))} "cat; echo said" <&- 2>&-'
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, env=orca.environment(), timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "said\n")


TERMINAL = r"""
import os, pty, sys, time
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
said, asked = b"", False
try:
    while True:
        said += os.read(fd, 1000)
        if b"ready" in said and not asked:
            asked = True
            os.write(fd, b"typed\nline\n")
except OSError:
    pass
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status), " ".join(said.decode().split()))
"""


def on_a_terminal(orca: Orca, *argv: str) -> str:
    """What is on a terminal in the end, on which two lines were typed once it showed "ready"."""
    program = ["/usr/bin/python3", "-c", TERMINAL, *argv]
    return subprocess.run(
        program, capture_output=True, text=True, env=orca.environment(), timeout=60, check=True
    ).stdout.strip()


def test_a_terminal_is_the_containers_without_its_knowing(orca: Orca, busybox: str) -> None:
    script = "echo ready; read x; echo got $x; exit 4"
    assert on_a_terminal(orca, *orca.command("run", busybox, "sh", "-c", script)) == "4 ready typed line got typed"


def test_a_job_in_the_background_does_not_take_what_is_typed(orca: Orca, busybox: str) -> None:
    command = shlex.join(orca.command("run", busybox, "sh", "-c", "cat; echo end"))
    script = f"set -m; {command} > {orca.log} & sleep 1; echo ready; read x; read y; echo got $x $y; wait"
    said = on_a_terminal(orca, "bash", "-c", script)
    assert "got typed line" in said
    assert orca.log.read_text() == "end\n"


def test_an_image_from_the_registry(orca: Orca, busybox_image: RegistryImage) -> None:
    assert orca("run", "busybox", "echo", "pulled").out == "pulled"
    assert busybox_image.location in orca("images").out or "busybox" in orca("images").out


def test_no_such_image(orca: Orca, registries_conf: Path, leftovers: Leftovers) -> None:
    done = orca("run", "no-such-image", check=False)
    assert done.returncode == 125
    assert "there is no such image" in done.stderr
    leftovers.assert_none()


def test_the_snapshots_of_a_build_are_used(orca: Orca, app: str) -> None:
    before = set((orca.store / "snapshots").iterdir())
    orca("run", "--entrypoint", "true", app)
    made = set((orca.store / "snapshots").iterdir()) - before
    steps = [json.loads(path.read_text()) for path in (orca.store / "steps").glob("*/*")]
    assert any(step["snapshots"] for step in steps)
    assert not made
