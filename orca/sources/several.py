"""More than one image of a repository at once: all its tags, all platforms of an index."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from orca.errors import ImageError, ToolError, UsageError
from orca.events import Warned
from orca.oci import image, reference
from orca.oci import platform as platforms
from orca.oci.image import Descriptor
from orca.oci.index import Index
from orca.oci.reference import Reference
from orca.sources import registries
from orca.sources.images import Puller, explain
from orca.sources.names import entry_of
from orca.tools import skopeo

T = TypeVar("T")
MOST = 64 << 20


def tags(puller: Puller, text: str) -> tuple[Reference, list[str]]:
    """The repository that `text` names, and all its tags in order. Raises OrcaError with what the registry said.

    What is no tag by the grammar is left out, with a warning: it would be a word on a command line.
    """
    if reference.parse(text) != replace(reference.parse(text), tag=None, digest=None):
        raise UsageError(f"{text} names one image of the repository", hint=f"leave it at {reference.parse(text).name}")
    return _first(text, lambda name: (replace(name, tag=None, digest=None), _listed(puller, name)))


def _first(text: str, attempt: Callable[[Reference], T]) -> T:
    """What `attempt` gives for the first of the registries that has it."""
    failed: list[ToolError] = []
    for name in registries.candidates(text):
        if name.registry == reference.LOCAL:
            raise UsageError(f"{text} is a name of this machine only", hint="write REGISTRY/NAME")
        try:
            return attempt(name)
        except ToolError as error:
            failed.append(error)
    raise failed[0]


def _listed(puller: Puller, name: Reference) -> list[str]:
    command = skopeo.list_tags(
        f"docker://{name.name}", *puller.access.options(name.registry or "", puller.scratch), why="ask for all tags"
    )
    try:
        said = puller.access.again(lambda: puller.runner.run(command, limit=MOST).stdout, puller.runner.emit)
        found = json.loads(said)
    except ToolError as error:
        raise explain(error, name.name) from error
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{name.name}: the list of tags is not JSON") from error
    listed = found.get("Tags") if isinstance(found, dict) else None
    good = [tag for tag in listed or () if isinstance(tag, str) and _is_tag(name, tag)]
    if bad := len(listed or ()) - len(good):
        puller.runner.emit(Warned(f"{name.name}: the registry lists {bad} that are no tags; they are left out"))
    return sorted(good)


def _is_tag(name: Reference, tag: str) -> bool:
    try:
        return reference.parse(f"{name.name}:{tag}").tag == tag
    except UsageError:
        return False


def all_platforms(puller: Puller, text: str) -> tuple[Reference, Descriptor]:
    """Get every image of an index, and the index itself under its name; of one image that image. Raises OrcaError.

    The index is the registry's own, byte by byte, if all its images are; what had to be converted to OCI, or is left
    out (attestations), makes another one.
    """
    return _first(text, lambda name: (name, _whole(puller, name)))


def _whole(puller: Puller, name: Reference) -> Descriptor:
    raw = puller.manifest(name)
    value = image.load_object(raw, "the manifest")
    if not isinstance(value.get("manifests"), list):
        return puller.pull(name, platforms.host()).descriptor
    index = Index.from_json(value)
    if not index.images():
        raise ImageError(f"{name}: the index names no image")
    entries = []
    for entry in index.images():
        platform = platforms.of(entry.platform) or platforms.host()
        found = puller.fetch(Reference(name.registry, name.path, None, entry.digest), platform, under=name)
        kept = {"platform": entry.platform, "annotations": entry.annotations}
        entries.append(replace(entry_of(found, platform), **kept))  # type: ignore[arg-type]
    layout = puller.store.images
    if [entry.digest for entry in entries] == [entry.digest for entry in index.manifests]:
        descriptor = layout.put(raw, str(value.get("mediaType") or image.INDEX))
    else:
        descriptor = layout.put_index(Index(tuple(entries), index.annotations))
    puller.store.tag((str(name),), descriptor)
    return descriptor
