"""Cutting flags off an instruction's arguments."""

from __future__ import annotations

import pytest

from orca.dockerfile.flags import check, split

# arguments; flags, the rest, its offset
SPLITS = [
    ("a b", [], "a b", 0),
    ("", [], "", 0),
    ("  ", [], "", 2),
    ("--a", [("a", None)], "", 3),
    ("--a --b=c  d", [("a", None), ("b", "c")], "d", 11),
    ("--a= d", [("a", "")], "d", 5),
    ("--a=b=c", [("a", "b=c")], "", 7),
    ("-a --b", [], "-a --b", 0),
    ("-- --b", [], "--b", 3),
    ("--a -- --b", [("a", None)], "--b", 7),
    ("x --a", [], "x --a", 0),
    ("--a='b c'd e", [("a", "b cd")], "e", 11),
    ('--a="b\\"c" e', [("a", 'b"c')], "e", 11),
    ("--a='b\\'c' e", [("a", "b'c")], "e", 11),
    (r"--a=b\ c e", [("a", "b c")], "e", 9),
    (r"--a=b\n e", [("a", "bn")], "e", 8),
    ("--a=b\\", [("a", "b")], "", 6),
    ("--a='open e", [("a", "open e")], "", 11),
    ('"--a" b', [], '"--a" b', 0),
]


@pytest.mark.parametrize(("args", "flags", "rest", "at"), SPLITS)
def test_split(args: str, flags: list[tuple[str, str | None]], rest: str, at: int) -> None:
    found, found_rest, found_at = split(args, 100)
    assert [(flag.name, flag.value) for flag in found] == flags
    assert (found_rest, found_at) == (rest, 100 + at)


def test_every_flag_knows_where_it_stands() -> None:
    args = "  --a='x y'  --b rest"
    assert [flag.at for flag in split(args, 10)[0]] == [12, 23]


def test_values_by_kind() -> None:
    given, _, _ = split("--from=x --exclude=a --exclude=b --link --chmod= src dst", 0)
    flags = check("COPY", given)
    assert flags.text("from") == "x"
    assert flags.text("chmod") is None
    assert flags.list("exclude") == ("a", "b")
    assert flags.boolean("link")
    assert not flags.boolean("parents")
