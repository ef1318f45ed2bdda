"""Image names that the store can answer for, without asking a registry."""

from __future__ import annotations

from orca.oci.image import Descriptor
from orca.store.store import Store


def in_store(store: Store, text: str) -> Descriptor | None:
    """The image that `FROM text` finds without a registry: built here, or pulled before."""
    found = store.lookup(text)
    if found is not None:
        return found[1]
    # Only a name that was never built here needs the configuration to be read.
    from orca.sources import registries

    tags = store.tags()
    for name in registries.candidates(text):
        if str(name) in tags:
            return tags[str(name)]
    return None
