"""The views without a moving screen, driven by a recorded build."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest

from orca import events
from orca.ui import open_view
from orca.ui.explain import ExplainView
from orca.ui.jsonview import json_line
from orca.ui.plain import PROGRESS_EVERY, PlainView
from orca.ui.progress import LiveView
from orca.ui.terminal import Terminal

DIGEST = "sha256:" + "cd" * 32

PLAIN = f"""\
Building localhost/app:latest from Dockerfile: 3 steps
[1/3] FROM debian:12
[1/3] done in 1.3s
[2/3] RUN echo hello && exit 0
[2/3] hello
[2/3] \x1b[31mred\x1b[0m
[2/3] done in 3.5s
[3/3] ENV A=b
[3/3] CACHED
warning: JSON is better for CMD (Dockerfile:5)
   hint: write CMD ["x"]
localhost/app:latest
  {DIGEST}
  60.3 MB in 2 layers · 5.1s · 1 of 3 steps cached
"""

EXPLAIN = f"""\
Building localhost/app:latest from Dockerfile: 3 steps

[1/3] FROM debian:12
  Everything is built on top of the image debian:12.
# [1/3] pull it
$ /usr/bin/skopeo copy docker://debian:12 oci:images:debian
[1/3] done in 1.3s

[2/3] RUN echo hello && exit 0
  Runs the command in a container.
# [2/3] stack the layers (by system call)
· mount -t overlay overlay /root
# [2/3] run it
$ runc run --bundle /b step2
[2/3] hello
[2/3] \x1b[31mred\x1b[0m
[2/3] done in 3.5s

[3/3] ENV A=b
# [2/3] store the layer
$ umoci raw add-layer --image x:y /l.tar
[3/3] CACHED
# [2/3] layer sha256:abababababab… is stored: 12.3 MB, 500ms
warning: JSON is better for CMD (Dockerfile:5)
   hint: write CMD ["x"]
localhost/app:latest
  {DIGEST}
  60.3 MB in 2 layers · 5.1s · 1 of 3 steps cached
"""


def shown(mode: str, played: list[events.Event], stream: io.StringIO, *, explain: bool = False, **environ: str) -> str:
    with open_view(mode, explain=explain, stream=stream, environ=environ) as emit:  # type: ignore[arg-type]
        for event in played:
            emit(event)
    return stream.getvalue()


def test_plain(recorded: list[events.Event]) -> None:
    assert shown("plain", recorded, io.StringIO()) == PLAIN


def test_explain(recorded: list[events.Event]) -> None:
    assert shown("plain", recorded, io.StringIO(), explain=True) == EXPLAIN


def test_json(recorded: list[events.Event]) -> None:
    lines = [json.loads(line) for line in shown("json", recorded, io.StringIO()).splitlines()]
    assert [line["event"] for line in lines] == [event.to_json()["event"] for event in recorded]
    assert lines[0].keys() == {"time", "event", "build", "dockerfile", "steps", "tags", "parts"}


def test_json_time() -> None:
    line = json_line(events.Output(1, "\udcff\x1b"), 1_000_000_000.9876)
    assert line.startswith('{"time": "2001-09-09T01:46:40.987Z", "event": "output"')
    assert line.isascii() and line.isprintable()


def test_quiet(recorded: list[events.Event]) -> None:
    assert shown("quiet", recorded, io.StringIO(), explain=True) == ""


def test_explain_tells_a_tool_that_failed() -> None:
    stream = io.StringIO()
    view = ExplainView(Terminal(stream, {}))
    view(events.ToolStarted(None, 1, ("/usr/bin/runc", "run"), "run it"))
    view(events.ToolFinished(None, 1, 0.5, 7))
    assert stream.getvalue().splitlines()[-1] == "# runc ended with code 7 after 500ms"


@pytest.mark.parametrize(
    ("mode", "variable", "expected"),
    [
        ("auto", "", ""),
        ("auto", "plain", PLAIN),
        ("auto", "quiet", ""),
        ("plain", "quiet", PLAIN),
        ("auto", "nonsense", PLAIN),
        ("tty", "", PLAIN),
    ],
)
def test_choice_without_a_terminal(recorded: list[events.Event], mode: str, variable: str, expected: str) -> None:
    expected = expected or ("" if variable else PLAIN)
    assert shown(mode, recorded, io.StringIO(), BUILDKIT_PROGRESS=variable) == expected


def test_dumb_terminal_gets_lines_without_sequences(recorded: list[events.Event], tty: io.StringIO) -> None:
    assert "\x1b" not in shown("auto", recorded, tty, TERM="dumb")


def test_explain_on_a_terminal_is_lines(recorded: list[events.Event], tty: io.StringIO) -> None:
    text = shown("auto", recorded, tty, explain=True, TERM="xterm", NO_COLOR="1")
    assert text == EXPLAIN.replace("\x1b[31m", "").replace("\x1b[0m", "")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "0"}, False),
        ({"CLICOLOR_FORCE": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_colour_in_a_file_is_wished_for(environ: dict[str, str], expected: bool) -> None:
    assert Terminal(io.StringIO(), environ).color is expected


def test_long_pull_is_told_now_and_then() -> None:
    stream, now = io.StringIO(), [0.0]
    view = PlainView(Terminal(stream, {}), clock=lambda: now[0])
    for tick in range(3):
        now[0] = tick * PROGRESS_EVERY
        view(events.Progress(1, "debian", tick * 1_000_000, 48_000_000))
        view(events.Progress(1, "debian", tick * 1_000_000 + 1, None))
    assert stream.getvalue().splitlines() == ["[1] debian: 1.0 MB of 48.0 MB", "[1] debian: 2.0 MB of 48.0 MB"]


def written(text: str, encoding: str) -> bytes:
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    Terminal(stream, {}).line(text)
    return stream.buffer.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_output_keeps_its_bytes_in_a_file() -> None:
    assert written("\udcff é", "utf-8") == b"\xff \xc3\xa9\n"
    assert written("\ud800", "utf-8") == b"\\ud800\n"


def test_ascii_stream_gets_ascii_drawings() -> None:
    assert written("✔ a · b… é", "ascii") == b"+ a - b~ \\xe9\n"


@pytest.mark.parametrize("mode", ["plain", "json", "tty"])
def test_nobody_reads_any_more(
    recorded: list[events.Event], tty: io.StringIO, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(text: str) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(tty, "write", gone)
    assert shown(mode, recorded, tty, TERM="xterm") == ""


@pytest.mark.parametrize("view", [PlainView, ExplainView, LiveView])
def test_every_event_has_its_place(view: type) -> None:
    table = getattr(view, "handlers", None) or view._handlers  # type: ignore[attr-defined]
    known = {event for event in events.Event.__subclasses__() if event.__module__ == events.__name__}
    assert set(table) == known


def test_imports_stay_small() -> None:
    code = "import orca.events, sys; before = set(sys.modules); import orca.ui; print(*set(sys.modules) - before)"
    new = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name for name in new if not name.startswith("orca")} == set()
