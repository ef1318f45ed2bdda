"""Whole Dockerfiles, each beside what becomes of it.

After a wanted change: `GOLDEN=write pytest tests/unit/dockerfile/test_golden.py`, then read the diff.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from orca.dockerfile.instructions import Dockerfile, Instruction
from orca.dockerfile.parser import parse

FILES = sorted((Path(__file__).parent / "golden").glob("*.Dockerfile"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_golden(file: Path) -> None:
    found = plain(parse(file.read_bytes(), file.name))
    expected = file.with_suffix(".json")
    if os.environ.get("GOLDEN") == "write":
        expected.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    assert found == json.loads(expected.read_text())


def plain(dockerfile: Dockerfile) -> dict[str, Any]:
    """What a reader wants to see of it, as JSON values."""
    return {
        "directives": {directive.name: directive.value for directive in dockerfile.directives},
        "warnings": [f"{warning.span.first}: {warning.rule}" for warning in dockerfile.warnings],
        "instructions": [value(instruction) for instruction in dockerfile.instructions],
    }


def value(thing: Any) -> Any:
    """A dataclass without the fields that have their default value; an instruction with its keyword and lines."""
    if isinstance(thing, tuple):
        return [value(member) for member in thing]
    if not dataclasses.is_dataclass(thing) or isinstance(thing, type):
        return thing
    fields = {field.name: (field.default, getattr(thing, field.name)) for field in dataclasses.fields(thing)}
    shown = {name: value(given) for name, (default, given) in fields.items() if given != default and name != "span"}
    if isinstance(thing, Instruction):
        return {thing.keyword: f"{thing.span.first}-{thing.span.last}"} | shown
    return {type(thing).__name__: shown}
