"""Image indexes: one name for the images of several platforms. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orca.errors import ImageError
from orca.oci import platform as platforms
from orca.oci.image import DOCKER_INDEX, DOCKER_MANIFEST, INDEX, Descriptor
from orca.oci.platform import Platform

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Index:
    """An image index; each of `manifests` should say its platform."""

    manifests: tuple[Descriptor, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Index:
        """Raises ImageError when it is none."""
        entries, annotations = value.get("manifests"), value.get("annotations") or {}
        if not isinstance(entries, list) or not isinstance(annotations, dict):
            raise ImageError("not an image index")
        return cls(tuple(Descriptor.from_json(entry) for entry in entries), annotations)

    def to_json(self) -> dict[str, Any]:
        result: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "manifests": [entry.to_json() for entry in self.manifests],
        }
        if self.annotations:
            result["annotations"] = dict(sorted(self.annotations.items()))
        return result

    @property
    def media_type(self) -> str:
        """OCI's, or Docker's where all that it names is in Docker's format."""
        kinds = {entry.media_type for entry in self.manifests}
        return DOCKER_INDEX if kinds == {DOCKER_MANIFEST} else INDEX

    def choose(self, wanted: Platform | None) -> Descriptor:
        """The entry for `wanted`, or the nearest variant that can stand for it; None takes the first.

        Raises ImageError that lists what there is.
        """
        found = [(entry, platforms.of(entry.platform)) for entry in self.manifests]
        ranked = [
            (distance, number, entry)
            for number, (entry, platform) in enumerate(found)
            if (distance := _distance(wanted, platform)) is not None
        ]
        if not ranked:
            raise ImageError(f"the image is not there for {wanted}", hint=f"it has: {self.listed() or 'nothing'}")
        return min(ranked, key=lambda each: each[:2])[2]

    def has(self, wanted: Platform) -> bool:
        """Is there an entry that can stand for `wanted`?"""
        return any(_distance(wanted, platforms.of(entry.platform)) is not None for entry in self.manifests)

    def listed(self) -> str:
        """The platforms of its images, for a message."""
        found = (platforms.of(entry.platform) for entry in self.images())
        return ", ".join(dict.fromkeys(str(each or "no platform named") for each in found))

    def images(self) -> tuple[Descriptor, ...]:
        """Its entries without attestations, whose platform is unknown/unknown."""
        return tuple(entry for entry in self.manifests if (entry.platform or {}).get("os") != UNKNOWN)

    def without(self, digests: Iterable[str]) -> Index:
        """The same without some entries."""
        gone = frozenset(digests)
        return replace(self, manifests=tuple(entry for entry in self.manifests if entry.digest not in gone))

    def with_entries(self, entries: Sequence[Descriptor]) -> Index:
        """With `entries` at the end; what was there under the same digest keeps its place and takes the new words."""
        given = {entry.digest: entry for entry in entries}
        kept = [given.pop(entry.digest, entry) for entry in self.manifests]
        return replace(self, manifests=(*kept, *given.values()))

    def beside(self, entries: Sequence[Descriptor]) -> Index:
        """With `entries`, each in the place of the one for the same platform, if there is one."""
        kept = list(self.manifests)
        for entry in entries:
            same = [n for n, old in enumerate(kept) if platforms.of(old.platform) == platforms.of(entry.platform)]
            if same:
                kept[same[0]] = entry
            else:
                kept.append(entry)
        return replace(self, manifests=tuple(kept))


def _distance(wanted: Platform | None, there: Platform | None) -> int | None:
    if wanted is None:
        return None if there is not None and there.os == UNKNOWN else 0
    return None if there is None else wanted.distance(there)
