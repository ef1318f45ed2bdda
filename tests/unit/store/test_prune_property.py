"""Random builds, tags, removals and prunes against a model: prune frees what it promised, and only what can go."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.stores import Maker

from orca.oci.image import Descriptor
from orca.store import containers, fsck, gc, sessions
from orca.store.store import StepRecord, Store, base_snapshot

NAMES = st.sampled_from([f"localhost/{name}:latest" for name in "abcd"])
SESSIONS = st.sampled_from(["one", "two"])
CHAINS = st.lists(st.sampled_from("uvwxyz"), min_size=1, max_size=4)


def weight(root: Path) -> int:
    """Bytes of all files below `root`, each inode once; directories count nothing."""
    found = (os.lstat(os.path.join(place, name)) for place, _, names in os.walk(root) for name in names)
    return sum({(each.st_ino): each.st_size for each in found if not stat.S_ISDIR(each.st_mode)}.values())


class Pruning(RuleBasedStateMachine):
    """The model is what a user knows: which name means what, and what has been built since the cache was dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.top = Path(tempfile.mkdtemp(prefix="orca-prune-"))
        self.maker = Maker.at(self.top / "store")
        self.tags: dict[str, Descriptor] = {}
        self.blobs: dict[str, set[str]] = {}  # what a manifest or an index consists of
        self.steps: dict[str, tuple[str, str]] = {}  # key: the manifest after the step, its snapshot
        self.bases: dict[str, set[str]] = {}  # what a manifest or an index would be unpacked to
        self.unpacked: set[str] = set()
        self.sessions: dict[str, str] = {}
        self.containers: dict[str, tuple[str, str]] = {}  # its image, the snapshot that it stands on

    def teardown(self) -> None:
        shutil.rmtree(self.top)

    @property
    def store(self) -> Store:
        return Store(self.maker.store.root)  # nothing is remembered from one command to the next

    @rule(chain=CHAINS, name=st.none() | NAMES)
    def build(self, chain: list[str], name: str | None) -> None:
        """Steps that are cached are taken, the others made, as a build does it."""
        with self.store.in_use():
            for count in range(1, len(chain) + 1):
                below = chain[:count]
                key = hashlib.sha256("".join(below).encode()).hexdigest()
                made = self.maker.real(*({letter: letter.encode() * 50} for letter in below))
                digest = made.descriptor.digest
                self.blobs[digest] = {
                    digest,
                    made.manifest.config.digest,
                    *(each.digest for each in made.manifest.layers),
                }
                self.bases[digest] = {base_snapshot(made.config.diff_ids)}
                if self.store.step(key) is None:
                    assert key not in self.steps
                    snapshot = f"s{key[:10]}"
                    self.maker.snapshot_of(snapshot, {below[-1]: below[-1].encode() * 50})
                    self.store.put_step(
                        StepRecord(key, "RUN", made.descriptor, (snapshot,), {}, {}, made.manifest.layers[-1])
                    )
                    self.steps[key] = (made.descriptor.digest, snapshot)
            if name is not None:
                self._name(name, made.descriptor)

    def _name(self, name: str, descriptor: Descriptor) -> None:
        self.store.tag((name,), descriptor)
        self.tags[name] = descriptor

    @precondition(lambda self: self.tags)
    @rule(data=st.data(), name=NAMES)
    def tag(self, data: st.DataObject, name: str) -> None:
        self._name(name, self.tags[data.draw(st.sampled_from(sorted(self.tags)))])

    @precondition(lambda self: self.tags)
    @rule(data=st.data())
    def untag(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.tags)))
        self.store.untag(name)
        del self.tags[name]

    @precondition(lambda self: len(self._single()) > 1)
    @rule(data=st.data(), name=NAMES)
    def index(self, data: st.DataObject, name: str) -> None:
        chosen = data.draw(st.lists(st.sampled_from(self._single()), min_size=2, max_size=2, unique=True))
        images = [self.store.images.image(self.tags[each]) for each in chosen]
        descriptor = self.maker.index(images)
        below = [self.tags[each].digest for each in chosen]
        self.blobs[descriptor.digest] = {descriptor.digest}.union(*(self.blobs[digest] for digest in below))
        self.bases[descriptor.digest] = set().union(*(self.bases[digest] for digest in below))
        self._name(name, descriptor)

    def _single(self) -> list[str]:
        return sorted(name for name, found in self.tags.items() if len(self.bases[found.digest]) == 1
                      and not self.store.images.entries(found))  # fmt: skip

    @precondition(lambda self: self._single())
    @rule(data=st.data(), name=SESSIONS)
    def begin(self, data: st.DataObject, name: str) -> None:
        """A scripted build begins with an image, which may lose its name then."""
        found = self.tags[data.draw(st.sampled_from(self._single()))]
        step = sessions.Done("FROM x", "k", found, {})
        sessions.put(self.store, sessions.Session(name, "linux/amd64", 0.0, 0, (step,)))
        self.sessions[name] = found.digest

    @precondition(lambda self: self._single())
    @rule(data=st.data(), name=SESSIONS)
    def create(self, data: st.DataObject, name: str) -> None:
        """A container is made of an image, and stops; it may be started again."""
        if name in self.containers:
            return
        found = self.tags[data.draw(st.sampled_from(self._single()))]
        snapshot = base_snapshot(self.store.images.image(found).config.diff_ids)
        self._unpack(found)
        held = containers.make(self.store, name, "x", kept=True, detached=True)
        held.configure(manifest=found.digest, snapshots=(snapshot,))
        os.close(held.fd)
        self.containers[name] = (found.digest, snapshot)

    @precondition(lambda self: self.containers)
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.containers)))
        containers.remove(self.store, containers.find(self.store, name))
        del self.containers[name]

    @rule(name=SESSIONS)
    def abandon(self, name: str) -> None:
        assert sessions.remove(self.store, name) is (name in self.sessions)
        self.sessions.pop(name, None)

    @precondition(lambda self: self._single())
    @rule(data=st.data())
    def unpack(self, data: st.DataObject) -> None:
        """An image is unpacked, as the first step on it does."""
        self._unpack(self.tags[data.draw(st.sampled_from(self._single()))])

    def _unpack(self, found: Descriptor) -> None:
        image = self.store.images.image(found)
        files: dict[str, bytes | str | None] = {}
        for layer in image.manifest.layers:
            files |= self.maker.contents[layer.digest]
        self.maker.snapshot_of(base_snapshot(image.config.diff_ids), files)
        self.unpacked.add(base_snapshot(image.config.diff_ids))

    @rule(what=st.sampled_from(["blob", "scratch", "snapshot", "half"]), number=st.integers(0, 3))
    def killed(self, what: str, number: int) -> None:
        """Something was stopped before anything referred to what it had made."""
        root = self.store.root
        if what == "blob":
            self.store.images.put(f"nobody's {number}".encode(), "x/y")
        elif what == "half":
            (self.store.images.blobs / f".{number}.12345678").write_text("half")
        elif what == "snapshot":
            self.maker.snapshot_of(f"none{number}", {"a": b"1"})
        else:
            (root / "work" / f"0000000{number}").mkdir(exist_ok=True)
            (root / "work" / f"0000000{number}" / "file").write_text("x" * 100)

    @rule(everything=st.booleans())
    def prune(self, everything: bool) -> None:
        store = self.store
        with store.perhaps_alone():
            foretold = gc.find(store, everything=everything)  # what --dry-run and du say
        before = weight(store.root)
        with store.alone():
            garbage = gc.find(store, everything=everything)
            gc.delete(store, garbage)
        assert foretold == garbage
        assert before - weight(store.root) == garbage.size
        held = {snapshot for _, snapshot in self.containers.values()}
        if everything:
            self.steps.clear()
            self.unpacked &= held  # what a container stands on stays, and is there for others when that is gone
        self.unpacked &= set().union(*(self.bases[found.digest] for found in self.tags.values()))
        snapshots = self.unpacked | held | {snapshot for _, snapshot in self.steps.values()}
        assert set(os.listdir(store.root / "snapshots")) == snapshots
        needed = set().union(*(self.blobs[digest] for digest in self._roots()))
        assert {f"sha256:{path.name}" for path in store.images.blobs.iterdir()} == needed
        assert gc.find(store).items == ()
        with store.alone():
            report = fsck.Check(self.store, fsck.leftovers(store)).run()
        assert report.findings == ()

    def _roots(self) -> set[str]:
        steps = {digest for digest, _ in self.steps.values()}
        return (
            {found.digest for found in self.tags.values()}
            | steps
            | set(self.sessions.values())
            | {digest for digest, _ in self.containers.values()}
        )

    @invariant()
    def nothing_needed_is_gone(self) -> None:
        store = self.store
        assert {name: found.digest for name, found in store.tags().items()} == {
            name: found.digest for name, found in self.tags.items()
        }
        for found in self.tags.values():
            for image in store.images.all_images(found):
                store.images.verify(image)
        for name, digest in self.sessions.items():
            session = sessions.get(store, name)
            assert session.last.manifest.digest == digest
            store.images.verify(store.images.image(session.last.manifest))
        for name, (digest, snapshot) in self.containers.items():
            assert containers.find(store, name).config.manifest == digest
            assert store.has_snapshots((snapshot,))
        for key, (digest, snapshot) in self.steps.items():
            record = store.step(key)
            assert record is not None
            assert record.manifest.digest == digest
            assert store.has_snapshots((snapshot,))


def test_what_a_container_left_is_a_base_again() -> None:
    machine = Pruning()
    try:
        machine.build(["u"], "localhost/a:latest")
        held = machine._single()[0]
        machine._unpack(machine.tags[held])
        container = containers.make(machine.store, "one", "x", kept=True, detached=True)
        snapshot = base_snapshot(machine.store.images.image(machine.tags[held]).config.diff_ids)
        container.configure(manifest=machine.tags[held].digest, snapshots=(snapshot,))
        os.close(container.fd)
        machine.containers["one"] = (machine.tags[held].digest, snapshot)
        machine.prune(True)
        containers.remove(machine.store, containers.find(machine.store, "one"))
        del machine.containers["one"]
        machine.prune(False)
        assert os.listdir(machine.store.root / "snapshots") == [snapshot]
    finally:
        machine.teardown()


Pruning.TestCase.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
TestPruning = Pruning.TestCase
