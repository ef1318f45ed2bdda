"""Fixtures of the integration tests alone; those that unit tests share are one directory up."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.images import Layout, once
from support.kitchen import BASE, Kitchen
from support.orca import Orca, install_copy


@pytest.fixture(scope="module")
def kitchen(shared_dir: Path, busybox_layout: Layout) -> Iterator[Kitchen]:
    """`kitchen.build({...}, "--option") -> Built`, `.fails(...)`, `.output("command")`: one store for the module.

    The busybox image is in it as `kitchen.BASE`. What needs an empty store asks for `orca`.
    """
    top = Path(tempfile.mkdtemp(prefix="kitchen", dir=shared_dir))
    top.chmod(0o755)
    orca = Orca(top, lambda: once(shared_dir / "installed", install_copy))
    orca.load(busybox_layout, BASE)
    yield Kitchen(orca)
    shutil.rmtree(top, ignore_errors=True)


@pytest.fixture
def fresh(orca: Orca, busybox: str) -> Kitchen:
    """As `kitchen`, with a store of the test's own: for what damages or measures it."""
    assert busybox == BASE
    return Kitchen(orca)
