"""The end of a build: the final manifest, with all that the builder knows of the config."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orca.errors import StoreError
from orca.executor.stage import Miss, StageResult
from orca.oci.image import History
from orca.plan.cachekey import step_key
from orca.store.layout import Image
from orca.store.store import StepRecord

if TYPE_CHECKING:
    from orca.executor.build import Build


def finish(build: Build, target: StageResult, *, only_look: bool) -> Image:
    """The finished image: all config fields, --label, a time; tagged, and remembered for the next time.

    Raises Miss when `only_look` and it has not been made yet.
    """
    options, store = build.options, build.store
    # The config too: what `FROM stage` takes from it (ONBUILD, the base's CMD) changes no step's key.
    # And the manifest: a step that had to be made again has another layer under its old key.
    wanted = {
        "finish": dict(options.naming.labels),
        "epoch": options.naming.epoch,
        "config": target.position.state.config.to_json(),
        "manifest": target.manifest.digest,
    }
    key = step_key(target.position.key, wanted)
    record = build.lookup(key, build.plan.target)
    if record is not None:
        image = store.images.image(record.manifest)
    elif only_look:
        raise Miss
    else:
        image = _assemble(build, target)
        if not store.complete(image.descriptor):
            hint = "orca pull, or orca build --no-cache, makes the base image anew"
            raise StoreError("a layer of the base image is missing in the store, or damaged", hint=hint)
        state = target.position.state.to_json()
        store.put_step(StepRecord(key, "image", image.descriptor, target.position.snapshots, state, wanted))
    if options.naming.tags:
        store.tag(options.naming.tags, image.descriptor)
    return image


def _assemble(build: Build, target: StageResult) -> Image:
    """The image as umoci left it, with the builder's own config: umoci drops fields that it does not know."""
    made = build.store.images.image(target.manifest)
    config = replace(
        target.position.state.config.with_labels(build.options.naming.labels),
        created=build.timestamp(),
        diff_ids=made.config.diff_ids,
        history=tuple(_plain(entry) for entry in made.config.history),
    )
    return build.store.images.put_image(made.manifest, config)


def _plain(entry: History) -> History:
    return replace(entry, author=entry.author or None)
