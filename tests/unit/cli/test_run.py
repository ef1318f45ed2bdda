"""orca run: what its command line means, and what the image's config adds."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from orca.cli import run
from orca.cli.flags import containers as flags
from orca.errors import ImageError, OrcaError, UsageError
from orca.executor import container, stopping
from orca.executor.bundle import Container
from orca.executor.container import Request
from orca.executor.network import Port, parse_port
from orca.oci.image import ImageConfig


def request(*words: str, **environ: str) -> Request:
    return flags.read(run.make_parser().parse(words), environ)


def test_everything_behind_the_image_is_the_command() -> None:
    found = request("-e", "A=1", "app", "sh", "-c", "x", "--", "-p", "80", "--help")
    assert found.image == "app"
    assert found.command == ("sh", "-c", "x", "--", "-p", "80", "--help")
    assert found.environment == (("A", "1"),)
    assert found.ports == ()


def test_options() -> None:
    words = "-p 8080:80 -p 127.0.0.1:53:53/udp -w /srv -u app:app --entrypoint id --name box --rm -i app".split()
    assert request(*words) == Request(
        "app", (), "id", (), "/srv", "app:app", "default",
        (Port("0.0.0.0", 8080, 80), Port("127.0.0.1", 53, 53, "udp")), "box", groups={},
    )  # fmt: skip


def test_variables_from_here() -> None:
    found = request("-e", "HERE", "-e", "AWAY", "-e", "B=x=y", "-e", "C=", "app", HERE="h")
    assert found.environment == (("HERE", "h"), ("B", "x=y"), ("C", ""))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-p", "x", "app"], "bad port 'x'"),
        (["-e", "=x", "app"], "has no name"),
        (["-w", "srv", "app"], "not absolute"),
        (["--name", "../x", "app"], "bad --name"),
        (["--network", "host", "-p", "1:2", "app"], "no meaning"),
        (["--network", "bridge", "app"], "invalid choice"),
        ([], "required"),
        (["--nonsense", "app"], "no option --nonsense"),
    ],
)
def test_bad_words(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        request(*words)


@pytest.mark.parametrize("text", ["0:80", "80:0", "65536:80", "80:80/sctp", "::1:80:80", "[::1]:80:80", "a:80:80", "x"])
def test_bad_ports(text: str) -> None:
    with pytest.raises(UsageError, match=r"bad (port|address)"):
        parse_port(text)


def test_port_address_is_everywhere_by_default() -> None:
    assert parse_port("8080:80/tcp") == parse_port(":8080:80") == Port("0.0.0.0", 8080, 80)


CONFIG = ImageConfig(
    env=(("PATH", "/bin"), ("A", "image")),
    entrypoint=("/entry", "-x"),
    cmd=("serve",),
    working_dir="/srv",
    user="app",
)


def described(**fields: object) -> Container:
    return container.describe(Request("app", **fields), CONFIG)  # type: ignore[arg-type]


def test_the_image_decides() -> None:
    found = described()
    assert (found.argv, found.directory, found.user) == (("/entry", "-x", "serve"), "/srv", "app")
    assert found.environment == {"PATH": "/bin", "HOSTNAME": "orca", "A": "image"}


def test_the_caller_decides() -> None:
    found = described(command=("test",), environment=(("A", "mine"),), directory="/w", user="0", hostname="box")
    assert (found.argv, found.directory, found.user) == (("/entry", "-x", "test"), "/w", "0")
    assert found.environment["A"] == "mine"
    assert found.hostname == found.environment["HOSTNAME"] == "box"


def test_another_entry_point_drops_cmd() -> None:
    assert described(entrypoint="id").argv == ("id",)
    assert described(entrypoint="id", command=("-u",)).argv == ("id", "-u")
    assert described(entrypoint="", command=("ls",)).argv == ("ls",)


def test_nothing_to_run() -> None:
    with pytest.raises(UsageError, match="neither ENTRYPOINT nor CMD"):
        container.describe(Request("app"), ImageConfig())


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (None, 15), ("SIGQUIT", 3), ("quit", 3), ("9", 9), ("SIGRTMIN", 34), ("SIGRTMIN+3", 37), ("RTMAX-1", 63),
        ("SIGRTMIN+99", 64),
    ],
)  # fmt: skip
def test_stop_signals(text: str | None, number: int) -> None:
    assert stopping.signal_number(text) == number


@pytest.mark.parametrize("text", ["SIGNONE", "0", "65", "RTMIN+x", "-1", "SIGRTMIN+1000"])
def test_bad_stop_signals(text: str) -> None:
    with pytest.raises(ImageError, match="unknown StopSignal"):
        stopping.signal_number(text)


def test_listens() -> None:
    kept = signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    try:
        assert not stopping.listens(os.getpid(), signal.SIGUSR2)
        signal.signal(signal.SIGUSR2, lambda *_: None)
        assert stopping.listens(os.getpid(), signal.SIGUSR2)
    finally:
        signal.signal(signal.SIGUSR2, kept)
    assert stopping.listens(2**22 + 1, signal.SIGTERM)  # nobody knows: it gets its chance


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tool").write_text("#!")
    (tmp_path / "bin" / "tool").chmod(0o755)
    (tmp_path / "bin" / "text").write_text("x")
    (tmp_path / "bin" / "link").symlink_to("/bin/tool")
    (tmp_path / "bin" / "out").symlink_to("/etc/passwd")
    return tmp_path


@pytest.mark.parametrize("name", ["tool", "/bin/tool", "link", "./tool", "../bin/tool"])
def test_programs_that_are_there(root: Path, name: str) -> None:
    container.check_program(Container((name,), {"PATH": "/none:/bin"}, "/bin", ""), root)


@pytest.mark.parametrize(
    ("name", "code"), [("nope", 127), ("text", 126), ("/bin", 126), ("./nope", 127), ("/bin/out", 127), ("out", 127)]
)
def test_programs_that_are_not(root: Path, name: str, code: int) -> None:
    with pytest.raises(OrcaError, match=r"not found|cannot be executed") as caught:
        container.check_program(Container((name,), {"PATH": "/bin"}, "/bin", ""), root)
    assert caught.value.exit_code == code
