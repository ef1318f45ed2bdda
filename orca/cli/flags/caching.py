"""Options: what may be taken from before."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from orca.errors import UsageError
from orca.executor.options import Caching
from orca.oci import reference
from orca.sources.places import PREFIX, Place

TITLE = "the cache"
LONGEST_TAG = 63
_SPELLING = "write REGISTRY/NAME[:TAG], type=registry,ref=REGISTRY/NAME[:TAG] or type=local,dest=DIR (src=DIR)"
_KINDS = {
    "inline": "an image has no room for it here; type=registry,ref=… with the image's own repository does as well",
    "gha": "type=local and the workflow's own cache action do as well",
}


def declare(add: Callable[..., Any]) -> None:
    """Add the options to a parser's group."""
    add("--no-cache", action="store_true", help="carry out every step, even if its result is known")
    add("--no-cache-filter", action="append", default=[], metavar="STAGE[,STAGE]",
        help="carry out these stages anew, and what reads them")  # fmt: skip
    add(
        "--cache-from",
        action="append",
        default=[],
        metavar="PLACE",
        help="take steps that others have built: a repository, or type=local,src=DIR (may be given again)",
    )
    add(
        "--cache-to",
        action="append",
        default=[],
        metavar="PLACE",
        help="share the steps of this build: a repository, or type=local,dest=DIR; mode=max for all stages",
    )
    add("--pull", nargs="?", const="always", default="missing", metavar="POLICY",
        choices=["always", "missing", "newer", "never", "true", "false"],
        help="when to ask the registry for base images: always (= --pull), missing, newer, never")  # fmt: skip


def read(given: argparse.Namespace) -> Caching:
    """The options as a value. Raises UsageError."""
    stages = [name.strip().lower() for word in given.no_cache_filter for name in word.split(",")]
    if "" in stages:
        raise UsageError("--no-cache-filter names no stage", hint="write --no-cache-filter=STAGE[,STAGE]")
    return Caching(
        no_cache=given.no_cache or given.layers == "false",  # as buildah has it
        pull={"true": "always", "false": "missing"}.get(given.pull, given.pull),
        no_cache_stages=frozenset(stages),
        cache_from=tuple(shared_cache(word, "--cache-from") for word in given.cache_from),
        cache_to=tuple(shared_cache(word, "--cache-to") for word in given.cache_to),
    )


def shared_cache(word: str, option: str) -> Place:
    """A place as buildx and buildah spell it: a repository alone, or `type=KIND,NAME=VALUE,…`. Raises UsageError."""
    if "=" not in word:
        return _repository(word, option)
    given: dict[str, str] = {}
    for pair in word.split(","):
        name, equals, value = pair.partition("=")
        if not equals or name in given:
            raise UsageError(f"{option} {word!r}: {pair!r} is not NAME=VALUE, or is there twice", hint=_SPELLING)
        given[name] = value
    kind = given.pop("type", "registry")
    if kind not in ("registry", "local"):
        raise UsageError(
            f"{option} {word!r}: a cache of type {kind} is not known here", hint=_KINDS.get(kind, _SPELLING)
        )
    place = _local(given, option, word) if kind == "local" else _repository(given.pop("ref", ""), option)
    if option == "--cache-to":
        mode, ignore = given.pop("mode", "min"), given.pop("ignore-error", "false")
        if mode not in ("min", "max") or ignore not in ("true", "false"):
            raise UsageError(f"{option} {word!r}: mode is min or max, ignore-error is true or false")
        place = replace(place, whole=mode == "max", ignore_error=ignore == "true")
    # What buildx lets one choose of the format; ours is what these say.
    unknown = set(given) - {"oci-mediatypes", "image-manifest"}
    if unknown:
        raise UsageError(f"{option} {word!r}: {sorted(unknown)[0]} is not known here", hint=_SPELLING)
    return place


def _local(given: dict[str, str], option: str, word: str) -> Place:
    name = "dest" if option == "--cache-to" else "src"
    directory = given.pop(name, "")
    if not directory:
        raise UsageError(f"{option} {word!r} does not say where", hint=f"write type=local,{name}=DIR")
    return Place(os.path.abspath(directory), local=True)


def _repository(text: str, option: str) -> Place:
    """`REGISTRY/PATH[:TAG]`: the tag, if there is one, begins the tags of the steps."""
    from orca.sources import registries

    if not text:
        raise UsageError(f"{option}: which repository?", hint=_SPELLING)
    found = reference.parse(text)
    if found.digest:
        raise UsageError(f"{option} {text}: a digest names one image, not a cache", hint="write REGISTRY/NAME[:TAG]")
    if found.tag and len(found.tag) > LONGEST_TAG:
        raise UsageError(f"{option} {text}: the tag is longer than {LONGEST_TAG} characters")
    return Place(registries.candidates(text)[0].name, prefix=found.tag or PREFIX)
