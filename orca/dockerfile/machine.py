"""One automaton for all the patterns of an ignore file, run on whole paths a character at a time.

Every pattern is a row of states; the active ones of all patterns are the bits of one integer, so a character costs a
few integer operations however many patterns there are and whatever is in them. Nothing is ever tried twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from .glob import Atom, Class, Wild, accepts

MAX_TABLE = 4096  # characters whose step is remembered
MAX_NODES_BITS = 1 << 27  # all sets of states that are remembered, together


class Gap(Enum):
    """What may stand between two atoms, as a regular expression."""

    NOTHING = ""
    STAR = "[^/]*"
    DIRECTORIES = "(.*/)?"
    STAR_DIRECTORIES = "[^/]*(.*/)?"
    ANYTHING = ".*"


@dataclass(frozen=True)
class Path:
    """A pattern for a whole path: atoms that take one character each, and the gaps before, between and after them."""

    atoms: tuple[Atom, ...]
    gaps: tuple[Gap, ...]


# Two gaps in a row, written as one; every pair that is not here is ANYTHING.
_JOINED = {
    (Gap.STAR, Gap.STAR): Gap.STAR,
    (Gap.STAR, Gap.DIRECTORIES): Gap.STAR_DIRECTORIES,
    (Gap.DIRECTORIES, Gap.DIRECTORIES): Gap.DIRECTORIES,
    (Gap.STAR_DIRECTORIES, Gap.DIRECTORIES): Gap.STAR_DIRECTORIES,
}


def path_pattern(atoms: Sequence[Atom]) -> Path:
    """Read the atoms of a glob as a path pattern, where two stars in a row cross directories.

    Those take a slash behind them along, so `**/x` matches `x`; at the end they match everything.
    A leading `**` before plain characters is a mere suffix, as in moby/patternmatcher: `**.o` matches `a/b.o`.
    """
    taken: list[Atom] = []
    gaps = [Gap.NOTHING]
    at = 0
    while at < len(atoms):
        if atoms[at] is not Wild.STAR:
            taken.append(atoms[at])
            gaps.append(Gap.NOTHING)
            at += 1
        elif atoms[at + 1 : at + 2] != (Wild.STAR,):
            gaps[-1] = _join(gaps[-1], Gap.STAR)
            at += 1
        else:
            at += 3 if atoms[at + 2 : at + 3] == ("/",) else 2
            gaps[-1] = _join(gaps[-1], Gap.DIRECTORIES if at < len(atoms) else Gap.ANYTHING)
    return Path(tuple(taken), tuple(gaps))


def suffix_pattern(text: str) -> Path:
    """Every path that ends in `text`."""
    return Path(tuple(text), (Gap.ANYTHING, *[Gap.NOTHING] * len(text)))


def _join(first: Gap, second: Gap) -> Gap:
    if first is Gap.NOTHING:
        return second
    return _JOINED.get((first, second), Gap.ANYTHING)


class Node:
    """A set of active states, and where characters lead from it as far as known: a walk meets few sets, often.

    `found` are the final ones among them.
    """

    __slots__ = ("found", "next", "states")

    def __init__(self, states: int, found: int) -> None:
        self.states = states
        self.found = found
        self.next: dict[str, Node] = {}


class Machine:
    """The automaton. `start` are the states before any character, `final` those in which some pattern matches.

    Pattern i has the states behind `ends[i-1]` up to `ends[i]`, its final one; so the order of states is the order of
    patterns. A set of states is an integer, a single state its number.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        builder = _Builder()
        self.ends = [builder.add(path) for path in paths]
        self.final = builder.mask(self.ends)
        self._skips = builder.mask(builder.skips)
        self.start = self._skip(builder.mask(builder.starts))
        self._literals = {char: builder.mask(states) for char, states in builder.literals.items()}
        self._ones = builder.mask(builder.ones)
        self._classes = builder.classes
        self._stay_inside = builder.mask(builder.stay_inside)
        self._stay = builder.mask(builder.stay)
        self._table: dict[str, tuple[int, int]] = {}
        self._nodes: dict[int, Node] = {}
        self.most_nodes = max(64, MAX_NODES_BITS // max(1, builder.count))

    def begin(self) -> Node:
        """Where every text begins."""
        return self._node(self.start)

    def run(self, node: Node, text: str) -> Node:
        """Where `text` leads from `node`."""
        for char in text:
            node = node.next.get(char) or self._advance(node, char)
        return node

    def _advance(self, node: Node, char: str) -> Node:
        """A step that is taken for the first time."""
        step = self._table.get(char) or self._step(char)
        states = (node.states << 1) & step[0] | node.states & step[1]
        if states & self._skips:
            states = self._skip(states)
        found = self._node(states)
        if len(node.next) < MAX_TABLE:
            node.next[char] = found
        return found

    def _node(self, states: int) -> Node:
        node = self._nodes.get(states)
        if node is None:
            if len(self._nodes) >= self.most_nodes:
                # Nodes that a walk still holds must not keep all others.
                for each in self._nodes.values():
                    each.next.clear()
                self._nodes.clear()
            node = self._nodes[states] = Node(states, states & self.final)
        return node

    def _skip(self, states: int) -> int:
        """`states` with those that `(.*/)?` activates: it may take nothing, or begin with any character."""
        skipping = states & self._skips
        return states | skipping << 1 | skipping << 2

    def _step(self, char: str) -> tuple[int, int]:
        """Which states the character leads into from the one before, and which it leaves active."""
        into = self._literals.get(char, 0)
        for state, tested in self._classes:
            if accepts(tested, char):
                into |= 1 << state
        stays = self._stay
        if char != "/":
            into |= self._ones
            stays |= self._stay_inside
        if len(self._table) >= MAX_TABLE:
            self._table.clear()
        self._table[char] = into, stays
        return into, stays


class _Builder:
    """Numbers the states and collects which of them do what."""

    def __init__(self) -> None:
        self.count = 0
        self.starts: list[int] = []
        self.skips: list[int] = []  # states that also activate the next two: `(.*/)?`
        self.stay: list[int] = []  # states that any character leaves active
        self.stay_inside: list[int] = []  # … any character but the slash
        self.ones: list[int] = []  # states that any character but the slash leads into
        self.literals: defaultdict[str, list[int]] = defaultdict(list)
        self.classes: list[tuple[int, Class]] = []

    def add(self, path: Path) -> int:
        """Lay out one pattern; its final state."""
        state = self._new()
        self.starts.append(state)
        state = self._gap(path.gaps[0], state)
        for atom, gap in zip(path.atoms, path.gaps[1:], strict=True):
            state = self._new()
            if isinstance(atom, Class):
                self.classes.append((state, atom))
            elif isinstance(atom, Wild):
                self.ones.append(state)
            else:
                self.literals[atom].append(state)
            state = self._gap(gap, state)
        return state

    def _gap(self, gap: Gap, state: int) -> int:
        """Let the gap follow `state`; the state behind it."""
        if gap in (Gap.STAR, Gap.STAR_DIRECTORIES):
            self.stay_inside.append(state)
        if gap is Gap.ANYTHING:
            self.stay.append(state)
        if gap in (Gap.DIRECTORIES, Gap.STAR_DIRECTORIES):
            self.skips.append(state)
            self.stay.append(self._new())
            state = self._new()
            self.literals["/"].append(state)
        return state

    def _new(self) -> int:
        self.count += 1
        return self.count - 1

    def mask(self, states: Iterable[int]) -> int:
        return mask(states, self.count)


def mask(states: Iterable[int], count: int) -> int:
    """States below `count` as the bits of one integer, in time that does not grow with their number's square."""
    bits = bytearray(count // 8 + 1)
    for state in states:
        bits[state // 8] |= 1 << state % 8
    return int.from_bytes(bits, "little")
