"""How an image was made: the steps of its build by their numbers, so that `IMAGE@N` is the image after step N.

`chains/DIGEST` (64 hexadecimal digits of the image's manifest) is written when a build ends. The numbers are those
that the build showed. A step whose stage was not built, because only cached steps read it, has a key alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from orca.errors import ImageError
from orca.oci import image
from orca.oci.image import Descriptor
from orca.store import files

_STEP = re.compile(r"(.+)@([0-9]{1,6})", re.DOTALL)


@dataclass(frozen=True)
class Link:
    """One step: `key` is its place in the step cache, `manifest` the image after it as far as known.

    `stage` is the stage's label; `own` says that the image is made of this step, which no other stage's is.
    """

    number: int
    stage: str
    text: str
    key: str
    own: bool
    manifest: Descriptor | None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "manifest": self.manifest.to_json() if self.manifest else None}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Link:
        """Raises KeyError, TypeError or ImageError when it is not what `to_json` wrote."""
        found = value["manifest"]
        return replace(cls(**value), manifest=Descriptor.from_json(found) if found else None)


def split(text: str) -> tuple[str, int | None]:
    """`app@3` as the image's name and the step's number; the number is None when `text` names no step."""
    match = _STEP.fullmatch(text)
    return (match[1], int(match[2])) if match else (text, None)


def path_of(root: Path, digest: str) -> Path:
    """Where the chain of an image is kept, in the store at `root`. Raises ImageError for a bad digest."""
    return root / "chains" / image.check_digest(digest).removeprefix("sha256:")


def read(root: Path, digest: str) -> tuple[Link, ...]:
    """The steps of the build that made an image, in their order; none when that is not known."""
    value = files.read_json(path_of(root, digest))
    try:
        return tuple(Link.from_json(each) for each in value["steps"])
    except (KeyError, TypeError, AttributeError, ImageError):
        return ()


def write(root: Path, digest: str, links: Iterable[Link]) -> None:
    """Remember the steps; the build that came last has the numbers that its user saw."""
    path, value = path_of(root, digest), {"steps": [link.to_json() for link in links]}
    if files.read_json(path) != value:
        files.write_json(path, value, durable=False)
