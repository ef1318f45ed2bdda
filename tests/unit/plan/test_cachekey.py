"""Cache keys: the same for the same ingredients for ever, another for any other."""

from __future__ import annotations

from typing import Any

import pytest

from orca.plan.cachekey import step_key

INGREDIENTS: dict[str, Any] = {
    "run": ["/bin/sh", "-c", "echo ü"],
    "env": [["A", "1"], ["PATH", "/bin"]],
    "cwd": "/",
    "user": "",
    "network": "default",
    "hosts": [],
    "script": None,
}
KEY = step_key("ab" * 32, INGREDIENTS)


def test_a_golden_key() -> None:
    # A change here throws away everybody's cache: intended ones give GENERATION a new number.
    assert KEY == "284622b74b6dfc6be521ef4ac40481a1b15bd982f996f234bc9e091d75907fee"
    assert step_key("", {}) == "5e6cc06cf51e0ac2544c9d9d47866232e6e50cb9cd16fbca2168aa364bb20e5f"


def test_order_of_names_does_not_matter() -> None:
    assert step_key("ab" * 32, dict(reversed(INGREDIENTS.items()))) == KEY


@pytest.mark.parametrize(
    "change",
    [
        {"run": ["/bin/sh", "-c", "echo u"]},
        {"run": ["/bin/sh", "-c", "echo", "ü"]},
        {"run": ["/bin/sh", "-c", "echo \udcfc"]},
        {"env": [["PATH", "/bin"], ["A", "1"]]},
        {"env": [["A", "1"]]},
        {"env": [["A", 1], ["PATH", "/bin"]]},
        {"cwd": ""},
        {"user": None},
        {"network": "none"},
        {"hosts": [["a", "b"]]},
        {"script": ""},
        {"more": None},
    ],
)
def test_every_ingredient_counts(change: dict[str, Any]) -> None:
    assert step_key("ab" * 32, {**INGREDIENTS, **change}) != KEY


def test_the_parent_counts() -> None:
    assert step_key("cd" * 32, INGREDIENTS) != KEY != step_key("", INGREDIENTS)
