"""orca-netns, as root and as an ordinary user: networks, names, ports, signals, exit codes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from support.leftovers import Leftovers
from support.orca import CHECKOUT
from support.proc import Result, free_port, start
from support.users import User, myself

pytestmark = pytest.mark.network


class Tool:
    """`netns(*argv)` runs bin/orca-netns as somebody."""

    def __init__(self, user: User, program: Path, top: Path) -> None:
        self.user = user
        self.program = program
        self.log = top / "log"
        self.top = top

    def __call__(self, *argv: str, check: bool = True, stdin: str = "", env: dict[str, str] | None = None) -> Result:
        return self.user.run(self.program, *argv, check=check, stdin=stdin, cwd=self.top, env=env)

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        environment = self.user.environment()
        return start([str(self.program), *argv], log=self.log, env=environment, cwd=self.top, ids=self.user.ids)

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 20
        while text not in (self.log.read_text() if self.log.exists() else ""):
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)


@pytest.fixture(params=["me", pytest.param("user", marks=pytest.mark.user)])
def netns(request: pytest.FixtureRequest, open_path: Path) -> Tool:
    if request.param == "me":
        return Tool(myself(), CHECKOUT / "bin" / "orca-netns", open_path)
    user, installed = request.getfixturevalue("ordinary_user"), request.getfixturevalue("installed_orca")
    return Tool(user, installed / "bin" / "orca-netns", open_path)


def test_a_network_of_its_own(netns: Tool, leftovers: Leftovers) -> None:
    out = netns("--", "sh", "-c", "cat /proc/net/dev /etc/resolv.conf; id -u; pwd").stdout
    assert "tap0:" in out
    assert "nameserver 10.0.2.3" in out
    assert out.splitlines()[-2:] == ["0", str(netns.top)]
    assert "tap0" not in Path("/proc/net/dev").read_text()
    assert "10.0.2.3" not in Path("/etc/resolv.conf").read_text()
    leftovers.assert_none()


def test_no_network(netns: Tool) -> None:
    lines = netns("--network", "none", "--", "cat", "/proc/net/dev").stdout.splitlines()[2:]
    assert [line.split(":")[0].strip() for line in lines] == ["lo"]


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["sh", "-c", "exit 9"], 9, ""),
        (["sh", "-c", "kill -9 $$"], 137, ""),
        (["no-such-program"], 127, "no-such-program: not found"),
        (["/etc/passwd"], 126, "Permission denied"),
        ([], 2, "which command"),
    ],
)
def test_exit_codes(netns: Tool, leftovers: Leftovers, command: list[str], code: int, message: str) -> None:
    done = netns("--", *command, check=False)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    leftovers.assert_none()


def test_streams_and_environment_are_the_callers(netns: Tool) -> None:
    done = netns("sh", "-c", "cat; echo $MINE; echo err >&2", stdin="in\n", env={"MINE": "x", "PYTHONPATH": "/kept"})
    assert (done.stdout, done.stderr) == ("in\nx\n", "err\n")
    seen = dict(line.split("=", 1) for line in netns("env", env={"PYTHONPATH": "/kept"}).stdout.splitlines())
    assert seen["PYTHONPATH"] == "/kept"


def test_mounts_are_its_own(netns: Tool, open_path: Path) -> None:
    place = netns.user.own_directory(open_path / "place")
    script = f"mount -t tmpfs none {place} && touch {place}/x && ls {place} && ls /sys | grep -c kernel"
    assert netns("--", "sh", "-c", script).stdout == "x\n1\n"
    assert list(place.iterdir()) == []


def test_a_published_port(netns: Tool, open_path: Path, leftovers: Leftovers) -> None:
    (open_path / "index.html").write_text("the page\n")
    port = free_port()
    process = netns.start("-p", f"127.0.0.1:{port}:80", "--", "busybox", "httpd", "-f", "-p", "80", "-h", ".")
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 20
    while True:
        try:
            with direct.open(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                assert answer.read() == b"the page\n"
                break
        except OSError:
            assert time.monotonic() < deadline, netns.log.read_text()
            time.sleep(0.05)
    process.terminate()
    assert process.wait(timeout=5) == 143
    leftovers.assert_none()


def test_a_port_in_use(netns: Tool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = netns("-p", f"127.0.0.1:{taken.getsockname()[1]}:80", "--", "true", check=False)
    assert done.returncode == 125
    assert "already in use" in done.stderr


@pytest.fixture
def loopback() -> Iterator[int]:
    """The port of a web server on the host's loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"the host\n")

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_hosts_loopback_is_closed_unless_asked_for(netns: Tool, loopback: int) -> None:
    program = (
        "import urllib.request as r\n"
        f"url = 'http://10.0.2.2:{loopback}/'\n"
        "print(r.build_opener(r.ProxyHandler({})).open(url, timeout=3).read().decode(), end='')"
    )
    fetch = ["/usr/bin/python3", "-c", program]
    assert netns("--", *fetch, check=False).returncode == 1
    assert netns("--allow-host-loopback", "--", *fetch).stdout == "the host\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_passed_on(netns: Tool, leftovers: Leftovers, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    program = f"trap 'echo got; exit 5' {name}; echo ready; while :; do sleep 0.05; done"
    process = netns.start("--", "bash", "-c", program)
    netns.wait_for("ready")
    process.send_signal(number)
    assert process.wait(timeout=10) == 5
    leftovers.assert_none()


def test_killed(netns: Tool, leftovers: Leftovers) -> None:
    process = netns.start("--", "sh", "-c", "echo ready; exec sleep 1000")
    netns.wait_for("ready")
    process.kill()
    process.wait()
    leftovers.assert_none()


INTERACTIVE = r"""
import os, pty, sys, time
pid, fd = pty.fork()
if pid == 0:
    script = "trap 'echo caught; exit 4' INT; echo ready; while :; do sleep 0.05; done"
    os.execv(sys.argv[1], [sys.argv[1], "--", "sh", "-c", script])
said = b""
while b"ready" not in said:
    said += os.read(fd, 1000)
os.write(fd, b"\x03")
try:
    while True:
        said += os.read(fd, 1000)
except OSError:
    pass
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status), said.count(b"caught"))
"""


def test_a_terminals_interrupt_arrives_once(netns: Tool) -> None:
    done = netns.user.run("/usr/bin/python3", "-c", INTERACTIVE, netns.program, timeout=30)
    assert done.out == "4 1"


def test_runc_takes_the_network_around_it(netns: Tool, open_path: Path) -> None:
    """A bundle without a network namespace of its own."""
    bundle = netns.user.own_directory(open_path / "bundle")
    netns.user.run("sh", "-c", f"mkdir -p {bundle}/rootfs/bin && cp /bin/busybox {bundle}/rootfs/bin/busybox")
    netns.user.run("runc", "spec", cwd=bundle)
    config = json.loads((bundle / "config.json").read_text())
    config["process"].update(terminal=False, args=["/bin/busybox", "cat", "/proc/net/dev"])
    config["linux"]["namespaces"] = [space for space in config["linux"]["namespaces"] if space["type"] != "network"]
    config["linux"].pop("resources", None)
    config["mounts"] = [mount for mount in config["mounts"] if mount["type"] != "cgroup"]
    config["mounts"] = [mount for mount in config["mounts"] if mount["destination"] != "/sys"]
    (bundle / "config.json").write_text(json.dumps(config))
    state = netns.user.own_directory(open_path / "state")
    rootless = ["--rootless=true"] if netns.user.ids or os.getuid() else []
    name = f"orca-test-{os.getpid()}"
    done = netns("--", "runc", *rootless, "--root", str(state), "run", "--bundle", str(bundle), name)
    assert "tap0:" in done.stdout


def test_help() -> None:
    done = myself().run(CHECKOUT / "bin" / "orca-netns", "--help")
    assert "orca-netns -p 8080:80" in done.stdout
    assert sys.version_info >= (3, 11)
