"""Which paths of a build context the .dockerignore leaves out, as moby/patternmatcher decides it.

A walker goes down with it: `state = rules.enter(rules.root, "src")`, then `rules.enter(state, "main.c").excluded`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from . import glob
from .glob import GlobError
from .instructions import Span
from .machine import Machine, Node, Path, mask, path_pattern, suffix_pattern
from .text import BOM, MAX_BYTES, SPACE, Source, cut, printable

MAX_STATES = 100_000  # characters in all patterns together: thousands of lines
MAX_DECISIONS = 10_000  # remembered ones


@dataclass(frozen=True)
class Decision:
    """Whether a path is left out, and the rule that has the last word on it (None when no rule has any)."""

    excluded: bool
    line: int | None = None
    pattern: str | None = None


@dataclass(frozen=True)
class Rule:
    """One pattern, as written and cleaned. `line` is None when it comes from no file."""

    written: str
    pattern: str
    negated: bool
    line: int | None = None


@dataclass(frozen=True, slots=True)
class State:
    """Where a walk stands: at one path.

    `node` is where the automaton is behind it, `matched` the final states of the rules that apply to it and so to
    all below, `decider` the last of these.
    """

    node: Node
    matched: int = 0
    excluded: bool = False
    decider: int | None = None


class IgnoreRules:
    """The rules of one ignore file, in order, compiled."""

    def __init__(self, rules: tuple[Rule, ...], paths: Iterable[Path]) -> None:
        self.rules = rules
        self._machine = Machine(paths)
        self._rule_of = dict(zip(self._machine.ends, rules, strict=True))
        self._negated = frozenset(end for end, rule in self._rule_of.items() if rule.negated)
        self._decisions: dict[tuple[int, int], tuple[int, bool, int | None]] = {}
        self.root = State(self._machine.begin())
        self._plain: dict[Node, State] = {}

    @classmethod
    def parse(cls, text: str | bytes, name: str = ".dockerignore") -> IgnoreRules:
        """Read an ignore file. Raises DockerfileError, with a location, for a pattern that is none."""
        source = _source(text, name)
        rules: list[Rule] = []
        paths: list[Path] = []
        size = 0
        for number, line in enumerate(source.lines, start=1):
            try:
                rule = None if line.startswith("#") else read_rule(line, number)
                if rule is None:
                    continue
                size += len(rule.pattern) + 1
                if size > MAX_STATES:
                    raise GlobError(f"the patterns have more than {MAX_STATES} characters in all")
                paths.append(compile_pattern(rule.pattern))
                rules.append(rule)
            except GlobError as error:
                raise printable(source).error(error.message, Span(number, number), hint=error.hint) from None
        return cls(tuple(rules), paths)

    @classmethod
    def of(cls, patterns: Iterable[str]) -> IgnoreRules:
        """Rules from patterns alone, as in COPY --exclude. Raises GlobError."""
        rules = tuple(rule for pattern in patterns if (rule := read_rule(pattern, None)))
        if sum(len(rule.pattern) + 1 for rule in rules) > MAX_STATES:
            raise GlobError(f"the patterns have more than {MAX_STATES} characters in all")
        return cls(rules, [compile_pattern(rule.pattern) for rule in rules])

    # Walking

    def enter(self, parent: State, name: str) -> State:
        """The state at the entry `name` of the directory that `parent` stands at."""
        machine = self._machine
        node = parent.node if parent is self.root else machine.run(parent.node, "/")
        node = machine.run(node, name)
        if not parent.matched and not node.found:
            return self._undecided(node)
        matched, excluded, decider = self._decide(parent.matched, node.found)
        return State(node, matched, excluded, decider)

    def _undecided(self, node: Node) -> State:
        """A path on which no rule has a word: one value for all that are alike."""
        found = self._plain.get(node)
        if found is None:
            if len(self._plain) >= self._machine.most_nodes:  # each keeps a set of states
                self._plain.clear()
            found = self._plain[node] = State(node)
        return found

    def may_reinclude(self, state: State) -> bool:
        """Whether anything below the directory at `state` may be in the context: if not, skip it."""
        if not state.excluded:
            return True
        below = self._machine.run(state.node, "/").states & self._negated_states
        return state.decider is None or below >> (state.decider + 1) != 0

    def decision(self, state: State) -> Decision:
        """The state's decision with the line and pattern that made it."""
        if state.decider is None:
            return Decision(state.excluded)
        rule = self._rule_of[state.decider]
        return Decision(state.excluded, rule.line, rule.written)

    # Asking for one path

    def decide(self, path: str) -> Decision:
        """Decide about a relative path with slashes, after all its parents. The root itself is always in."""
        return self.decision(self._at(path))

    def excludes(self, path: str) -> bool:
        return self._at(path).excluded

    def may_reinclude_below(self, directory: str) -> bool:
        """As `may_reinclude`, for a path."""
        return self.may_reinclude(self._at(directory))

    def _at(self, path: str) -> State:
        state = self.root
        for name in path.split("/"):
            if name not in ("", "."):
                state = self.enter(state, name)
        return state

    def _decide(self, inherited: int, found: int) -> tuple[int, bool, int | None]:
        """What applies, whether the path is left out, and who had the last word.

        `inherited` applied to the parent, `found` match the path itself. A rule that matches the path counts only where
        it changes the decision: a `!` before anything is excluded does not, for this path or those below.
        """
        key = (inherited, found)
        if key not in self._decisions:
            if len(self._decisions) >= MAX_DECISIONS:
                self._decisions.clear()
            self._decisions[key] = self._decide_new(inherited, found)
        return self._decisions[key]

    def _decide_new(self, inherited: int, found: int) -> tuple[int, bool, int | None]:
        applying: list[int] = []
        excluded = False
        for end in _members(inherited | found):
            negated = end in self._negated
            if negated == excluded or inherited >> end & 1:
                applying.append(end)
                excluded = not negated
        matched = mask(applying, applying[-1] + 1) if applying else 0
        return matched, excluded, applying[-1] if applying else None

    @cached_property
    def _negated_states(self) -> int:
        """All states of the rules that begin with `!`."""
        states: list[int] = []
        begin = 0
        for end in self._machine.ends:
            if end in self._negated:
                states.extend(range(begin, end + 1))
            begin = end + 1
        return mask(states, begin)


def _members(states: int) -> Iterator[int]:
    """The numbers of the states, in order."""
    for index, byte in enumerate(states.to_bytes(states.bit_length() // 8 + 1, "little")):
        if byte:
            yield from (index * 8 + bit for bit in range(8) if byte >> bit & 1)


def read_rule(line: str, number: int | None) -> Rule | None:
    """The rule on a line that is no comment; None when there is none. Raises GlobError for a lone `!`."""
    written = line.strip(SPACE)
    negated = written.startswith("!")
    pattern = written[1:].strip(SPACE) if negated else written
    if not pattern:
        if negated:
            raise GlobError("a ! without a pattern")
        return None
    # normpath keeps two leading slashes, so one is all it gets to see
    cleaned = posixpath.normpath(f"/{pattern.lstrip('/')}" if pattern.startswith("/") else pattern).removeprefix("/")
    return Rule(written, cleaned, negated, number) if cleaned not in ("", ".") else None


def compile_pattern(pattern: str) -> Path:
    """A cleaned pattern for the automaton. Raises GlobError."""
    suffix = pattern[2:]
    if pattern.startswith("**") and suffix and suffix[0] != "/" and not glob.has_meta(suffix) and "]" not in suffix:
        return suffix_pattern(suffix)
    return path_pattern(glob.parse(pattern))


def _source(text: str | bytes, name: str) -> Source:
    """The lines. Names of files need not be UTF-8, so bytes that are none are kept as os.fsdecode does."""
    too_long = len(text) > MAX_BYTES
    start = text[:MAX_BYTES]
    decoded = start.decode("utf-8", "surrogateescape") if isinstance(start, bytes) else start
    source = cut(decoded.removeprefix(BOM), name)
    if too_long:
        raise printable(source).error(f"the file is longer than {MAX_BYTES} bytes", Span(1, 1))
    return source
