"""The words of a command line as the text of one instruction: `RUN apt-get update`, `COPY site /srv`. Pure.

What follows the flags is one word: it stands as it is, as in a Dockerfile. It is several: each stays a word of its
own, whatever is in it.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Sequence

from orca.errors import UsageError

WORDS = Sequence[str]
_FLAG = re.compile(r"--[a-z][a-z-]*(=.*)?", re.DOTALL)
_PLAIN = re.compile(r"[^\s\"'\\]+")


def instruction_text(words: WORDS, body: str | None = None) -> str:
    """The instruction. `body`, if there is one, is the here-document of a RUN that has no command.

    Raises UsageError.
    """
    if not words:
        raise UsageError("which instruction?", hint="orca step ID RUN COMMAND, for example")
    keyword = words[0].upper()
    flags, rest = _split(words[1:])
    if any("\n" in word for word in (words[0], *flags)):
        raise UsageError("a line end in the name or a flag of an instruction")
    if keyword == "ONBUILD" and rest:
        # One word with blanks is an instruction as in a Dockerfile, not the name of one.
        inner = rest[0] if len(rest) == 1 and len(rest[0].split()) > 1 else instruction_text(rest, body)
        return " ".join([keyword, *flags, inner])
    head = " ".join([keyword, *flags])
    if keyword == "RUN" and not rest:
        return head if body is None else heredoc(head, body)
    if keyword == "RUN" and len(rest) == 1 and _is_script(rest[0]):
        return heredoc(head, rest[0])
    return f"{head} {_JOIN.get(keyword, ' '.join)(rest)}" if rest else head


def wants_body(words: WORDS) -> bool:
    """Is it a RUN without a command, whose script comes from standard input?"""
    return bool(words) and words[0].upper() == "RUN" and not _split(words[1:])[1]


def heredoc(head: str, body: str) -> str:
    """`head` with a here-document that holds `body` as it is."""
    end, lines = "EOF", body.splitlines()
    while end in lines:
        end += "_"
    return "\n".join([f"{head} <<{end}", *lines, end])


def _split(words: WORDS) -> tuple[list[str], list[str]]:
    """The flags that an instruction begins with, and the rest."""
    count = 0
    while count < len(words) and _FLAG.fullmatch(words[count]):
        count += 1
    return list(words[:count]), list(words[count:])


def _is_script(text: str) -> bool:
    """Several lines, which a Dockerfile would read as several instructions, were they not a here-document."""
    lines = text.splitlines()
    return len(lines) > 1 and "<<" not in text and not all(line.endswith("\\") for line in lines[:-1])


def _command(words: WORDS) -> str:
    """For a shell."""
    return words[0] if len(words) == 1 else shlex.join(words)


def _paths(words: WORDS) -> str:
    if len(words) == 1 or all(_PLAIN.fullmatch(word) for word in words):
        return " ".join(words)
    return json.dumps(list(words), ensure_ascii=False)


def _pairs(words: WORDS) -> str:
    """NAME=VALUE words. One that has quotes of its own stands as it is, and so does the old form NAME VALUE."""
    if "=" not in words[0] or re.match(r"[^=\s]*\s", words[0]):
        return " ".join(words)
    return " ".join(map(_pair, words))


def _pair(word: str) -> str:
    name, equals, value = word.partition("=")
    return f'{name}{equals}"{value}"' if re.search(r"\s", value) and not re.search(r"[\"'\\]", word) else word


def _healthcheck(words: WORDS) -> str:
    return " ".join([words[0], _command(words[1:])]) if len(words) > 1 else words[0]


_JOIN: dict[str, Callable[[WORDS], str]] = {
    "RUN":         _command,
    "CMD":         _command,
    "ENTRYPOINT":  _command,
    "HEALTHCHECK": _healthcheck,
    "COPY":        _paths,
    "ADD":         _paths,
    "VOLUME":      _paths,
    "ENV":         _pairs,
    "LABEL":       _pairs,
    "ARG":         _pairs,
}  # fmt: skip
