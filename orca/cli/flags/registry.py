"""Options: how to get at registries, for base images and for what is pushed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from orca.cli import access
from orca.cli.access import add_registry_options as declare
from orca.executor.options import Caching, Contexts, Naming, Output
from orca.oci import reference
from orca.sources.access import Access

TITLE = "registries"
_DOCKER = "docker://"
_IMAGE = "docker-image://"

__all__ = ["TITLE", "declare", "read"]


def read(
    given: argparse.Namespace, naming: Naming, outputs: Sequence[Output], caching: Caching, contexts: Contexts
) -> Access:
    """The options as a value; the others say which registries the command line names. Raises UsageError."""
    return access.read(given, _named(naming, outputs, caching, contexts) if given.creds else ())


def _named(naming: Naming, outputs: Sequence[Output], caching: Caching, contexts: Contexts) -> Iterator[str]:
    """The images in registries that a build writes to or reads from without the Dockerfile's having a say."""
    tags = (*naming.tags, *(name for output in outputs for name in output.names))
    yield from (name for name in tags if reference.parse(name).registry != reference.LOCAL)
    yield from (output.dest for output in outputs if output.dest.startswith(_DOCKER))
    yield from (place.where for place in (*caching.cache_from, *caching.cache_to) if not place.local)
    yield from (source.removeprefix(_IMAGE) for source in contexts.named.values() if source.startswith(_IMAGE))
