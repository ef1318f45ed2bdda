"""The stage graph."""

from __future__ import annotations

import pytest

from orca.dockerfile import parser
from orca.errors import DockerfileError, UsageError
from orca.oci.platform import Platform
from orca.plan.scope import make_scope, platform_args
from orca.plan.stages import Plan, make_plan, split

HOST = Platform("linux", "amd64")


def plan_of(text: str, target: str | None = None, **given: str) -> Plan:
    source = parser.parse(text)
    global_args, _ = split(source)
    predefined = platform_args(HOST, HOST)
    scope = make_scope(source, global_args, given=given, predefined=predefined, proxies={})
    return make_plan(source, scope, target=target, platform=HOST)


DIAMOND = """\
FROM debian AS base
ENV A=1
FROM base AS left
RUN left
RUN more
FROM base AS right
RUN right
FROM alpine AS unused
RUN never
FROM scratch
COPY --from=left /a /
COPY --from=RIGHT /b /
COPY --from=0 /c /
COPY --from=docker.io/library/busybox:1 /d /
"""


def test_a_diamond() -> None:
    plan = plan_of(DIAMOND)
    found = {i: (s.label, s.base, sorted(s.needs), s.first_step) for i, s in plan.stages.items()}
    assert found == {
        0: ("base", "debian", [], 1),
        1: ("left", 0, [0], 3),
        2: ("right", 0, [0], 6),
        4: ("4", "scratch", [0, 1, 2], 8),
    }
    assert plan.target.index == 4
    assert plan.total_steps == 12


@pytest.mark.parametrize(
    ("target", "reached", "steps"),
    [
        (None, [0, 1, 2, 4], 12),
        ("4", [0, 1, 2, 4], 12),
        ("base", [0], 2),
        ("0", [0], 2),
        ("left", [0, 1], 5),
        ("Right", [0, 2], 4),
        ("unused", [3], 2),
        ("3", [3], 2),
    ],
)
def test_a_target_builds_what_it_needs(target: str | None, reached: list[int], steps: int) -> None:
    plan = plan_of(DIAMOND, target)
    assert list(plan.stages) == reached
    assert plan.target.index == reached[-1]
    assert plan.total_steps == steps


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("rihgt", "did you mean right?"),
        ("nothing-like-it", "it has: base, left, right, unused"),
        ("5", "it has: base, left, right, unused"),
        ("-1", "it has: base, left, right, unused"),
        ("", "it has: base, left, right, unused"),
        ("²", "it has: base, left, right, unused"),
        ("9" * 5000, "it has: base, left, right, unused"),
    ],
)
def test_an_unknown_target(target: str, hint: str) -> None:
    with pytest.raises(UsageError, match="no stage") as caught:
        plan_of(DIAMOND, target)
    assert caught.value.hint == hint


def test_an_unknown_target_where_no_stage_has_a_name() -> None:
    with pytest.raises(UsageError) as caught:
        plan_of("FROM a\nFROM b", "x")
    assert caught.value.hint == "its stages have no names, only numbers: 0 to 1"
    with pytest.raises(UsageError) as caught:
        plan_of("FROM a", "x")
    assert caught.value.hint == "it has one stage, number 0"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("FROM a\nCOPY --from=later / /\nFROM b AS later", 2, "--from=later names a later stage"),
        ("FROM a\nCOPY --from=1 / /\nFROM b", 2, "--from=1 names a later stage"),
        ("FROM a\nCOPY --from=0 / /", 2, "--from=0 names this stage itself"),
        ("FROM a AS Me\nCOPY --from=me / /", 2, "--from=me names this stage itself"),
        ("FROM a\nCOPY --from=7 / /", 2, "--from=7 names a later stage"),
        ("FROM a\nCOPY --from=" + "9" * 5000 + " / /", 2, "names a later stage"),
        ("FROM a\nCOPY --from=$X / /", 2, "variables are not expanded in --from"),
        ("FROM a\nFROM $NOTHING", 2, "FROM .NOTHING is empty"),
        ("FROM ${X:?needed}", 1, "X: needed"),
        ("FROM --platform=a/b/c/d x", 1, "bad platform"),
        ("FROM a\nFROM a\nFROM --platform=$X/$Y x", 3, "bad platform"),
    ],
)
def test_errors_point_at_the_line(text: str, line: int, message: str) -> None:
    with pytest.raises(DockerfileError, match=message) as caught:
        plan_of(text)
    assert caught.value.location is not None and caught.value.location.line == line


def test_errors_of_stages_nobody_needs_still_count() -> None:
    with pytest.raises(DockerfileError, match="later stage"):
        plan_of("FROM a\nCOPY --from=x / /\nFROM b AS x\nFROM c")


def test_digits_of_other_scripts_are_an_image_name() -> None:
    assert plan_of("FROM a\nCOPY --from=² / /").target.needs == frozenset()


def test_a_later_stage_does_not_shadow_an_image() -> None:
    plan = plan_of("FROM app AS first\nFROM first AS app", "first")
    assert plan.target.base == "app"
    assert plan_of("FROM x AS App\nFROM APP").target.base == 0


def test_of_one_name_the_nearest_above_counts() -> None:
    text = "FROM a AS x\nFROM b\nCOPY --from=x / /\nFROM c AS x\nFROM d\nCOPY --from=x / /\nCOPY --from=1 / /"
    plan = plan_of(text)
    assert plan.stages[1].needs == {0}
    assert plan.find("x", before=1) == 0
    assert plan.target.needs == {1, 2}
    assert plan.find("X", before=3) == 2


def test_find() -> None:
    plan = plan_of(DIAMOND)
    assert [plan.find(word, 4) for word in ("left", "LEFT", "2", "007", "4", "busybox", "²", "9" * 5000)] == [
        1, 1, 2, None, None, None, None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("flag", "given", "expected"),
    [
        ("", {}, "linux/amd64"),
        ("--platform=linux/arm64/v8", {}, "linux/arm64"),
        ("--platform=$BUILDPLATFORM", {}, "linux/amd64"),
        ("--platform=linux/$A", {"A": "s390x"}, "linux/s390x"),
        ("--platform=$UNSET", {}, "linux/amd64"),
    ],
)
def test_platform_of_a_stage(flag: str, given: dict[str, str], expected: str) -> None:
    assert str(plan_of(f"ARG A\nFROM {flag} x", **given).target.platform) == expected


def test_numbers_count_only_what_is_built() -> None:
    plan = plan_of("FROM a AS no\nRUN 1\nRUN 2\nFROM b\nRUN 3\nONBUILD RUN 4")
    assert (plan.target.first_step, plan.total_steps) == (1, 3)


def test_onbuild_needs_nothing_yet() -> None:
    assert plan_of("FROM a AS x\nFROM b\nONBUILD COPY --from=x / /").target.needs == frozenset()


def test_split_leaves_out_args_of_stages() -> None:
    global_args, stages = split(parser.parse("ARG A\nARG B=1\nFROM x\nARG C\nFROM y\nRUN z"))
    assert [arg.pairs[0][0] for arg in global_args] == ["A", "B"]
    assert [[each.keyword for each in body] for _, body in stages] == [["ARG"], ["RUN"]]


def test_room_for_the_steps_of_triggers() -> None:
    plan = plan_of("FROM a AS one\nRUN 1\nFROM b AS two\nCOPY --from=one / /\nFROM two\nRUN 2")
    assert plan.with_triggers({0: 0, 1: 0}) == plan
    roomy = plan.with_triggers({0: 2, 2: 1})
    assert [(stage.first_step, stage.triggers) for stage in roomy.stages.values()] == [(1, 2), (5, 0), (7, 1)]
    assert roomy.total_steps == 9
    assert roomy.target == roomy.stages[2]
