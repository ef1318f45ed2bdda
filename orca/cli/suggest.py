"""What may come next in a line of `orca shell`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from orca.dispatch import table
from orca.dockerfile.flags import KNOWN, Kind

INSTRUCTIONS = tuple(sorted(kind.keyword for kind in table.TABLE))
MOUNTS = ("bind", "cache", "secret", "ssh", "tmpfs")


def suggest(line: str, word: str, commands: Iterable[str], names: Sequence[str], context: str) -> list[str]:
    """Words that may stand for `word`, the last one of `line`, which has the text before the cursor.

    `names` are the scripted builds that `--from` may name; paths are those of the directory `context`.
    """
    before = line[: len(line) - len(word)].split()
    while before and before[0].upper() == "ONBUILD":
        del before[0]
    if not before:
        found = [name for name in (*INSTRUCTIONS, *commands) if name.lower().startswith(word.lower())]
        return [f"{name} " for name in found]
    keyword = before[0].upper()
    if word.startswith("--"):
        return _flags(keyword, word, names)
    if keyword in ("COPY", "ADD"):
        return _paths(word, context)
    return []


def _flags(keyword: str, word: str, names: Sequence[str]) -> list[str]:
    if word.startswith("--from="):
        return [f"--from={name} " for name in names if name.startswith(word.removeprefix("--from="))]
    if word.startswith("--mount=type="):
        return [f"--mount=type={kind}," for kind in MOUNTS if kind.startswith(word.removeprefix("--mount=type="))]
    spelled = {
        f"--{name} " if kind is Kind.BOOLEAN else "--mount=type=" if name == "mount" else f"--{name}="
        for name, kind in KNOWN.get(keyword, {}).items()
    }
    return sorted(each for each in spelled if each.startswith(word))


def _paths(word: str, context: str) -> list[str]:
    """Files below the context; a directory ends in a slash, so that one can go on."""
    directory, slash, start = word.rpartition("/")
    place = os.path.join(context, directory.lstrip("/"))
    found = []
    try:
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.name.startswith(start) and entry.name.isprintable() and (start or entry.name[0] != "."):
                    found.append(f"{directory}{slash}{entry.name}{'/' if entry.is_dir() else ' '}")
    except OSError:
        return []
    return sorted(found)
