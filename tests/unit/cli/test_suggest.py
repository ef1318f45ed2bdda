"""Completion in orca shell, and where an instruction goes on in the next line."""

from __future__ import annotations

from pathlib import Path

import pytest

from orca.cli.suggest import suggest
from orca.dockerfile.parser import unfinished

COMMANDS = ("steps", "undo", "sh")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("", None),
        ("co", ["COPY "]),
        ("EN", ["ENTRYPOINT ", "ENV "]),
        ("st", ["STOPSIGNAL ", "steps "]),
        ("FR", []),
        ("ONBUILD wor", ["WORKDIR "]),
        ("COPY --l", ["--link "]),
        ("copy --from=w", ["--from=web "]),
        ("RUN --m", ["--mount=type="]),
        ("RUN --mount=type=s", ["--mount=type=secret,", "--mount=type=ssh,"]),
        ("HEALTHCHECK --start", ["--start-interval=", "--start-period="]),
        ("ENV --", []),
        ("COPY si", ["site/"]),
        ("ADD site/", ["site/a ", "site/sub/"]),
        ("COPY /site/s", ["/site/sub/"]),
        ("COPY nowhere/", []),
        ("COPY .h", [".hidden "]),
        ("RUN si", []),
    ],
)
def test_suggestions(line: str, found: list[str] | None, tmp_path: Path) -> None:
    (tmp_path / "site/sub").mkdir(parents=True)
    for name in ("site/a", ".hidden", "other", "site/bad\x1b[2J"):
        (tmp_path / name).touch()
    word = line.rpartition(" ")[2]
    made = suggest(line, word, COMMANDS, ["web", "other"], str(tmp_path))
    if found is None:
        assert {"COPY ", "RUN ", "undo "} <= set(made) and "FROM " not in made
    else:
        assert made == found


@pytest.mark.parametrize(
    ("text", "goes_on"),
    [
        ("RUN a", False),
        ("RUN a \\", True),
        ("RUN a \\  ", True),
        ("RUN a \\\n b", False),
        ("RUN <<X", True),
        ("RUN <<X\necho \\", True),
        ("RUN <<X\necho\nX", False),
        ("COPY <<A <<B /\nA", True),
        ("# a comment \\", False),
        ("NOPE", False),
        ("", False),
    ],
)
def test_unfinished(text: str, goes_on: bool) -> None:
    assert unfinished(text) is goes_on
