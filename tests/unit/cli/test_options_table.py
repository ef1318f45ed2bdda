"""docs/options.md says of every flag what became of it: what it says is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orca.cli import build
from orca.cli.flags import foreign
from orca.errors import UsageError

TABLE = Path(__file__).parents[3] / "docs" / "options.md"
STATUS = ("same", "differs", "not meant", "own")


def rows() -> dict[str, tuple[str, str]]:
    """Each flag's status and words."""
    found = {}
    for line in TABLE.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| `-"):
            for name in re.findall(r"`(-[^`]+)`", cells[0]):
                assert name not in found, f"{name} has two rows"
                found[name] = (cells[2], cells[3].strip(" |") if len(cells) > 3 else "")
    return found


def parsed() -> set[str]:
    # pylint: disable=protected-access  # argparse has no other way to ask
    return {name for action in build.make_parser()._actions for name in action.option_strings}


def test_every_flag_is_in_the_table() -> None:
    assert parsed() - set(rows()) == set(), "a new flag of orca build needs a row in docs/options.md"


def test_what_the_table_has_is_there() -> None:
    there = parsed()
    missing = {name for name, (status, _) in rows().items() if status != "not yet" and name not in there}
    assert missing == set()


def test_what_differs_says_how() -> None:
    assert {status for status, _ in rows().values()} <= {*STATUS, "not yet"}
    assert [name for name, (status, words) in rows().items() if status in ("differs", "not meant") and not words] == []


def test_what_is_not_meant_is_refused_by_name() -> None:
    told = {name for name, (status, _) in rows().items() if status == "not meant"}
    assert told == {name for flag in foreign.TABLE for name in flag.names.split()}


@pytest.mark.parametrize("flag", foreign.TABLE, ids=lambda flag: flag.first)
def test_each(flag: foreign.Foreign) -> None:
    """What orca does anyhow is accepted; all else is refused with the reason."""

    def check(*words: str) -> str:
        given = build.make_parser().parse(list(foreign.complete([*words, "context"])))
        assert given.context == "context"
        foreign.check(given)
        return given.context

    for name in flag.names.split():
        for value in flag.accepted if flag.accepted != foreign.ANY else ("true", "anything"):
            check(*([name, value] if flag.value else [f"{name}={value}" if name[:2] == "--" else f"{name}{value}"]))
        if flag.accepted == foreign.ANY:
            check(name, *([] if not flag.value else ["x"]))
            continue
        refused = [name, "odd"] if flag.value else [name]
        if not flag.value and "true" in flag.accepted:
            refused = [f"{name}=false"]
        with pytest.raises(UsageError, match=re.escape(f"orca {flag.why}")) as caught:
            check(*refused)
        assert caught.value.hint


def test_a_switch_takes_no_context() -> None:
    assert list(foreign.complete(["--rm", "--layers", ".", "--", "--rm"])) == [
        "--rm=true", "--layers=true", ".", "--", "--rm",
    ]  # fmt: skip
