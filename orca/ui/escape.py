"""Text from outside, made safe to print.

File names, labels, registry answers, instructions and the output of a RUN may hold anything, also
sequences that repaint the terminal or turn the reading direction around. `visible` is for what orca
itself says (nothing is lost, everything can be seen); `strip_controls` is for lines a RUN printed.
"""

from __future__ import annotations

import functools
import re

_NAMED = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}

# Printable by their category, yet drawn as nothing: Unicode's Default_Ignorable_Code_Point that are
# letters or marks (fillers, joiners, variation selectors), and the braille blank.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
_BLANK_RANGES = ((0xFE00, 0xFE0F), (0xE0100, 0xE01EF))


def visible(text: str) -> str:
    """`text` on one line, with every character that does not show itself spelled as an escape.

    Escaped are C0 and C1 controls (so also newline and ESC), format characters (bidirectional
    overrides, zero-width ones, …), line separators, unassigned and private characters, and bytes
    that were not UTF-8 (surrogate escapes, shown as `\\xNN`). Backslashes stay as they are.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if shows(char) else escaped(char) for char in text)


def shows(char: str) -> bool:
    """Whether one character is drawn as itself, or is a space that moves the text along."""
    if char in _BLANK or any(low <= ord(char) <= high for low, high in _BLANK_RANGES):
        return False
    return char.isprintable() or _is_space(char)


def _is_space(char: str) -> bool:
    # str.isprintable() says no to every space but " ": the wide and narrow ones (Zs) are harmless.
    return char in "\u00a0\u1680\u202f\u205f\u3000" or "\u2000" <= char <= "\u200a"


def escaped(char: str) -> str:
    """One character as the escape that Python, bash (`$'…'`) and printf understand."""
    code = ord(char)
    if char in _NAMED:
        return _NAMED[char]
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    # bash would take \x85 for the byte 0x85: only \u names the character.
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


@functools.cache
def _sequences() -> re.Pattern[str]:
    """Escape sequences of ECMA-48, finished or cut off. No part can match in two ways: linear time."""
    string = r"[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    return re.compile(
        rf"(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f]){string}"  # OSC, DCS, SOS, PM, APC
        r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI: colours, cursor, erase
        r"|\x1b[ -/]*[0-~]?"  # two-character sequences, character sets
    )


@functools.cache
def _controls() -> re.Pattern[str]:
    """C0 without tab, C1, line separators, bidirectional controls and the byte order mark."""
    return re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def strip_controls(text: str) -> str:
    """A line that a RUN printed, as a terminal would leave it: no sequences, no controls but tab.

    After a carriage return only what follows it is kept, and a backspace takes back a character.
    Bytes that were not UTF-8 become U+FFFD.
    """
    if text.isascii() and text.isprintable():
        return text
    text = _sequences().sub("", text)
    text = text.rstrip("\r\n").rpartition("\r")[2]
    if "\b" in text:
        text = _backspaced(text)
    text = _controls().sub("", text)
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _backspaced(text: str) -> str:
    kept: list[str] = []
    for char in text:
        if char != "\b":
            kept.append(char)
        elif kept:
            kept.pop()
    return "".join(kept)
