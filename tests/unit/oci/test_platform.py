"""Platforms and their several names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pytest

from orca.errors import UsageError
from orca.oci import platform
from orca.oci.platform import Platform


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", "linux/amd64"),
        ("amd64", "linux/amd64"),
        ("x86_64", "linux/amd64"),
        ("linux/x86-64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("LINUX/ARM64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("aarch64", "linux/arm64"),
        ("linux/aarch64/v8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("armhf", "linux/arm/v7"),
        ("armel", "linux/arm/v6"),
        ("i386", "linux/386"),
        (" linux/riscv64 ", "linux/riscv64"),
        ("windows/amd64", "windows/amd64"),
    ],
)
def test_parse(text: str, expected: str) -> None:
    assert str(platform.parse(text)) == expected


@pytest.mark.parametrize("text", ["", "/", "linux/", "/amd64", "linux/arm/v7/x", "linux amd64", "a,b", "-x/$y"])
def test_bad_platforms_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="bad platform"):
        platform.parse(text)


@pytest.mark.parametrize(
    ("machine", "expected"),
    [("x86_64", "linux/amd64"), ("aarch64", "linux/arm64"), ("armv7l", "linux/arm/v7"), ("i686", "linux/386"),
     ("s390x", "linux/s390x"), ("newone", "linux/newone")],
)  # fmt: skip
def test_host(machine: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "host", "6", "1", machine)))
    assert str(platform.host()) == expected
    assert platform.parse("local") == platform.parse("linux") == platform.host()


@pytest.mark.parametrize(
    ("entry", "accepted"),
    [
        ({"os": "linux", "architecture": "arm64"}, True),
        ({"os": "linux", "architecture": "arm64", "variant": "v8"}, True),
        ({"os": "linux", "architecture": "arm64", "variant": ""}, True),
        ({"os": "linux", "architecture": "arm64", "variant": "v9"}, False),
        ({"os": "linux", "architecture": "amd64"}, False),
        ({"os": "windows", "architecture": "arm64"}, False),
        ({"os": "unknown", "architecture": "unknown"}, False),
        ({"os": "linux", "architecture": "arm64", "variant": ["v8"]}, False),
        ({"os": ["linux"], "architecture": {}}, False),
        ({}, False),
        (None, False),
    ],
)
def test_entries_of_an_index(entry: Mapping[str, Any] | None, accepted: bool) -> None:
    assert (platform.of(entry) == Platform("linux", "arm64")) is accepted


@pytest.mark.parametrize(
    ("wanted", "there", "distance"),
    [
        ("linux/arm/v7", "linux/arm/v7", 0),
        ("linux/arm/v7", "linux/arm/v6", 1),
        ("linux/arm/v6", "linux/arm/v7", None),
        ("linux/arm64/v9", "linux/arm64", 1),
        ("linux/amd64/v3", "linux/amd64", 2),
        ("linux/amd64", "linux/amd64/v3", None),
        ("linux/arm64", "linux/arm/v7", None),
        ("linux/arm64/vx", "linux/arm64", None),
        ("windows/amd64", "linux/amd64", None),
    ],
)
def test_what_runs_on_a_platform(wanted: str, there: str, distance: int | None) -> None:
    assert platform.parse(wanted).distance(platform.parse(there)) == distance


def test_lists_of_platforms() -> None:
    found = platform.parse_list(["linux/amd64,linux/arm64/v8", "arm64", "linux/arm/v7"])
    assert [str(each) for each in found] == ["linux/amd64", "linux/arm64", "linux/arm/v7"]
    assert found[2].to_json() == {"os": "linux", "architecture": "arm", "variant": "v7"}
    with pytest.raises(UsageError, match="bad platform ''"):
        platform.parse_list(["linux/amd64,"])
