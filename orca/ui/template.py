"""--format: the part of Go's templates that people type after docker and podman commands.

`{{.Name}}`, `{{.A.B}}`, `{{json .Name}}`, `{{index .Labels "x"}}`, `{{len .Layers}}`, `{{join .Cmd " "}}`,
`{{upper .X}}`, `{{lower .X}}`, `{{println .X}}`, `{{range .Env}}…{{end}}`, `{{if .X}}…{{else}}…{{end}}`; a leading
word `table` puts headers above. `json` alone is `{{json .}}`. Anything else is an error that says what there is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orca.errors import UsageError
from orca.ui.escape import visible

_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s"]+')
_PATH = re.compile(r"\.(?:[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*)?")
_ESCAPES = {"\\t": "\t", "\\n": "\n"}
DEEPEST = 20

Node = tuple[str, Sequence[str], list[Any], list[Any]]


@dataclass(frozen=True)
class Template:
    """A parsed --format; `table` asks for headers and aligned columns."""

    table: bool
    nodes: list[Any]

    def render(self, value: Mapping[str, Any]) -> str:
        """`value` in the template's words. Raises UsageError for a field that it does not have."""
        return _run(self.nodes, value)

    def headers(self) -> str:
        """The template's fields as headers: `.CreatedAt` is CREATED AT."""
        words = []
        for node in self.nodes:
            if isinstance(node, str):
                words.append(node)
            else:
                name = next((word for word in node[1] if word.startswith(".")), "").rpartition(".")[2]
                words.append(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).upper())
        return "".join(words)


def print_rows(text: str, rows: Sequence[Mapping[str, Any]], *, heading: bool = True) -> None:
    """Print each row in the words of a --format; a table with aligned columns. Raises UsageError."""
    from orca.ui import human

    template = parse(text)
    if not template.table:
        for row in rows:
            found = template.render(row)
            print(found, end="" if found.endswith("\n") else "\n")
        return
    headers = template.headers().split("\t")
    lines = [template.render(row).split("\t") for row in rows]
    width = max([len(headers), *map(len, lines)])
    lines = [[*line, *[""] * (width - len(line))] for line in lines]
    table = human.table(lines, [*headers, *[""] * (width - len(headers))])
    print(table if heading else table.partition("\n")[2])


def parse(text: str) -> Template:
    """A --format as people type it. Raises UsageError."""
    if text == "json":
        text = "{{json .}}"
    table = text == "table" or text.startswith("table ")
    text = text.removeprefix("table").lstrip() if table else text
    for escape, char in _ESCAPES.items():
        text = text.replace(escape, char)
    parts = _ACTION.split(text)
    if any("{{" in part or "}}" in part for part in parts[::2]):
        raise UsageError(f"--format {text[:80]!r}: braces that do not match", hint="write {{.Name}}")
    tokens = [(number % 2 == 1, part) for number, part in enumerate(parts)]
    nodes, rest = _nodes(tokens, 0, 0)
    if rest < len(tokens):
        raise UsageError(f"--format: {{{{{tokens[rest][1]}}}}} without range or if")
    return Template(table, nodes)


def _nodes(tokens: list[tuple[bool, str]], place: int, depth: int) -> tuple[list[Any], int]:
    """The nodes from `place` on, and where an `end` or `else` that is not theirs stands."""
    nodes: list[Any] = []
    while place < len(tokens):
        action, text = tokens[place]
        if not action:
            if text:
                nodes.append(text)
            place += 1
            continue
        words = _WORD.findall(text)
        if words and words[0] in ("end", "else"):
            return nodes, place
        if not words or words[0] not in ("range", "if"):
            nodes.append(_action(words, text))
            place += 1
            continue
        if depth > DEEPEST:
            raise UsageError("--format: too deep")
        node, place = _block(words, text, tokens, place, depth)
        nodes.append(node)
    return nodes, place


def _block(words: list[str], text: str, tokens: list[tuple[bool, str]], place: int, depth: int) -> tuple[Node, int]:
    inner, place = _nodes(tokens, place + 1, depth + 1)
    other: list[Any] = []
    if place < len(tokens) and tokens[place][1] == "else":
        other, place = _nodes(tokens, place + 1, depth + 1)
    if place >= len(tokens) or tokens[place][1] != "end" or len(words) != 2 or not _PATH.fullmatch(words[1]):
        raise UsageError(f"--format: {{{{{text}}}}} has no {{{{end}}}}, or no field", hint="{{range .Env}}{{.}}{{end}}")
    return (words[0], words[1:], inner, other), place + 1


def _action(words: list[str], text: str) -> Node:
    name = "print" if words and words[0].startswith(".") else words[0] if words else ""
    given = words if name == "print" and words[0] != "print" else words[1:]
    takes = _TAKES.get(name, 1)
    if name not in _FUNCTIONS or not given or (takes and len(given) != takes):
        hint = f"there are {{{{.Field}}}}, range, if, {', '.join(sorted(_FUNCTIONS))}"
        raise UsageError(f"--format: {{{{{text[:60]}}}}} is not understood", hint=hint)
    return name, given, [], []


def _run(nodes: Sequence[Any], value: Any) -> str:
    return "".join(node if isinstance(node, str) else _node(node, value) for node in nodes)


def _node(node: Node, value: Any) -> str:
    name, words, inner, other = node
    found = [_value(word, value) for word in words]
    if name == "if":
        return _run(inner if found[0] else other, value)
    if name == "range":
        items = found[0].values() if isinstance(found[0], Mapping) else found[0] or ()
        if isinstance(items, str | int | float):
            raise UsageError(f"--format: {words[0]} is no list")
        return "".join(_run(inner, item) for item in items) if found[0] else _run(other, value)
    return _FUNCTIONS[name](*found)


def _value(word: str, value: Any) -> Any:
    """What a field or a literal is."""
    if word.startswith('"'):
        try:
            return json.loads(word)
        except ValueError as error:
            raise UsageError(f"--format: {word} is no string") from error
    if word.isdigit():
        return int(word)
    if not _PATH.fullmatch(word):
        raise UsageError(f"--format: {word} is neither a field nor a string", hint="a field begins with a dot: .Name")
    for name in filter(None, word[1:].split(".")):
        value = _field(name, value, word)
    return value


def _field(name: str, value: Any, word: str) -> Any:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise UsageError(f"--format: there is nothing below {word.rpartition('.')[0]}")
    if name in value:
        return value[name]
    same = [key for key in value if key.lower() == name.lower()]
    if same:
        return value[same[0]]
    raise UsageError(f"--format: no field {word}", hint=f"there are: {', '.join(f'.{key}' for key in value)}")


def _text(value: Any) -> str:
    """As Go prints it: lists in brackets, maps as map[k:v], nothing as <no value>."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return f"map[{' '.join(f'{visible(str(key))}:{_text(item)}' for key, item in sorted(value.items()))}]"
    if isinstance(value, list | tuple):
        return f"[{' '.join(map(_text, value))}]"
    return visible(str(value))


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _index(value: Any, *keys: Any) -> str:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(str(key))
        elif isinstance(value, list | tuple) and isinstance(key, int) and key < len(value):
            value = value[key]
        elif value is not None:
            raise UsageError(f"--format: index {key!r} is not there")
    return "" if value is None else _text(value)


def _length(value: Any) -> str:
    if not isinstance(value, Mapping | list | tuple | str):
        raise UsageError("--format: len of something that has no length")
    return str(len(value))


_TAKES = {"index": 0, "join": 2}
"""How many words a function takes if not one; 0 is any number."""

_FUNCTIONS: dict[str, Callable[..., str]] = {
    "print": _text,
    "println": lambda value: _text(value) + "\n",
    "json": _json,
    "index": _index,
    "len": _length,
    "upper": lambda value: _text(value).upper(),
    "lower": lambda value: _text(value).lower(),
    "join": lambda value, between: between.join(map(_text, value or ())),
}
