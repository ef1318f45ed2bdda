"""What is seen while it builds: lines, JSON, a live screen on a terminal, every call explained."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import shlex
import struct
import termios
import time
from pathlib import Path

import pytest
from support.kitchen import BASE, Kitchen, parse_events
from support.proc import die_with_parent

TEXT = f"FROM {BASE}\nENV A=1\nRUN echo one; echo two >&2\nCOPY Dockerfile /d\n"
CONTROL = re.compile(r"\x1b")


def on_a_terminal(kitchen: Kitchen, text: str, *options: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Build with all three streams on a terminal of 24 lines and 80 columns; the exit code and what was written."""
    import subprocess

    context = kitchen.context(text)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = kitchen.orca.environment(None, {"TERM": "xterm-256color", **(env or {})})
    process = subprocess.Popen(
        kitchen.orca.command("build", *options, str(context)),
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment, preexec_fn=die_with_parent,
    )  # fmt: skip
    os.close(theirs)
    said, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([ours], [], [], 0.2)[0]:
            continue
        try:
            data = os.read(ours, 65536)
        except OSError:
            break
        if not data:
            break
        said += data
    os.close(ours)
    return process.wait(timeout=10), said.decode(errors="replace")


def plain(text: str) -> str:
    """Without the sequences that drive a terminal."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "")


def test_plain(kitchen: Kitchen) -> None:
    built = kitchen.build(TEXT, "--progress=plain", "--no-cache", "-t", "screen")
    lines = built.stderr.splitlines()
    assert lines[0].startswith("Building localhost/screen:latest from")
    for line in (f"[1/4] FROM {BASE}", "[2/4] ENV A=1", "[3/4] RUN echo one; echo two >&2", "[3/4] one", "[3/4] two"):
        assert line in lines
    assert [bool(re.fullmatch(r"\[4/4\] done in \d+(\.\d+)?m?s", line)) for line in lines].count(True) == 1
    assert built.digest in built.stderr
    assert "2 layers" in built.stderr
    assert "1 of 4 steps cached" in built.stderr
    assert not CONTROL.search(built.stderr)


def test_json(kitchen: Kitchen) -> None:
    built = kitchen.build(TEXT, "--progress=json", "--no-cache")
    events = parse_events(built.stderr)
    assert [e["event"] for e in (events[0], events[-1])] == ["build-started", "build-finished"]
    assert events[-1]["digest"] == built.digest
    assert events[-1]["config_digest"] == built.manifest["config"]["digest"]
    assert events[-1]["layers"] == len(built.layers)
    assert events[-1]["size"] == sum(layer["size"] for layer in built.manifest["layers"])
    assert [(e["text"], e["stream"]) for e in events if e["event"] == "output"] == [
        ("one", "stdout"),
        ("two", "stderr"),
    ] or [(e["text"], e["stream"]) for e in events if e["event"] == "output"] == [("two", "stderr"), ("one", "stdout")]
    started = {e["call"]: e["argv"][0] for e in events if e["event"] == "tool-started"}
    finished = {e["call"]: e["exit_code"] for e in events if e["event"] == "tool-finished"}
    assert set(finished) <= set(started)
    assert set(finished.values()) == {0}
    assert {os.path.basename(tool) for tool in started.values()} >= {"umoci", "runc", "tar", "slirp4netns"}
    assert all(event["time"].endswith("Z") for event in events)


def test_quiet(kitchen: Kitchen) -> None:
    for option in ("-q", "--progress=quiet"):
        assert kitchen.build(TEXT, option, "--no-cache").stderr == ""


def test_buildkits_variable(kitchen: Kitchen) -> None:
    assert kitchen.build(TEXT, env={"BUILDKIT_PROGRESS": "quiet"}).stderr == ""
    assert parse_events(kitchen.build(TEXT, env={"BUILDKIT_PROGRESS": "rawjson"}).stderr)
    assert "[1/4]" in kitchen.build(TEXT, "--progress=plain", env={"BUILDKIT_PROGRESS": "quiet"}).stderr


def test_record_of_a_build(kitchen: Kitchen) -> None:
    events = parse_events(kitchen.build(TEXT, "--progress=json", "--no-cache").stderr)
    place = kitchen.orca.store / "builds" / events[0]["build"]
    recorded = [json.loads(line)["event"] for line in (place / "events.jsonl").read_text().splitlines()]
    assert recorded == [e["event"] for e in events if e["event"] != "output"]
    assert sorted((place / "step-3.log").read_text().split()) == ["one", "two"]


def test_explain(kitchen: Kitchen) -> None:
    said = kitchen.build(TEXT, "--explain", "--no-cache").stderr
    events = parse_events(kitchen.build(TEXT, "--progress=json", "--no-cache").stderr)
    tools = [os.path.basename(e["argv"][0]) for e in events if e["event"] == "tool-started"]
    # Each call as one would type it: a prompt, and words that a shell reads back.
    typed = re.findall(r"^\$ ((?:.*\\\n)*.*)$", said, re.MULTILINE)
    commands = [shlex.split(text.replace("\\\n", " ")) for text in typed]
    # (Config changes that wait for their commit are written by one call, so how many there are is chance.)
    assert {os.path.basename(words[0]) for words in commands} == set(tools)
    config = next(words for words in commands if "--config.env=A=1" in words)
    assert config[1:3] == ["config", "--image"]
    assert "--history.created_by=ENV A=1" in config
    assert any("# orca" in word for words in commands for word in words)
    # Before each instruction a sentence; each call has its reason.
    assert "Only the image config changes" in said
    assert "runc runs the command as root" in said.replace("\n  ", " ")
    assert said.count("\n# [") >= len(commands)


def test_explained_words_run(kitchen: Kitchen, tmp_path: Path) -> None:
    """The call that changed the config, done again by hand on a copy of the store, does the same."""
    from support.proc import run

    said = kitchen.build(f'FROM {BASE}\nENV ODD="a b\'c"\n', "--explain", "--no-cache").stderr
    text = next(t for t in re.findall(r"^\$ ((?:.*\\\n)*.*)$", said, re.MULTILINE) if "config.env" in t)
    layout = tmp_path / "layout"
    run("skopeo", "copy", "-q", f"oci:{kitchen.orca.store / 'images'}:{BASE}", f"oci:{layout}:step")
    again = re.sub(r"--image\s+(\\\n\s*)?\S+:step", f"--image {layout}:step", text)
    run("sh", "-c", again)
    found = json.loads(run("skopeo", "inspect", "--config", "--raw", f"oci:{layout}:step").stdout)
    assert "ODD=a b'c" in found["config"]["Env"]


def test_live_screen(kitchen: Kitchen) -> None:
    code, said = on_a_terminal(kitchen, f"{TEXT}RUN for i in 1 2 3; do echo line $i; sleep 0.2; done\n", "--no-cache")
    assert code == 0, said
    assert CONTROL.search(said)
    text = plain(said)
    assert "RUN echo one" in text
    assert re.search(r"^sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    assert "Traceback" not in text
    # The cursor is there again at the end.
    assert said.rfind("\x1b[?25h") >= said.rfind("\x1b[?25l")


def test_failure_on_a_terminal(kitchen: Kitchen) -> None:
    code, said = on_a_terminal(kitchen, f"FROM {BASE}\nRUN printf 'evil \\033]0;t\\007\\n'; exit 9\n", "--no-cache")
    assert code == 9
    text = plain(said)
    assert "error: RUN ended with exit code 9" in text
    assert "2 │ RUN printf" in text
    assert "^^^" in text
    assert "\x1b]0" not in said
    assert "\x07" not in said
    assert said.rfind("\x1b[?25h") >= said.rfind("\x1b[?25l")


@pytest.mark.parametrize(
    ("options", "env", "color"),
    [
        ((), {"NO_COLOR": "1"}, False),
        (("--progress=plain",), {}, True),
        (("--progress=plain",), {"NO_COLOR": "1"}, False),
        (("--explain",), {"NO_COLOR": "1"}, False),
        ((), {"TERM": "dumb"}, False),
    ],
)
def test_color(kitchen: Kitchen, options: tuple[str, ...], env: dict[str, str], color: bool) -> None:
    code, said = on_a_terminal(kitchen, TEXT, "--no-cache", *options, env=env)
    assert code == 0, said
    assert bool(re.search(r"\x1b\[[0-9;]*[1-9][0-9;]*m", said)) == color, said
    if env.get("TERM") == "dumb":
        assert not CONTROL.search(said)


def test_progress_tty_without_a_terminal_is_plain(kitchen: Kitchen) -> None:
    said = kitchen.build(TEXT, "--progress=tty").stderr
    assert "[1/4]" in said
    assert not CONTROL.search(said)


def test_warnings(kitchen: Kitchen) -> None:
    said = kitchen.build(f"FROM {BASE} AS a\nFROM {BASE} AS A\nCOPY no* /x/\n", "--build-arg=UNUSED=1").stderr
    assert "warning: DuplicateStageName" in said
    assert "warning: --build-arg UNUSED is not used" in said
    assert "warning: no* matches nothing" in said


def test_failure_ends_with_the_hint(kitchen: Kitchen) -> None:
    said = kitchen.fails(f"FROM {BASE}\nCOPY Dokerfile /\n")
    assert said.rstrip().splitlines()[-1] == "hint: did you mean Dockerfile?"
