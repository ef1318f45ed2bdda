"""The end of a build: the final manifest, with all that the builder knows of the config."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orca.errors import StoreError
from orca.executor import annotate
from orca.executor.options import Naming
from orca.executor.position import Miss, StageResult
from orca.oci.image import History
from orca.plan.cachekey import step_key
from orca.store import chains
from orca.store.layout import Image
from orca.store.store import StepRecord

if TYPE_CHECKING:
    from orca.executor.build import Build
    from orca.executor.rootfs import Workshop


def finish(build: Build, target: StageResult, shop: Workshop | None) -> Image:
    """The finished image: all config fields, --label, a time; tagged, and remembered for the next time.

    Without `shop` it is only looked for. Raises Miss when it has not been made yet.
    """
    options, store = build.options, build.store
    # The config too: what `FROM stage` takes from it (ONBUILD, the base's CMD) changes no step's key.
    # And the manifest: a step that had to be made again has another layer under its old key.
    wanted: dict[str, Any] = {
        "finish": dict(options.naming.labels),
        "epoch": options.naming.epoch,
        "config": target.position.state.config.to_json(),
        "manifest": target.manifest.digest,
        **options.naming.without(),
    }
    wanted |= _form(options.naming)
    key = step_key(target.position.key, wanted)
    record = build.lookup(key, build.plan.target)
    state = target.position.state.to_json()
    if record is None and build.elsewhere is not None:
        # As another machine has finished it: the same image, down to its time.
        wish = StepRecord(key, "image", target.manifest, target.position.snapshots, state, wanted)
        record = build.elsewhere.finished(wish)
    if record is not None:
        image = store.images.image(record.manifest)
    elif shop is None:
        raise Miss
    else:
        image = _assemble(build, target, shop)
        if not store.complete(image.descriptor):
            hint = "orca pull, or orca build --no-cache, makes the base image anew"
            raise StoreError("a layer of the base image is missing in the store, or damaged", hint=hint)
        store.put_step(StepRecord(key, "image", image.descriptor, target.position.snapshots, state, wanted))
    build.note(build.plan.target.index, key)
    chains.write(store.root, image.descriptor.digest, build.chain())
    if options.naming.tags:
        store.tag(options.naming.tags, image.descriptor)
    return image


def _form(naming: Naming) -> dict[str, Any]:
    """What of the options gives the same content another form; nothing where they are as usual."""
    form: dict[str, Any] = {"squash": naming.squash, "docker": naming.docker}
    annotations = [[each.name, each.value, each.platform] for each in naming.annotations if each.level == "manifest"]
    return {name: value for name, value in {**form, "annotations": annotations}.items() if value}


def _assemble(build: Build, target: StageResult, shop: Workshop) -> Image:
    """The image as umoci left it, with the builder's own config: umoci drops fields that it does not know."""
    from orca.executor import squash

    naming = build.options.naming
    made = build.store.images.image(target.manifest)
    if naming.squash:
        keep = target.base_layers if naming.squash == "new" else 0
        made = squash.squash(made, keep, shop, build.timestamp())
    config = replace(
        build.options.naming.final(target.position.state.config),
        created=build.timestamp(),
        diff_ids=made.config.diff_ids,
        history=tuple(_plain(entry) for entry in made.config.history),
    )
    manifest = annotate.manifest(made.manifest, naming.annotations, config)
    return build.store.images.put_image(manifest.as_docker() if naming.docker else manifest, config)


def _plain(entry: History) -> History:
    return replace(entry, author=entry.author or None)
