from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca.ui.escape import strip_controls, visible

ANYTHING = st.text(st.characters()) | st.text(st.sampled_from("\x1b\x9b\x9d[]0;31mHa\x07\r\n\b\t\\\u202e\udc80"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text", "plain text"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x9b31m", "\\u009b31m"),
        ("exe\u202egpj", "exe\\u202egpj"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("byte \udcff", "byte \\xff"),
        ("back\\slash", "back\\slash"),
        ("漢字 é\u3000ok", "漢字 é\u3000ok"),
    ],
)
def test_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(ANYTHING)
def test_visible_holds_nothing_unseen(text: str) -> None:
    assert not any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in visible(text))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;never closed", ""),
        ("\x9b2Jgone", "gone"),
        ("\x1bPq#0\x1b\\dcs", "dcs"),
        ("\x1b(Bset", "set"),
        ("10%\r50%\r100%", "100%"),
        ("windows line\r", "windows line"),
        ("|\b/\b-", "-"),
        ("keep\ttab", "keep\ttab"),
        ("bell\x07", "bell"),
        ("bad \udcff", "bad \ufffd"),
        ("at end\x1b", "at end"),
    ],
)
def test_strip_controls(text: str, left: str) -> None:
    assert strip_controls(text) == left


@given(ANYTHING)
def test_stripped_holds_no_control(text: str) -> None:
    left = strip_controls(text)
    assert not any(unicodedata.category(char) in ("Cc", "Cs") and char != "\t" for char in left)
    assert not any("\u202a" <= char <= "\u202e" for char in left)


def test_strip_is_linear() -> None:
    strip_controls("\x1b]" * 200_000)
    strip_controls("\x1b[" + "1;" * 200_000)
