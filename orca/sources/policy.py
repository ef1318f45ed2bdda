"""What the signature policy asks for. skopeo judges by it; orca only has to know whether there is something to judge.

See containers-policy.json(5).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_UNSIGNED = {"insecureAcceptAnything", "reject"}
"""Requirements that look at the name alone."""


def path_of(named: str | None) -> Path:
    """The policy that counts: the one that is named, else the user's, else the system's."""
    own = Path(os.path.expanduser("~"), ".config/containers/policy.json")
    if named is not None:
        return Path(named)
    return own if own.exists() else Path("/etc/containers/policy.json")


def wants_signatures(named: str | None = None) -> bool:
    """May any image need a signature? True as well for a policy that cannot be read: skopeo says what is wrong."""
    try:
        value = json.loads(path_of(named).read_bytes())
        return not set(_types(value)) <= _UNSIGNED
    except (OSError, ValueError, RecursionError, TypeError, AttributeError):
        return True


def _types(policy: Any) -> Iterator[str]:
    """The type of each requirement."""
    lists = [policy["default"]] if "default" in policy else []
    lists += [found for scopes in policy.get("transports", {}).values() for found in scopes.values()]
    for requirements in lists:
        yield from (str(each.get("type")) for each in requirements)
