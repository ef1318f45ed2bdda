"""Commands as one types them into a shell."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from orca.ui import human
from orca.ui.escape import escaped, shows

BY_TOOL = "$ "
BY_SYSTEM_CALL = "· "


def shell_word(word: str) -> str:
    """`word` quoted for a shell. If it holds characters that do not show, as bash's `$'…'`."""
    if all(map(shows, word)):
        return shlex.quote(word)
    inner = "".join(char if shows(char) and char not in "\\'" else _inside(char) for char in word)
    return f"$'{inner}'"


def _inside(char: str) -> str:
    return "\\" + char if char in "\\'" else escaped(char)


def shell_join(argv: Sequence[str]) -> str:
    """`argv` on one line, quoted for a shell."""
    return " ".join(map(shell_word, argv))


def command_lines(argv: Sequence[str], width: int, prompt: str = BY_TOOL) -> list[str]:
    """`argv` as typed after `prompt`, in lines of `width` columns, which a shell takes when pasted.

    A long command is broken with ` \\` before an option (an option keeps its values beside it),
    and only where that is not enough between other words. No word is ever broken.
    """
    indent = " " * (len(prompt) + 2)
    lines: list[str] = []
    line = prompt
    for group in _groups([shell_word(word) for word in argv]):
        for part in _parts(group, width - len(indent) - 2):
            if line not in (prompt, indent) and human.cells(line) + 1 + human.cells(part) > width - 2:
                lines.append(line + " \\")
                line = indent
            line += part if line in (prompt, indent) else " " + part
    return [*lines, line]


def _groups(words: Sequence[str]) -> list[list[str]]:
    """The words in groups that each begin with an option; the first with the command."""
    groups: list[list[str]] = [[]]
    for word in words:
        if word.startswith("-") and groups[-1]:
            groups.append([])
        groups[-1].append(word)
    return groups


def _parts(group: Sequence[str], room: int) -> list[str]:
    """The group as one text, or word by word if it is too long for a line."""
    whole = " ".join(group)
    return [whole] if human.cells(whole) <= room else list(group)
