"""Image names that the store can answer for, without asking a registry."""

from __future__ import annotations

from dataclasses import replace

from orca.oci import platform as platforms
from orca.oci.image import Descriptor
from orca.oci.platform import Platform
from orca.store import chains, sessions
from orca.store.layout import Image
from orca.store.store import Store, pinned


def lookup(store: Store, text: str, platform: Platform | None = None) -> tuple[str | None, Descriptor] | None:
    """What a user means by `text`: built here, or pulled before under the name that registries.conf makes of it.

    Returns the full name (None when it was named by digest or is a step, IMAGE@N) and the descriptor.
    """
    text, number = chains.split(text)
    if number is not None:
        whole = lookup(store, text, platform)
        return (None, store.at_step(text, whole[1], number, platform)) if whole else None
    found = store.lookup(text)
    if found is not None:
        return found
    # Only a name that was never built here needs the configuration to be read.
    from orca.sources import registries

    tags = store.tags()
    for name in registries.candidates(text):
        if str(name) in tags:
            return str(name), tags[str(name)]
        if (there := pinned(tags, str(name))) is not None:
            return there, tags[there]
    return None


def in_store(store: Store, text: str, platform: Platform | None = None) -> Descriptor | None:
    """The image that `FROM text` finds without a registry."""
    found = lookup(store, text, platform)
    return found[1] if found else None


def platform_of(image: Image) -> Platform | None:
    """The platform that an image's config names; None when it names none."""
    config = image.config
    return platforms.normalize(config.os, config.architecture, config.variant) if config.architecture else None


def entry_of(image: Image, platform: Platform | None = None) -> Descriptor:
    """The image as an entry of an index, for `platform` or the one that its config names."""
    named = platform or platform_of(image)
    found = replace(image.descriptor.plain(), media_type=image.manifest.media_type)
    return replace(found, platform=named.to_json() if named else None)


def stored(store: Store, descriptor: Descriptor, platform: Platform, *, fitting: bool) -> Image | None:
    """The image for `platform` that `descriptor` names. With `fitting`, None when it is for another one.

    Raises StoreError, ImageError; an index without the platform too, unless `fitting`.
    """
    index = store.images.entries(descriptor)
    if index is not None and fitting and not index.has(platform):
        return None
    found = store.images.image(descriptor, platform)
    actual = platform_of(found)
    return None if fitting and actual is not None and platform.distance(actual) is None else found


def find(store: Store, text: str, platform: Platform | None = None) -> tuple[str | None, Descriptor, Image]:
    """`lookup`, else where the scripted build of that id stands; and the image itself.

    Raises StoreError with near names when there is none.
    """
    found = lookup(store, text, platform)
    if found is None and (there := sessions.image(store, text)) is not None:
        found = None, there
    if found is None:
        store.find(text)  # raises
        raise AssertionError(text)
    return *found, store.images.image(found[1], platform)


def look(store: Store, text: str, platform: Platform | None = None) -> Image:
    """The image for who looks at its files: as for FROM, a scripted build's id goes before an image of that name."""
    there = sessions.image(store, text)
    return store.images.image(there, platform) if there is not None else find(store, text, platform)[2]
