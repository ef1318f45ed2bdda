"""--platform: which image of an index of several a command means."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from orca.oci import platform as platforms
from orca.oci.platform import Platform


def add_option(add: Callable[..., Any]) -> None:
    """Add --platform."""
    add("--platform", metavar="OS/ARCH", help="which image of an index of several (default: this machine's)")


def wanted(given: argparse.Namespace) -> Platform:
    """The platform that is meant. Raises UsageError."""
    return platforms.parse(given.platform) if given.platform else platforms.host()
