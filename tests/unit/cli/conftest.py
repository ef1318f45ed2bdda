"""A store for commands that run in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.stores import Maker


@pytest.fixture
def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    """The store that ORCA_ROOT names; no registries.conf but an empty one."""
    monkeypatch.setenv("ORCA_ROOT", str(tmp_path / "store"))
    (tmp_path / "registries.conf").write_text("")
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(tmp_path / "registries.conf"))
    return Maker.at(tmp_path / "store")
