"""From the text of a Dockerfile to frozen instructions."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from orca.errors import DockerfileError, Location

from . import grammar
from .heredoc import Document, HeredocWord
from .instructions import Arg, Directive, Dockerfile, Finding, From, Instruction, Span
from .logical import LogicalLine, Reader
from .remotes import hide
from .text import SPACE, Fault, Source, quoted, read

MAX_INSTRUCTIONS = 10_000  # an image has far fewer layers and history entries

_NO_END = "does not end"
DIRECTIVES = frozenset({"syntax", "escape", "check"})
_DIRECTIVE = re.compile(rf"#[{SPACE}]*([a-zA-Z][a-zA-Z0-9]*)[{SPACE}]*=[{SPACE}]*([^{SPACE}].*)", re.DOTALL)


def parse(text: str | bytes, name: str = "Dockerfile") -> Dockerfile:
    """Parse a whole Dockerfile called `name`.

    Raises DockerfileError, always with a location, for everything that is wrong with it, and nothing else.
    Nothing is expanded and no reference between instructions is looked up, but that FROM comes first.
    """
    source = read(text, name)
    directives, escape = _directives(source)
    parsing = _Parsing(source, Reader(source, escape, next=len(directives)))
    parsing.pieces.extend(directive.span for directive in directives)
    parsing.read_all()
    _check_order(source, parsing.instructions)
    return Dockerfile(
        name=name,
        lines=source.lines,
        instructions=tuple(parsing.instructions),
        directives=tuple(directives),
        escape=escape,
        warnings=tuple(parsing.warnings),
        pieces=tuple(parsing.pieces),
    )


def parse_instruction(text: str | bytes, *, name: str, escape: str = "\\") -> Instruction:
    """Parse one instruction, here-documents included: an ONBUILD trigger, an argument of `orca step`.

    `name` stands for the file in errors. Raises DockerfileError as `parse` does, also for a second instruction.
    """
    source = read(text, name)
    parsing = _Parsing(source, Reader(source, escape), limit=1)
    parsing.read_all()
    if not parsing.instructions:
        raise source.error("no instruction", Span(1, 1))
    return parsing.instructions[0]


def unfinished(text: str) -> bool:
    """Does an instruction go on in the next line: after an escape character, or in a here-document?"""
    try:
        parse_instruction(text, name="a line")
    except DockerfileError as error:
        if error.message.endswith(_NO_END):
            return True
    last = text.rpartition("\n")[2]
    return last.rstrip(SPACE).endswith("\\") and not last.lstrip(SPACE).startswith("#")


def location(dockerfile: Dockerfile, span: Span, column: int = 0) -> Location:
    """Where `span` is, with its source lines (no credentials of URLs), for the errors of later phases."""
    found = Source(dockerfile.name, dockerfile.lines, dockerfile.lines).location(span, column)
    return replace(found, lines=tuple(map(hide, found.lines)))


@dataclass
class _Parsing:
    """What has been read so far."""

    source: Source
    reader: Reader
    limit: int = MAX_INSTRUCTIONS
    instructions: list[Instruction] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    pieces: list[Span] = field(default_factory=list)

    def read_all(self) -> None:
        while True:
            if gap := self.reader.skip_gap():
                self.pieces.append(gap)
            if self.reader.at_end():
                return
            first = self.reader.next + 1
            if len(self.instructions) == self.limit:
                what = "one instruction" if self.limit == 1 else f"{self.limit} instructions"
                raise self.source.error(f"more than {what}", Span(first, first))
            self.instructions.append(self._read_one())
            self.pieces.append(Span(first, self.reader.next))

    def _read_one(self) -> Instruction:
        line = self.reader.logical_line()
        if line.blank is not None:
            message = "an empty line inside a continued instruction: remove it, or the escape character above it"
            self.warnings.append(Finding("NoEmptyContinuation", message, Span(line.blank, line.blank)))
        try:
            statement = grammar.statement(line.text, line.span, self.reader.escape)
            documents = tuple(self._document(word) for word in statement.announced())
            span = Span(line.span.first, self.reader.next)
            return grammar.instruction(replace(statement, span=span, documents=documents))
        except Fault as fault:
            raise self._located(fault, line) from None

    def _document(self, word: HeredocWord) -> Document:
        raw = self.reader.body(word.name, word.strip_tabs)
        if raw is None:
            hint = f"the line that ends it holds {quoted(word.name)} and nothing else"
            raise Fault(f"the here-document {quoted(word.name)} {_NO_END}", at=word.at, hint=hint)
        return Document(word, raw)

    def _located(self, fault: Fault, line: LogicalLine) -> DockerfileError:
        if fault.at is None:
            return self.source.error(fault.message, line.span, hint=fault.hint)
        number, column = line.position(fault.at)
        return self.source.error(fault.message, Span(number, number), column, fault.hint)


def _directives(source: Source) -> tuple[list[Directive], str]:
    """The parser directives that the text begins with, and the escape character they choose."""
    found: dict[str, Directive] = {}
    for number, line in enumerate(source.lines, start=1):
        match = _DIRECTIVE.fullmatch(line.strip(SPACE))
        name = match[1].lower() if match else ""
        if not match or name not in DIRECTIVES:
            break
        span = Span(number, number)
        if name in found:
            raise source.error(f"the parser directive {name} is given twice", span)
        if name == "escape" and match[2] not in ("\\", "`"):
            raise source.error(f"the escape character is \\ or `, not {quoted(match[2])}", span)
        found[name] = Directive(name, match[2], span)
    return list(found.values()), found["escape"].value if "escape" in found else "\\"


def _check_order(source: Source, instructions: list[Instruction]) -> None:
    """Only ARG may stand before the first FROM, and there is a FROM."""
    if not instructions:
        raise source.error("the file holds no instructions", Span(1, len(source.lines)))
    for instruction in instructions:
        if isinstance(instruction, From):
            return
        if not isinstance(instruction, Arg):
            hint = "begin with FROM image, or FROM scratch for nothing"
            raise source.error(f"{instruction.keyword} stands before the first FROM", instruction.span, hint=hint)
    hint = "FROM image begins a stage; ARG alone builds nothing"
    raise source.error("there is no FROM", instructions[-1].span, hint=hint)
