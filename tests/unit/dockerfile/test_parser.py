"""What a Dockerfile may not hold, and where the error then points; what surrounds the instructions."""

from __future__ import annotations

import json

import pytest

from orca.dockerfile.grammar import PARSERS
from orca.dockerfile.instructions import Copy, ExecForm, Onbuild, Run, ShellForm, Span
from orca.dockerfile.parser import MAX_INSTRUCTIONS, location, parse, parse_instruction
from orca.dockerfile.text import MAX_BYTES
from orca.errors import DockerfileError, Location


def failure(text: str | bytes) -> DockerfileError:
    with pytest.raises(DockerfileError) as caught:
        parse(text)
    return caught.value


def place(error: DockerfileError) -> tuple[int, int]:
    assert error.location
    return error.location.line, error.location.column


# text, (line, column), words of the message
ERRORS = [
    ("", (1, 0), "holds no instructions"),
    ("\n# only a comment\n", (1, 0), "holds no instructions"),
    ("ARG a\n", (1, 0), "no FROM"),
    ("ARG a\nRUN x\nFROM y", (2, 0), "RUN stands before the first FROM"),
    ("FROM", (1, 1), "FROM needs an image"),
    ("FROM a b", (1, 8), "FROM takes an image"),
    ("FROM a of b", (1, 8), "FROM takes an image"),
    ("FROM a AS", (1, 8), "FROM takes an image"),
    ("FROM a AS b c", (1, 8), "FROM takes an image"),
    ("FROM a AS 1b", (1, 11), '"1b" is no name for a stage'),
    ("FROM a AS b/c", (1, 11), "no name for a stage"),
    ("FROM --platform a", (1, 6), "--platform needs a value"),
    ("FROM a\n  RUNN x", (2, 3), 'unknown instruction "RUNN"'),
    ("FROM a\nRUN x\n && y", (3, 2), 'unknown instruction "&&"'),
    ("FROM a\nRUN", (2, 1), "RUN needs a command"),
    ("FROM a\nRUN []", (2, 5), "RUN needs a command"),
    ('FROM a\nRUN ["a", "\\u0000"]', (2, 5), "NUL"),
    ("FROM a\nRUN --mont=type=x y", (2, 5), 'unknown flag "--mont" of RUN'),
    ("FROM a\nRUN --network=a --network=b y", (2, 17), "--network only once"),
    ("FROM a\nCMD --x", (2, 5), 'CMD takes no flag "--x"'),
    ("FROM a\nCOPY --link=maybe a b", (2, 6), 'true or false, not "maybe"'),
    ("FROM a\nCOPY --link= a b", (2, 6), "true or false"),
    ("FROM a\nCOPY \\\n# c\n   --form=b a b", (4, 4), 'unknown flag "--form"'),
    ("FROM a\nCOPY", (2, 1), "COPY needs a source and a destination"),
    ("FROM a\nCOPY a", (2, 1), "COPY needs a source and a destination"),
    ('FROM a\nADD ["a"]', (2, 1), "ADD needs a source and a destination"),
    ("FROM a\nCOPY a <<x\nx", (2, 8), "cannot be the destination"),
    ('FROM a\nCOPY <<"x y" /z\nx y', (2, 6), "holds no blanks"),
    ("FROM a\nRUN cat <<x\ny", (2, 9), 'here-document "x" does not end'),
    ("FROM a\nRUN a \\\n   <<x <<y\nx\n", (3, 8), 'here-document "y" does not end'),
    ("FROM a\nRUN cat <<-x\n  x", (2, 9), "does not end"),
    ("FROM a\nENV", (2, 1), "ENV needs name=value"),
    ("FROM a\nENV a", (2, 5), "ENV needs a name and a value"),
    ("FROM a\nENV a=1 b", (2, 9), 'name=value, not "b"'),
    ("FROM a\nENV =1", (2, 5), "a name before the ="),
    ("FROM a\nLABEL a=1 \\\n =2", (3, 2), "LABEL needs a name before the ="),
    ("FROM a\nARG", (2, 1), "ARG needs a name"),
    ("FROM a\nARG b =c", (2, 7), "ARG needs a name before the ="),
    ("FROM a\nEXPOSE", (2, 1), "EXPOSE needs a port"),
    ("FROM a\nUSER", (2, 1), "USER needs"),
    ("FROM a\nWORKDIR", (2, 1), "WORKDIR needs"),
    ("FROM a\nSTOPSIGNAL  ", (2, 1), "STOPSIGNAL needs"),
    ("FROM a\nMAINTAINER", (2, 1), "MAINTAINER needs"),
    ("FROM a\nVOLUME", (2, 1), "VOLUME needs"),
    ("FROM a\nVOLUME []", (2, 8), "VOLUME needs"),
    ('FROM a\nVOLUME ["/a", " "]', (2, 8), "not empty"),
    ("FROM a\nSHELL /bin/sh", (2, 7), "SHELL takes a JSON array"),
    ("FROM a\nSHELL []", (2, 7), "SHELL takes a JSON array"),
    ("FROM a\nSHELL", (2, 1), "SHELL needs"),
    ("FROM a\nHEALTHCHECK", (2, 1), "HEALTHCHECK needs CMD"),
    ("FROM a\nHEALTHCHECK curl x", (2, 13), 'CMD or NONE, not "curl"'),
    ("FROM a\nHEALTHCHECK NONE x", (2, 18), "NONE takes nothing more"),
    ("FROM a\nHEALTHCHECK CMD", (2, 13), "CMD needs a command"),
    ("FROM a\nHEALTHCHECK --interval=5 CMD x", (2, 13), "--interval=5: not a duration"),
    ("FROM a\nHEALTHCHECK --timeout=1s --interval=1us CMD x", (2, 26), "less than 1ms"),
    ("FROM a\nHEALTHCHECK --timeout=-1s CMD x", (2, 13), "less than 1ms"),
    ("FROM a\nHEALTHCHECK --retries=-1 CMD x", (2, 13), '--retries takes a number, not "-1"'),
    ("FROM a\nHEALTHCHECK --retries=many CMD x", (2, 13), "--retries takes a number"),
    ("FROM a\nONBUILD", (2, 1), "ONBUILD needs an instruction"),
    ("FROM a\nONBUILD ONBUILD RUN x", (2, 9), "ONBUILD takes no ONBUILD"),
    ("FROM a\nONBUILD from x", (2, 9), "ONBUILD takes no FROM"),
    ("FROM a\nONBUILD  MAINTAINER x", (2, 10), "ONBUILD takes no MAINTAINER"),
    ("FROM a\nONBUILD COPY --x a b", (2, 14), 'unknown flag "--x" of COPY'),
    ("FROM a\nONBUILD \\\n  NOPE", (3, 3), 'unknown instruction "NOPE"'),
    ("FROM a\n\\\n", (2, 0), "holds no instruction"),
    ("FROM a\n\\\n\n  \n", (2, 0), "holds no instruction"),
    ("# escape=x\nFROM a", (1, 0), 'the escape character is \\ or `, not "x"'),
    ("# escape=`\n# Escape=`\nFROM a", (2, 0), "escape is given twice"),
    ("FROM a\nRUN \0", (2, 5), "NUL"),
    (b"FROM a\nRUN \xff", (2, 5), "not UTF-8"),
    ("FROM a\nRUN \ud800", (2, 5), "not UTF-8"),
]


@pytest.mark.parametrize(("text", "where", "message"), ERRORS)
def test_errors(text: str | bytes, where: tuple[int, int], message: str) -> None:
    error = failure(text)
    assert message in error.message
    assert place(error) == where


# text, the hint
HINTS = [
    ("FROM a\nRNU x", "did you mean RUN?"),
    ("FORM a", "did you mean FROM?"),
    ("FROM a\nRUN x\n&& y", "does the line above lack its \\ at the end?"),
    ("FROM a\nCOPY --chwon=1 a b", "did you mean --chown? COPY knows --from, --chown, --chmod, --link, --parents"),
    ("FROM a\nADD --from=1 a b", "ADD knows --chown"),
    ("FROM a\nUSER --x", "USER knows no flags"),
    ("FROM a\nRUN cat <<EOF;\nEOF\n", 'the line that ends it holds "EOF;" and nothing else'),
    ("RUN x", "begin with FROM"),
]


@pytest.mark.parametrize(("text", "hint"), HINTS)
def test_hints(text: str, hint: str) -> None:
    assert hint in (failure(text).hint or "")


def test_an_error_shows_its_source_lines() -> None:
    error = failure("FROM a\r\nCOPY \\\r\n  # c\r\n  a\r\n")
    assert error.location == Location("Dockerfile", 2, 2, 1, ("COPY \\",))
    error = failure("FROM a\nRUN x\\\n  y\nFROM\n")
    assert error.location == Location("Dockerfile", 4, 4, 1, ("FROM",))


def test_an_error_about_the_whole_instruction_shows_all_its_lines() -> None:
    error = failure("RUN a \\\n  b\nFROM x")
    assert error.location == Location("Dockerfile", 1, 2, 0, ("RUN a \\", "  b"))


def test_the_name_of_the_file_is_in_the_location() -> None:
    with pytest.raises(DockerfileError) as caught:
        parse("x", "web/app.Dockerfile")
    assert caught.value.location
    assert caught.value.location.file == "web/app.Dockerfile"


def test_limits() -> None:
    assert "longer than" in failure("FROM a\n" + "#" * MAX_BYTES).message
    assert "longer than" in failure(b"FROM a\n" + b"\xff" * MAX_BYTES).message
    assert place(failure("FROM a\n" * (MAX_INSTRUCTIONS + 1))) == (MAX_INSTRUCTIONS + 1, 0)


def test_a_long_word_is_cut_in_messages() -> None:
    assert len(failure("FROM a\n" + "X" * 10_000).message) < 100


@pytest.mark.parametrize("depth", [10, 100_000])
def test_deeply_nested_json_is_the_shell_form(depth: int) -> None:
    found = parse_instruction("RUN " + "[" * depth, name="x")
    assert isinstance(found, Run)
    assert found.command == ShellForm("[" * depth)


@pytest.mark.parametrize("text", ['CMD ["sleep", 10]', "RUN [1]", 'HEALTHCHECK CMD ["a", null]', "ONBUILD RUN [[]]"])
def test_an_array_of_more_than_strings_is_an_error(text: str) -> None:
    with pytest.raises(DockerfileError, match="not every value of the JSON array is a string"):
        parse(f"FROM a\n{text}\n")


def test_lone_surrogates_in_json_become_replacement_characters() -> None:
    found = parse_instruction('RUN ["\\ud800"]', name="x")
    assert isinstance(found, Run)
    assert found.command == ExecForm(("\ufffd",))


# Everything around the instructions


def test_bom_and_crlf() -> None:
    text = "# escape=`\nFROM a\nRUN x `\n  y\n\n"
    expected = parse(text)
    for variant in ("\ufeff" + text, text.replace("\n", "\r\n"), "\ufeff" + text.replace("\n", "\r\n")):
        assert parse(variant) == expected
        assert parse(variant.encode()) == expected


def test_a_here_document_keeps_its_carriage_returns() -> None:
    found = parse("FROM a\r\nCOPY <<x /y\r\n1\r\nx\r\n").instructions[1]
    assert isinstance(found, Copy)
    assert found.heredocs[0].body == "1\r\n"


# text, names of the directives, escape character
DIRECTIVES = [
    ("# escape=`\nFROM a", ["escape"], "`"),
    ("#syntax=x\n#   ESCAPE =  `  \nFROM a", ["syntax", "escape"], "`"),
    ("\n# escape=`\nFROM a", [], "\\"),
    ("# comment\n# escape=`\nFROM a", [], "\\"),
    ("# other=1\n# escape=`\nFROM a", [], "\\"),
    ("FROM a\n# escape=`", [], "\\"),
    ("# escape=\\\nFROM a", ["escape"], "\\"),
    ("# syn\\\n# tax=x\nFROM a", [], "\\"),
    ("# escape=\nFROM a", [], "\\"),
]


@pytest.mark.parametrize(("text", "names", "escape"), DIRECTIVES)
def test_directives(text: str, names: list[str], escape: str) -> None:
    dockerfile = parse(text)
    assert [directive.name for directive in dockerfile.directives] == names
    assert dockerfile.escape == escape


# the lines of one RUN, its text
CONTINUATIONS = [
    ("RUN a\\\nb", "RUN ab"),
    ("RUN a \\\n  b", "RUN a   b"),
    ("RUN a \\  \t\n  b", "RUN a   b"),
    ("RUN a \\\\", "RUN a \\\\"),
    ("RUN a \\\n# c\n  # d\n b", "RUN a  b"),
    ("RUN a \\\n b # no comment", "RUN a  b # no comment"),
    ("  RUN a", "RUN a"),
    ("\\\nRUN a", "RUN a"),
    ("RUN \\\n\\\na", "RUN a"),
    ("R\\\nUN a", "RUN a"),
    ("RUN a \\", "RUN a"),
    ("RUN a \\\n\n\n", "RUN a"),
    ("RUN a  ", "RUN a"),
    ("RUN\ta", "RUN\ta"),
]


@pytest.mark.parametrize(("lines", "text"), CONTINUATIONS)
def test_continuations(lines: str, text: str) -> None:
    assert parse("FROM a\n" + lines).instructions[1].text == text


def test_empty_lines_in_a_continuation_are_one_warning_at_the_first() -> None:
    dockerfile = parse("FROM a\nRUN a \\\n# comment\n\n   \n  b\n")
    assert [(warning.rule, warning.span) for warning in dockerfile.warnings] == [("NoEmptyContinuation", Span(4, 4))]


def test_pieces_are_the_file_in_order() -> None:
    text = "# syntax=x\n# escape=\\\n\n# comment\nFROM a\nRUN x \\\n # y\n z\n\nCOPY <<a /b\n\na\n# end\n"
    spans = [(1, 1), (2, 2), (3, 4), (5, 5), (6, 8), (9, 9), (10, 12), (13, 13)]
    assert parse(text).pieces == tuple(Span(*span) for span in spans)


def test_location_of_a_span() -> None:
    dockerfile = parse("FROM a\nRUN b \\\n c\n", "f")
    assert location(dockerfile, Span(2, 3)) == Location("f", 2, 3, 0, ("RUN b \\", " c"))
    assert location(dockerfile, Span(2, 2), 5) == Location("f", 2, 2, 5, ("RUN b \\",))


# One instruction alone


def test_a_single_instruction() -> None:
    found = parse_instruction("run cat <<A \\\n <<B\n1\nA\n2\nB\n", name="the image's ONBUILD")
    assert isinstance(found, Run)
    assert found.command == ShellForm("cat <<A  <<B\n1\nA\n2\nB")
    assert found.span == Span(1, 6)


def test_a_trigger_parses_to_what_it_was() -> None:
    onbuild = parse("FROM a\nONBUILD RUN cat <<-A\n\t1\n\tA\n").instructions[1]
    assert isinstance(onbuild, Onbuild)
    again = parse_instruction(onbuild.trigger, name="trigger")
    assert isinstance(again, Run)
    assert isinstance(onbuild.instruction, Run)
    assert again.command == onbuild.instruction.command
    assert again.heredocs == onbuild.instruction.heredocs


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("", (1, 0), "no instruction"),
        ("# x", (1, 0), "no instruction"),
        ("RUN a\nRUN b", (2, 0), "more than one instruction"),
        ("RUN <<a\n", (1, 5), "does not end"),
        ("NOPE", (1, 1), "unknown instruction"),
    ],
)
def test_a_single_instruction_is_one_and_right(text: str, where: tuple[int, int], message: str) -> None:
    with pytest.raises(DockerfileError, match=message) as caught:
        parse_instruction(text, name="step")
    assert place(caught.value) == where


def test_a_single_instruction_may_have_another_escape_character() -> None:
    assert parse_instruction("RUN a `\n b", name="x", escape="`").text == "RUN a  b"


def test_every_instruction_of_the_reference_has_a_parser() -> None:
    names = "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL STOPSIGNAL USER"
    assert set(PARSERS) == {*names.split(), "VOLUME", "WORKDIR"}


def test_json_words_are_literal() -> None:
    words = ["<<a", "--from=x", "$b", "c"]
    found = parse_instruction(f"COPY {json.dumps(words)}", name="x")
    assert isinstance(found, Copy)
    assert (*found.sources, found.destination) == tuple(words)
    assert found.heredocs == ()
