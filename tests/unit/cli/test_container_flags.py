"""The options of orca run, ps and the others, as values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orca.cli import ps, run
from orca.cli.flags import containers as flags
from orca.errors import UsageError
from orca.executor.container import Request
from orca.executor.network import Port, free_port, parse_ports
from orca.executor.options import Volume


def request(*words: str, **environ: str) -> Request:
    return flags.read(run.make_parser().parse(words), environ)


def test_a_request_survives_json(tmp_path: Path) -> None:
    words = (
        f"-d -it -e A=1 -p 80:80 -v {tmp_path}:/x:ro -v /anon --tmpfs /t:size=1m --add-host a:1.2.3.4 --dns 1.1.1.1 "
        "--cap-drop ALL --ulimit nofile=10:20 --read-only --memory 64m --stop-signal USR1 --stop-timeout 1.5 "
        "--health-cmd true --health-interval 5s app sh"
    )
    found = request(*words.split())
    assert Request.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert found.volumes == (Volume(str(tmp_path), "/x", "ro"),)
    assert found.anonymous == ("/anon",)
    assert found.tmpfs == (("/t", ("size=1m",)),)
    assert found.health == {"Interval": 5_000_000_000, "Test": ["CMD-SHELL", "true"]}
    assert Request.from_json(json.loads(json.dumps(Request("app").to_json()))) == Request("app")


def test_env_file(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# comment\n\nA=1\nHERE\nAWAY\nB=x=y\n")
    found = request("--env-file", str(tmp_path / "env"), "-e", "A=2", "app", HERE="h")
    assert found.environment == (("A", "2"), ("HERE", "h"), ("B", "x=y"))


def test_mount_words(tmp_path: Path) -> None:
    found = request(
        "--mount", f"type=bind,src={tmp_path},dst=/a,ro", "--mount", "type=volume,target=/b",
        "--mount", "type=tmpfs,destination=/c,tmpfs-size=1m", "app",
    )  # fmt: skip
    assert found.volumes == (Volume(str(tmp_path), "/a", "ro"),)
    assert (found.anonymous, found.tmpfs) == (("/b",), (("/c", ("size=1m",)),))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-v", "data:/data"], "no named volumes"),
        (["-v", "/"], "bad --volume"),
        (["-v", "/a", "--tmpfs", "/a"], "two mounts at /a"),
        (["-v", "/no/such/place:/a"], "No such file"),
        (["--tmpfs", "a"], "bad --tmpfs"),
        (["--tmpfs", "/a:size=1m,uid=0;x"], "not supported"),
        (["--mount", "type=image,target=/a"], "unknown type"),
        (["--mount", "type=bind,source=/etc,target=/a,bind-propagation=shared"], "not supported"),
        (["--mount", "type=volume,source=x,target=/a"], "not supported"),
        (["--env-file", "/no/such/file"], "No such file"),
        (["--stop-signal", "NOPE"], "no signal"),
        (["--stop-timeout", "x"], "no number of seconds"),
        (["--stop-timeout", "-1"], "no number of seconds"),
        (["--health-interval", "x"], "no duration"),
        (["--health-retries", "0"], "no number"),
        (["--no-healthcheck", "--health-cmd", "x"], "no other --health"),
        (["--rm", "--keep"], "opposite"),
        (["--hostname", "a b"], "bad --hostname"),
        (["-P", "--network", "none"], "no meaning"),
        (["--platform", "a b c"], "platform"),
    ],
)
def test_bad_words(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        request(*words, "app")


@pytest.mark.parametrize("name", flags.REFUSED)
def test_what_is_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError, match=f"orca run has no {name}"):
        run.run([f"{name}=x", "app"])


def test_cpus() -> None:
    assert request("--cpus", "1.5", "app").groups == {"quota": "150000"}
    for words in (["--cpus", "0"], ["--cpus", "x"], ["--cpus", "1", "--cpu-quota", "5000"]):
        with pytest.raises(UsageError, match="--cpus"):
            request(*words, "app")


def test_what_stands_behind_the_image_is_not_orcas() -> None:
    flags.refuse(["app", "--privileged"])


def test_labels() -> None:
    assert flags.labels(["a=b=c", "d"]) == {"a": "b=c", "d": ""}
    with pytest.raises(UsageError, match="no name"):
        flags.labels(["=x"])


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("80", [Port("0.0.0.0", 0, 80)]),
        ("127.0.0.1::80/udp", [Port("127.0.0.1", 0, 80, "udp")]),
        (":8080:80", [Port("0.0.0.0", 8080, 80)]),
        ("127.0.0.1:8000-8001:80-81", [Port("127.0.0.1", 8000, 80), Port("127.0.0.1", 8001, 81)]),
        ("90-91", [Port("0.0.0.0", 0, 90), Port("0.0.0.0", 0, 91)]),
    ],
)
def test_ports(text: str, ports: list[Port]) -> None:
    assert list(parse_ports(text)) == ports


@pytest.mark.parametrize(
    "text",
    ["0", "80-79", "1:2-3", "1-2:3", "65536", "80:80/sctp", "a:80:80", "[::1]:80:80", "x", "", "1:2:3:4", "0:80"],
)
def test_bad_ports(text: str) -> None:
    with pytest.raises(UsageError, match=r"bad (port|address)"):
        parse_ports(text)


def test_a_free_port() -> None:
    assert free_port(Port("127.0.0.1", 81, 80)) == Port("127.0.0.1", 81, 80)
    assert free_port(Port("127.0.0.1", 0, 80)).host > 1023
    assert free_port(Port("127.0.0.1", 0, 53, "udp")).protocol == "udp"


def test_templates() -> None:
    values = {"Names": "one\x1b[2J", "ID": "7"}
    assert ps.formatted("{{.ID}}\\t{{ .Names }}!", values) == "7\tone\\x1b[2J!"
    assert ps.formatted("table {{.ID}}", values) == "7"
    for bad in ("{{.Nope}}", "{{range .}}", "{{json .}}"):
        with pytest.raises(UsageError, match="--format"):
            ps.formatted(bad, values)
