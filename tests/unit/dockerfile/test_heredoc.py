"""Which words announce a here-document."""

from __future__ import annotations

import pytest

from orca.dockerfile.heredoc import Document, HeredocWord, find, parse_word

# the word; name, expand, strip_tabs, fd
WORDS = [
    ("<<EOF", ("EOF", True, False, 0)),
    ("<<-EOF", ("EOF", True, True, 0)),
    ("3<<EOF", ("EOF", True, False, 3)),
    ("<<'EOF'", ("EOF", False, False, 0)),
    ('<<-"E F"', ("E F", False, True, 0)),
    (r"<<E\OF", ("EOF", False, False, 0)),
    ("<<E'O'F", ("EOF", False, False, 0)),
    ("<<$x", ("$x", True, False, 0)),
    ("<<EOF;", ("EOF;", True, False, 0)),
    ("<</a.txt", ("/a.txt", True, False, 0)),
]


@pytest.mark.parametrize(("word", "expected"), WORDS)
def test_words(word: str, expected: tuple[str, bool, bool, int]) -> None:
    assert parse_word(word) == HeredocWord(*expected)


@pytest.mark.parametrize(
    "word", ["<<", "<<-", "<<<EOF", "a<<EOF", "<EOF", "<<EOF cat", "<<'EOF", "<<''", "<< EOF", "<<a<b"]
)
def test_other_words(word: str) -> None:
    assert parse_word(word) is None


# a line, the names found in it
LINES = [
    ("RUN <<a", ["a"]),
    ("RUN cat <<a <<b | x 4<<-c", ["a", "b", "c"]),
    ("RUN cat '<<a' \"<<b\" \\<<c", []),
    ("RUN cat '<<a", []),
    ("RUN it's <<a", []),
    ('RUN cat "<<a', []),
    ("RUN cat \\' <<a", ["a"]),
    ("RUN echo $((1 << 4))", []),
    ("RUN x <<a\\", ["a"]),
    ("RUN x <<a\u00a0<<b", ["a", "b"]),
]


@pytest.mark.parametrize(("line", "names"), LINES)
def test_lines(line: str, names: list[str]) -> None:
    found = find(line)
    assert [word.name for word in found] == names
    assert all(line[word.at :].lstrip("0123456789").startswith("<<") for word in found)


def test_tabs_are_taken_from_the_value_only() -> None:
    document = Document(HeredocWord("E", True, True, 0), "\t\ta\n\n b\tc\n\t\n")
    assert document.value().body == "a\n\n b\tc\n\n"
    assert document.as_written() == "\n\t\ta\n\n b\tc\n\t\nE"
