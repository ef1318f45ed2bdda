"""Cache keys: a digest over a short pure list of what a step is made from. Pure.

A key covers the parent's key, so it stands for the whole way from the base. What went into it is
kept beside it, so that a miss can be explained.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from orca.oci.image import canonical

# A change in how steps are carried out that makes old results wrong gets a new number.
GENERATION = 2


def step_key(parent: str, ingredients: Mapping[str, Any]) -> str:
    """64 hexadecimal digits for a step after `parent` made of `ingredients` (anything that JSON can hold)."""
    return hashlib.sha256(canonical([GENERATION, parent, ingredients])).hexdigest()
