"""--chmod's modes."""

from __future__ import annotations

import pytest

from orca.dockerfile import modes


@pytest.mark.parametrize(
    ("text", "mode", "expected", "directory"),
    [
        ("644", 0o777, 0o644, False),
        ("04755", 0o644, 0o4755, False),
        ("0", 0o777, 0, True),
        ("u=rwX,go=rX", 0o600, 0o644, False),
        ("u=rwX,go=rX", 0o600, 0o755, True),
        ("u=rwX,go=rX", 0o710, 0o755, False),  # somebody might execute it, so all may
        ("u=rwX,go=rX", 0o2770, 0o755, True),
        ("a+x", 0o644, 0o755, False),
        ("+x", 0o600, 0o711, False),  # nobody named is everybody, without a umask
        ("-w", 0o666, 0o444, False),
        ("go-rwx", 0o777, 0o700, False),
        ("u+s,g+s", 0o755, 0o6755, False),
        ("o+s", 0o755, 0o755, False),
        ("a-s", 0o6755, 0o755, False),
        ("+t", 0o777, 0o1777, True),
        ("a=", 0o7777, 0, False),
        ("u=", 0o7777, 0o3077, False),
        ("g=u", 0o750, 0o770, False),
        ("o=g-w", 0o771, 0o775, False),
        ("u=rw,u-r+x,g=u", 0o000, 0o330, False),
        ("a=rX", 0o000, 0o444, False),
        ("u+x,g+X", 0o600, 0o700, False),  # X looks at the mode as it was
    ],
)
def test_modes(text: str, mode: int, expected: int, directory: bool) -> None:
    found = modes.applied(modes.parse(text), mode, directory=directory)
    assert f"{found:o}" == f"{expected:o}"


def test_no_mode_keeps_it() -> None:
    assert modes.applied(None, 0o1234, directory=False) == 0o1234


@pytest.mark.parametrize("text", ["", "8", "abc", "u", "u=rw,", ",", "u=rwz", "77777", "0o644", "-1", "u=uu", "x" * 9])
def test_what_is_no_mode(text: str) -> None:
    with pytest.raises(modes.ModeError):
        modes.parse(text)


def test_a_mode_without_end_is_none() -> None:
    with pytest.raises(modes.ModeError):
        modes.parse(",".join(["u=r"] * 1000))


def test_written() -> None:
    assert [modes.written(modes.parse(text)) for text in ("0755", "a+X")] == [0o755, "a+X"]
    assert modes.written(None) is None
