from __future__ import annotations

from orca.errors import DockerfileError, Interrupted, Location, OrcaError, RunFailed, ToolError
from orca.events import Warned
from orca.ui import render_error, render_warning
from orca.ui.escape import strip_controls

LOCATION = Location("Dockerfile", 9, 10, 5, ("RUN apt-get update && \\", "\tapt-get install nginxx"))


def lines(error: Exception, width: int = 80) -> list[str]:
    return render_error(error, color=False, width=width).split("\n")  # type: ignore[arg-type]


def test_dockerfile_error_underlines_the_word() -> None:
    location = Location("Dockerfile", 12, 12, 0, ("  RUNN apt-get",))
    assert lines(DockerfileError("unknown instruction RUNN", hint="did you mean RUN?", location=location)) == [
        "error: unknown instruction RUNN",
        "  Dockerfile:12",
        "   12 │   RUNN apt-get",
        "      │   ^^^^",
        "hint: did you mean RUN?",
    ]


def test_run_failed_tells_output_code_and_log() -> None:
    error = RunFailed("RUN failed", returncode=7, tail=("a", "\x1b[31mb\x1b[0m"), log="/l/2.log", location=LOCATION)
    assert lines(error) == [
        "error: RUN failed",
        "  Dockerfile:9",
        "    9 │ RUN apt-get update && \\",
        "      │     ^^^",
        "   10 │     apt-get install nginxx",
        "  its last output:",
        "  │ a",
        "  │ b",
        "  exit code: 7",
        "  full log: /l/2.log",
    ]


def test_tool_error_tells_the_command_and_its_last_words() -> None:
    stderr = "".join(f"line {number}\n" for number in range(20)) + "\n"
    argv = ("skopeo", "copy", "docker://a b", "oci:x")
    assert lines(ToolError("skopeo failed", argv=argv, returncode=1, stderr=stderr)) == [
        "error: skopeo failed",
        "  $ skopeo copy 'docker://a b' oci:x",
        *(f"  │ line {number}" for number in range(12, 20)),
        "  exit code: 1",
    ]


def test_caret_stands_under_a_wide_or_far_or_missing_column() -> None:
    wide = lines(DockerfileError("x", location=Location("D", 1, 1, 6, ("ENV 漢=b",))))
    assert wide[2:] == ["   1 │ ENV 漢=b", "     │       ^^"]
    behind = lines(DockerfileError("x", location=Location("D", 1, 1, 4, ("ENV",))))
    assert behind[2:] == ["   1 │ ENV", "     │    ^"]
    far = lines(DockerfileError("x", location=Location("D", 1, 1, 302, ("a" * 300 + " here",))), width=40)
    source, caret = far[2:]
    assert source[caret.index("^") :].startswith("here") and len(source) <= 40


def test_many_lines_are_cut() -> None:
    location = Location("Dockerfile", 1, 30, 0, tuple(f"echo {number}" for number in range(30)))
    shown = lines(DockerfileError("x", location=location))
    assert shown[-1] == "     │ … 22 more lines"
    assert len(shown) == 2 + 8 + 1 + 1


def test_only_a_place_is_known() -> None:
    assert lines(DockerfileError("x", location=Location("Dockerfile", 3, 3))) == ["error: x", "  Dockerfile:3"]


def test_nothing_from_outside_reaches_the_terminal() -> None:
    evil = "\x1b[2J\u202e\x9b"
    error = ToolError(
        evil, argv=(evil,), returncode=1, stderr=evil, hint=evil, location=Location(evil, 1, 1, 1, (evil,))
    )
    text = render_error(error, color=False, width=60)
    assert all(strip_controls(line) == line for line in text.split("\n"))


def test_width_is_kept() -> None:
    error = RunFailed("words " * 30, returncode=1, tail=("漢" * 90,), hint="more words " * 20, location=LOCATION)
    text = render_error(error, color=False, width=40)
    assert max(len(line) for line in text.split("\n")) <= 40


def test_colour_changes_nothing_but_colour() -> None:
    error = RunFailed("words", returncode=1, tail=("a",), hint="more", location=LOCATION)
    coloured = render_error(error, color=True, width=60)
    assert "\x1b[1;31m" in coloured
    assert [strip_controls(line) for line in coloured.split("\n")] == lines(error, 60)


def test_interrupted_is_no_error() -> None:
    assert lines(Interrupted("interrupted")) == ["interrupted"]


def test_warning() -> None:
    event = Warned("JSON is better", "write []", Location("Dockerfile", 5, 5))
    text = render_warning(event, color=False, width=80)
    assert text == "warning: JSON is better (Dockerfile:5)\n   hint: write []"


def test_a_long_value_is_not_repeated_whole() -> None:
    path = "/" + "p" * 150
    for value in ("v" * 100_000, "two words " * 10_000, "'" * 5000):
        said = render_error(OrcaError(f"bad --name {value!r} in docker's {path}", hint=f"not {value!r}"), color=False,
            width=80)  # fmt: skip
        assert len(" ".join(said.split())) < 1000 and path in said and "…" in said
    assert "a" * 200 in render_error(OrcaError("a" * 200), color=False, width=80)
