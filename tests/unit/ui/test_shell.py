from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca.ui import human
from orca.ui.shell import command_lines, shell_join, shell_word

SLIRP = (
    "slirp4netns --configure --mtu=65520 --disable-host-loopback --ready-fd=5 --netns-type=path /run/netns tap0"
).split()


def typed(text: str) -> list[str]:
    """What bash makes of `text`."""
    script = f"printf '%s\\0' {text}"
    out = subprocess.run(["bash", "-c", script], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}).stdout
    return out.decode("utf-8", "surrogateescape").split("\0")[:-1]


def test_short_command_stays_on_a_line() -> None:
    assert command_lines(("runc", "run", "a b"), 80) == ["$ runc run 'a b'"]


def test_long_command_breaks_at_options() -> None:
    assert command_lines(SLIRP, 60) == [
        "$ slirp4netns --configure --mtu=65520 \\",
        "    --disable-host-loopback --ready-fd=5 \\",
        "    --netns-type=path /run/netns tap0",
    ]


def test_option_keeps_its_value_beside_it() -> None:
    lines = command_lines(("runc", "--root", "/run/orca/runc", "run", "--bundle", "/run/orca/bundle"), 44)
    assert lines == ["$ runc --root /run/orca/runc run \\", "    --bundle /run/orca/bundle"]


def test_long_words_are_never_broken() -> None:
    lines = command_lines(("sh", "-c", "x" * 100, "y"), 40)
    assert [line for line in lines if "x" * 100 in line]
    assert "\n".join(lines) == "$ sh -c \\\n    " + "x" * 100 + " \\\n    y"


@pytest.mark.parametrize(
    "word", ["", "a'b", "a\nb", "\x1b[2J", "it's\t\\n", "\udcffx", "\x85", "\u202ea1", "$HOME", "漢"]
)
def test_word_survives_the_shell(word: str) -> None:
    assert typed(shell_word(word)) == [word]
    assert "\x1b" not in shell_word(word) and "\n" not in shell_word(word)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_any_command_survives_the_shell(words: list[str]) -> None:
    assert typed(shell_join(words)) == words
    broken = "\n".join(command_lines(words, 30, prompt=""))
    assert typed(broken) == words


@given(st.lists(st.text("ab-", min_size=1, max_size=8), min_size=1), st.integers(20, 100))
def test_lines_keep_the_width(words: list[str], width: int) -> None:
    assert all(human.cells(line) <= width for line in command_lines(words, width))
