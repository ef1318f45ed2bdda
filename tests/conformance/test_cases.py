"""Every case of cases/: built with orca, compared with buildah's image and with what the case expects."""

from __future__ import annotations

import difflib
import json
import re
import shutil
from pathlib import Path

import pytest

from conformance import builders, tree
from conformance.builders import Kit, OrcaBuilder, Workplace
from conformance.case import Case, load
from conformance.tree import Flat

# Times before this were preserved: bases and contexts are older, whatever is built is younger.
YOUNG = 1_500_000_000
CASES = load()
# Told only where a case says so: buildah has its own words for the one, and does not know the other.
ON_REQUEST = ("ArgsEscaped", "history", "annotations")


def as_tests(cases: list[Case]) -> list[object]:
    """Each case as whoever tests, and a third of them as an ordinary user too."""
    tests = []
    for case in cases:
        root = [pytest.mark.root] if case.uses_buildah else []
        tests.append(pytest.param(case, "me", id=case.name, marks=root))
        if case.one("user") == "yes":
            tests.append(pytest.param(case, "user", id=f"{case.name}-as-user", marks=[*root, pytest.mark.user]))
    return tests


@pytest.fixture
def orca(request: pytest.FixtureRequest, who: str) -> OrcaBuilder:
    builder = request.getfixturevalue(f"orca_{who}")
    assert isinstance(builder, OrcaBuilder)
    return builder


@pytest.mark.parametrize(("case", "who"), as_tests(CASES))
def test_case(case: Case, who: str, orca: OrcaBuilder, kit: Kit, request: pytest.FixtureRequest) -> None:
    place = builders.write(case, kit, builders.scratch(kit, case.name), orca.user)
    said = orca.build(place)
    theirs = request.getfixturevalue("buildah").build(place) if case.uses_buildah else None
    for text in case.all("says"):
        assert place.fill(text) in said.stderr, str(said)
    if case.one("not-yet") and said.returncode:
        pytest.xfail(case.one("not-yet"))
    if case.all("fails"):
        check_failure(place, said.returncode, said.stderr, theirs)
    else:
        assert said.returncode == 0, str(said)
        ours = orca.image(place, said.out)
        if theirs is not None:
            assert isinstance(theirs, Flat), theirs
            check_against_buildah(case, theirs, ours, kit.base(case.one("base", "base")))
        if case.expect is not None:
            check_expected(place, kit.base(case.one("base", "base")), ours)
    shutil.rmtree(place.top)


def test_every_row_has_a_case() -> None:
    """README.md's table of the language and its cases name the same rows."""
    table = (Path(__file__).parent / "README.md").read_text("utf-8")
    rows = set(re.findall(r"^\| `([a-z]+\.[a-z-]+)` \|", table, re.MULTILINE))
    covered = {row for case in CASES for line in case.all("row") for row in line.split()}
    assert rows == covered
    assert len(CASES) >= 150


def check_failure(place: Workplace, code: int, stderr: str, theirs: Flat | str | None) -> None:
    """`fails: CODE TEXT`: the exit code, and what the message says; buildah fails as well."""
    for line in place.case.all("fails"):
        wanted, _, text = line.partition(" ")
        assert (code, text in stderr) == (int(wanted), True), f"exit {code}, not {wanted}, or not {text!r}:\n{stderr}"
    assert "Traceback" not in stderr
    assert "bug in orca" not in stderr
    built = isinstance(theirs, Flat)
    assert not built, "buildah built it"


def check_against_buildah(case: Case, theirs: Flat, ours: Flat, base: Flat) -> None:
    """No difference but those that the case lists with their reasons, and every one of these."""
    theirs = builders.without_leftovers(theirs, ours, base)
    found = tree.differences(theirs, ours, young=YOUNG)
    found.pop("ArgsEscaped", None)
    listed = {line.split()[0] for line in case.all("differs")}
    wrong = [f"{what}: {how}" for what, how in found.items() if what not in listed]
    stale = [f"{what}: listed as different from buildah's, but is the same" for what in sorted(listed - set(found))]
    assert not wrong + stale, "buildah's != orca's\n" + "\n".join(wrong + stale)


_TIME = re.compile(r"^(?P<path>/\S*|\"/.*?\") (?P<rest>.*?) @(?P<time>\d+)$")


def normal(line: str) -> str:
    """A line of `expect` as `tree.change` writes it: one blank after the first word, JSON in its normal form."""
    line = re.sub(r'^("[^"]*"|\S+)\s+', r"\1 ", line)
    what, _, value = line.partition(" ")
    if what.startswith(("/", '"')) or value == "gone":
        return line
    return f"{what} {json.dumps(json.loads(value), ensure_ascii=False, sort_keys=True)}"


def topic(line: str) -> str:
    """The first word of a line of `expect`, without what comes after a point: `annotations` of `annotations.a "b"`."""
    return line.split(" ", 1)[0].split(".")[0]


def check_expected(place: Workplace, base: Flat, ours: Flat) -> None:
    """The change of the base, line for line; times, history, ArgsEscaped and annotations only where they are told."""
    assert place.case.expect is not None
    lines = [normal(line) for line in place.fill(place.case.expect).splitlines() if line]
    told = {topic(line) for line in lines}
    wanted = []
    for line in lines:
        timed = _TIME.match(line)
        if timed:
            path = timed["path"].strip('"')
            assert path in ours.tree, f"{path} is not there"
            assert ours.tree[path].mtime == int(timed["time"]), f"time of {path}"
            line = f"{timed['path']} {timed['rest']}"
        wanted.append(line)
    found = [line for line in tree.change(base, ours) if topic(line) not in ON_REQUEST or topic(line) in told]
    wrong = [line for line in difflib.ndiff(sorted(wanted), sorted(found)) if line[0] in "-+"]
    assert not wrong, "- expected, + built\n" + "\n".join(wrong)
