"""Errors and warnings as a user reads them: what happened, where, the last words, one hint."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from orca.errors import Interrupted, Location, OrcaError, RunFailed, ToolError
from orca.events import CheckFound, Warned
from orca.ui import human
from orca.ui.escape import strip_controls, visible
from orca.ui.shell import command_lines
from orca.ui.terminal import styled

SHOWN_LINES = 8
"""Source lines of an instruction, and last words of a tool, that an error shows at most."""

SHOWN_VALUE = 200
"""Characters of one word, or of one quoted value, that an error shows at most."""

SHOWN_OUTPUT = 12
"""Last lines of a RUN's output that an error shows at most."""


@dataclass(frozen=True)
class _Page:
    """How wide to write, and whether in colour."""

    color: bool
    width: int

    def paint(self, text: str, style: str) -> str:
        return styled(text, style, color=self.color)

    def told(self, label: str, text: str, style: str) -> list[str]:
        """`label` in its style, then `text` wrapped behind it."""
        lines = human.wrap(_shortened(visible(text)), self.width, first=label, indent=" " * min(len(label), 7))
        return [self.paint(label, style) + lines[0][len(label) :], *lines[1:]]

    def quoted(self, lines: Sequence[str]) -> list[str]:
        """What somebody else said, behind a bar, cut to the width."""
        clean = [strip_controls(line).expandtabs(8) for line in lines]
        return [f"  {self.paint('│', 'dim')} {human.cut(line, self.width - 4)}" for line in clean]


def render_error(error: OrcaError, *, color: bool, width: int) -> str:
    """The whole of `error` for a terminal `width` columns wide, without a last newline.

    What happened; the lines of the Dockerfile with a caret; for a RUN its last output, its exit
    code and its log; for a tool its command and last words; the hint. Whatever comes from outside
    is made harmless. Words longer than a line (paths) stand out rather than break.
    """
    page = _Page(color, max(width, 20))
    if isinstance(error, Interrupted):
        lines = page.told("", error.message, "yellow")
    else:
        lines = page.told("error: ", error.message, "bold red")
    if error.location:
        lines += _place(page, error.location)
    if isinstance(error, RunFailed):
        lines += _run(page, error)
    if isinstance(error, ToolError):
        lines += _tool(page, error)
    if error.hint:
        lines += page.told("hint: ", error.hint, "bold cyan")
    return "\n".join(lines)


def render_warning(event: Warned, *, color: bool, width: int) -> str:
    """A warning in short: what, where as `file:line`, the hint; without a last newline."""
    page = _Page(color, max(width, 20))
    place = f" ({event.location.file}:{event.location.line})" if event.location else ""
    lines = page.told("warning: ", event.message + place, "bold yellow")
    if event.hint:
        lines += page.told("   hint: ", event.hint, "cyan")
    return "\n".join(lines)


def render_finding(event: CheckFound, *, color: bool, width: int) -> str:
    """What a build check found: the rule, what is wrong, the lines; without a last newline."""
    page = _Page(color, max(width, 20))
    return "\n".join(
        [*page.told("warning: ", f"{event.rule}: {event.message}", "bold yellow"), *_place(page, event.location)]
    )


def _shortened(text: str) -> str:
    """`text` with what is too long in it cut in the middle: words, and what stands in quotes."""
    half = SHOWN_VALUE // 2 - 1
    long = rf"(?<![^\s=(])(?:'[^']{{{SHOWN_VALUE},}}'|\"[^\"]{{{SHOWN_VALUE},}}\")|\S{{{SHOWN_VALUE + 1},}}"
    return re.sub(long, lambda found: f"{found[0][:half]}…{found[0][-half:]}", text)


def _place(page: _Page, location: Location) -> list[str]:
    """`Dockerfile:12` and its lines, numbered, the one that is meant underlined."""
    lines = [f"  {page.paint(f'{visible(location.file)}:{location.line}', 'bold')}"]
    shown = location.lines[:SHOWN_LINES]
    digits = len(str(location.line + max(len(shown) - 1, 0)))
    room = page.width - digits - 6
    for offset, text in enumerate(shown):
        source, start, length = _underlined(text, location.column if not offset else 0, room)
        lines.append(f"   {page.paint(f'{location.line + offset:>{digits}} │', 'dim')} {source}".rstrip())
        if not offset and length:
            lines.append(f"   {' ' * digits} {page.paint('│', 'dim')} {' ' * start}{page.paint('^' * length, 'red')}")
    hidden = len(location.lines) - len(shown)
    if hidden > 0:
        more = f"│ … {human.count(hidden, 'more line')}"
        lines.append(f"   {' ' * digits} {page.paint(more, 'dim')}")
    return lines


def _underlined(text: str, column: int, room: int) -> tuple[str, int, int]:
    """A source line cut to `room` columns, and where in it the underline begins and how long it is.

    The word at `column` is meant, or the first word if it is 0; past the end of the line, the place
    right behind it.
    """
    begin = column - 1 if column else len(text) - len(text.lstrip())
    word = re.match(r"\w+|\S+|", text[begin:], re.DOTALL)
    before, meant = _source(text[:begin]), _source(word[0] if word else "")
    if human.cells(before) + min(human.cells(meant), 8) > room:
        before = "…" + _tail(before, room // 2)
    whole = before + _source(text[begin:])
    start = human.cells(before)
    length = min(human.cells(meant), max(room - start, 1))
    return human.cut(whole, room), start, max(length, 1) if column or meant else 0


def _source(text: str) -> str:
    return visible(text.replace("\t", "    "))


def _tail(text: str, room: int) -> str:
    """The last characters of `text` that fit into `room` columns."""
    while human.cells(text) > room:
        text = text[max(1, (human.cells(text) - room) // 2) :]
    return text


def _run(page: _Page, error: RunFailed) -> list[str]:
    """What the RUN said last, how it ended and where everything it said is kept."""
    lines = []
    if error.tail:
        lines.append("  its last output:")
        lines += page.quoted(error.tail[-SHOWN_OUTPUT:])
    lines.append(f"  exit code: {error.exit_code}")
    if error.log:
        lines.append(f"  full log: {visible(error.log)}")
    # Commands are to be copied: not wrapped.
    lines += [f"  {word} {visible(text)}" for word, text in error.advice]
    return lines


def _tool(page: _Page, error: ToolError) -> list[str]:
    """The command as typed, its exit code and its own last words."""
    lines = []
    if error.argv:
        lines += [f"  {page.paint(line, 'cyan')}" for line in command_lines(error.argv, page.width - 2)]
    words = [line for line in error.stderr.splitlines() if line.strip()]
    lines += page.quoted(words[-SHOWN_LINES:])
    if error.returncode:
        lines.append(f"  exit code: {error.returncode}")
    return lines
