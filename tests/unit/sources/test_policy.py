"""Does the signature policy ask for signatures?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orca.sources import policy

ANY, REJECT = {"type": "insecureAcceptAnything"}, {"type": "reject"}
SIGNED = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}


@pytest.mark.parametrize(
    ("value", "wants"),
    [
        ({"default": [ANY]}, False),
        ({"default": [REJECT], "transports": {"docker": {"a.example": [ANY]}, "dir": {"": [ANY]}}}, False),
        ({"default": [SIGNED]}, True),
        ({"default": [ANY], "transports": {"docker": {"a.example": [REJECT], "b.example": [SIGNED]}}}, True),
        ({"default": [ANY], "transports": {"docker": {"b.example": [{"type": "sigstoreSigned"}]}}}, True),
        ({"default": [ANY, {}]}, True),
        ({"default": 7}, True),
        ({"transports": []}, True),
        ([], True),
        ("x", True),
    ],
)
def test_requirements(value: Any, wants: bool, tmp_path: Path) -> None:
    (tmp_path / "p").write_text(json.dumps(value))
    assert policy.wants_signatures(str(tmp_path / "p")) is wants


@pytest.mark.parametrize("text", ["{", "", "[" * 50_000, "\0"])
def test_what_cannot_be_read_is_for_skopeo_to_say(text: str, tmp_path: Path) -> None:
    (tmp_path / "p").write_text(text)
    assert policy.wants_signatures(str(tmp_path / "p"))
    assert policy.wants_signatures(str(tmp_path / "none"))


def test_the_users_own_counts_before_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert policy.path_of(None) == Path("/etc/containers/policy.json")
    own = tmp_path / ".config/containers/policy.json"
    own.parent.mkdir(parents=True)
    own.touch()
    assert policy.path_of(None) == own
    assert policy.path_of("/x") == Path("/x")
