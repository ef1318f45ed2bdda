"""Shell words: quotes, escapes, variables and their modifiers."""

from __future__ import annotations

import pytest

from orca.dockerfile.words import WordError, expand, expand_words, names

VALUES = {
    "x": "foobarbaz",
    "empty": "",
    "path": "/a/b/c.tar.gz",
    "spaced": " a  b ",
    "star": "a*b?c",
    "lines": "a\nb",
    "_1": "underscore",
    "ümlaut": "letter",
}

# word, what it expands to
EXPANSIONS = [
    ("", ""),
    ("plain text", "plain text"),
    ("$x", "foobarbaz"),
    ("a$x.b", "afoobarbaz.b"),
    ("${x}y", "foobarbazy"),
    ("$xy", ""),
    ("$_1-$ümlaut", "underscore-letter"),
    ("$undefined", ""),
    # quotes
    ('"$x"', "foobarbaz"),
    ("'$x'", "$x"),
    ("\"'$x'\"", "'foobarbaz'"),
    ("'\"'", '"'),
    ("a'b'\"c\"", "abc"),
    ("''", ""),
    ("'a\\'", "a\\"),
    ("'a\\'b''", "a\\b"),
    # escapes
    (r"\$x", "$x"),
    (r"\\$x", r"\foobarbaz"),
    (r"\a\ b", "a b"),
    (r"'\$x'", r"\$x"),
    (r'"\$x \" \\ \a \'"', r"""$x " \ \a \'"""),
    ("a\\", "a"),
    # dollars that are none
    ("$", "$"),
    ("a$ b", "a$ b"),
    ("$.", "$."),
    ('"$"', "$"),
    # the shell's own parameters are undefined
    ("$1a $10 $@ $* $# $? $- $$ $!.", "a        ."),
    # set, unset, empty
    ("${x:-d} ${x-d}", "foobarbaz foobarbaz"),
    ("${empty:-d} ${empty-d}.", "d ."),
    ("${u:-d} ${u-d}", "d d"),
    ("${x:+d} ${x+d}", "d d"),
    ("${empty:+d} ${empty+d}", " d"),
    ("${u:+d}${u+d}", ""),
    ("${x:?m} ${x?m}", "foobarbaz foobarbaz"),
    ("${empty?m}.", "."),
    ("${u:-}", ""),
    ("${u:-$x}", "foobarbaz"),
    ("${u:-${v:-'a }'}\"}\"\\}}", "a }}}"),
    ("${u:-a b}", "a b"),
    ('"${u:-"a"}"', "a"),
    ("${u:--} ${u:-:-}", "- :-"),
    # pieces of values
    ("${path#/}", "a/b/c.tar.gz"),
    ("${path#*/}", "a/b/c.tar.gz"),
    ("${path##*/}", "c.tar.gz"),
    ("${path%.*}", "/a/b/c.tar"),
    ("${path%%.*}", "/a/b/c"),
    ("${path%/*}", "/a/b"),
    ("${path#no}", "/a/b/c.tar.gz"),
    ("${path#?}", "a/b/c.tar.gz"),
    ("${x#f*b}", "arbaz"),
    ("${x##f*b}", "az"),
    ("${x%b*}", "foobar"),
    ("${x%%b*}", "foo"),
    ("${x%z}", "foobarba"),
    ("${x##*}${x%%*}", ""),
    ("${x#}${u#a}", "foobarbaz"),
    (r"${star#a\*}", "b?c"),
    (r"${star%\?c}", "a*b"),
    (r"${star#a\*b\?}", "c"),
    ("${x#$u}", "foobarbaz"),
    ("${x#${path:+foo}}", "barbaz"),
    ("${lines#*\n}", "b"),
    ("${lines%?b}", "a"),
    # replacements
    ("${x/ba/fo}", "foofobaz".replace("fobaz", "forbaz")),
    ("${x//ba/fo}", "fooforfoz"),
    ("${x/b*/!}", "foo!"),
    ("${x//[oa]/!}", "foobarbaz"),
    ("${x//?/.}", "........."),
    ("${x/no/yes}", "foobarbaz"),
    ("${x/foo/}", "barbaz"),
    ("${x/foo/$1\\1}", "1barbaz"),
    (r"${path//\//-}", "-a-b-c.tar.gz"),
    (r"${x/foo/\}}", "}barbaz"),
    ("${x/$u/y}", "yfoobarbaz"),
    ("${x/foo/${path##*.}}", "gzbarbaz"),
    ("${u/a/b}", ""),
]


@pytest.mark.parametrize(("word", "expected"), EXPANSIONS)
def test_expand(word: str, expected: str) -> None:
    assert expand(word, VALUES.get) == expected


# word, the words it becomes
SPLITS = [
    ("", []),
    ("  ", []),
    ("a  b\tc", ["a", "b", "c"]),
    ("a' 'b", ["a b"]),
    ('"a b" c', ["a b", "c"]),
    (r"a\ b c", ["a b", "c"]),
    ("$spaced", ["a", "b"]),
    ("x${spaced}y", ["x", "a", "b", "y"]),
    ('x"$spaced"y', ["x a  b y"]),
    ("'' \"\"", []),
    ("''a", ["a"]),
    ("${u:-1 2}-3", ["1", "2-3"]),
    ('"${u:-1 2}"', ["1 2"]),
    ("${u:-'1 2'}", ["1", "2"]),
    ("a\u00a0b", ["a", "b"]),
    ("a\x1fb", ["a\x1fb"]),
]


@pytest.mark.parametrize(("word", "expected"), SPLITS)
def test_expand_words(word: str, expected: list[str]) -> None:
    assert expand_words(word, VALUES.get) == expected


# word, words of the message
ERRORS = [
    ("'a", "closing single quote"),
    ("'a\\'b'", "closing single quote"),
    ('"a', "closing double quote"),
    ('"a\\"', "closing double quote"),
    ('"a\\', "closing double quote"),
    ("${", "bad substitution"),
    ("${}", "bad substitution"),
    ("${x", "the } is missing"),
    ("${{x}}", "bad substitution"),
    ("${:-a}", "bad substitution"),
    ("${ x}", "bad substitution"),
    ("${x^^}", "no modifier begins with ^"),
    ("${x:0:1}", "no modifier begins with :0"),
    ("${x:#a}", "no modifier begins with :#"),
    ("${x:", "the } is missing"),
    ("${x:-a", "lacks a } that closes a ${"),
    ("${x:-'a}", "closing single quote"),
    ("${x/a}", "lacks a / that closes a ${"),
    ("${x/a/b", "lacks a } that closes a ${"),
    (r"${x#\a}", r"\\a is no escape in a pattern"),
    ("${u?}", "u: must be set"),
    ("${u:?sorry, $x}", "u: sorry, foobarbaz"),
    ("${empty:?}", "empty: must be set and not empty"),
    ("${x:-${u?eager}}", "u: eager"),
    ("${a:-" * 1000, "inside each other"),
]


@pytest.mark.parametrize(("word", "message"), ERRORS)
def test_errors(word: str, message: str) -> None:
    for expanding in (expand, expand_words):
        with pytest.raises(WordError) as caught:
            expanding(word, VALUES.get)
        assert message.replace("\\\\", "\\") in caught.value.message
        assert caught.value.location is None


def test_the_hint_for_an_escaped_single_quote() -> None:
    with pytest.raises(WordError) as caught:
        expand(r"'a\'b'", VALUES.get)
    assert caught.value.hint == "nothing is escaped between single quotes"


def test_another_escape_character() -> None:
    assert expand("`$x \\$x \"`$\" '`'", VALUES.get, "`") == "$x \\foobarbaz $ `"
    assert expand_words("a` b c\\ d", VALUES.get, "`") == ["a b", "c\\", "d"]


# word, the variables it may read
NAMES = [
    ("a b", set()),
    ("$a ${b} '$c' \\$d \"$e\"", {"a", "b", "e"}),
    ("${a:-${b:+$c}}", {"a", "b", "c"}),
    ("${a#$b} ${c/$d/$e}", {"a", "b", "c", "d", "e"}),
]


@pytest.mark.parametrize(("word", "expected"), NAMES)
def test_names(word: str, expected: set[str]) -> None:
    assert names(word) == expected


def test_names_of_a_broken_word() -> None:
    with pytest.raises(WordError):
        names("${a")


# What must stay small and quick


def test_a_word_does_not_grow_without_bound() -> None:
    for word in ("$a" * 3, "${a:-x}$a$a", "${b//?/$c}"):
        with pytest.raises(WordError, match="1 MiB"):
            expand(word, {"a": "x" * 600_000, "b": "x" * 2000, "c": "y" * 2000}.get)


def test_patterns_do_not_run_without_bound() -> None:
    assert expand("${a#" + "*a" * 30 + "b}", {"a": "a" * 100_000}.get) == "a" * 100_000
    with pytest.raises(WordError, match="too long"):
        expand("${a#*" + "?" * 5000 + "b}", {"a": "a" * 100_000}.get)
    with pytest.raises(WordError, match="too long"):
        expand("${a##*a}" * 5000, {"a": "a" * 100_000}.get)
