"""--storage: which of the two kinds of storage a command means."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from orca.store.store import Store

KINDS = ("oci", "ostree")


def add_option(add: Callable[..., Any]) -> None:
    """Add --storage."""
    add("--storage", choices=KINDS, default=KINDS[0],
        help="oci: layers as they came (the default); ostree: an OSTree repository, equal files once")  # fmt: skip


def wanted(given: argparse.Namespace) -> bool:
    """Is OSTree storage meant?"""
    return bool(given.storage == "ostree")


def open_store(given: argparse.Namespace) -> Store:
    """The store that is meant. Raises StoreError."""
    return open_kind(given.storage)


def open_kind(kind: str) -> Store:
    """The store of one of KINDS. Raises StoreError."""
    if kind == "ostree":
        from orca.store.ostree import OstreeStore

        return OstreeStore.open()
    return Store.open()
