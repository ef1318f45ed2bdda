"""Shared caches that lie: each is a warning and a miss, and nothing of it is in the store."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.built import Built
from support.hostile import HostileRegistry
from support.images import Layout, once
from support.orca import Orca

BASE = "localhost/busybox:latest"
TEXT = f"FROM {BASE}\nRUN echo one > /one\nRUN echo two > /two\n"
REF = "org.opencontainers.image.ref.name"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class Cache:
    """A shared cache in a directory, to be damaged; `context` is what it was made from."""

    path: Path
    context: Path

    @property
    def index(self) -> list[dict[str, Any]]:
        return list(json.loads((self.path / "index.json").read_text())["manifests"])

    def write_index(self, entries: list[dict[str, Any]]) -> None:
        (self.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))

    def blob(self, digest: str) -> Path:
        return self.path / "blobs" / digest.replace(":", "/")

    def layers(self) -> list[Path]:
        """The layers that the cached steps add."""
        found = {layer["digest"]: layer["size"] for entry in self.index for layer in self.read(entry)["layers"]}
        return [self.blob(digest) for digest, size in found.items() if size < 10_000]

    def read(self, entry: dict[str, Any]) -> dict[str, Any]:
        value = json.loads(self.blob(entry["digest"]).read_bytes())
        assert isinstance(value, dict)
        return value

    def change(self, how: Callable[[dict[str, Any]], None]) -> None:
        """Every entry changed, with right digests."""
        entries = self.index
        for entry in entries:
            value = self.read(entry)
            how(value)
            data = json.dumps(value).encode()
            entry |= {"digest": digest_of(data), "size": len(data)}
            self.blob(entry["digest"]).write_bytes(data)
        self.write_index(entries)


@pytest.fixture
def cache(shared_dir: Path, busybox_layout: Layout, open_path: Path) -> Cache:
    """A copy of a cache that was built once."""

    def make(path: Path) -> None:
        path.mkdir(mode=0o755)
        (path / "context").mkdir()
        (path / "context/Dockerfile").write_text(TEXT)
        orca = Orca(path, lambda: pytest.fail("no other user here"))
        orca.load(busybox_layout, BASE)
        orca("build", "-q", f"--cache-to=type=local,dest={path}/cache", path / "context")

    made = once(shared_dir / "made-cache", make)
    shutil.copytree(made / "cache", open_path / "cache")
    return Cache(open_path / "cache", made / "context")


@pytest.fixture
def victim(open_path: Path, busybox_layout: Layout) -> Orca:
    """Another machine."""
    (open_path / "victim").mkdir(mode=0o755)
    other = Orca(open_path / "victim", lambda: pytest.fail("no other user here"))
    other.load(busybox_layout, BASE)
    return other


def assert_unharmed(victim: Orca, cache: Cache, place: str, *, warned: bool = True) -> str:
    """The build is right, the cache was not used, and every blob in the store is what its name says."""
    result = victim("build", "--progress=plain", f"--cache-from={place}", cache.context, timeout=60)
    assert result.stderr.count("CACHED") == 1, "FROM"
    assert ("is not used" in result.stderr) is warned
    assert "\x1b" not in result.stderr
    files = Built(victim.store / "images", result.out).files
    assert (files["one"].text, files["two"].text) == ("one\n", "two\n")
    for blob in (victim.store / "images/blobs/sha256").iterdir():
        assert digest_of(blob.read_bytes()) == f"sha256:{blob.name}"
    return result.stderr


def edited(cache: Cache, canary: Path) -> None:
    for layer in cache.layers():
        data = bytearray(layer.read_bytes())
        data[-1] ^= 1
        layer.write_bytes(data)


def shorter(cache: Cache, canary: Path) -> None:
    for layer in cache.layers():
        layer.write_bytes(layer.read_bytes()[:-1])


def longer(cache: Cache, canary: Path) -> None:
    for layer in cache.layers():
        layer.write_bytes(layer.read_bytes() + b"x")


def gone(cache: Cache, canary: Path) -> None:
    for layer in cache.layers():
        layer.unlink()


def vast(cache: Cache, canary: Path) -> None:
    """An index of holes, far larger than memory."""
    os.truncate(cache.path / "index.json", 1 << 42)


def fifo(cache: Cache, canary: Path) -> None:
    for layer in cache.layers():
        layer.unlink()
        os.mkfifo(layer)


def endless(cache: Cache, canary: Path) -> None:
    for layer in cache.layers():
        layer.unlink()
        layer.symlink_to("/dev/zero")


def linked(cache: Cache, canary: Path) -> None:
    for layer in cache.layers():
        layer.unlink()
        layer.symlink_to(canary / "file")


def swapped(cache: Cache, canary: Path) -> None:
    """Every step under the key of another."""
    entries = cache.index
    names = [entry["annotations"][REF] for entry in entries]
    for entry, name in zip(entries, [*names[1:], names[0]], strict=True):
        entry["annotations"] = {REF: name}
    cache.write_index(entries)


def plain_images(cache: Cache, canary: Path) -> None:
    cache.change(lambda value: value.pop("annotations"))


def not_text(cache: Cache, canary: Path) -> None:
    cache.change(lambda value: value["annotations"].update({"orca.cache.step": [1]}))


def no_json(cache: Cache, canary: Path) -> None:
    cache.change(lambda value: value["annotations"].update({"orca.cache.step": "[" * 100_000}))


def other_layers(cache: Cache, canary: Path) -> None:
    """What is fetched is not what the record says."""
    cache.change(lambda value: value.update(layers=value["layers"][:1]))


def urls(cache: Cache, canary: Path) -> None:
    cache.change(lambda value: value["layers"][-1].update(urls=[f"file://{canary}/file"]))


def no_diff_ids(cache: Cache, canary: Path) -> None:
    def change(value: dict[str, Any]) -> None:
        notes = value["annotations"]
        config = json.loads(notes["orca.cache.config"])
        config["rootfs"]["diff_ids"] = []
        notes["orca.cache.config"] = json.dumps(config)
        descriptor = {**value["config"], "digest": digest_of(notes["orca.cache.config"].encode())}
        descriptor["size"] = len(notes["orca.cache.config"])
        notes["orca.cache.manifest"] = json.dumps({**json.loads(notes["orca.cache.manifest"]), "config": descriptor})
        value["config"] = descriptor

    cache.change(change)


def bad_digest(cache: Cache, canary: Path) -> None:
    entries = cache.index
    for entry in entries:
        entry["digest"] = "sha256:../../../canary"
    cache.write_index(entries)


def bad_index(cache: Cache, canary: Path) -> None:
    (cache.path / "index.json").write_text('{"manifests": [{"annotations": 5}]}')


def fifo_index(cache: Cache, canary: Path) -> None:
    (cache.path / "index.json").unlink()
    os.mkfifo(cache.path / "index.json")


ATTACKS = (
    edited, shorter, longer, gone, fifo, endless, linked, swapped, plain_images, not_text, no_json, other_layers, urls,
    no_diff_ids, bad_digest, bad_index, fifo_index, vast,
)  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_a_directory_that_lies(attack: Callable[[Cache, Path], None], cache: Cache, victim: Orca, canary: Path) -> None:
    attack(cache, canary)
    assert_unharmed(victim, cache, f"type=local,src={cache.path}")


def test_what_a_record_says_is_not_believed(cache: Cache, victim: Orca, canary: Path) -> None:
    """State, ingredients, text and snapshots come from this build; a record that is otherwise right is used."""

    def change(value: dict[str, Any]) -> None:
        step = json.loads(value["annotations"]["orca.cache.step"])
        step |= {"snapshots": ["../../../canary"], "state": {"config": 5}, "ingredients": {"evil": 1}}
        step |= {"text": "RUN \x1b]0;evil\x07", "layer": {"digest": "sha256:x"}, "created": "\x1b[2J"}
        value["annotations"]["orca.cache.step"] = json.dumps(step)

    cache.change(change)
    result = victim("build", f"--cache-from=type=local,src={cache.path}", cache.context)
    assert result.stderr.count("CACHED") == 3
    records = [json.loads(path.read_text()) for path in (victim.store / "steps").glob("*/*")]
    assert len(records) == 3
    for record in records:
        assert record["snapshots"] == []
        assert "evil" not in json.dumps(record)
        assert record["created"] == ""
        assert record["state"]["config"]["architecture"]
    assert Built(victim.store / "images", result.out).files["two"].text == "two\n"


@pytest.fixture
def served(cache: Cache, evil: HostileRegistry, victim: Orca, open_path: Path) -> str:
    """The cache as a registry's repository; returns its name."""
    name = f"cache{os.urandom(3).hex()}"
    tags = []
    for entry in cache.index:
        tags.append(entry["annotations"][REF])
        data = cache.blob(entry["digest"]).read_bytes()
        evil.manifest(name, tags[-1], entry["mediaType"], data)
        value = json.loads(data)
        for blob in (value["config"], *value["layers"]):
            path = f"/v2/{name}/blobs/{blob['digest']}"
            evil.table[path] = ("application/octet-stream", cache.blob(blob["digest"]).read_bytes())
    evil.table[f"/v2/{name}/tags/list"] = ("application/json", json.dumps({"name": name, "tags": tags}).encode())
    victim.env["CONTAINERS_REGISTRIES_CONF"] = str(evil.write_registries_conf(open_path / "evil.conf"))
    return name


def test_a_registry_that_is_honest(cache: Cache, served: str, evil: HostileRegistry, victim: Orca) -> None:
    """What the others below differ from."""
    result = victim("build", f"--cache-from={evil.address}/{served}", cache.context)
    assert result.stderr.count("CACHED") == 3


@pytest.mark.parametrize("attack", ["layers", "manifests", "list", "tags", "refused"])
def test_a_registry_that_lies(
    attack: str, cache: Cache, served: str, evil: HostileRegistry, victim: Orca, canary: Path
) -> None:
    table = evil.table
    warned = True
    if attack == "layers":
        for layer in cache.layers():
            table[f"/v2/{served}/blobs/sha256:{layer.name}"] = ("application/octet-stream", b"x" * layer.stat().st_size)
    elif attack == "manifests":
        for path in [path for path in table if path.startswith(f"/v2/{served}/manifests/")]:
            table[path] = ("application/vnd.oci.image.manifest.v1+json", b'{"schemaVersion": 2, "layers": 5}')
    elif attack == "list":
        table[f"/v2/{served}/tags/list"] = ("application/json", b'{"tags": 5}')
    elif attack == "tags":
        tags = ["orca-../../x", "orca-" + "A" * 64, "--evil", "orca-" + "0" * 64 + "\x1b[2J", "orca-" + "1" * 64]
        table[f"/v2/{served}/tags/list"] = ("application/json", json.dumps({"tags": tags}).encode())
        warned = False
    else:
        table[f"/v2/{served}/tags/list"] = lambda handler: handler.say(403, b'{"errors":[{"message":"\\u001b[2Jno"}]}')
    assert_unharmed(victim, cache, f"{evil.address}/{served}", warned=warned)
