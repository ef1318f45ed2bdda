"""What commands about images print of what hostile images say, on a real terminal."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest
from support.kitchen import BASE
from support.orca import Orca

NASTY = "\x1b]52;c;ZXZpbA==\x07\x1b[2J"


@pytest.fixture
def image(orca: Orca, busybox: str, open_path: Path) -> str:
    context = open_path / "context"
    context.mkdir()
    (context / f"a{NASTY}").write_text(f"text{NASTY}\n")
    (context / "binary").write_bytes(b"\x7fELF\0\0")
    (context / "out").symlink_to("/etc/shadow")
    text = f'FROM {BASE}\nLABEL nasty="{NASTY}"\nCOPY . /d/\n'
    (context / "Dockerfile").write_text(text)
    orca("build", "-q", "-t", "app", context)
    return "app"


def on_a_terminal(orca: Orca, *words: str) -> tuple[int, str]:
    """The exit code, and all that the terminal got."""
    ours, theirs = pty.openpty()
    env = orca.environment()
    process = subprocess.Popen(orca.command(*words), stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    said = bytearray()
    try:
        while data := os.read(ours, 65536):
            said += data
    except OSError:  # the other side is closed
        pass
    os.close(ours)
    return process.wait(timeout=60), said.decode()


def test_nothing_drives_the_terminal(orca: Orca, image: str) -> None:
    name = f"/d/a{NASTY}"
    for words in (
        ("files", "-R", image), ("files", "--json", "-R", image), ("cat", image, name), ("diff", BASE, image),
        ("diff", "--json", BASE, image), ("blame", image, name), ("history", image), ("inspect", image),
        ("inspect", "-f", '{{index .Config.Labels "nasty"}}', image), ("images", "--format", "{{.Labels}}"),
        ("cat", image, f"/no{NASTY}"),
    ):  # fmt: skip
        _, said = on_a_terminal(orca, *words)
        assert "\x1b]52" not in said and "\x1b[2J" not in said, (words, said)
        assert "\x07" not in said


def test_what_is_no_text_is_not_printed(orca: Orca, image: str) -> None:
    code, said = on_a_terminal(orca, "cat", image, "/d/binary")
    assert code == 2 and "is no text" in said and "ELF" not in said
    for words in (("save", image), ("load",)):
        code, said = on_a_terminal(orca, *words)
        assert code == 2 and "terminal" in said


def test_a_link_out_of_the_image_leads_nowhere(orca: Orca, image: str) -> None:
    result = orca("cat", image, "/d/out", check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert "is not in the image" in result.stderr
