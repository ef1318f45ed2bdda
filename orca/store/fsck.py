"""Is everything in the store as it should be? Finds what is not, says what to do, and drops what can be made again.

An image that has a name is never dropped: of a damaged one only the damaged blob goes, whose name promises a content
that it does not have, so that pulling or building the image again brings the right one. The caller holds
`Store.alone()` to repair, `Store.in_use()` to find.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orca.errors import ImageError, OrcaError, StoreError
from orca.oci import image
from orca.oci.image import Descriptor
from orca.store import containers, contents, files, gc, sessions
from orca.store.layout import Image
from orca.store.ostree import OstreeStore
from orca.store.store import StepRecord, Store, base_snapshot

_HEX = re.compile(r"[0-9a-f]{64}")
_AGAIN = "orca fsck --repair deletes it; it is made again when needed"
OSTREE = "orca rm --storage=ostree and orca prune --storage=ostree give it up; then pull it again"
_LEFT = "orca fsck --repair deletes it; so does orca prune"
_IMAGE = "pull or build it again, or give the name up with orca rm"

Tell = Callable[[str, int, int], None]
"""Called now and then: what is being looked at, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    `kind` is one of KINDS, `where` a path in the store or an image's name. `drop` are the paths that a repair
    deletes, `forget` the step whose snapshots it forgets; with neither, no repair can do anything.
    """

    kind: str
    where: str
    problem: str
    remedy: str
    drop: tuple[Path, ...] = ()
    forget: str | None = None

    @property
    def repairable(self) -> bool:
        return bool(self.drop or self.forget)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "where": self.where, "problem": self.problem, "remedy": self.remedy,
                "repairable": self.repairable}  # fmt: skip


KINDS = ("index", "image", "session", "container", "blob", "step", "snapshot", "cache", "build", "scratch")


@dataclass(frozen=True)
class Report:
    """What was found, how many things of each kind were looked at, and how many bytes were hashed."""

    findings: tuple[Finding, ...]
    checked: dict[str, int]
    hashed: int


@dataclass
class Check:
    """One look at a store. `left` is what `leftovers` found while nobody used it.

    `quick` reads no layer: sizes and references only.
    """

    store: Store
    left: Collection[Path] = ()
    quick: bool = False
    tell: Tell = lambda what, done, total: None
    findings: list[Finding] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)
    hashed: int = 0
    bad: set[str] = field(default_factory=set)
    """Digests of blobs that are there and wrong."""

    def run(self) -> Report:
        """Look at everything. Raises StoreError when the store cannot be read at all."""
        self._blobs()
        tags = self._index()
        reach = gc.Reach(self.store.images)
        images = [found for name, descriptor in tags.items() for found in self._image(name, descriptor, reach)]
        self._sessions(reach)
        self._containers(reach)
        records = list(self._steps(reach))
        for record in records:
            with contextlib.suppress(OrcaError):
                images.append(self.store.images.image(record.manifest))
        self._snapshots(records, images)
        self._branches()
        self._caches()
        self._builds()
        for path in self.left:
            self._found("scratch", path, "was left by a process that was stopped", _LEFT, path)
        order = {kind: number for number, kind in enumerate(KINDS)}
        found = sorted(self.findings, key=lambda finding: (order[finding.kind], finding.where))
        return Report(tuple(found), self.checked, self.hashed)

    def _found(self, kind: str, where: str | Path, problem: str, remedy: str, *drop: Path, forget: str = "") -> None:
        place = str(where.relative_to(self.store.root)) if isinstance(where, Path) else where
        self.findings.append(Finding(kind, place, problem, remedy, drop, forget or None))

    def _count(self, kind: str, number: int = 1) -> None:
        self.checked[kind] = self.checked.get(kind, 0) + number

    # -- blobs

    def _blobs(self) -> None:
        """Every blob is a regular file whose name is its digest."""
        there: list[tuple[Path, int]] = []
        with os.scandir(self.store.images.blobs) as entries:
            for entry in entries:
                path = Path(entry.path)
                if _HEX.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError):
                        there.append((path, entry.stat(follow_symlinks=False).st_size))
                elif _HEX.fullmatch(entry.name):
                    self._wrong_blob(path, "is not a regular file")
        self._count("blobs", len(there))
        total = sum(size for _, size in there if self._reads(size))
        with ThreadPoolExecutor(os.cpu_count(), "hash") as pool:
            for (path, size), real in zip(there, pool.map(self._hash, there), strict=True):
                self.hashed += size if real else 0
                self.tell("blobs", self.hashed, total)
                if real and real != f"sha256:{path.name}":
                    self._wrong_blob(path, f"does not match its digest: its content has {real}")

    def _reads(self, size: int) -> bool:
        return not self.quick or size <= image.JSON_LIMIT

    def _hash(self, blob: tuple[Path, int]) -> str:
        """The real digest of a blob; nothing when it is not to be read, or has just been deleted."""
        path, size = blob
        if self._reads(size):
            with contextlib.suppress(FileNotFoundError):
                try:
                    return self.store.images.hash(f"sha256:{path.name}")
                except OSError as error:
                    return f"an error: {error.strerror}"
        return ""

    def _wrong_blob(self, path: Path, problem: str) -> None:
        self.bad.add(f"sha256:{path.name}")
        remedy = "orca fsck --repair deletes it; whoever needs it gets it again"
        self._found("blob", path, problem, remedy, path)

    # -- the index and its images

    def _index(self) -> dict[str, Descriptor]:
        """index.json names manifests, each by one name. Returns the names."""
        path = self.store.images.path / "index.json"
        marker = files.read_json(self.store.images.path / "oci-layout")
        if not isinstance(marker, dict) or marker.get("imageLayoutVersion") != "1.0.0":
            remedy = 'write {"imageLayoutVersion":"1.0.0"} into it: then other tools can read the images'
            self._found("index", "images/oci-layout", "does not say version 1.0.0", remedy)
        value = files.read_json(path)
        if not isinstance(value, dict) or not isinstance(value.get("manifests"), list | None):
            remedy = "put the file back from a copy; orca fsck repairs nothing while nobody knows what has a name"
            self._found("index", path, "is missing or damaged", remedy)
            raise StoreError("images/index.json is missing or damaged", hint=remedy)
        tags: dict[str, Descriptor] = {}
        for entry in value.get("manifests") or ():
            try:
                descriptor = Descriptor.from_json(entry)
            except OrcaError as error:
                self._found("index", path, f"has a bad entry: {error.message}", "take the entry out of the file")
                continue
            name = descriptor.annotations.get(image.REF_NAME)
            if not isinstance(name, str):
                continue
            if name in tags:
                self._found("index", name, "is there twice", "orca tag gives the name to one image anew")
            tags[name] = descriptor
        self._count("names", len(tags))
        return tags

    def _image(self, name: str, descriptor: Descriptor, reach: gc.Reach) -> Iterator[Image]:
        """All that a name leads to is there, has the right size, and fits together."""
        wrong = sorted(self.bad & reach.below(descriptor.digest))
        if wrong:
            self._found(
                "image", name, f"needs a damaged blob: {wrong[0]}{_more(wrong)}", f"orca fsck --repair, then {_IMAGE}"
            )
            return
        try:
            made = self.store.images.all_images(descriptor)
            for each in made:
                self.store.images.verify(each, layers=False)
        except OrcaError as error:
            self._found("image", name, error.message, _IMAGE)
            return
        self._count("images", len(made))
        yield from made

    def _sessions(self, reach: gc.Reach) -> None:
        """Scripted builds can be read, and the image after each step is there."""
        for name in sessions.names(self.store):
            self._count("sessions")
            remedy = f"orca undo {name} goes back to before it; orca abandon {name} gives it up"
            try:
                found = sessions.find(self.store, name)
            except StoreError as error:
                self._found("session", name, error.message, error.hint or remedy)
                continue
            for number, step in enumerate(found.steps if found else (), 1):
                if not self._whole(step.manifest, reach):
                    problem = f"the image after step {number} is damaged, or something of it is missing"
                    self._found("session", name, problem, remedy)
                    break

    def _containers(self, reach: gc.Reach) -> None:
        """Containers can be read, and what they would be started again from is there."""
        known = {entry.id: entry for entry in containers.listing(self.store)}
        for path in sorted(containers.place(self.store).glob("[0-9a-f]*")):
            self._count("containers")
            entry = known.get(path.name)
            if entry is None and path.is_dir():
                remedy = f"rm -r {path}: nothing is known of what it was"
                self._found("container", path, "its config.json is missing or damaged", remedy)
            elif entry is not None and entry.config.storage == "oci" and not self._startable(entry, reach):
                remedy = f"orca container rm {entry.config.name} removes it"
                self._found(
                    "container", entry.config.name, "its image or a snapshot of it is missing or damaged", remedy
                )

    def _startable(self, entry: containers.Entry, reach: gc.Reach) -> bool:
        """Is there what a container is made of? One that is only being made does not say yet."""
        if not entry.config.manifest:
            return True
        with contextlib.suppress(OrcaError):
            found = self.store.lookup(entry.config.manifest)
            whole = found is not None and self._whole(found[1], reach)
            return whole and self.store.has_snapshots(entry.config.snapshots)
        return False

    def _whole(self, manifest: Descriptor, reach: gc.Reach) -> bool:
        """Is all of an image there, and nothing of it damaged as far as is known?"""
        return not self.bad & reach.below(manifest.digest) and self.store.complete(manifest)

    # -- steps and snapshots

    def _steps(self, reach: gc.Reach) -> Iterator[StepRecord]:
        """Every record of the step cache can be read, is under its own key, and names an image that is there."""
        for path in sorted((self.store.root / "steps").glob("*/*")):
            if path.name.startswith("."):
                continue
            self._count("steps")
            record, why = self._record(path, reach)
            if record is not None:
                yield record
            elif why:
                self._found("step", path, why, _AGAIN, path)

    def _record(self, path: Path, reach: gc.Reach) -> tuple[StepRecord | None, str]:
        value = files.read_json(path)
        if value is None and not path.exists():
            return None, ""
        try:
            record = StepRecord.from_json(value)
        except (KeyError, TypeError, AttributeError, ImageError):
            return None, "cannot be read as a step's record"
        if record.key != path.name or path.parent.name != path.name[:2]:
            return None, "is not under its own key"
        if wrong := self.bad & reach.below(record.manifest.digest):
            return None, f"names an image with a damaged blob: {min(wrong)}"
        if not self.store.complete(record.manifest):
            return None, f"names an image of which something is missing: {record.manifest.digest}"
        return record, ""

    def _snapshots(self, records: list[StepRecord], images: list[Image]) -> None:
        """Snapshots are there, and hold what the layers hold that they were made with."""
        wanted = {name for record in records for name in record.snapshots}
        lost = set()
        for path in sorted((self.store.root / "snapshots").iterdir()):
            self._count("snapshots")
            try:
                whole = stat.S_ISDIR(self.store.snapshot(path.name).lstat().st_mode)
            except (OSError, StoreError):
                whole = False
            if not whole:
                self._found("snapshot", path, "has no directory fs", _AGAIN, path)
                lost.add(path.name)
        if not self.quick:
            lost |= self._contents(records, images)
        for record in records:
            with contextlib.suppress(StoreError):
                missing = [name for name in record.snapshots if name in lost or not self.store.has_snapshots((name,))]
                if missing:
                    problem = f"its snapshot {missing[0]} is missing or damaged{_more(missing)}"
                    remedy = "orca fsck --repair forgets the step's snapshots; its image is unpacked when needed"
                    self._found("step", f"steps/{record.key[:2]}/{record.key}", problem, remedy, forget=record.key)
        self._count("snapshots in use", len(wanted))

    def _contents(self, records: list[StepRecord], images: list[Image]) -> set[str]:
        """Compare layers with diff ids and snapshots. Returns the snapshots that are damaged."""
        jobs: dict[str, tuple[str, ...]] = {}
        for record in records:
            if record.layer is not None and record.snapshots:
                jobs.setdefault(record.snapshots[0], (record.layer.digest,))
        diff_ids: dict[str, tuple[str, str]] = {}
        for found in images:
            layers = tuple(layer.digest for layer in found.manifest.layers)
            jobs.setdefault(base_snapshot(found.config.diff_ids), layers)
            diff_ids |= {pair[0]: (pair[1], found.descriptor.digest)
                         for pair in zip(layers, found.config.diff_ids, strict=False)}  # fmt: skip
        jobs = {name: layers for name, layers in jobs.items() if self.store.snapshot(name).is_dir()}
        lost = set()
        with ThreadPoolExecutor(os.cpu_count(), "layers") as pool:
            unpacked = pool.map(self._diff_id, diff_ids)
            compared = pool.map(self._differs, jobs.items())
            for done, (digest, real) in enumerate(zip(diff_ids, unpacked, strict=True)):
                self.tell("layers", done + 1, len(diff_ids))
                if real is not None and real != diff_ids[digest][0]:
                    problem = f"unpacks to {real}, while the image {diff_ids[digest][1]} says {diff_ids[digest][0]}"
                    self._found("image", f"layer {digest}", problem, _IMAGE)
            for done, (name, why) in enumerate(zip(jobs, compared, strict=True)):
                self.tell("snapshots", done + 1, len(jobs))
                if why is not None:
                    path = self.store.root / "snapshots" / name
                    self._found("snapshot", path, f"is not what its layers hold: {why}", _AGAIN, path)
                    lost.add(name)
        return lost

    def _diff_id(self, digest: str) -> str | None:
        try:
            return contents.diff_id(self.store.images.blob_path(digest))
        except contents.DAMAGED as error:
            return f"nothing ({error})"

    def _differs(self, job: tuple[str, tuple[str, ...]]) -> str | None:
        name, layers = job
        try:
            return contents.differs(self.store.snapshot(name), map(self.store.images.blob_path, layers))
        except contents.DAMAGED:
            return None  # the layer's own fault, told there

    # -- the rest

    def _branches(self) -> None:
        """Images in OSTree storage have manifests, and a branch for each layer; the files are ostree's to check."""
        kept = OstreeStore(self.store.root)
        if not kept.repo.is_dir():
            return
        for name, descriptor in kept.tags().items():
            self._count("ostree images")
            try:
                for each in kept.branches.all_images(descriptor):
                    kept.branches.verify(each)
            except OrcaError as error:
                self._found("image", f"ostree:{name}", error.message, OSTREE)

    def _caches(self) -> None:
        """What was downloaded has the digest that is its name; what is JSON can be read."""
        cache = self.store.root / "cache"
        for path in sorted((self.store.root / "chains").iterdir()):
            if not path.name.startswith("."):
                self._json("cache", path)
        for path in sorted(cache.iterdir()):
            if path.suffix == ".json" and not path.name.startswith("."):
                self._count("caches")
                self._json("cache", path)
        for path in sorted(cache.glob("downloads/*")):
            if _HEX.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                self._count("downloads")
                with path.open("rb") as file:
                    if not self.quick and hashlib.file_digest(file, "sha256").hexdigest() != path.name:
                        self._found("cache", path, "does not match its digest", _AGAIN, path)

    def _json(self, kind: str, path: Path) -> None:
        try:
            json.loads(path.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, ValueError, RecursionError):
            self._found(
                kind, path, "is no JSON", _AGAIN.replace("it is made again when needed", "it is a record"), path
            )

    def _builds(self) -> None:
        """The records of builds can be read; of one that was killed the last line may be cut off."""
        for build in sorted((self.store.root / "builds").iterdir()):
            self._count("builds")
            for name in ("trace.json", "recipe.json"):
                self._json("build", build / name)
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                lines = (build / "events.jsonl").read_bytes().split(b"\n")
                if any(not _is_json(line) for line in lines[:-1]):
                    remedy = "orca fsck --repair deletes the record of this build"
                    self._found("build", build / "events.jsonl", "has a line that is no JSON", remedy, build)


def leftovers(store: Store) -> list[Path]:
    """What killed processes left: scratch directories, files half written. The caller holds `Store.alone()`."""
    found = [path for path in store.images.blobs.iterdir() if not _HEX.fullmatch(path.name)]
    found += [entry.path for entry in containers.listing(store) if not entry.config.kept and not entry.alive()]
    for pattern in ("images/.*", "steps/*/.*", "chains/.*", "sessions/.*", "cache/.*", "builds/*/.*", "work/*"):
        found += store.root.glob(pattern)
    return sorted(found)


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _more(names: list[str]) -> str:
    return f", and {len(names) - 1} more" if len(names) > 1 else ""


def repair(store: Store, findings: tuple[Finding, ...]) -> None:
    """Drop what is broken and can be made again. The caller holds `Store.alone()`. Raises StoreError."""
    try:
        forgotten = {finding.forget for finding in findings if finding.forget}
        for key in sorted(forgotten):
            if record := store.step(key):
                store.put_step(replace(record, snapshots=()))
        with store.scratch() as place:
            for path in dict.fromkeys(path for finding in findings for path in finding.drop):
                if path.is_symlink() or path.exists():
                    # A half-deleted snapshot must not be found under its name.
                    os.rename(path, place / f"{os.urandom(4).hex()}")
    except OSError as error:
        raise files.explain(error, "repairing") from error
