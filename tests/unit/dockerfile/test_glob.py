"""Globs for one path element, as Go's filepath.Match."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca.dockerfile.glob import GlobError, has_meta, match_element

QUIET = settings.get_profile("dockerfile")

MATCHES = [
    ("abc", "abc"),
    ("*", "abc"),
    ("*", ""),
    ("*c", "abc"),
    ("a*", "a"),
    ("a*b*c", "aXbYbZc"),
    ("a?c", "abc"),
    ("a?c", "aüc"),
    ("[a-c]x", "bx"),
    ("[^a-c]x", "dx"),
    ("[a-cx-z]", "y"),
    ("[!a]", "!"),
    ("[[]", "["),
    ("]", "]"),
    (r"[\]a]", "]"),
    (r"[\-x]", "-"),
    (r"\*", "*"),
    (r"a\b", "ab"),
    ("[*]", "*"),
    ("*.tar.[gx]z", "a.tar.xz"),
]
OTHERS = [
    ("abc", "ABC"),
    ("abc", "abcd"),
    ("", "a"),
    ("a?c", "ac"),
    ("*b", "abc"),
    ("[a-c]", "d"),
    ("[^a-c]", "a"),
    ("[z-a]", "m"),
    (r"\*", "a"),
    ("[a]", ""),
    ("?", ""),
]
BAD = ["[", "[a", "[]", "[]a]", "[^]", "[-x]", "[x-]", "[a-", "a\\", "[\\", "[^"]


@pytest.mark.parametrize(("pattern", "name"), MATCHES)
def test_match(pattern: str, name: str) -> None:
    assert match_element(pattern, name)


@pytest.mark.parametrize(("pattern", "name"), OTHERS)
def test_no_match(pattern: str, name: str) -> None:
    assert not match_element(pattern, name)


@pytest.mark.parametrize("pattern", BAD)
def test_bad_patterns(pattern: str) -> None:
    with pytest.raises(GlobError):
        match_element(pattern, "x")


def test_has_meta() -> None:
    assert all(has_meta(pattern) for pattern in ("*", "a?", "[a", "a\\"))
    assert not any(has_meta(pattern) for pattern in ("", "abc", "a]b", "{a,b}", "!a"))


@QUIET
@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_stars_against_a_regular_expression(pattern: str, name: str) -> None:
    regex = "".join({"*": ".*", "?": "."}.get(char, char) for char in pattern)
    assert match_element(pattern, name) == bool(re.fullmatch(regex, name))


@QUIET
@given(st.text(max_size=20), st.text(max_size=20))
def test_nothing_but_glob_errors(pattern: str, name: str) -> None:
    try:
        match_element(pattern, name)
    except GlobError as error:
        assert error.message


def test_many_stars_take_no_time() -> None:
    assert not match_element("*a" * 100 + "b", "a" * 255)
