"""The steps of the build that made an image."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from support.stores import Maker

from orca.errors import StoreError
from orca.oci.image import ImageConfig
from orca.oci.platform import Platform
from orca.sources import names
from orca.store import chains, gc
from orca.store.chains import Link


@pytest.fixture
def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    (tmp_path / "registries.conf").write_text("")
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(tmp_path / "registries.conf"))
    return Maker.at(tmp_path / "store")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("app@3", ("app", 3)),
        ("localhost/app:1@12", ("localhost/app:1", 12)),
        ("6f0c12@1", ("6f0c12", 1)),
        (f"sha256:{'1' * 64}@2", (f"sha256:{'1' * 64}", 2)),
        (f"app@sha256:{'1' * 64}", (f"app@sha256:{'1' * 64}", None)),
        ("app", ("app", None)),
        ("app@", ("app@", None)),
        ("@3", ("@3", None)),
        ("app@-1", ("app@-1", None)),
        ("app@1234567", ("app@1234567", None)),
    ],
)
def test_split(text: str, expected: tuple[str, int | None]) -> None:
    assert chains.split(text) == expected


def test_a_step_by_its_manifest_and_by_its_key(maker: Maker) -> None:
    one, two, last = maker.image("a"), maker.image("a", "b"), maker.image("a", "b", "c", tags=["localhost/app:latest"])
    key = maker.step("RUN b", two).key
    links = [Link(1, "0", "FROM x", "0" * 64, True, one.descriptor), Link(2, "0", "RUN b", key, True, None)]
    chains.write(maker.store.root, last.descriptor.digest, links)
    assert chains.read(maker.store.root, last.descriptor.digest) == tuple(links)
    assert maker.store.find("app@1") == (None, one)
    assert names.find(maker.store, "localhost/app:latest@2")[2] == two
    assert maker.store.lookup("nothing@1") is None
    assert names.lookup(maker.store, "nothing@1") is None


def test_the_state_has_what_the_manifest_lacks(maker: Maker) -> None:
    made, last = maker.image("a"), maker.image("a", "b", tags=["localhost/app:latest"])
    record = maker.step("RUN a", made)
    config = ImageConfig(architecture="amd64", env=(("PATH", "/bin"),), onbuild=("RUN x",))
    maker.store.put_step(replace(record, state={"config": config.to_json()}))
    chains.write(maker.store.root, last.descriptor.digest, [Link(1, "0", "RUN a", record.key, True, None)])
    _, found = maker.store.find("app@1")
    assert found.config.onbuild == ("RUN x",)
    assert (found.config.diff_ids, found.config.history) == (made.config.diff_ids, made.config.history)
    assert found.manifest.layers == made.manifest.layers


def test_what_cannot_be_had(maker: Maker) -> None:
    last = maker.image("a", tags=["localhost/app:latest"])
    with pytest.raises(StoreError, match="which steps made app is not known"):
        maker.store.find("app@1")
    chains.write(maker.store.root, last.descriptor.digest, [Link(1, "0", "RUN a", "0" * 64, True, None)])
    with pytest.raises(StoreError, match="app has no step 2: its build had 1 to 1"):
        maker.store.find("app@2")
    with pytest.raises(StoreError, match="step 1 of app is not in the store"):
        maker.store.find("app@1")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"steps": 3}', '{"steps": [{"number": 1}]}', '{"steps": [null]}'])
def test_a_damaged_chain_is_none(text: str, maker: Maker) -> None:
    last = maker.image("a", tags=["localhost/app:latest"])
    chains.path_of(maker.store.root, last.descriptor.digest).write_text(text)
    assert chains.read(maker.store.root, last.descriptor.digest) == ()


def test_out_of_an_index_the_platforms_own(maker: Maker) -> None:
    one, two, step = maker.image("1"), maker.image("2"), maker.image("3")
    maker.index([one, two], ["localhost/app:latest"])
    chains.write(maker.store.root, two.descriptor.digest, [Link(1, "0", "FROM x", "0" * 64, True, step.descriptor)])
    assert maker.store.find("app@1", Platform("linux", "arm64")) == (None, step)
    with pytest.raises(StoreError, match="not known"):
        maker.store.find("app@1", Platform("linux", "amd64"))


def test_a_chain_goes_with_its_image(maker: Maker) -> None:
    kept, gone = maker.image("a", tags=["localhost/app:latest"]), maker.image("b")
    for found in (kept, gone):
        chains.write(maker.store.root, found.descriptor.digest, [Link(1, "0", "x", "", True, None)])
    gc.delete(maker.store, gc.find(maker.store, everything=True))
    assert os.listdir(maker.store.root / "chains") == [kept.descriptor.digest.removeprefix("sha256:")]
