"""What the command line says to those who mistype it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orca.cli import builds, cache, context, main, manifest, report, run
from orca.cli.flags import annotations, outputs
from orca.errors import UsageError
from orca.ui import account


def test_a_mistyped_option_is_told_alone() -> None:
    with pytest.raises(UsageError) as told:
        context.make_parser().parse(["ls", "--wy", "."])
    assert (told.value.message, told.value.hint) == (
        "no option --wy",
        "did you mean --why? orca context --help lists them",
    )
    with pytest.raises(UsageError) as told:
        context.make_parser().parse(["ls", "--nothing-like-it=x", "."])
    assert (told.value.message, told.value.hint) == ("no option --nothing-like-it", "orca context --help lists them")
    with pytest.raises(UsageError, match="unrecognized arguments: more"):
        cache.make_parser().parse(["ls", "more"])


def test_only_what_is_missing_is_asked_for() -> None:
    with pytest.raises(UsageError) as told:
        context.make_parser().parse(["ls"])
    assert told.value.message == "the following arguments are required: CONTEXT"
    assert told.value.hint == "orca context ls [options] CONTEXT [PATH...]; orca context --help has examples"
    assert context.make_parser().parse(["ls", "."]).paths == []
    with pytest.raises(UsageError, match=r"required: VERB$"):
        manifest.make_parser().parse([])
    with pytest.raises(UsageError, match=r"required: IMAGE$"):
        run.make_parser().parse([])


def test_options_come_after_the_command() -> None:
    assert main.unknown_verb("--debug").message == "no option --debug here"
    assert main.unknown_verb("biuld").hint == "did you mean orca build?"


def test_help_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main._dispatch(["help", "cache"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: orca cache ls|prune")
    with pytest.raises(UsageError, match="no command 'cahce'"):
        main._dispatch(["help", "cahce"])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("type=foo", "bad --output 'type=foo': no type 'foo'"),
        ("dest=x", "bad --output 'dest=x': no type"),
        ("foo:bar", "bad --output 'foo:bar': no such transport"),
    ],
)
def test_outputs(word: str, message: str) -> None:
    with pytest.raises(UsageError) as told:
        outputs.parse(word)
    assert told.value.message == message
    assert told.value.hint is not None
    assert told.value.hint.startswith("write type=oci|")


def test_annotations() -> None:
    with pytest.raises(UsageError) as told:
        annotations.parse(["foo"])
    assert told.value.hint == (
        "write NAME=VALUE or LEVEL:NAME=VALUE; LEVEL is manifest, index, manifest-descriptor, index-descriptor"
    )


def test_builds_fit_the_terminal() -> None:
    row = ("20260101T000000-0000", "1 minute ago", "done", "3", "1", "1.0s", "localhost/" + "n" * 60)
    wide, narrow = builds.render([row], None), builds.render([row], 80)
    assert "n" * 60 in wide
    assert max(map(len, narrow.splitlines())) == 80
    assert narrow.endswith("nn…")
    assert builds.render([], 80).startswith("BUILD ")


def test_a_step_that_fails_before_it_begins() -> None:
    told = account.tell([{"time": 1.0, "event": "step-failed", "step": 4, "seconds": 0.1, "message": "not here"}])
    assert (told.status, told.failed, told.steps) == ("failed", "not here", [])


def test_no_page_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCA_ROOT", str(tmp_path))
    monkeypatch.setattr(report.records, "find", lambda store, what: account.Account())
    monkeypatch.setattr(report.Terminal, "isatty", lambda self: True)
    with pytest.raises(UsageError, match="not written to a terminal"):
        report.run([])
