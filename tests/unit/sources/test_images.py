"""Pulling with a stand-in for skopeo, and what its messages mean."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from support.fake_tools import FakeTools
from support.stores import Maker, diff_id

from orca.errors import ImageError, OrcaError, StoreError, ToolError
from orca.oci import image, reference
from orca.oci.image import Descriptor, ImageConfig
from orca.oci.platform import Platform
from orca.sources import images
from orca.sources.access import Access
from orca.sources.images import Puller, explain, overrides
from orca.sources.names import in_store
from orca.tools.command import Runner

ARM = Platform("linux", "arm64")


def log(text: str, level: str = "fatal") -> str:
    return f'time="2024-05-06T07:08:09Z" level={level} msg="{text}"\n'


@pytest.mark.parametrize(
    ("said", "meaning", "hint"),
    [
        (log('Error parsing image name \\"docker://localhost:5000/no:1\\": reading manifest 1 in localhost:5000/no: '
             "manifest unknown: manifest unknown"), "there is no such image", "check the name"),
        (log("reading manifest latest in r.example/no: name unknown: repository name not known to registry"),
         "there is no such image", "check the name"),
        (log("Error reading manifest latest in docker.io/library/no: errors: denied: requested access to the resource "
             "is denied unauthorized: authentication required"), "there is no such image, or it", "login"),
        (log("pinging container registry localhost:5000: Get \\\"https://localhost:5000/v2/\\\": dial tcp "
             "127.0.0.1:5000: connect: connection refused"), "the registry cannot be reached", "is it running"),
        (log("pinging container registry 10.1.1.1: dial tcp 10.1.1.1:443: connect: no route to host"),
         "the registry cannot be reached", "is it running"),
        (log("dial tcp: lookup nosuch.example: no such host"), "the registry's name cannot be resolved", "DNS"),
        (log("dial tcp: lookup r.example on 127.0.0.53:53: server misbehaving"),
         "the registry's name cannot be resolved", "DNS"),
        (log("dial tcp: lookup r.example: Temporary failure in name resolution"),
         "the registry's name cannot be resolved", "DNS"),
        (log("unable to retrieve auth token: invalid username/password: unauthorized"),
         "the registry refuses access", "orca login"),
        (log("reading manifest 1 in r.example/x: authentication required"), "the registry refuses access", "login"),
        (log("toomanyrequests: You have reached your pull rate limit."), "the registry allows no more", "wait"),
        (log('pinging container registry localhost:5000: Get \\"https://localhost:5000/v2/\\": http: server gave HTTP '
             "response to HTTPS client"), "the registry speaks http, not https", "--tls-verify=false"),
        (log("Get \\\"https://r.example/v2/\\\": x509: certificate signed by unknown authority"),
         "the registry's certificate is not trusted", "authority"),
        (log('choosing image instance: no image found in manifest list for architecture arm, variant \\"\\", OS linux'),
         "the image is not there for this platform", "--platform"),
        (log("no image found in image index for architecture arm64"), "the image is not there for this platform",
         "--platform"),
        (log("Get \\\"https://r.example/v2/\\\": net/http: TLS handshake timeout"), "the registry does not answer",
         "again"),
        (log("context deadline exceeded"), "the registry does not answer", "again"),
        (log("received unexpected HTTP status: 503 Service Unavailable"), "the registry itself has failed", "later"),
        (log("read tcp 1.2.3.4:5: read: connection reset by peer"), "the connection to the registry broke", "again"),
        (log("writing blob: write /x/oci-put-blob1: no space left on device"), "no space left on the device", "prune"),
        (log("Source image rejected: Running image docker://x is rejected by policy."),
         "the signature policy refuses it", "containers-policy.json(5)"),
        ("something nobody has seen before", "skopeo failed", None),
        ("", "skopeo failed", None),
    ],
)  # fmt: skip
def test_skopeos_messages_are_explained(said: str, meaning: str, hint: str | None) -> None:
    error = explain(ToolError("skopeo failed", argv=("skopeo",), returncode=1, stderr=said, hint=None), "r.example/x")
    assert error.message.startswith(f"r.example/x: {meaning}")
    assert error.hint is None if hint is None else hint in (error.hint or "")
    assert isinstance(error, ToolError) and (error.returncode, error.argv) == (1, ("skopeo",))


def test_overrides() -> None:
    assert overrides(Platform("linux", "arm", "v6")) == (
        "--override-os=linux", "--override-arch=arm", "--override-variant=v6",
    )  # fmt: skip
    assert overrides(ARM) == ("--override-os=linux", "--override-arch=arm64")


# -- with a stand-in


class Pulling:
    """A puller whose skopeo is a stand-in that "copies" an image of one layer from a Docker registry."""

    def __init__(self, tmp_path: Path, tools: FakeTools, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tools = tools
        self.maker = Maker.at(tmp_path / "store")
        self.store = self.maker.store
        (tmp_path / "scratch").mkdir()
        monkeypatch.setattr(images.os, "urandom", lambda count: b"\xab" * count)
        self.layout = tmp_path / "scratch" / f"pull-{threading.get_ident()}-ababab"
        self.puller = Puller(self.store, Runner(), tmp_path / "scratch", Access(tls_verify=False))

    def serve(self, media_type: str = image.DOCKER_MANIFEST, **changes: Any) -> tuple[str, Descriptor]:
        """Let the registry have an image; returns the digest there and the descriptor of the converted one."""
        converted = self.maker.image("layer", config=ImageConfig(architecture="arm64", cmd=("x",)))
        raw = json.dumps({"schemaVersion": 2, "mediaType": media_type, "layers": [{"size": 5}]})
        original = {
            "architecture": "arm64",
            "os": "linux",
            "config": {"Cmd": ["x"], "Healthcheck": {"Test": ["NONE"]}, "OnBuild": ["RUN x"], "Shell": ["/bin/b"]},
            "rootfs": {"type": "layers", "diff_ids": [diff_id("layer")]},
        }
        self.tools.answer("skopeo", "inspect", "--raw", stdout=raw)
        self.tools.answer("skopeo", "inspect", "--config", stdout=json.dumps(original))
        entry = {**converted.descriptor.to_json(), "annotations": {image.REF_NAME: "pulled"}, **changes}
        index = json.dumps({"schemaVersion": 2, "manifests": [entry]})
        self.tools.answer("skopeo", "copy", files={str(self.layout / "index.json"): index})
        return image.digest_of(raw.encode()), converted.descriptor


@pytest.fixture
def pulling(tmp_path: Path, fake_tools: FakeTools, monkeypatch: pytest.MonkeyPatch) -> Pulling:
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(tmp_path / "registries.conf"))
    return Pulling(tmp_path, fake_tools, monkeypatch)


def test_the_calls_of_a_pull(pulling: Pulling, tmp_path: Path) -> None:
    digest, _ = pulling.serve()
    found = pulling.puller.ensure("debian:12", ARM)
    conf = f"--registries-conf={tmp_path / 'registries.conf'}"
    source = "docker://docker.io/library/debian"
    arm = ["--override-os=linux", "--override-arch=arm64"]
    assert pulling.tools.calls == [
        ["skopeo", conf, "inspect", "--raw", "--tls-verify=false", f"{source}:12"],
        [
            "skopeo",
            conf,
            *arm,
            "copy",
            "--remove-signatures",
            "--src-tls-verify=false",
            f"{source}@{digest}",
            f"oci:{pulling.layout}:pulled",
        ],
        ["skopeo", conf, *arm, "inspect", "--config", "--raw", "--tls-verify=false", f"{source}@{digest}"],
    ]
    assert found.config.healthcheck == {"Test": ["NONE"]}
    assert (found.config.onbuild, found.config.shell) == (("RUN x",), ("/bin/b",))
    assert list(pulling.store.tags()) == ["docker.io/library/debian:12"]
    assert in_store(pulling.store, "debian:12") is not None


def test_an_oci_image_needs_no_second_look(pulling: Pulling) -> None:
    _, descriptor = pulling.serve(image.MANIFEST)
    found = pulling.puller.ensure("quay.example/x", ARM)
    assert [call[1:3] for call in pulling.tools.calls if "--config" in call] == []
    assert found.descriptor == descriptor


def test_what_is_there_is_not_pulled(pulling: Pulling) -> None:
    found = pulling.maker.image("x", tags=["localhost/base:latest", "docker.io/library/debian:12"])
    assert pulling.puller.ensure("base", ARM) == found
    assert pulling.puller.ensure("debian:12", ARM, "never") == found
    assert pulling.tools.calls == []


def test_never_is_never(pulling: Pulling) -> None:
    with pytest.raises(StoreError, match="forbids"):
        pulling.puller.ensure("debian:12", ARM, "never")
    assert pulling.tools.calls == []


def test_always_asks_and_newer_falls_back(pulling: Pulling) -> None:
    there = pulling.maker.image("x", tags=["docker.io/library/debian:12"])
    pulling.tools.answer("skopeo", "inspect", code=1, stderr=log("connect: connection refused"))
    assert pulling.puller.ensure("debian:12", ARM, "newer") == there
    with pytest.raises(ToolError, match="debian:12: the registry cannot be reached"):
        pulling.puller.ensure("debian:12", ARM, "always")
    assert len(pulling.tools.calls) == 2


def test_every_registry_of_the_search_list_is_asked(pulling: Pulling, tmp_path: Path) -> None:
    conf = tmp_path / "registries.conf"
    conf.write_text('unqualified-search-registries = ["one.example", "two.example"]')
    pulling.tools.answer("skopeo", "inspect", code=1, stderr=log("manifest unknown"))
    with pytest.raises(ToolError, match=r"one\.example/app:1: there is no such image"):
        pulling.puller.ensure("app:1", ARM)
    assert [call[-1] for call in pulling.tools.calls] == ["docker://one.example/app:1", "docker://two.example/app:1"]


def test_a_digest_is_held_to(pulling: Pulling) -> None:
    pulling.serve()
    wanted = f"quay.example/x@sha256:{'0' * 64}"
    with pytest.raises(ImageError, match="the registry sent sha256:"):
        pulling.puller.ensure(wanted, ARM)
    assert len(pulling.tools.calls) == 1 and pulling.store.tags() == {}


def test_a_pinned_image_keeps_its_digest_as_a_name(pulling: Pulling) -> None:
    digest, _ = pulling.serve()
    pulling.puller.pull(reference.parse(f"quay.example/x@{digest}"), ARM)
    assert list(pulling.store.tags()) == [f"quay.example/x@{digest}"]


@pytest.mark.parametrize("change", [{"size": 7}, {"digest": "sha256:" + "0" * 64}, {"digest": "../x"}])
def test_a_copy_that_is_wrong_is_refused(change: dict[str, Any], pulling: Pulling) -> None:
    pulling.serve(**change)
    with pytest.raises(OrcaError):
        pulling.puller.ensure("quay.example/x", ARM)
    assert pulling.store.tags() == {}


@pytest.mark.parametrize("answer", ["", "[]", "<html>", '{"layers": 7}', '{"layers": [7, {"size": "x"}]}'])
def test_odd_manifests_are_no_crash(answer: str, pulling: Pulling) -> None:
    pulling.serve(image.MANIFEST)
    pulling.tools.answer("skopeo", "inspect", "--raw", stdout=answer)
    if answer.startswith("{"):
        assert pulling.puller.ensure("quay.example/x", ARM).config.cmd == ("x",)
    else:
        with pytest.raises(ImageError):
            pulling.puller.ensure("quay.example/x", ARM)
