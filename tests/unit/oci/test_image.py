"""Descriptors, manifests, configs: what goes in comes out, and what the spec forbids does not go in."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca.errors import ImageError
from orca.oci import image
from orca.oci.image import Descriptor, History, ImageConfig, Manifest

DIGEST = "sha256:" + "ab" * 32
QUICK = settings(max_examples=40, deadline=None)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
WORD = TEXT.filter(bool)
NAME = WORD.filter(lambda text: "=" not in text)
DIGESTS = st.binary(max_size=4).map(image.digest_of)
MAYBE_WORD = st.none() | WORD
MAYBE_ARGV = st.none() | st.lists(TEXT, min_size=1, max_size=3).map(tuple)
UNIQUE = st.lists(WORD, unique=True, max_size=3).map(tuple)


def pairs(names: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[tuple[str, str], ...]]:
    return st.dictionaries(names, TEXT, max_size=3).map(lambda found: tuple(found.items()))


HISTORIES = st.builds(
    History,
    created=st.none() | TEXT,
    created_by=st.none() | TEXT,
    author=st.none() | TEXT,
    comment=st.none() | TEXT,
    empty_layer=st.booleans(),
)
CONFIGS = st.builds(
    ImageConfig,
    architecture=TEXT,
    os=WORD,
    variant=MAYBE_WORD,
    created=MAYBE_WORD,
    author=MAYBE_WORD,
    user=TEXT,
    env=pairs(NAME),
    entrypoint=MAYBE_ARGV,
    cmd=MAYBE_ARGV,
    working_dir=TEXT,
    labels=pairs(TEXT),
    volumes=UNIQUE,
    exposed_ports=UNIQUE,
    stop_signal=MAYBE_WORD,
    healthcheck=st.none() | st.just({"Test": ["CMD", "true"], "Interval": 10**9}),
    onbuild=st.lists(TEXT, max_size=2).map(tuple),
    shell=MAYBE_ARGV,
    args_escaped=st.booleans(),
    diff_ids=st.lists(DIGESTS, max_size=2).map(tuple),
    history=st.lists(HISTORIES, max_size=2).map(tuple),
)
DESCRIPTORS = st.builds(
    Descriptor,
    st.sampled_from(image.LAYERS),
    DIGESTS,
    st.integers(0, 2**63),
    st.dictionaries(TEXT, TEXT, max_size=2),
    st.none() | st.just({"os": "linux", "architecture": "arm64"}),
)


def through_bytes(value: dict[str, Any]) -> dict[str, Any]:
    return image.load_object(image.document(value), "it")


@QUICK
@given(CONFIGS)
def test_config_comes_back(config: ImageConfig) -> None:
    assert ImageConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    # A blob has its objects' keys sorted; nothing else changes.
    stored = replace(
        config,
        labels=tuple(sorted(config.labels)),
        volumes=tuple(sorted(config.volumes)),
        exposed_ports=tuple(sorted(config.exposed_ports)),
    )
    assert ImageConfig.from_json(through_bytes(config.to_json())) == stored


@QUICK
@given(DESCRIPTORS)
def test_descriptor_comes_back(descriptor: Descriptor) -> None:
    assert Descriptor.from_json(through_bytes(descriptor.to_json())) == descriptor
    assert descriptor.plain().to_json().keys() == {"mediaType", "digest", "size"}


@QUICK
@given(DESCRIPTORS, st.lists(DESCRIPTORS, max_size=3).map(tuple), st.dictionaries(TEXT, TEXT, max_size=2))
def test_manifest_comes_back(config: Descriptor, layers: tuple[Descriptor, ...], annotations: dict[str, str]) -> None:
    manifest = Manifest(config, layers, annotations)
    assert Manifest.from_json(through_bytes(manifest.to_json())) == manifest
    assert manifest.size == sum(layer.size for layer in layers)


def test_config_is_written_as_the_spec_names_it() -> None:
    config = ImageConfig(  # noqa: S604 (no subprocess)
        architecture="arm64", variant="v9", created="2024-01-01T00:00:00Z", author="me", user="7:8",
        env=(("PATH", "/bin"), ("EMPTY", "")), entrypoint=("/app",), cmd=("-v",), working_dir="/srv",
        labels=(("b", "1"), ("a", "2")), volumes=("/data",), exposed_ports=("80/tcp",), stop_signal="SIGINT",
        healthcheck={"Test": ["NONE"]}, onbuild=("RUN x",), shell=("/bin/bash", "-c"), args_escaped=True,
        diff_ids=(DIGEST,), history=(History(created_by="RUN x"), History(created_by="ENV A=1", empty_layer=True)),
    )  # fmt: skip
    assert config.to_json() == {
        "architecture": "arm64",
        "os": "linux",
        "variant": "v9",
        "created": "2024-01-01T00:00:00Z",
        "author": "me",
        "config": {
            "User": "7:8",
            "ExposedPorts": {"80/tcp": {}},
            "Env": ["PATH=/bin", "EMPTY="],
            "Entrypoint": ["/app"],
            "Cmd": ["-v"],
            "Healthcheck": {"Test": ["NONE"]},
            "Volumes": {"/data": {}},
            "WorkingDir": "/srv",
            "OnBuild": ["RUN x"],
            "Labels": {"b": "1", "a": "2"},
            "StopSignal": "SIGINT",
            "Shell": ["/bin/bash", "-c"],
            "ArgsEscaped": True,
        },
        "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
        "history": [{"created_by": "RUN x"}, {"created_by": "ENV A=1", "empty_layer": True}],
    }


def test_absent_and_null_fields_are_the_same() -> None:
    bare = {"rootfs": {"type": "layers"}}
    nulls = {
        **dict.fromkeys(("architecture", "os", "variant", "created", "author", "history")),
        "config": dict.fromkeys(
            ("User", "Env", "Entrypoint", "Cmd", "WorkingDir", "Labels", "Volumes", "ExposedPorts", "StopSignal",
             "Healthcheck", "OnBuild", "Shell", "ArgsEscaped")
        ),
        "rootfs": {"type": "layers", "diff_ids": None},
    }  # fmt: skip
    assert ImageConfig.from_json(bare) == ImageConfig.from_json(nulls) == ImageConfig()


def test_later_env_entries_win_at_the_first_ones_place() -> None:
    config = ImageConfig.from_json({"rootfs": {"type": "layers"}, "config": {"Env": ["A=1", "B=2", "A=3=4"]}})
    assert config.env == (("A", "3=4"), ("B", "2"))
    assert config.with_env({"B": "5", "C": "6"}).env == (("A", "3=4"), ("B", "5"), ("C", "6"))
    assert config.with_labels({"x": "1"}).with_labels({"x": "2"}).labels == (("x", "2"),)


@pytest.mark.parametrize(
    "digest",
    [
        None, 7, "", "sha256:", "sha256:" + "a" * 63, "sha256:" + "a" * 65, "sha256:" + "A" * 64, "sha512:" + "a" * 64,
        "sha256:../../../etc/passwd", DIGEST + "\n", "\n" + DIGEST, DIGEST + "/x", ["sha256"],
    ],
)  # fmt: skip
def test_bad_digests_are_refused(digest: object) -> None:
    with pytest.raises(ImageError, match="not a digest"):
        image.check_digest(digest)


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ([], "not a JSON object"),
        ({"digest": DIGEST}, "no size"),
        ({"digest": DIGEST, "size": -1}, "no size"),
        ({"digest": DIGEST, "size": True}, "should be a int"),
        ({"digest": DIGEST, "size": "1"}, "should be a int"),
        ({"digest": DIGEST, "size": 1.0}, "should be a int"),
        ({"digest": "x", "size": 1}, "not a digest"),
        ({"digest": DIGEST, "size": 1, "mediaType": 7}, "media type"),
        ({"digest": DIGEST, "size": 1, "annotations": []}, "annotations"),
        ({"digest": DIGEST, "size": 1, "platform": "linux"}, "platform"),
    ],
)
def test_bad_descriptors_are_refused(value: Any, match: str) -> None:
    with pytest.raises(ImageError, match=match):
        Descriptor.from_json(value)


GOOD = {"mediaType": image.LAYER, "digest": DIGEST, "size": 1}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"schemaVersion": 1}, "not an OCI image manifest"),
        ({"layers": None}, "not an OCI image manifest"),
        ({"layers": {}}, "not an OCI image manifest"),
        ({"layers": [{**GOOD, "mediaType": "application/x-tar"}]}, "unknown layer media type"),
        ({"layers": [None]}, "a descriptor"),
        ({"config": None}, "a descriptor"),
        ({"annotations": "x"}, "annotations"),
    ],
)
def test_bad_manifests_are_refused(change: dict[str, Any], match: str) -> None:
    good = {"schemaVersion": 2, "config": {**GOOD, "mediaType": image.CONFIG}, "layers": [GOOD]}
    assert Manifest.from_json(good).layers[0].digest == DIGEST
    with pytest.raises(ImageError, match=match):
        Manifest.from_json({**good, **change})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"rootfs": None}, "no rootfs"),
        ({"rootfs": {"type": "other"}}, "no rootfs"),
        ({"rootfs": {"type": "layers", "diff_ids": "x"}}, "no rootfs"),
        ({"rootfs": {"type": "layers", "diff_ids": ["x"]}}, "not a digest"),
        ({"architecture": 7}, "architecture"),
        ({"os": []}, "os"),
        ({"history": {}}, "history"),
        ({"history": ["x"]}, "history entry"),
        ({"history": [{"created_by": 1}]}, "created_by"),
        ({"config": []}, "config"),
        ({"config": {"Env": "A=1"}}, "Env"),
        ({"config": {"Env": ["A"]}}, "bad Env entry 'A'"),
        ({"config": {"Env": ["=x"]}}, "bad Env entry"),
        ({"config": {"Env": ["A=\0"]}}, "bad Env entry"),
        ({"config": {"Cmd": "sh"}}, "Cmd"),
        ({"config": {"Cmd": [1]}}, "Cmd"),
        ({"config": {"Entrypoint": {}}}, "Entrypoint"),
        ({"config": {"Labels": ["x"]}}, "Labels"),
        ({"config": {"Volumes": ["/x"]}}, "Volumes"),
        ({"config": {"ExposedPorts": "80"}}, "ExposedPorts"),
        ({"config": {"User": 0}}, "User"),
        ({"config": {"WorkingDir": ["/"]}}, "WorkingDir"),
        ({"config": {"Healthcheck": "x"}}, "Healthcheck"),
        ({"config": {"OnBuild": "RUN x"}}, "OnBuild"),
        ({"config": {"StopSignal": 9}}, "StopSignal"),
    ],
)
def test_bad_configs_are_refused(change: dict[str, Any], match: str) -> None:
    with pytest.raises(ImageError, match=match):
        ImageConfig.from_json({"rootfs": {"type": "layers", "diff_ids": []}, **change})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
FIELDS = ["User", "Env", "Cmd", "Entrypoint", "Labels", "Volumes", "ExposedPorts", "Healthcheck", "OnBuild", "Shell"]


@QUICK
@given(
    st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=3),
    st.dictionaries(st.sampled_from(["architecture", "os", "history", "variant", "created"]), JSON, max_size=3),
)
def test_any_other_json_raises_nothing_but_its_error(run: dict[str, Any], top: dict[str, Any]) -> None:
    try:
        config = ImageConfig.from_json({"rootfs": {"type": "layers"}, "config": run, **top})
    except ImageError:
        return
    assert json.dumps(config.to_json())


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'"x"', "not a JSON object"),
        (b'{"a":"\xff"}', "not JSON"),
        (b'{"a":"\\ud800"}', "not JSON"),
        (b'{"a":"\\uDC80x"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a":' + b"9" * 5000 + b"}", "not JSON"),
        (b" " * (image.JSON_LIMIT + 1), "larger than"),
    ],
)
def test_what_is_no_json_object_is_refused(data: bytes, match: str) -> None:
    with pytest.raises(ImageError, match=f"the thing is .*{match}"):
        image.load_object(data, "the thing")


def test_whole_surrogate_pairs_are_text() -> None:
    assert image.load_object(b'{"a":"\\ud83d\\udc0b"}', "it") == {"a": "\N{WHALE}"}


def test_digest_is_sha256_of_the_bytes() -> None:
    assert image.digest_of(b"x") == "sha256:" + hashlib.sha256(b"x").hexdigest()
    assert image.descriptor_of(b"xy", image.CONFIG) == Descriptor(image.CONFIG, image.digest_of(b"xy"), 2)


def test_canonical_json_does_not_depend_on_order() -> None:
    assert (
        image.canonical({"b": 1, "a": [1, "é"]})
        == image.canonical({"a": [1, "é"], "b": 1})
        == ('{"a":[1,"é"],"b":1}'.encode())
    )


def test_documents_are_utf8_while_keys_tell_bytes_apart() -> None:
    # "\udcff" is how Python has the byte 0xff of a command line or a file name.
    assert image.canonical("\udcff") == b'"\xff"' != image.canonical("\udcfe")
    assert image.document("\udcff") == '"\N{REPLACEMENT CHARACTER}"'.encode()
    config = replace(ImageConfig(), labels=(("a", "x\udcffy"),))
    assert ImageConfig.from_json(through_bytes(config.to_json())).labels == (("a", "x\N{REPLACEMENT CHARACTER}y"),)
