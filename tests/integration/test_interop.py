"""The same image in the hands of other tools: buildah runs what orca pushed, orca runs what buildah made, and skopeo
carries images between all its transports."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import need
from support.images import Layout, once
from support.kitchen import BASE, Kitchen
from support.orca import Orca, install_copy
from support.proc import Result, run
from support.registry import Registry
from support.users import SYSTEM_PATH

pytestmark = pytest.mark.root
PLAIN = "--tls-verify=false"

TEXT = f"""\
FROM {BASE}
ENV GREETING="hello  world"
RUN mkdir -p /data/sub && echo one > /data/sub/f && chmod 2755 /data/sub && chown 12:34 /data/sub/f && \\
    ln -s sub/f /data/link && ln /data/sub/f /data/hard && touch -d @1000000000 /data/sub/f
RUN rm /data/link && echo two > /data/two
WORKDIR /data
USER 12:34
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["id -u; id -g; pwd; echo $GREETING; find . | sort | xargs stat -c '%n %a %u:%g %s'; cat sub/f two"]
"""


@dataclass(frozen=True)
class Buildah:
    """buildah with a storage of its own."""

    top: Path

    def __call__(self, *words: str | os.PathLike[str], check: bool = True) -> Result:
        options = ("--root", self.top / "root", "--runroot", self.top / "run", "--storage-driver", "vfs")
        env = {"PATH": SYSTEM_PATH, "HOME": str(self.top), "LANG": "C.UTF-8"}
        return run("buildah", *options, *words, env=env, check=check, cwd=self.top)

    @property
    def storage(self) -> str:
        """As skopeo spells it, before a name."""
        return f"containers-storage:[vfs@{self.top}/root+{self.top}/run]"

    def output(self, image: str) -> str:
        """What the image's own command prints in a container of buildah's."""
        container = self("from", PLAIN, "--pull-never", image).out
        config = json.loads(self("inspect", "--type=image", image).stdout)["OCIv1"]["config"]
        command = [*config["Entrypoint"], *config["Cmd"]]
        limits = ("--isolation=oci", "--runtime=runc", "--network=host")
        return self("run", *limits, container, "--", *command).stdout


@pytest.fixture(scope="module")
def buildah() -> Iterator[Buildah]:
    need("buildah", "runc")
    top = Path(tempfile.mkdtemp(prefix="orca-buildah-"))
    found = Buildah(top)
    yield found
    found("rm", "--all", check=False)
    run("umount", top / "root" / "vfs", check=False)
    shutil.rmtree(top, ignore_errors=True)


@pytest.fixture(scope="module")
def made(shared_dir: Path, busybox_layout: Layout) -> Iterator[tuple[Orca, str, str]]:
    """An orca with the image `app` in its store, its digest, and what it prints."""
    top = Path(tempfile.mkdtemp(prefix="interop", dir=shared_dir))
    top.chmod(0o755)
    orca = Orca(top, lambda: once(shared_dir / "installed", install_copy))
    orca.load(busybox_layout, BASE)
    digest = Kitchen(orca).build(TEXT, "-t", "app", "--network=none").digest
    said = orca("run", "--network=none", "app").stdout
    assert said.startswith("12\n34\n/data\nhello world\n") and said.endswith("one\ntwo\n"), said
    yield orca, digest, said
    shutil.rmtree(top, ignore_errors=True)


Made = tuple[Orca, str, str]


def test_buildah_runs_what_orca_made(made: Made, registry: Registry, buildah: Buildah) -> None:
    orca, digest, said = made
    place = f"{registry.address}/interop/app:1"
    assert orca("push", "-q", PLAIN, "app", place).out == digest
    buildah("pull", "-q", PLAIN, place)
    assert buildah.output(place) == said
    for transport in ("oci-archive", "docker-archive", "oci"):
        spelled = f"{transport}:{orca.top}/for-buildah-{transport}:{transport}.example/app:1"
        orca("push", "-q", "app", spelled)
        image = buildah("pull", "-q", spelled).out
        assert buildah.output(image) == said, transport
    for transport in ("oci-archive", "docker-archive"):
        archive = orca.top / f"saved-{transport}.tar"
        orca("save", "--format", transport, "-o", archive, "app")
        assert buildah.output(buildah("pull", "-q", f"{transport}:{archive}").out) == said, transport


def test_orca_runs_what_buildah_made(made: Made, registry: Registry, buildah: Buildah, open_path: Path) -> None:
    orca, _, said = made
    place = f"{registry.address}/interop/back"
    orca("push", "-q", PLAIN, "busybox", f"{registry.address}/interop/base:1")
    text = TEXT.replace(BASE, f"{registry.address}/interop/base:1")
    (open_path / "Dockerfile").write_text(text)
    for form in ("oci", "docker"):
        options = ("--isolation=oci", "--runtime=runc", "--network=host", "--ulimit=nofile=1024:1024")
        buildah("bud", "-q", PLAIN, f"--format={form}", *options, "-t", f"{place}:{form}", open_path)
        buildah("push", "-q", PLAIN, f"{place}:{form}")
        assert orca("run", PLAIN, "--network=none", f"{place}:{form}").stdout == said, form
        layout = f"{open_path}/{form}"
        buildah("push", "-q", f"{place}:{form}", f"oci:{layout}:x")
        context = Kitchen(orca).context("FROM theirs\n")
        orca("build", "-q", "-t", form, "--build-context", f"theirs=oci-layout://{layout}:x", context)
        assert orca("run", "--network=none", form).stdout == said, form
        for transport in ("oci-archive", "docker-archive"):
            archive = f"{open_path}/{form}-{transport}.tar"
            buildah("push", "-q", f"{place}:{form}", f"{transport}:{archive}:theirs.example/{form}:{transport}")
            name = orca("load", "-q", "-i", archive).out.splitlines()[0]
            assert orca("run", "--network=none", name).stdout == said, (form, transport)


EXACT = ("oci", "oci-archive", "dir", "docker")
OTHERS = ("docker-archive", "containers-storage")


def spelled(transport: str, name: str, top: Path, registry: Registry, buildah: Buildah) -> str:
    """A place for an image."""
    return {
        "oci": f"oci:{top}/{name}-layout:x",
        "oci-archive": f"oci-archive:{top}/{name}.oci.tar:x",
        "dir": f"dir:{top}/{name}-dir",
        "docker": f"docker://{registry.address}/pairs/{name}:1",
        "docker-archive": f"docker-archive:{top}/{name}.tar:pairs.example/{name}:1",
        "containers-storage": f"{buildah.storage}pairs.example/{name}:1",
    }[transport]


def skopeo_copy(source: str, target: str, *more: str) -> None:
    run("skopeo", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", *more, source, target)


def raw(place: str, *more: str) -> str:
    return run("skopeo", "inspect", PLAIN, "--raw", *more, place).stdout


def facts(place: str) -> dict[str, Any]:
    """What of an image no transport may change."""
    config = json.loads(raw(place, "--config"))
    parts = ("Env", "Cmd", "Entrypoint", "WorkingDir", "User")
    return {"layers": config["rootfs"]["diff_ids"]} | {part: config["config"].get(part) for part in parts}


@pytest.mark.parametrize("source", [*EXACT, *OTHERS])
def test_skopeo_between_all_pairs(
    source: str, made: Made, registry: Registry, buildah: Buildah, open_path: Path
) -> None:
    orca, _, said = made
    begin = spelled(source, f"from-{source}", open_path, registry, buildah)
    orca("push", "-q", PLAIN, "app", begin)
    wanted, manifest = facts(begin), raw(begin)
    assert wanted["Env"] is not None and len(wanted["layers"]) == 3
    if source in EXACT:
        assert manifest == orca("inspect", "--raw", "app").stdout
    for target in (*EXACT, *OTHERS):
        end = spelled(target, f"{source}-to-{target}", open_path, registry, buildah)
        skopeo_copy(begin, end)
        assert facts(end) == wanted, (source, target)
        if source in EXACT and target in EXACT:
            assert raw(end) == manifest, (source, target)
    back = f"{registry.address}/pairs/{source}-to-docker:1"
    assert orca("run", PLAIN, "--network=none", back).stdout == said


def test_an_index_between_all_pairs(orca: Orca, busybox: str, registry: Registry, open_path: Path) -> None:
    context = Kitchen(orca).context("FROM scratch\nCOPY Dockerfile /\nENV A=1\n")
    digest = orca("build", "-q", "-t", "two", "--platform=linux/amd64,linux/arm64", context).out
    index = orca("manifest", "inspect", "two").stdout
    places = {
        "oci": f"oci:{open_path}/i:x",
        "dir": f"dir:{open_path}/d",
        "docker": f"docker://{registry.address}/idx:1",
    }
    for source, begin in places.items():
        assert orca("push", "-q", PLAIN, "two", begin).out == digest
        for target, end in places.items():
            end = end.replace("/i:", f"/i-{source}:").replace("/d", f"/d-{source}").replace("/idx", f"/idx-{source}")
            skopeo_copy(begin, end, "--all")
            assert json.loads(raw(end)) == json.loads(index), (source, target)
    orca("rm", "--all")
    orca("prune", "--all")
    pulled = orca("pull", PLAIN, "--all-platforms", "--json", "-q", f"{registry.address}/idx:1")
    (found,) = json.loads(pulled.stdout)
    assert (found["digest"], found["platforms"]) == (digest, ["linux/amd64", "linux/arm64"])
    again = orca("pull", PLAIN, "-q", "--platform=linux/arm64", "--platform=linux/amd64", f"{registry.address}/idx:1")
    assert (
        json.loads(orca("manifest", "inspect", again.out).stdout)["manifests"][0]["platform"]["architecture"] == "arm64"
    )
    for refused in (f"oci-archive:{open_path}/x.tar", f"docker-archive:{open_path}/x.tar"):
        failed = orca("push", again.out, refused, check=False)
        assert failed.returncode == 2 and "takes one image, not an index" in failed.stderr
