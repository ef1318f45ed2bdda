"""Ignore files: single cases, and all of it against the rules written down again as simply as possible."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca.dockerfile.glob import GlobError
from orca.dockerfile.ignore import Decision, IgnoreRules
from orca.errors import DockerfileError

QUIET = settings.get_profile("dockerfile")

# lines of the file; paths left out; paths let in
CASES = [
    ("", "", "a a/b"),
    ("# comment\n\n   \n.\n/\n./.\n", "", "a # .dockerignore"),
    ("a", "a a/b a/b/c", "b b/a aa A"),
    ("a/b", "a/b a/b/c", "a b a/bc c/a/b"),
    ("/a", "a a/b", "b/a"),
    ("///a//b/", "a/b", "a"),
    ("  a  ", "a", "b"),
    ("a/../b", "b", "a"),
    ("./a/.", "a", "b"),
    ("../a", "", "a"),
    (" # a", "", "a"),
    ("a b", "", "a b"),
    # wildcards
    ("*", "a a/b .hidden", ""),
    ("*/b", "a/b a/b/c", "a b a/c/b"),
    ("*.o", "x.o .o", "a/x.o x.c"),
    ("a?", "ab ab/c", "a abc a/b"),
    ("[ab]", "a b", "c"),
    ("[^a]", "b c", "a"),
    (r"\*", "*", "a"),
    (r"a\b", "ab", "a"),
    ("a*b", "ab axb axb/c", "a/b"),
    # two stars
    ("**", "a a/b", ""),
    ("**/x", "x a/x a/b/x x/a", "ax a/bx xa"),
    ("**/*.o", "x.o a/x.o a/b/x.o", "x.c o"),
    ("a/**", "a/b a/b/c", "a b ab"),
    ("a/**/b", "a/b a/x/b a/x/y/b a/b/c", "a ab b x/a/b"),
    ("**/a/**", "a/b x/a/b", "a x/a"),
    ("a**", "a ab a/b", "b/a"),
    ("a**b", "ab a/b axx/b", "axb a"),
    ("**.o", "x.o a/x.o a/b.o o.o/a", "o x.oo"),
    ("**a/b", "a/b x/a/b xa/b", "b a"),
    ("***", "a a/b", ""),
    ("**/", "a a/b", ""),
    # bringing back
    ("a\n!a/b", "a a/c", "a/b a/b/c b"),
    ("*\n!b", "a a/b", "b b/c"),
    ("a\n!a/b\na/b/c", "a a/c a/b/c", "a/b a/b/d"),
    ("!a\na", "a", ""),
    ("a\n! a", "", "a a/b"),
    ("a\n!/a/b", "a/c", "a/b"),
    ("**/*.md\n!README.md", "a.md a/README.md", "README.md"),
    ("**/x\n!keep", "keep/x x", "keep keep/y"),
    ("a\n!**/*.txt", "a a/b", "a/b.txt a/b/c.txt"),
    # a rule that changes nothing at a directory says nothing about what is below
    ("a\n!**/x\na", "a a/b", "a/x"),
    # neither case nor ends of lines
    ("a\r\nb\r\n", "a b", "a\r"),
    ("\ufeffa", "a", "b"),
]


@pytest.mark.parametrize(("text", "excluded", "included"), CASES)
def test_cases(text: str, excluded: str, included: str) -> None:
    rules = IgnoreRules.parse(text)
    assert [path for path in excluded.split(" ") if path and not rules.excludes(path)] == []
    assert [path for path in included.split(" ") if path and rules.excludes(path)] == []
    assert IgnoreRules.parse(text.encode()).rules == rules.rules


def test_a_space_in_a_name() -> None:
    assert IgnoreRules.parse("a b").excludes("a b")


def test_the_rule_with_the_last_word_is_named() -> None:
    rules = IgnoreRules.parse("# c\n*.o\n\n! x*  \nxy/z\n")
    assert rules.decide("a.o") == Decision(True, 2, "*.o")
    assert rules.decide("x.o") == Decision(False, 4, "! x*")
    assert rules.decide("xy/z/deep") == Decision(True, 5, "xy/z")
    assert rules.decide("y") == Decision(False)
    assert rules.decide("") == Decision(False)


def test_names_that_are_no_text() -> None:
    assert IgnoreRules.parse(b"\xff*").excludes("\udcffa")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a\n[", 2, "not closed"),
        ("a\n\n!", 3, "! without a pattern"),
        ("a\\", 1, "escapes nothing"),
        ("![]a]", 1, "lacks a character"),
        (b"\xff[", 1, "not closed"),
        ("*" * 2_000_000, 1, "longer than"),
        ("ab\n" * 100_000, 33_334, "more than"),
    ],
)
def test_errors(text: str | bytes, line: int, message: str) -> None:
    with pytest.raises(DockerfileError, match=message) as caught:
        IgnoreRules.parse(text, "x.dockerignore")
    assert caught.value.location
    assert (caught.value.location.file, caught.value.location.line) == ("x.dockerignore", line)
    "".join(caught.value.location.lines).encode()


def test_patterns_without_a_file() -> None:
    rules = IgnoreRules.of(["*.o", "#x", "!a.o"])
    assert [rules.excludes(path) for path in ("b.o", "#x", "a.o")] == [True, True, False]
    assert rules.decide("b.o") == Decision(True, None, "*.o")
    with pytest.raises(GlobError):
        IgnoreRules.of(["["])


def test_walking_is_the_same_as_asking() -> None:
    rules = IgnoreRules.parse("a\n!a/b/*.txt")
    below = rules.enter(rules.enter(rules.root, "a"), "b")
    assert below.excluded
    assert rules.may_reinclude(below)
    assert not rules.enter(below, "c.txt").excluded
    assert rules.decision(rules.enter(below, "c")) == Decision(True, 1, "a")


# lines; excluded directories that hold nothing for the context; those that may
PRUNING = [
    ("a", "a a/b", ""),
    ("a\n!b", "a", ""),
    ("a\n!a/b/c", "a/c a/b/d", "a a/b"),
    ("a\n!a/*/c", "a/b/d", "a a/b"),
    ("*\n!**/x", "", "a a/b/c/d"),
    ("!a/b\na", "a a/b", ""),
    ("a\n!a/b\na/b", "a/b", "a"),
]


@pytest.mark.parametrize(("text", "nothing", "something"), PRUNING)
def test_pruning(text: str, nothing: str, something: str) -> None:
    rules = IgnoreRules.parse(text)
    assert [path for path in nothing.split() if rules.may_reinclude_below(path)] == []
    assert [path for path in something.split() if not rules.may_reinclude_below(path)] == []
    assert rules.may_reinclude_below("not/excluded")


# All of it once more

ELEMENT = st.sampled_from(
    ["a", "b", "ab", "*", "**", "?", "a*", "*b", "[ab]", "[^a]", "**a", "a**", "a**b", "*?", "***"]
)
PATTERN = st.builds(
    lambda negated, elements: "!" * negated + "/".join(elements),
    st.booleans(),
    st.lists(ELEMENT, min_size=1, max_size=4),
)
PATH = st.lists(st.sampled_from(["a", "b", "ab", "ba", "aab"]), min_size=1, max_size=4).map("/".join)


@QUIET
@given(st.lists(PATTERN, max_size=4), st.lists(PATH, min_size=1, max_size=5))
def test_against_the_plain_rules(patterns: list[str], paths: list[str]) -> None:
    rules = IgnoreRules.parse("\n".join(patterns))
    for path in paths:
        assert rules.excludes(path) == plainly_excluded(patterns, path)
        if not rules.excludes(path):
            parents = [path.rsplit("/", depth)[0] for depth in range(1, path.count("/") + 1)]
            assert all(rules.may_reinclude_below(parent) for parent in parents)


def plainly_excluded(patterns: list[str], path: str) -> bool:
    """Element by element: a rule applies that applied to the parent, or that matches and would change the outcome."""
    applied = [False] * len(patterns)
    excluded = False
    names = path.split("/")
    for depth in range(1, len(names) + 1):
        excluded = False
        for index, pattern in enumerate(patterns):
            negated = pattern.startswith("!")
            if not applied[index] and negated == excluded:
                applied[index] = bool(as_regex(pattern.removeprefix("!")).fullmatch("/".join(names[:depth])))
            if applied[index]:
                excluded = not negated
    return excluded


def as_regex(pattern: str) -> re.Pattern[str]:
    if re.fullmatch(r"\*\*[^/*?\[\]\\][^*?\[\]\\]*", pattern):
        return re.compile(".*" + re.escape(pattern[2:]))
    tokens = {r"**": "(.*/)?", "*": "[^/]*", "?": "[^/]"}
    regex = re.sub(r"\*\*/?|\*|\?|\.", lambda found: tokens.get(found[0].rstrip("/"), f"\\{found[0]}"), pattern)
    return re.compile(re.sub(r"\(\.\*/\)\?$", ".*", regex))


@QUIET
@given(st.text(max_size=60), st.text(min_size=1, max_size=20))
def test_nothing_but_dockerfile_errors(text: str, path: str) -> None:
    try:
        rules = IgnoreRules.parse(text)
    except DockerfileError as error:
        assert error.location
        assert 1 <= error.location.line <= text.count("\n") + 1
    else:
        assert rules.excludes(path) == rules.decide(path).excluded


def test_three_hundred_rules_and_twenty_thousand_files() -> None:
    shapes = ("**/*.e{}", "dir{}/x", "!**/keep{}.txt", "build{}/**", "docs/*/f{}*", "**/x{}/**/y")
    rules = IgnoreRules.parse("\n".join(shapes[i % 6].format(i) for i in range(300)))
    begin = time.process_time()
    found = 0
    for directory in range(200):
        state = rules.enter(rules.enter(rules.root, f"dir{directory}"), "sub")
        found += sum(rules.enter(state, f"some_file_{i}.e{i + directory}").excluded for i in range(100))
    assert found > 0
    assert time.process_time() - begin < 3  # about 0.15 s; the rest is for slow machines


@pytest.mark.parametrize("unit", ["*a", "[a]", "a\n", "**/\n", "!a\nb\n", "**/*", "a**", "?"])
def test_hostile_patterns(unit: str) -> None:
    begin = time.process_time()
    rules = IgnoreRules.parse(unit * (90_000 // len(unit)))
    rules.excludes("a" * 255 + "/" + "b" * 255)
    assert time.process_time() - begin < 5  # none takes more than half a second
