"""Expansion in the bodies of COPY's here-documents."""

from __future__ import annotations

import pytest

from orca.dockerfile.words import WordError, expand_body

VALUES = {"A": "1", "B": "two words"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("plain\n", "plain\n"),
        ("a $A ${B}\n", "a 1 two words\n"),
        ("'$A' \"$A\"\n", "'1' \"1\"\n"),
        (r"\$A \\ \n" + "\n", "$A \\ \\n\n"),
        ("${C:-none} $C.\n", "none .\n"),
        ("100% $ $1\n", "100% $ \n"),
    ],
)
def test_expand_body(body: str, expected: str) -> None:
    assert expand_body(body, VALUES.get) == expected


def test_a_required_variable_is_an_error() -> None:
    with pytest.raises(WordError, match="needed"):
        expand_body("${C:?needed}", VALUES.get)
