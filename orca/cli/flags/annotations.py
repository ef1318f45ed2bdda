"""--annotation: `[LEVEL[PLATFORM],…:]NAME=VALUE`, as buildx spells it."""

from __future__ import annotations

import re

from orca.errors import UsageError
from orca.executor.options import Annotation
from orca.oci import platform as platforms

LEVELS = ("manifest", "index", "manifest-descriptor", "index-descriptor")
_LEVEL = r"[a-z-]+(?:\[[^]]*\])?"
_WORD = re.compile(rf"(?:(?P<levels>{_LEVEL}(?:,{_LEVEL})*):)?(?P<name>[^=]+)=(?P<value>.*)", re.DOTALL)


def parse(words: list[str]) -> tuple[Annotation, ...]:
    """All that the words say. Raises UsageError."""
    return tuple(each for word in words for each in _parse(word))


def annotation(word: str) -> Annotation:
    """A word that names one level."""
    (found,) = _parse(word)
    return found


def _parse(word: str) -> list[Annotation]:
    match = _WORD.fullmatch(word)
    levels = match["levels"].split(",") if match and match["levels"] else ["manifest"]
    if match and any(level.partition("[")[0] not in LEVELS for level in levels):
        # A name may have a colon of its own.
        match, levels = re.fullmatch(r"(?P<name>[^=]+)=(?P<value>.*)", word, re.DOTALL), ["manifest"]
    if match is None:
        raise UsageError(
            f"--annotation {word!r} is not NAME=VALUE",
            hint=f"write NAME=VALUE or LEVEL:NAME=VALUE; LEVEL is {', '.join(LEVELS)}",
        )
    found = []
    for level in levels:
        kind, bracket, platform = level.partition("[")
        if bracket and kind.startswith("index"):
            raise UsageError(f"--annotation {word!r}: an index has no platform")
        chosen = str(platforms.parse(platform.rstrip("]"))) if bracket else None
        found.append(Annotation(kind, match["name"], match["value"], chosen))
    return found
