"""The words of a command line as an instruction."""

from __future__ import annotations

import pytest

from orca.dockerfile import parser
from orca.dockerfile.commandline import instruction_text, wants_body
from orca.dockerfile.instructions import Copy, Env, Run, ShellForm
from orca.errors import UsageError


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["RUN", "apt-get", "update"], "RUN apt-get update"),
        (["run", "echo a && echo b"], "RUN echo a && echo b"),
        (["RUN", "echo", "a  b", "$X", "&&"], "RUN echo 'a  b' '$X' '&&'"),
        (["RUN", "--network=none", "--mount=type=tmpfs,target=/t", "make it"],
         "RUN --network=none --mount=type=tmpfs,target=/t make it"),
        (["RUN", "ls", "--all"], "RUN ls --all"),
        (["RUN", "echo a\necho EOF\nEOF"], "RUN <<EOF_\necho a\necho EOF\nEOF\nEOF_"),
        (["RUN", "a && \\\n b"], "RUN a && \\\n b"),
        (["CMD", '["a","b"]'], 'CMD ["a","b"]'),
        (["CMD", "nginx", "-g", "daemon off;"], "CMD nginx -g 'daemon off;'"),
        (["COPY", "site", "/srv"], "COPY site /srv"),
        (["COPY", "--chown=1:1", "a b", "/srv/"], 'COPY --chown=1:1 ["a b", "/srv/"]'),
        (["ENV", "A=1", "B=x y", 'C="q r"'], 'ENV A=1 B="x y" C="q r"'),
        (["LABEL", "description=My app"], 'LABEL description="My app"'),
        (["ENV", "PATH", "/x:$PATH"], "ENV PATH /x:$PATH"),
        (["ARG"], "ARG"),
        (["WORKDIR", "/a b"], "WORKDIR /a b"),
        (["HEALTHCHECK", "--interval=5s", "CMD", "curl", "a b"], "HEALTHCHECK --interval=5s CMD curl 'a b'"),
        (["HEALTHCHECK", "NONE"], "HEALTHCHECK NONE"),
        (["ONBUILD", "run", "echo", "a b"], "ONBUILD RUN echo 'a b'"),
        (["ONBUILD", "RUN echo 'a  b'"], "ONBUILD RUN echo 'a  b'"),
        (["ONBUILD", "--no", "RUN", "true"], "ONBUILD --no RUN true"),
    ],
)  # fmt: skip
def test_words(words: list[str], text: str) -> None:
    assert instruction_text(words) == text


def test_a_script_on_standard_input() -> None:
    assert wants_body(["RUN", "--network=none"]) and not wants_body(["RUN", "x"]) and not wants_body(["COPY"])
    found = parser.parse_instruction(instruction_text(["RUN", "--network=none"], "echo '$A'\n\nls"), name="x")
    assert isinstance(found, Run) and found.script == "echo '$A'\n\nls\n" and found.network == "none"


def test_what_the_parser_makes_of_them() -> None:
    run = parser.parse_instruction(instruction_text(["RUN", "sh", "-c", "a 'b' \"c\""]), name="x")
    assert isinstance(run, Run) and run.command == ShellForm("sh -c 'a '\"'\"'b'\"'\"' \"c\"'")
    copy = parser.parse_instruction(instruction_text(["COPY", 'a "b"', "c\\d", "/e/"]), name="x")
    assert isinstance(copy, Copy) and copy.sources == ('a "b"', "c\\d") and copy.destination == "/e/"
    env = parser.parse_instruction(instruction_text(["ENV", "A=x y", "B=$A"]), name="x")
    assert isinstance(env, Env) and env.pairs == (("A", '"x y"'), ("B", "$A"))


@pytest.mark.parametrize("words", [[], ["RUN\nUSER"], ["RUN", "--mount=a\nb", "x"]])
def test_bad_words(words: list[str]) -> None:
    with pytest.raises(UsageError):
        instruction_text(words)
