"""Indexes: which entry is for a platform, and how entries come and go."""

from __future__ import annotations

from typing import Any

import pytest

from orca.errors import ImageError
from orca.oci import platform
from orca.oci.image import MANIFEST, Descriptor
from orca.oci.index import Index


def entry(number: int, where: str | None) -> Descriptor:
    named: dict[str, Any] | None = platform.parse(where).to_json() if where else None
    if where == "unknown/unknown":
        named = {"os": "unknown", "architecture": "unknown"}
    return Descriptor(MANIFEST, f"sha256:{number:064x}", number, platform=named)


INDEX = Index(
    (entry(9, "unknown/unknown"), entry(1, "linux/amd64"), entry(2, "linux/arm/v6"), entry(3, "linux/arm/v5")),
    {"a": "b"},
)


@pytest.mark.parametrize(
    ("wanted", "number"), [(None, 1), ("linux/amd64", 1), ("linux/arm/v7", 2), ("linux/arm/v6", 2), ("linux/arm/v5", 3)]
)
def test_the_nearest_is_chosen(wanted: str | None, number: int) -> None:
    assert INDEX.choose(platform.parse(wanted) if wanted else None).size == number


def test_what_is_not_there_lists_what_is() -> None:
    with pytest.raises(ImageError, match="not there for linux/arm64") as caught:
        INDEX.choose(platform.parse("linux/arm64"))
    assert caught.value.hint == "it has: linux/amd64, linux/arm/v6, linux/arm/v5"
    assert not INDEX.has(platform.parse("linux/arm64"))
    with pytest.raises(ImageError) as caught:
        Index().choose(platform.parse("linux/arm64"))
    assert caught.value.hint == "it has: nothing"
    assert Index((entry(1, None),)).listed() == "no platform named"


def test_json_there_and_back() -> None:
    assert Index.from_json(INDEX.to_json()) == INDEX
    for bad in ({}, {"manifests": {}}, {"manifests": [], "annotations": ["x"]}, {"manifests": [1]}):
        with pytest.raises(ImageError):
            Index.from_json(bad)


def test_entries_come_and_go() -> None:
    more = INDEX.beside([entry(5, "linux/arm/v6"), entry(6, "linux/s390x")])
    assert [each.size for each in more.manifests] == [9, 1, 5, 3, 6]
    assert more.annotations == {"a": "b"}
    left = more.without([entry(1, "linux/amd64").digest])
    assert [each.size for each in left.images()] == [5, 3, 6]
