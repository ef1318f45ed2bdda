"""An image built again in a store of its own that has nothing but the base images; and the comparison."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from orca.errors import StoreError
from orca.events import Emit
from orca.executor import sandbox
from orca.executor.build import Build
from orca.executor.compare import Difference, compare
from orca.executor.options import Caching, Options
from orca.oci.image import Descriptor
from orca.plan.stages import SCRATCH, Plan, copied_from
from orca.sources import names
from orca.store.gc import Reach
from orca.store.layout import Image
from orca.store.store import Store
from orca.tools.command import Runner

Pinned = Mapping[tuple[str, str], str]


def again(
    store: Store, image: Image, options: Options, pinned: Pinned, view: Callable[[], AbstractContextManager[Emit]]
) -> tuple[str, list[Difference]]:
    """Build `options` anew, in the sandbox, into which this process moves; compare the result with `image`.

    `pinned` are the digests of base images by name and platform. Returns the digest of what was built.
    Raises OrcaError when it cannot be built.
    """
    import sh  # noqa: F401  # loaded here once, not again on each side of the fork

    from orca.executor.rootfs import workshop

    runner = Runner()
    sandbox.enter(runner)
    store.sweep()
    with store.scratch() as scratch, view() as emit:
        fresh = Store.open(scratch / "store")
        runner.emit = emit
        anew = replace(options, caching=Caching(pull="missing"))
        build = Build(anew, fresh, emit)
        seed(fresh, store, build.plan, pinned)
        with workshop(fresh, runner) as shop:
            result = build.run(shop)
        return result.image.descriptor.digest, compare(image, store.images, result.image, fresh.images)


def seed(fresh: Store, store: Store, plan: Plan, pinned: Pinned) -> None:
    """Give `fresh` the base images of a plan under their names: those that were used, or as the names are now.

    What `store` does not have is left to be pulled. Raises StoreError when a pinned one is gone.
    """
    reach = Reach(store.images)
    for text, platform in bases(plan):
        found = names.lookup(store, text)
        digest = pinned.get((text, platform))
        if digest is not None:
            path = store.images.blob_path(digest)
            if not path.is_file() or not reach.whole(digest):
                hint = f"orca pull {text.partition('@')[0]}@{digest} may get it again"
                raise StoreError(f"the base image {text} was {digest}, which the store has no more", hint=hint)
            kind = found[1].media_type if found and found[1].digest == digest else _media_type(store, digest)
            found = (found[0] if found else None), Descriptor(kind, digest, path.stat().st_size)
        if found is not None:
            for blob in reach.below(found[1].digest):
                _link(store.images.blob_path(blob), fresh.images.blob_path(blob))
            fresh.tag((found[0] or f"localhost/base:{found[1].digest.removeprefix('sha256:')[:12]}",), found[1])


def bases(plan: Plan) -> Iterator[tuple[str, str]]:
    """The images that the stages of a plan name, each with the platform that is asked for."""
    for stage in plan.stages.values():
        if isinstance(stage.base, str) and stage.base.lower() != SCRATCH:
            yield stage.base, str(stage.platform)
        for instruction in stage.instructions:
            for _, word in copied_from(instruction):
                if plan.find(word, stage.index) is None:
                    yield word, str(stage.platform)


def _media_type(store: Store, digest: str) -> str:
    from orca.oci import image

    value = image.load_object(store.images.blob_path(digest).read_bytes(), "the manifest")
    kind = value.get("mediaType")
    return kind if isinstance(kind, str) else image.MANIFEST


def _link(source: Path, target: Path) -> None:
    """A blob of another store on the same file system: blobs never change."""
    if target.exists() or not source.is_file():
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
