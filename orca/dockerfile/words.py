"""Shell words as the builder expands them: quotes, escapes, `$name`, `${name}` and its modifiers.

A word is parsed once into parts; expanding it and asking it for its variables are two walks over the same parts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache

from orca.errors import OrcaError

from . import patterns
from .patterns import MAX_EXPANDED, PatternError
from .text import SPACE, quoted

MAX_DEPTH = 50  # words inside modifiers of words inside modifiers
CACHED_LENGTH = 1000

Lookup = Callable[[str], str | None]


class WordError(OrcaError):
    """A word cannot be parsed or expanded. It has no location: who knows the instruction adds one."""


@dataclass(frozen=True)
class Text:
    """Characters that stand for themselves; blanks among quoted or escaped ones do not end a word."""

    text: str
    quoted: bool


@dataclass(frozen=True)
class Variable:
    """`$name`, or `${name…}` with a modifier.

    `modifier` is "", "-", "+", "?", "#", "%", "/" or "//"; `or_empty` is the colon before one of the first three.
    """

    name: str
    quoted: bool
    modifier: str = ""
    or_empty: bool = False
    operand: Word = ()
    replacement: Word = ()


Part = Text | Variable
Word = tuple[Part, ...]


def expand(word: str, lookup: Lookup, escape: str = "\\") -> str:
    """One word with its quotes removed and its variables replaced; an undefined one is empty.

    `lookup` returns None for what is undefined. Raises WordError, for `${name?message}` with that message.
    """
    return _Expansion(lookup).word(_parse(word, escape))


def expand_words(word: str, lookup: Lookup, escape: str = "\\") -> list[str]:
    """The same, cut at white space outside quotes: the text's own, and that of unquoted variables' values."""
    expansion = _Expansion(lookup)
    words: list[str] = []
    pieces: list[str] = []
    for part, text in expansion.parts(_parse(word, escape)):
        head, *others = (text,) if part.quoted else _SPACES.split(text)
        pieces.append(head)
        for other in others:
            words.append("".join(pieces))
            pieces = [other]
    words.append("".join(pieces))
    return [found for found in words if found]


def expand_body(body: str, lookup: Lookup, escape: str = "\\") -> str:
    """A here-document's body with its variables replaced. Quotes mean nothing in it, as in a shell's;
    the escape character only does before a dollar sign or itself. Raises WordError.
    """
    return _Expansion(lookup).word(_Parser(body, escape).body())


def names(word: str, escape: str = "\\") -> frozenset[str]:
    """Every variable that expanding the word may look up. Raises WordError for a word that cannot be parsed."""
    return frozenset(_names(_parse(word, escape)))


def _names(word: Word) -> Iterator[str]:
    for part in word:
        if isinstance(part, Variable):
            yield part.name
            yield from _names(part.operand)
            yield from _names(part.replacement)


def needed(word: str, escape: str = "\\") -> frozenset[str]:
    """The variables of the word that nothing stands in for: not those in `${name:-…}` and its kin. Raises WordError."""
    return frozenset(_needed(_parse(word, escape)))


def _needed(word: Word) -> Iterator[str]:
    for part in word:
        if isinstance(part, Variable):
            if part.modifier not in ("-", "+", "?"):
                yield part.name
            yield from _needed(part.operand)
            yield from _needed(part.replacement)


_SPACES = re.compile(f"[{SPACE}]+")


# Expansion


class _Expansion:
    """One expansion. Counts what it does, so that no word can fill the memory or the day."""

    def __init__(self, lookup: Lookup) -> None:
        self.lookup = lookup
        self.work = 0

    def word(self, word: Word) -> str:
        return "".join([text for _, text in self.parts(word)])

    def parts(self, word: Word) -> Iterator[tuple[Part, str]]:
        size = 0
        for part in word:
            text = part.text if isinstance(part, Text) else self.variable(part)
            size += len(text)
            if size > MAX_EXPANDED:
                raise WordError("a word expands to more than 1 MiB")
            yield part, text

    def variable(self, variable: Variable) -> str:
        operand = self.word(variable.operand)
        value = self.lookup(variable.name)
        if variable.modifier in _CONDITIONS:
            is_set = value is not None and not (variable.or_empty and value == "")
            return _CONDITIONS[variable.modifier](variable, value if is_set else None, operand)
        try:
            return self.pattern(variable, value or "", operand)
        except PatternError as error:
            raise WordError(f"${{{variable.name}{variable.modifier}…}}: {error}", hint=error.hint) from None

    def pattern(self, variable: Variable, value: str, operand: str) -> str:
        self.work += (len(operand) + 1) * (len(value) + 1)
        if self.work > patterns.MAX_WORK:
            raise PatternError("patterns and values too long to match")
        if variable.modifier in _REMOVALS:
            longest = operand.startswith(variable.modifier)
            return _REMOVALS[variable.modifier](value, operand[longest:], longest)
        replacement = self.word(variable.replacement)
        return patterns.replace(value, operand, replacement, every=variable.modifier == "//")


def _plain(variable: Variable, value: str | None, operand: str) -> str:
    return value or ""


def _default(variable: Variable, value: str | None, operand: str) -> str:
    return operand if value is None else value


def _alternative(variable: Variable, value: str | None, operand: str) -> str:
    return "" if value is None else operand


def _required(variable: Variable, value: str | None, operand: str) -> str:
    if value is None:
        state = "must be set and not empty" if variable.or_empty else "must be set"
        raise WordError(f"{variable.name}: {operand or state}")
    return value


# fmt: off
_CONDITIONS: dict[str, Callable[[Variable, str | None, str], str]] = {
    "": _plain,
    "-": _default,
    "+": _alternative,
    "?": _required,
}
# fmt: on

_REMOVALS: dict[str, Callable[[str, str, bool], str]] = {
    "#": patterns.remove_prefix,
    "%": patterns.remove_suffix,
}


# Parsing


def _parse(word: str, escape: str) -> Word:
    parse = _parse_cached if len(word) <= CACHED_LENGTH else _parse_new
    return parse(word, escape)


def _parse_new(word: str, escape: str) -> Word:
    return _Parser(word, escape).word("", raw=False)


_parse_cached = lru_cache(maxsize=2048)(_parse_new)

# A name, a number, or one of the shell's special parameters. A number does not go on with letters.
_NAME = re.compile(r"[^\W\d]\w*|\d+|[@*#?$!-]")
_SINGLE = re.compile(r"'([^']*)'")


@cache
def _plain_run(escape: str, stop: str) -> re.Pattern[str]:
    return re.compile("[^" + re.escape(f"'\"${escape}{stop}") + "]+")


@cache
def _double_run(escape: str) -> re.Pattern[str]:
    return re.compile("[^" + re.escape(f'"${escape}') + "]+")


class _Parser:
    """A cursor over one word; each method begins at its own construct and leaves the cursor behind it."""

    def __init__(self, text: str, escape: str) -> None:
        self.text = text
        self.escape = escape
        self.at = 0
        self.depth = 0

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take(self) -> str:
        char = self.peek()
        self.at += 1
        return char

    def word(self, stop: str, raw: bool) -> Word:
        """Parts up to the character `stop` ("" is the end). `raw` keeps escape characters: a pattern needs them."""
        parts: list[Part] = []
        plain = _plain_run(self.escape, stop)
        while char := self.peek():
            if char == stop:
                self.at += 1
                return tuple(parts)
            if run := plain.match(self.text, self.at):
                self.at = run.end()
                parts.append(Text(run[0], quoted=False))
            elif char == "'":
                parts.append(self.single())
            elif char == '"':
                parts.extend(self.double(raw))
            elif char == "$":
                parts.append(self.dollar(in_quotes=False))
            else:
                parts.append(self.escaped(raw))
        if stop:
            raise WordError(f"{quoted(self.text)} lacks a {stop} that closes a ${{")
        return tuple(parts)

    def body(self) -> Word:
        """The parts of a here-document's body."""
        parts: list[Part] = []
        plain = re.compile(f"[^${re.escape(self.escape)}]+")
        while char := self.peek():
            if run := plain.match(self.text, self.at):
                self.at = run.end()
                parts.append(Text(run[0], quoted=True))
            elif char == "$":
                parts.append(self.dollar(in_quotes=True))
            else:
                self.at += 1
                known = self.peek() != "" and self.peek() in f"${self.escape}"
                parts.append(Text(self.take() if known else char, quoted=True))
        return tuple(parts)

    def escaped(self, raw: bool) -> Text:
        """The escape character and the one behind it; at the very end it stands for nothing."""
        escape = self.take()
        char = self.take()
        return Text(escape + char if raw else char, quoted=True)

    def single(self) -> Text:
        found = _SINGLE.match(self.text, self.at)
        if not found:
            hint = "nothing is escaped between single quotes" if self.escape in self.text else None
            raise WordError(f"{quoted(self.text)} lacks a closing single quote", hint=hint)
        self.at = found.end()
        return Text(found[1], quoted=True)

    def double(self, raw: bool) -> Iterator[Part]:
        self.at += 1
        run = _double_run(self.escape)
        while char := self.peek():
            if found := run.match(self.text, self.at):
                self.at = found.end()
                yield Text(found[0], quoted=True)
            elif char == '"':
                self.at += 1
                return
            elif char == "$":
                yield self.dollar(in_quotes=True)
            else:
                yield self.escaped_in_double(raw)
        raise WordError(f"{quoted(self.text)} lacks a closing double quote")

    def escaped_in_double(self, raw: bool) -> Text:
        """Between double quotes only `"`, `$` and the escape character itself can be escaped."""
        escape = self.take()
        special = self.peek() != "" and self.peek() in f'"${self.escape}'
        char = self.take() if special else escape
        return Text(escape + char if raw else char, quoted=True)

    def dollar(self, in_quotes: bool) -> Part:
        self.at += 1
        if self.peek() == "{":
            self.at += 1
            return self.braces(in_quotes)
        found = _NAME.match(self.text, self.at)
        if not found:
            return Text("$", in_quotes)
        self.at = found.end()
        return Variable(found[0], in_quotes)

    def braces(self, in_quotes: bool) -> Variable:
        found = _NAME.match(self.text, self.at)
        if not found:
            raise self.bad_substitution("a name is missing after ${")
        self.at = found.end()
        char = self.take()
        or_empty = char == ":"
        modifier = self.take() if or_empty else char
        if modifier == "}" and not or_empty:
            return Variable(found[0], in_quotes)
        if not modifier:
            raise self.bad_substitution("the } is missing")
        if modifier not in ("-+?" if or_empty else "-+?#%/"):
            known = ":- - :+ + :? ? # ## % %% / //"
            raise self.bad_substitution(f"no modifier begins with {':' * or_empty}{modifier}", f"known are {known}")
        return self.modified(Variable(found[0], in_quotes, modifier, or_empty))

    def modified(self, variable: Variable) -> Variable:
        """The variable with what follows its modifier."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise WordError(f"more than {MAX_DEPTH} ${{ inside each other")
        modifier = variable.modifier
        replacement: Word = ()
        if modifier == "/":
            if self.peek() == "/":
                modifier += self.take()
            operand = self.word("/", raw=True)
            replacement = self.word("}", raw=False)
        else:
            operand = self.word("}", raw=modifier in "#%")
        self.depth -= 1
        return replace(variable, modifier=modifier, operand=operand, replacement=replacement)

    def bad_substitution(self, why: str, hint: str | None = None) -> WordError:
        return WordError(f"bad substitution in {quoted(self.text)}: {why}", hint=hint)
