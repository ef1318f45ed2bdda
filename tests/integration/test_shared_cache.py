"""--cache-to and --cache-from: what another machine has built is not built again."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.built import Built
from support.images import Layout
from support.kitchen import BASE, Kitchen, parse_events
from support.orca import Orca
from support.proc import free_port, run
from support.registry import Registry
from support.users import User

DOCKERFILE = f"""\
FROM {BASE} AS builder
RUN head -c 50000 /dev/urandom > /big && echo made > /built
FROM {BASE}
ENV A=1
COPY f /f
COPY --from=builder /built /built
RUN echo $A > /a
CMD ["sh"]
"""
FILES: dict[str, str | bytes | Path] = {"Dockerfile": DOCKERFILE, "f": "f"}
SENTINEL = "sentinel-c0ffee-of-a-shared-cache"

Machines = Callable[[], Kitchen]


@pytest.fixture
def machines(open_path: Path, busybox_layout: Layout, registry: Registry, registries_conf: Path) -> Machines:
    """`machines() -> Kitchen`: another machine each time, with a store of its own that has the base image."""

    def make() -> Kitchen:
        top = open_path / f"machine-{os.urandom(3).hex()}"
        top.mkdir(mode=0o755)
        orca = Orca(
            top, lambda: pytest.fail("no other user here"), {"CONTAINERS_REGISTRIES_CONF": str(registries_conf)}
        )
        orca.load(busybox_layout, BASE)
        return Kitchen(orca)

    return make


@pytest.fixture(params=["registry", "local"])
def place(request: pytest.FixtureRequest, registry: Registry, open_path: Path) -> tuple[str, str]:
    """`--cache-to` and `--cache-from` of one new cache."""
    if request.param == "local":
        return f"--cache-to=type=local,dest={open_path}/cache", f"--cache-from=type=local,src={open_path}/cache"
    where = f"{registry.address}/caches/{os.urandom(4).hex()}"
    return f"--cache-to=type=registry,ref={where}", f"--cache-from={where}"


def done(kitchen: Kitchen, what: object, *options: str) -> tuple[str, list[str], list[str], list[str]]:
    """Build; the digest, the steps that were carried out, the warnings, and the tools that were started."""
    result = kitchen.run(what, "--progress=json", *options, check=True)  # type: ignore[arg-type]
    events = parse_events(result.stderr)
    names = {e["step"]: e["text"] for e in events if e["event"] == "step-started"}
    ran = [names[e["step"]] for e in events if e["event"] == "step-finished" and not e["cached"]]
    warnings = [e["message"] for e in events if e["event"] == "warned"]
    return result.out, ran, warnings, [" ".join(e["argv"]) for e in events if e["event"] == "tool-started"]


def blobs(kitchen: Kitchen) -> set[str]:
    return {path.name for path in (kitchen.orca.store / "images/blobs/sha256").iterdir()}


def test_nothing_is_built_again(machines: Machines, place: tuple[str, str]) -> None:
    """The same image down to its digest; the stage that only cached steps read is neither built nor fetched."""
    to, from_ = place
    one, two = machines(), machines()
    context = one.context(FILES)
    first = one.build(context, to)
    big = next(layer["digest"] for layer in stage_layers(one) if layer["size"] > 40_000)
    digest, ran, warnings, tools = done(two, context, from_)
    assert (digest, ran, warnings) == (first.digest, [], [])
    Built(two.orca.store / "images", digest).check()
    assert big.removeprefix("sha256:") not in blobs(two)
    assert not any(word.startswith(("runc", "umoci")) for word in tools)
    digest, ran, _, tools = done(two, context, from_)
    assert (digest, ran, tools) == (first.digest, [], []), "now it is in the store"


def stage_layers(kitchen: Kitchen) -> list[dict[str, object]]:
    """The layers of all steps in the store."""
    records = [json.loads(path.read_text()) for path in (kitchen.orca.store / "steps").glob("*/*")]
    return [record["layer"] for record in records if record["layer"] and record["layer"]["size"] < 500_000]


def test_from_where_it_differs(machines: Machines, place: tuple[str, str]) -> None:
    """What comes after a change is carried out on layers that were fetched; so is a stage that it needs (mode=max)."""
    to, from_ = place
    max_ = to + ",mode=max"
    one, two, three = machines(), machines(), machines()
    first = one.build(one.context(FILES), max_)
    late = DOCKERFILE.replace("echo $A", "echo $A$A")
    digest, ran, _, _ = done(two, {**FILES, "Dockerfile": late}, from_)
    assert ran == ["RUN echo $A$A > /a", 'CMD ["sh"]']
    built = Built(two.orca.store / "images", digest)
    built.check()
    assert built.files["a"].text == "11\n"
    assert built.layers[:3] == first.layers[:3]
    early = DOCKERFILE.replace("/built /built", "/built /other")
    digest, ran, _, tools = done(three, {**FILES, "Dockerfile": early}, from_)
    assert ran[0] == "COPY --from=builder /built /other", "the builder was fetched, not built"
    assert Built(three.orca.store / "images", digest).files["other"].text == "made\n"
    assert sum(word.startswith("runc") for word in tools) == 1


def test_a_stage_that_is_needed_and_not_there_is_built(machines: Machines, place: tuple[str, str]) -> None:
    to, from_ = place
    one, two = machines(), machines()
    one.build(one.context(FILES), to)  # mode=min
    text = DOCKERFILE.replace("/built /built", "/built /other")
    digest, ran, warnings, _ = done(two, {**FILES, "Dockerfile": text}, from_)
    assert set(ran) == {line for line in text.splitlines() if line.startswith(("RUN", "COPY --from", "CMD"))}
    assert warnings == []
    Built(two.orca.store / "images", digest).check()


def test_what_is_there_is_not_sent_again(machines: Machines, registry: Registry) -> None:
    where = f"{registry.address}/caches/{os.urandom(4).hex()}"
    one = machines()
    context = one.context(FILES)
    to = f"--cache-to={where}:main"
    _, _, _, tools = done(one, context, to)
    assert sum(" copy " in word for word in tools) == 6
    digest, _, _, tools = done(one, context, to)
    assert [word.split()[2] for word in tools] == ["list-tags"]
    listed = json.loads(run("skopeo", "list-tags", "--tls-verify=false", f"docker://{where}").stdout)
    assert len(listed["Tags"]) == 6
    assert all(tag.startswith("main-") for tag in listed["Tags"]), "the tag of the reference begins those of the steps"
    inspect = ("skopeo", "inspect", "--tls-verify=false", f"docker://{where}:{listed['Tags'][0]}")
    assert json.loads(run(*inspect).stdout)["Os"] == "linux", "a step is an image to other tools"
    two = machines()
    assert done(two, context, f"--cache-from={where}:main")[:2] == (digest, [])
    _, ran, _, tools = done(machines(), context, f"--cache-from={where}")
    assert len(ran) == 6
    assert sum(word.startswith("skopeo") for word in tools) == 1, "steps under other tags are not asked for"


def test_several_caches(machines: Machines, registry: Registry, open_path: Path) -> None:
    """The first that has a step gives it; one that cannot be used is a warning."""
    one, two = machines(), machines()
    where = f"{registry.address}/caches/{os.urandom(4).hex()}"
    other = f"{registry.address}/caches/none-{os.urandom(4).hex()}"
    nobody = f"127.0.0.1:{free_port()}/x/y"
    context = one.context(FILES)
    first = one.build(context, f"--cache-to=type=local,dest={open_path}/c", f"--cache-to={where},mode=max".replace(
        f"={where}", f"=type=registry,ref={where}"))  # fmt: skip
    froms = [f"--cache-from={place}" for place in (other, nobody, f"type=local,src={open_path}/none", where)]
    digest, ran, warnings, _ = done(two, context, *froms)
    assert (digest, ran) == (first.digest, [])
    assert [text.split(" is not used: ")[0] for text in warnings] == [
        f"the cache {other}", f"the cache {nobody}", f"the cache {open_path}/none",
    ]  # fmt: skip
    assert "there is no such image" in warnings[0] or "no cache" in warnings[0]
    assert "cannot be reached" in warnings[1]
    assert "there is no cache" in warnings[2]


def test_no_cache_asks_nobody(machines: Machines, place: tuple[str, str]) -> None:
    to, from_ = place
    one = machines()
    context = one.context(FILES)
    one.build(context, to)
    _, ran, _, tools = done(machines(), context, from_, "--no-cache")
    assert len(ran) == 6
    assert not any(word.startswith("skopeo") for word in tools)
    _, ran, _, _ = done(machines(), context, from_, "--no-cache-filter=builder")
    assert [word.split()[0] for word in ran] == ["RUN", "COPY", "RUN", "CMD"]


def test_steps_of_another_clock_are_not_taken(machines: Machines, place: tuple[str, str]) -> None:
    to, from_ = place
    one, two = machines(), machines()
    context = one.context({"Dockerfile": f"FROM {BASE}\nRUN touch /x\n"})
    with_epoch = one.build(context, to, "--source-date-epoch=1000")
    one.build(context, to)
    digest, ran, _, _ = done(two, context, from_, "--source-date-epoch=1000")
    assert (digest, ran) == (with_epoch.digest, [])
    _, ran, _, _ = done(two, context, from_, "--source-date-epoch=2000")
    assert len(ran) == 1


@pytest.mark.user
def test_by_an_ordinary_user(
    machines: Machines,
    orca: Orca,
    busybox_layout: Layout,
    registry: Registry,
    ordinary_user: User,
    registries_conf: Path,
) -> None:
    one = machines()
    where = f"{registry.address}/caches/{os.urandom(4).hex()}"
    context = one.context(FILES)
    first = one.build(context, f"--cache-to={where}")
    orca.load(busybox_layout, BASE, user=ordinary_user)
    local = ordinary_user.home / f"cache-{os.urandom(3).hex()}"
    result = orca("build", f"--cache-from={where}", f"--cache-to=type=local,dest={local}", context, user=ordinary_user)
    assert result.out == first.digest
    assert "all cached" in result.stderr
    assert done(machines(), context, f"--cache-from=type=local,src={local}")[:2] == (first.digest, [])


def test_an_export_that_fails(machines: Machines, open_path: Path) -> None:
    """The build fails, and says where the image is all the same; unless that does not matter."""
    one = machines()
    nobody = f"127.0.0.1:{free_port()}/x/y"
    context = one.context({"Dockerfile": f"FROM {BASE}\nENV a=b\n"})
    said = " ".join(one.fails(context, "-t", "app", f"--cache-to={nobody}").split())
    assert f"the cache could not be written to {nobody}: the registry cannot be reached" in said
    assert "the image itself is in the store: sha256:" in said
    assert "localhost/app:latest" in said
    (open_path / "file").write_text("x")
    assert "could not be written to" in one.fails(context, f"--cache-to=type=local,dest={open_path}/file")
    result = one.run(context, f"--cache-to=type=registry,ref={nobody},ignore-error=true", check=True)
    assert result.out.startswith("sha256:")
    assert "warning: the cache could not be written" in result.stderr


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--cache-to=type=inline", "a cache of type inline is not known here"),
        ("--cache-to=type=gha", "a cache of type gha is not known here"),
        ("--cache-from=type=s3,region=x", "a cache of type s3 is not known here"),
        ("--cache-to=type=local", "does not say where"),
        ("--cache-from=type=local,dest=x", "does not say where"),
        ("--cache-from=type=registry", "which repository?"),
        ("--cache-to=type=registry,ref=x/y,mode=most", "mode is min or max"),
        ("--cache-to=type=registry,ref=x/y,ignore-error=yes", "ignore-error is true or false"),
        ("--cache-to=type=registry,ref=x/y,colour=red", "colour is not known here"),
        ("--cache-to=type=registry,ref", "'ref' is not NAME=VALUE"),
        ("--cache-from=a b", "bad image name"),
        ("--cache-from=a.b/c@sha256:" + "0" * 64, "a digest names one image, not a cache"),
        ("--cache-from=a.b/c:" + "t" * 64, "the tag is longer than 63 characters"),
    ],
)
def test_bad_places(kitchen: Kitchen, option: str, message: str) -> None:
    assert message in kitchen.fails(f"FROM {BASE}\n", option, code=2)


def test_no_secret_in_what_is_shared(machines: Machines, registry: Registry, open_path: Path) -> None:
    """Not in a record, not in a manifest, a config or a layer of a shared cache, nor in what is logged on the way."""
    one = machines()
    secret = open_path / "secret"
    secret.write_text(SENTINEL)
    text = f"FROM {BASE}\nRUN --mount=type=secret,id=s,env=S --mount=type=secret,id=s cat /run/secrets/s && echo $S\n"
    where = f"{registry.address}/caches/{os.urandom(4).hex()}"
    options = (
        f"--secret=id=s,src={secret}",
        f"--cache-to=type=local,dest={open_path}/c,mode=max",
        f"--cache-to={where}",
    )
    result = one.run(text, *options, "--progress=json", check=True)
    assert SENTINEL not in result.stdout + result.stderr
    two = machines()
    done(two, text, options[0], f"--cache-from={where}")
    places = [open_path / "c", one.orca.store, two.orca.store, registry.root]
    files = [path for place in places for path in place.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 20
    for path in files:
        data = path.read_bytes()
        with contextlib.suppress(OSError, EOFError):
            data += gzip.decompress(data)
        assert SENTINEL.encode() not in data, path


def test_a_local_cache_is_an_image_layout(machines: Machines, open_path: Path) -> None:
    """Other images in it stay, and every step is one more."""
    one = machines()
    cache = open_path / "layout"
    run("umoci", "init", "--layout", cache)
    run("umoci", "new", "--image", f"{cache}:mine")
    one.build(one.context(FILES), f"--cache-to=type=local,dest={cache}")
    names = run("umoci", "ls", "--layout", cache).stdout.split()
    assert "mine" in names
    steps = [name for name in names if name.startswith("orca-")]
    assert len(steps) == 6
    for name in steps:
        subprocess.run(["skopeo", "inspect", f"oci:{cache}:{name}"], check=True, capture_output=True)


def test_several_platforms(machines: Machines, place: tuple[str, str]) -> None:
    """An index comes out of a shared cache as it went in; so do layers of COPY --link."""
    to, from_ = place
    one, two = machines(), machines()
    text = "FROM scratch AS b\nCOPY f /x\nFROM scratch\nARG TARGETARCH\nLABEL a=$TARGETARCH\nCOPY --from=b /x /y\n"
    context = one.context({"Dockerfile": f"{text}COPY --link f /z\n", "f": "f"})
    platforms = "--platform=linux/amd64,linux/arm64"
    first = one.run(context, platforms, to, check=True)
    digest, ran, warnings, _ = done(two, context, platforms, from_)
    assert (digest, ran, warnings) == (first.out, [], [])
