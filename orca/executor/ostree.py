"""Images into OSTree storage: fetched by skopeo, their layers imported by ostree, each once.

For the inside of the sandbox, where an ordinary user's repository may hold files of many owners.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

from orca.errors import ImageError, OrcaError, StoreError, ToolError
from orca.executor import branches, layers
from orca.oci import reference
from orca.oci.image import Descriptor
from orca.oci.platform import Platform
from orca.oci.reference import Reference
from orca.sources import registries
from orca.sources.access import Access
from orca.sources.images import Puller
from orca.store import files
from orca.store.layout import Image, Layout
from orca.store.ostree import Garbage, OstreeStore
from orca.store.store import Store
from orca.tools import bounds, ostree
from orca.tools.command import Command, Runner


class Importer:
    """Brings images into OSTree storage; `scratch` is on the store's file system."""

    def __init__(self, store: OstreeStore, runner: Runner, scratch: Path, access: Access | None = None) -> None:
        self.store = store
        self.runner = runner
        self.scratch = scratch
        self.access = access
        self.ordinary = Store(store.root)

    def pull(self, text: str, platform: Platform) -> Image:
        """The image `text` from a registry (localhost/…: from the ordinary store), under its full name.

        Layers that are in the repository are neither fetched nor imported again. Raises OrcaError.
        """
        failed: list[ToolError] = []
        called = self.ordinary.lookup(text)
        if called is not None and called[0] is not None and reference.parse(called[0]).registry == reference.LOCAL:
            found, layout = self._local(called[0], platform)
            self.take(called[0], found, layout)
            return found
        for name in registries.candidates(text):
            if name.registry == reference.LOCAL:
                self.ordinary.find(text, platform)  # raises, with near names
            try:
                found, layout = self._fetch(name, platform)
            except ToolError as error:
                failed.append(error)
                continue
            self.take(str(name), found, layout)
            return found
        raise failed[0]

    def _local(self, name: str, platform: Platform) -> tuple[Image, Layout]:
        """What was built here is in the ordinary store; nobody has looked at its layers' digests since then."""
        found = self.ordinary.find(name, platform)[1]
        self.ordinary.images.verify(found)
        return found, self.ordinary.images

    def _fetch(self, name: Reference, platform: Platform) -> tuple[Image, Layout]:
        """Into a layout of our own. What need not come is there as a file of the right size: skopeo asks no more."""
        place = Store(self.scratch / "incoming")
        if not place.images.path.exists():
            place.images.create()
        for digest, (_, size) in self.store.imported().items():
            path = place.images.blob_path(digest)
            if not path.exists():
                with path.open("wb") as file:
                    file.truncate(size)
        return Puller(place, self.runner, self.scratch, self.access).fetch(name, platform), place.images

    def take(self, name: str, found: Image, layout: Layout) -> None:
        """Import what is missing of the image, whose blobs `layout` has, and give it a name. Raises OrcaError."""
        manifest, config = found.manifest, found.config
        if len(manifest.layers) != len(config.diff_ids):
            raise ImageError("the image's config does not have one diff id for each layer")
        self._init()
        most = bounds.limit(manifest.size)
        for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True):
            most -= self._layer(layer, diff_id, layout, most)
        for descriptor in (found.manifest.config, found.descriptor):
            self.store.branches.put(layout.read(descriptor, "the manifest"), descriptor.media_type)
        self._branch(name, found)
        self.store.tag((name,), found.descriptor)

    def _init(self) -> None:
        with self.store.lock("ostree", self.runner.check):
            if not (self.store.repo / "refs").is_dir():
                files.remove_tree(self.store.repo)  # of somebody who was killed here
                self.runner.run(ostree.init(self.store.repo))

    def _layer(self, layer: Descriptor, diff_id: str, layout: Layout, most: int) -> int:
        """Import one layer, unless it is there; returns the bytes that were unpacked. Raises ImageError, ToolError."""
        with self.store.lock(f"ostree-{diff_id[-32:]}", self.runner.check):
            known = self.store.imported_as(layer.digest)
            if known is not None:
                if known != diff_id:
                    raise ImageError(f"layer {layer.digest} does not match its diff id {diff_id}")
                return 0
            plain = self.scratch / f"layer-{diff_id[-32:]}.tar"
            try:
                digest, size = layers.unpack_one(layer, layout.blob_path(layer.digest), plain, self.runner, most)
                if digest != diff_id:
                    raise ImageError(f"layer {layer.digest} does not match its diff id {diff_id}")
                if not self.store.branches.has_layer(diff_id):
                    self._commit(plain, diff_id)
            finally:
                plain.unlink(missing_ok=True)
            self.store.remember(layer, diff_id)
            return size

    def _commit(self, plain: Path, diff_id: str) -> None:
        converted = plain.with_suffix(".ostree")
        try:
            with converted.open("wb") as out:
                branches.convert(plain, out)
            with converted.open("rb") as archive:
                self._run(ostree.commit_layer(self.store.repo, diff_id), archive)
        finally:
            converted.unlink(missing_ok=True)

    def _branch(self, name: str, found: Image) -> None:
        """The image's own branch, which holds manifest and config: what ostree's own commands can show."""
        there = self.store.repo / "refs/heads" / ostree.image_branch(name)
        tagged = self.store.tags().get(name)
        if there.is_file() and tagged is not None and tagged.digest == found.descriptor.digest:
            return
        tree = self.scratch / f"branch-{found.descriptor.digest[-32:]}"
        tree.mkdir(exist_ok=True)
        for file, descriptor in (("manifest.json", found.descriptor), ("config.json", found.manifest.config)):
            (tree / file).write_bytes(self.store.branches.read(descriptor, file))
            (tree / file).chmod(0o644)
        tree.chmod(0o755)
        self._run(ostree.commit_image(self.store.repo, name, found.descriptor.digest, tree))

    def _run(self, command: Command, stdin: IO[bytes] | None = None) -> None:
        try:
            self.runner.run(command, stdin=stdin)
        except ToolError as error:
            raise explain(error) from error


def explain(error: ToolError) -> OrcaError:
    """What ostree's complaint means for a user."""
    said = (error.stderr.strip().splitlines() or ["no message"])[-1].removeprefix("error: ")
    if "no space left" in said.lower():
        hint = "orca prune --storage=ostree frees what no image needs; ORCA_ROOT puts the store elsewhere"
        return StoreError("no space left on the device while importing into OSTree", hint=hint)
    return ImageError(f"OSTree refuses it: {said[:400]}", hint="without --storage=ostree the image may do")


def prune(garbage: Garbage, store: OstreeStore, runner: Runner) -> None:
    """Delete it: what refers to something first, the objects last. Nobody else uses the store meanwhile."""
    for path in garbage.paths:
        files.remove_tree(path)
    if not (store.repo / "refs").is_dir():
        return
    for group in ostree.in_groups(garbage.branches):
        runner.run(ostree.delete_branches(store.repo, group))
    runner.run(ostree.prune(store.repo))
