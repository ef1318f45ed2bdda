"""The store: images, snapshots, the step cache and build records below one directory (ORCA_ROOT).

Writers of different processes do not wait for one another except to rewrite the tags, and readers
wait for nobody. A process that may add blobs holds `locks/use` shared; what deletes holds it alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from orca.errors import ImageError, StoreError
from orca.oci import image, reference
from orca.oci.image import Descriptor, ImageConfig, Manifest
from orca.oci.platform import Platform
from orca.store import chains, files
from orca.store.layout import Image, Layout

DIRECTORIES = ("images", "snapshots", "steps", "chains", "sessions", "cache", "builds", "containers", "locks", "work")
_KEY = re.compile(r"[0-9a-f]{64}")
_SHORT_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{6,64})")


def default_root() -> Path:
    """ORCA_ROOT, else /var/lib/orca for root, else below XDG_DATA_HOME."""
    if named := os.environ.get("ORCA_ROOT"):
        return Path(named).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/orca")
    data = os.environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local/share")
    return Path(data, "orca")


@dataclass(frozen=True)
class StepRecord:
    """What the step cache knows under one key.

    `manifest` is the image as it was after the step. `snapshots` are the directory names below
    snapshots/ that make its root filesystem, uppermost first; empty while nobody needed it.
    `state` is the builder's state after the step (dispatch.state), `ingredients` what the key was
    made of, so that a later miss can be explained. `layer` is set when the step made one.
    `build` is the record of the build that carried it out, where it had `number`; empty when another machine did.
    """

    key: str
    text: str
    manifest: Descriptor
    snapshots: tuple[str, ...]
    state: dict[str, Any]
    ingredients: dict[str, Any]
    layer: Descriptor | None = None
    created: str = ""
    build: str = ""
    number: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "manifest": self.manifest.to_json(),
            "layer": self.layer.to_json() if self.layer else None,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> StepRecord:
        """Raises KeyError, TypeError or ImageError when it is not what `to_json` wrote."""
        layer = value["layer"]
        return cls(
            **{
                **value,
                "manifest": Descriptor.from_json(value["manifest"]),
                "layer": Descriptor.from_json(layer) if layer else None,
                "snapshots": tuple(value["snapshots"]),
            }
        )


class Store:
    """The store at `root`; `open` makes what is missing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images = Layout(root / "images")
        self._complete: set[str] = set()

    @classmethod
    def open(cls, root: Path | None = None) -> Store:
        """Open or make the store. Raises StoreError when the directory is not ours alone to write."""
        store = cls(root or default_root())
        layout = store.root / "images" / "oci-layout"
        if not layout.is_file() or not all((store.root / name).is_dir() for name in DIRECTORIES):
            files.own_directory(store.root)
            try:
                for name in DIRECTORIES:
                    (store.root / name).mkdir(mode=0o700, exist_ok=True)
                    files.close_directory(store.root / name)
                if not layout.is_file():
                    store.images.create()
            except OSError as error:
                raise files.explain(error, f"making the store {store.root}") from error
        files.own_directory(store.root)
        for name in DIRECTORIES:
            files.close_directory(store.root / name)
        return store

    # -- locks

    @contextlib.contextmanager
    def in_use(self) -> Iterator[Callable[[], None]]:
        """Keep collectors away: what this process adds is not yet referenced by anything.

        Calling what this yields ends that before the block does, in every process that the lock was inherited by.
        """
        with files.released(self.root / "locks/use") as release:
            yield release

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """No builder is at work. Raises StoreError when one still is after ten seconds."""
        deadline = time.monotonic() + 10
        while True:
            with files.lock(self.root / "locks/use", wait=False) as held:
                if held:
                    yield
                    return
            if time.monotonic() > deadline:
                raise StoreError(
                    "the store is in use by a running build or container", hint="try again when it has ended"
                )
            time.sleep(0.05)

    @contextlib.contextmanager
    def perhaps_alone(self) -> Iterator[bool]:
        """Hold the store alone if nobody uses it, else with the others; waits for nobody. Yields which."""
        with files.lock(self.root / "locks/use", wait=False) as alone:
            if alone:
                yield True
                return
        with self.in_use():
            yield False

    def lock(self, name: str, patience: Callable[[], None] | None = None) -> contextlib.AbstractContextManager[bool]:
        """A named lock within the store; see `files.lock` for `patience`."""
        return files.lock(self.root / "locks" / name, patience=patience)

    # -- tags

    def tags(self) -> dict[str, Descriptor]:
        """Every name of every image."""
        return self.images.index()

    def edit_tags(self, change: Callable[[dict[str, Descriptor]], None]) -> None:
        """Rewrite the tags under their lock: `change` edits the mapping in place."""
        with self.lock("tags"):
            names = self.images.index()
            before = dict(names)
            change(names)
            if names != before:
                self.images.write_index(names)

    def tag(self, names: tuple[str, ...], descriptor: Descriptor) -> None:
        """Give `descriptor` these full names, which move from whatever had them."""
        current = self.tags()
        if any(name not in current or current[name].digest != descriptor.digest for name in names):
            self.edit_tags(lambda tags: tags.update(dict.fromkeys(names, descriptor.plain())))

    def untag(self, name: str) -> None:
        def forget(tags: dict[str, Descriptor]) -> None:
            tags.pop(name, None)

        self.edit_tags(forget)

    def lookup(self, text: str, platform: Platform | None = None) -> tuple[str | None, Descriptor] | None:
        """What a user means by `text`: a name (short ones try localhost/ first), a digest or its beginning;
        any of them with `@N` for the image as it was after the N-th step of its build, of `platform` if it has several.

        Returns the full name (None when it was named by digest or is a step) and the descriptor. Raises
        StoreError when a short digest fits several images or there is no such step, UsageError when `text` is no name.
        """
        text, number = chains.split(text)
        if number is not None:
            whole = self.lookup(text, platform)
            return (None, self.at_step(text, whole[1], number, platform)) if whole else None
        tags = self.tags()
        if match := _SHORT_DIGEST.fullmatch(text):
            found = {d.digest: d for d in tags.values() if d.digest.startswith(f"sha256:{match[1]}")}
            if len(found) > 1:
                raise StoreError(f"{text} is the beginning of {len(found)} digests", hint="write more of it")
            if found:
                return None, next(iter(found.values()))
            if text.startswith("sha256:"):
                return self._untagged(text)
        for name in names_for(text):
            if name in tags:
                return name, tags[name]
            if (there := pinned(tags, name)) is not None:
                return there, tags[there]
        return None

    def _untagged(self, digest: str) -> tuple[None, Descriptor] | None:
        """A manifest that has no name but is there (an old build, a step)."""
        path = self.images.blob_path(digest) if len(digest) == 71 else None
        if path is None or not path.is_file():
            return None
        found = Descriptor(image.MANIFEST, digest, path.stat().st_size)
        with contextlib.suppress(ImageError, StoreError):  # told where it is read
            value = image.load_object(self.images.read(found, "the manifest"), "the manifest")
            if isinstance(value.get("manifests"), list):
                return None, replace(found, media_type=image.INDEX)
        return None, found

    def at_step(self, text: str, descriptor: Descriptor, number: int, platform: Platform | None = None) -> Descriptor:
        """The image as it was after a step of the build that made `descriptor`; `text` is what its user calls it.

        Raises StoreError when the build is not known, had no such step, or the step is gone.
        """
        made = self.images.image(descriptor, platform)
        links = {link.number: link for link in chains.read(self.root, made.descriptor.digest)}
        if not links:
            hint = "only builds of this store are known by their steps; orca history shows an image's layers"
            raise StoreError(f"{text}@{number}: which steps made {text} is not known", hint=hint)
        if number not in links:
            hint = "the numbers are those that orca build showed"
            raise StoreError(f"{text} has no step {number}: its build had {min(links)} to {max(links)}", hint=hint)
        found = self._after(links[number])
        if found is None:
            hint = "build it again; a stage that only cached steps read is not built"
            raise StoreError(f"step {number} of {text} is not in the store", hint=hint)
        return found

    def _after(self, link: chains.Link) -> Descriptor | None:
        """The image after a step, with those fields of its config that umoci does not write; None when it is gone."""
        record = self.step(link.key)
        manifest = link.manifest if link.manifest and self.complete(link.manifest) else None
        manifest = record.manifest if manifest is None and record is not None else manifest
        if manifest is None or record is None or not record.state:
            return manifest
        return self.whole(manifest, record.state)

    def whole(self, manifest: Descriptor, state: Mapping[str, Any]) -> Descriptor:
        """A step's image, with those fields of its config that umoci does not write; `state` is that after the step."""
        made = self.images.image(manifest)
        known = ImageConfig.from_json(state["config"])
        history = tuple(replace(entry, author=entry.author or None) for entry in made.config.history)
        whole = replace(known, created=made.config.created, diff_ids=made.config.diff_ids, history=history)
        if whole == replace(made.config, history=history):
            return manifest
        return self.images.put_image(made.manifest, whole).descriptor

    def find(self, text: str, platform: Platform | None = None) -> tuple[str | None, Image]:
        """`lookup`, and the image itself. Raises StoreError with near names when there is none."""
        found = self.lookup(text, platform)
        if found is None:
            raise StoreError(f"no image {text!r} in the store", hint=self._near(text))
        return found[0], self.images.image(found[1], platform)

    def _near(self, text: str) -> str:
        import difflib

        text, _ = chains.split(text)
        names = {name.removeprefix("localhost/").removesuffix(":latest"): name for name in self.tags()}
        near = difflib.get_close_matches(text.removeprefix("localhost/").removesuffix(":latest"), names, 1)
        return f"did you mean {near[0]}?" if near else "orca images lists what is there; orca pull gets more"

    # -- snapshots

    def snapshot(self, name: str) -> Path:
        """The root of the tree that a snapshot holds."""
        if not re.fullmatch(r"[a-z0-9]{4,32}", name):
            raise StoreError(f"bad snapshot name {name[:40]!r}")
        return self.root / "snapshots" / name / "fs"

    def has_snapshots(self, names: tuple[str, ...]) -> bool:
        return all(self.snapshot(name).is_dir() for name in names)

    # -- steps

    def _step_path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise StoreError(f"bad step key {key[:80]!r}")
        return self.root / "steps" / key[:2] / key

    def step(self, key: str) -> StepRecord | None:
        """The record under `key`, if all blobs of the image it names are still there."""
        value = files.read_json(self._step_path(key))
        if not isinstance(value, dict):
            return None
        try:
            record = StepRecord.from_json(value)
        except (KeyError, TypeError, AttributeError, ImageError):
            return None
        return record if record.key == key and self.complete(record.manifest) else None

    def complete(self, manifest: Descriptor) -> bool:
        """Are the manifest, its config and all its layers there? (Layers by their sizes.) True is remembered."""
        if manifest.digest not in self._complete:
            try:
                data = self.images.read(manifest, "the manifest")
                found = Manifest.from_json(image.load_object(data, "the manifest"))
            except (StoreError, ImageError):
                return False
            if not all(self.images.has(blob) for blob in (found.config, *found.layers)):
                return False
            self._complete.add(manifest.digest)
        return True

    def put_step(self, record: StepRecord) -> None:
        """Remember a step. A record with the same key is replaced."""
        path = self._step_path(record.key)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        files.write_json(path, record.to_json(), durable=False)

    def steps(self) -> Iterator[StepRecord]:
        """Every readable record."""
        for path in sorted((self.root / "steps").glob("*/*")):
            if _KEY.fullmatch(path.name) and (record := self.step(path.name)):
                yield record

    # -- scratch

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A new directory below work/ that is removed at the end; a killed owner's is swept by `sweep`."""
        path = self.root / "work" / os.urandom(4).hex()
        with files.lock(path.with_suffix(".lock")):
            try:
                path.mkdir(mode=0o700)
                yield path
            except OSError as error:
                if error.errno in files._FULL:
                    raise files.explain(error, "building") from error
                raise
            finally:
                files.remove_tree(path)
                path.with_suffix(".lock").unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove the scratch directories of processes that are gone."""
        for path in (self.root / "work").glob("*.lock"):
            with files.lock(path, wait=False) as held:
                if held:
                    files.remove_tree(path.with_suffix(""))
                    path.unlink(missing_ok=True)


def base_snapshot(diff_ids: tuple[str, ...]) -> str:
    """The name of the snapshot that holds all layers of an image, unpacked."""
    return "b" + hashlib.sha256("".join(diff_ids).encode()).hexdigest()[:31]


def pinned(tags: dict[str, Descriptor], name: str) -> str | None:
    """The tag of the repository in `name` that has the digest in it: the same image, whatever it is called."""
    wanted = reference.parse(name)
    beginnings = (f"{wanted.name}:", f"{wanted.name}@")
    same = (there for there, found in tags.items() if found.digest == wanted.digest)
    return next((there for there in same if there.startswith(beginnings)), None)


def names_for(text: str) -> tuple[str, ...]:
    """The full names that `text` may stand for, most likely first."""
    found = reference.parse(text).tagged()
    return (str(found),) if found.registry else (str(found.at(reference.LOCAL)), str(found))
