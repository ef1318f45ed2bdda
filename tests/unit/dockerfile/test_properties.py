"""What holds for every input there is."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca.dockerfile.instructions import Dockerfile
from orca.dockerfile.parser import parse, parse_instruction
from orca.dockerfile.text import MAX_BYTES
from orca.dockerfile.words import WordError, expand, expand_words, names
from orca.errors import DockerfileError

QUIET = settings.get_profile("dockerfile")

KEYWORDS = "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL ONBUILD RUN SHELL USER VOLUME WORKDIR".split()
PIECES = [
    *(f"{keyword} " for keyword in KEYWORDS),
    *("\n", "\\\n", "\\", "\r\n", " ", "\t", "# c\n", "# escape=`\n", "`\n", "a", "b=c", '"', "'", "$x", "${x:-", "}"),
    *(
        "<<",
        "<<-",
        "EOF",
        "EOF\n",
        "<<EOF",
        '["a"]',
        "[",
        "]",
        "--from=",
        "--link",
        "--",
        "AS ",
        "CMD ",
        "\ufeff",
        "\0",
    ),
]
LIKELY = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)
ANY = st.one_of(LIKELY, LIKELY.map("FROM a\n".__add__), st.text())
WORDS = st.one_of(st.text(), st.text("ax$${}:-+?#%/\\*'\" "))
VALUES = {"a": "x x", "x": "a/b*c", "ax": ""}


@QUIET
@given(ANY)
def test_parse_fails_only_with_an_error_inside_the_file(text: str) -> None:
    check(text)


@QUIET
@given(st.one_of(st.binary(), ANY.map(lambda text: text.encode("utf-8", "surrogatepass"))))
def test_the_same_for_bytes(data: bytes) -> None:
    check(data)


@QUIET
@given(ANY)
def test_a_single_instruction_fails_only_with_an_error_too(text: str) -> None:
    try:
        parse_instruction(text, name="x")
    except DockerfileError as error:
        assert inside(error, text)


def check(data: str | bytes) -> None:
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    try:
        dockerfile = parse(data)
    except DockerfileError as error:
        assert inside(error, text)
    else:
        assert tiled(dockerfile)
        assert "\n".join(dockerfile.lines) == text.removeprefix("\ufeff").removesuffix("\n") or "\r" in text


def inside(error: DockerfileError, text: str) -> bool:
    """Whether the location is one in the text, with the text's own lines, which can be written out."""
    where = error.location
    assert where
    lines = text.removeprefix("\ufeff").removesuffix("\n").split("\n")
    shown = [line.encode("utf-8", "replace").replace(b"\0", b"?") for line in where.lines]
    assert len(shown) == where.end_line - where.line + 1 or not text.removeprefix("\ufeff")
    assert where.column <= len(lines[where.line - 1]) + 1
    return 1 <= where.line <= where.end_line <= len(lines)


def tiled(dockerfile: Dockerfile) -> bool:
    """Whether the pieces cover each line once, in order, and every instruction and directive is one."""
    numbers = [number for piece in dockerfile.pieces for number in range(piece.first, piece.last + 1)]
    assert numbers == list(range(1, len(dockerfile.lines) + 1))
    spans = {found.span for found in dockerfile.instructions} | {found.span for found in dockerfile.directives}
    return spans <= set(dockerfile.pieces)


@QUIET
@given(WORDS, st.sampled_from("\\`"))
def test_words_fail_only_with_their_own_error(word: str, escape: str) -> None:
    asked: set[str] = set()

    def lookup(name: str) -> str | None:
        asked.add(name)
        return VALUES.get(name)

    try:
        expanded = expand(word, lookup, escape)
        split = expand_words(word, lookup, escape)
    except WordError as error:
        assert error.message
    else:
        assert asked == names(word, escape)
        assert "".join("".join(split).split()) == "".join(expanded.split())


@QUIET
@given(st.text())
def test_single_quotes_keep_everything(text: str) -> None:
    inner = text.replace("'", "")
    assert expand(f"'{inner}'", VALUES.get) == inner


@pytest.mark.parametrize(
    "unit",
    ["\n", "#\n\n", "\\\n", "\\\n#\n", "\\\n\n", "x", "'", '"\\', "<<A ", "--x ", "a=1 ", "[", "${a:-", " ", "\xa0"],
)
@pytest.mark.parametrize("start", ["", "FROM a\nRUN ", "FROM a\nENV a=", "FROM a\nONBUILD COPY "])
def test_a_megabyte_takes_about_a_second(start: str, unit: str) -> None:
    text = (start + unit * (MAX_BYTES // len(unit)))[: MAX_BYTES // 4]
    begin = time.process_time()
    check_quickly(text)
    assert time.process_time() - begin < 3  # a quarter of a megabyte, on a slow machine


def check_quickly(text: str) -> None:
    try:
        parse(text)
    except DockerfileError as error:
        assert error.location
