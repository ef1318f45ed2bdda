"""Hostile registries, edited stores, other users of the machine."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from security.conftest import Attack, harmless
from support.hostile import (
    CONFIG,
    INDEX,
    LAYER,
    MANIFEST,
    Handler,
    HostileRegistry,
    Image,
    digest,
    directory,
    tar,
    zeros,
)
from support.users import User

from orca.store import files

Base = Callable[..., str]
RUN = "FROM {}\nRUN true\n"


def manifest_of(evil: HostileRegistry, image: str) -> tuple[str, dict[str, object]]:
    """The repository and the manifest behind what FROM says."""
    name = image.split("/", 1)[1].removesuffix(":latest")
    answer = evil.table[f"/v2/{name}/manifests/latest"]
    assert isinstance(answer, tuple)
    return name, json.loads(answer[1])


# --- what a registry says


def test_wrong_manifest_behind_a_digest(attack: Attack, evil: HostileRegistry, base: Base) -> None:
    wanted, other = base(), base(config={"User": "evil"})
    name, _ = manifest_of(evil, wanted)
    pinned = digest(evil.table[f"/v2/{name}/manifests/latest"][1])  # type: ignore[index]
    evil.table[f"/v2/{name}/manifests/{pinned}"] = evil.table[f"/v2/{manifest_of(evil, other)[0]}/manifests/latest"]
    attack.refused(f"FROM {evil.address}/{name}@{pinned}\nRUN true\n", r"digest|sent\s+sha256|match")
    attack.refused(RUN.format(wanted), r"digest|sent\s+sha256|match")


def test_wrong_blobs(attack: Attack, evil: HostileRegistry, base: Base) -> None:
    """Layer and config that are not what their digests say; a size that is not theirs."""
    for part in ("layers", "config"):
        image = base(tar(directory("new")))
        name, manifest = manifest_of(evil, image)
        blob = manifest["layers"][-1] if part == "layers" else manifest["config"]  # type: ignore[index]
        evil.table[f"/v2/{name}/blobs/{blob['digest']}"] = ("application/octet-stream", b"x" * blob["size"])
        attack.refused(RUN.format(image), "digest|match|invalid|json")


@pytest.mark.parametrize("size", [1, 100_000, -1, 1 << 62])
def test_wrong_sizes(attack: Attack, evil: HostileRegistry, busybox_tar: bytes, size: int) -> None:
    def edit(config: dict[str, object], manifest: dict[str, object]) -> None:
        manifest["layers"][0]["size"] = size  # type: ignore[index]

    image = evil.add(f"sizes{size}", Image((busybox_tar,), edit=edit))
    attack.refused(RUN.format(image), "size|content-length|manifest|digest")


def endless(handler: Handler) -> None:
    """A body without end, as fast as it goes."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    chunk = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
    while handler.command == "GET":
        handler.wfile.write(chunk)


@pytest.mark.parametrize("what", ["layer", "config", "manifest", "layer of an index"])
def test_endless_body(attack: Attack, evil: HostileRegistry, base: Base, what: str) -> None:
    """More than the descriptor says is not taken, and what arrived is not kept."""
    image = base()
    name, manifest = manifest_of(evil, image)
    if what == "layer of an index":
        raw = evil.table[f"/v2/{name}/manifests/latest"][1]  # type: ignore[index]
        entry = {
            "mediaType": MANIFEST,
            "digest": digest(raw),
            "size": len(raw),
            "platform": {"os": "linux", "architecture": "amd64"},
        }
        evil.manifest(
            name, "latest", INDEX, json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()
        )
    places = {
        "config": f"blobs/{manifest['config']['digest']}",  # type: ignore[index]
        "manifest": "manifests/latest",
    }
    evil.table[f"/v2/{name}/{places.get(what, 'blobs/' + manifest['layers'][0]['digest'])}"] = endless  # type: ignore[index]
    attack.refused(RUN.format(image), "more than|larger|too large|exceed|limit|digest")
    used = sum(path.stat().st_size for path in attack.orca.store.rglob("*") if path.is_file())
    assert used < 10 << 20


def test_redirects(attack: Attack, evil: HostileRegistry, base: Base, canary: Path) -> None:
    """A blob that is said to be elsewhere: a file of this machine, another scheme, round in a circle."""
    for target in (f"file://{canary}/file", "gopher://127.0.0.1/", "/v2/loop"):
        image = base()
        name, manifest = manifest_of(evil, image)
        place = f"/v2/{name}/blobs/{manifest['layers'][0]['digest']}"  # type: ignore[index]
        where = place if target == "/v2/loop" else target
        evil.table[place] = lambda handler, where=where: handler.say(307, b"", Location=where)  # type: ignore[misc]
        attack.refused(RUN.format(image), r"unsupported|redirect")


def test_layers_elsewhere(attack: Attack, evil: HostileRegistry, busybox_tar: bytes) -> None:
    """`urls` of a layer would have skopeo ask any server, also one that only this machine can reach."""

    def edit(config: dict[str, object], manifest: dict[str, object]) -> None:
        layer = manifest["layers"][0]  # type: ignore[index]
        layer |= {
            "mediaType": LAYER.replace("layer.v1", "layer.nondistributable.v1"),
            "urls": [f"http://{evil.address}/secret"],
        }

    image = evil.add("elsewhere", Image((busybox_tar,), edit=edit))
    attack.refused(RUN.format(image), "elsewhere|urls")
    assert not [path for path, _ in evil.requests if path == "/secret"]


def test_credentials_stay_where_they_belong(attack: Attack, evil: HostileRegistry, base: Base, open_path: Path) -> None:
    """A registry that wants a token from its own realm gets none of another registry's credentials."""
    image = base()
    name, _ = manifest_of(evil, image)
    secret = base64.b64encode(b"user:sentinel-4711").decode()
    (open_path / "auth.json").write_text(
        json.dumps({"auths": {"registry.invalid": {"auth": secret}, "127.0.0.1": {"auth": secret}}})
    )
    realm = f'Bearer realm="http://{evil.address}/token",service="registry.invalid"'
    evil.table[f"/v2/{name}/manifests/latest"] = lambda handler: handler.say(401, b"{}", WWW_Authenticate=realm)
    evil.table["/v2/"] = lambda handler: handler.say(401, b"{}", WWW_Authenticate=realm)
    evil.table["/token"] = ("application/json", b'{"token":"t"}')
    before = len(evil.requests)
    try:
        attack.refused(
            RUN.format(image),
            "access|login|unauthorized|no such image",
            env={"REGISTRY_AUTH_FILE": str(open_path / "auth.json")},
        )
    finally:
        del evil.table["/v2/"], evil.table["/token"]
    assert len(evil.requests) > before
    for _, headers in evil.requests[before:]:
        assert secret not in json.dumps(headers)


@pytest.mark.parametrize(
    "edit",
    [
        lambda config, manifest: config["rootfs"].update(diff_ids=[]),
        lambda config, manifest: config.pop("rootfs"),
        lambda config, manifest: config["rootfs"].update(diff_ids=["sha256:../../x"]),
        lambda config, manifest: config["rootfs"].update(diff_ids=["sha256:" + "0" * 64]),
        lambda config, manifest: config["rootfs"]["diff_ids"].append("sha256:" + "0" * 64),
        lambda config, manifest: manifest["layers"][0].update(mediaType="application/x-evil"),
        lambda config, manifest: manifest["layers"][0].update(digest="sha256:../../../../etc/passwd"),
        lambda config, manifest: manifest["layers"].append(
            {"mediaType": LAYER, "digest": "sha512:" + "0" * 128, "size": 1}
        ),
        lambda config, manifest: manifest.update(layers="none"),
        lambda config, manifest: manifest.update(config={"mediaType": CONFIG, "digest": "sha256:..", "size": 3}),
        lambda config, manifest: config.update(padding="x" * (10 << 20)),
        lambda config, manifest: manifest.update(annotations={"x": "y" * (10 << 20)}),
        lambda config, manifest: config.update(history=[{"created_by": "x"}, 7]),
    ],
)
def test_damaged_image(
    attack: Attack, evil: HostileRegistry, busybox_tar: bytes, edit: Callable[..., None], request: pytest.FixtureRequest
) -> None:
    image = evil.add(f"damaged{abs(hash(request.node.name)) % 10**9}", Image((busybox_tar,), edit=edit))
    attack.refused(f"FROM {image}\nRUN true\nCOPY Dockerfile /\n", "error")


@pytest.mark.parametrize("depth", [100_000])
def test_json_that_is_deep(attack: Attack, evil: HostileRegistry, depth: int) -> None:
    evil.manifest("deep", "latest", MANIFEST, b'{"schemaVersion":2,"x":' + b"[" * depth + b"]" * depth + b"}")
    attack.refused(RUN.format(f"{evil.address}/deep:latest"), "JSON|manifest")


def test_layer_bomb(attack: Attack, base: Base, who: User | None) -> None:
    """A layer of 2 MB that unpacks to 2 GiB; what was unpacked until then is removed."""
    image, limit = base(zeros("bomb", 2 << 30)), None if who is None else {"ORCA_MAX_UNPACK": "100M"}
    attack.refused(RUN.format(image), r"unpacks\s+to\s+more\s+than\s+1(00)?\s+[GM]iB", user=who, env=limit)
    if who is None:
        small = base(zeros("bomb", 8 << 20))
        attack.refused(RUN.format(small), r"unpacks\s+to\s+more\s+than\s+5\s+MiB", env={"ORCA_MAX_UNPACK": "5M"})
        attack.fine(RUN.format(small))


def test_layer_with_a_deep_tree(attack: Attack, base: Base) -> None:
    """As deep as a path may be long; a mark at its end is found."""
    path = "/".join("d" * 1500)
    mark = {"SCHILY.xattr.user.overlay.opaque": "y"}
    attack.fine(RUN.format(base(tar(directory(path, pax=mark)))))
    for root in attack.orca.store.glob(f"snapshots/b{'?' * 31}/fs"):
        assert not os.listxattr(root / path)
    attack.refused(RUN.format(base(tar(directory("/".join("d" * 2500))))), r"too\s+long")
    files.remove_tree(attack.orca.store)


# --- an edited store


def test_edited_index(attack: Attack, busybox: str) -> None:
    path = attack.orca.store / "images" / "index.json"
    good = json.loads(path.read_text())
    for change in (
        {"digest": "sha256:../../x"},
        {"digest": "sha256:" + "A" * 64},
        {"size": -1},
        {"size": 1},
        {"mediaType": 7},
    ):
        path.write_text(json.dumps({**good, "manifests": [{**good["manifests"][0], **change}]}))
        attack.refused(RUN.format(busybox), "digest|size|descriptor|media type|match")
    path.write_text("[" * 100_000)
    attack.refused(RUN.format(busybox), "no image|not|index|JSON|registry")


def test_edited_blobs(attack: Attack, busybox: str) -> None:
    """A manifest, a config, a layer that was changed, or is a FIFO, or a link."""
    store = attack.orca.store
    found = json.loads((store / "images" / "index.json").read_text())["manifests"][0]["digest"]
    blobs = store / "images" / "blobs" / "sha256"
    manifest = json.loads((blobs / found[7:]).read_text())
    for name in (found, manifest["config"]["digest"], manifest["layers"][0]["digest"]):
        path = blobs / name[7:]
        good = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(good.replace(good[-5:-4], b"~") if good[-5:-4] != b"~" else good[::-1])
        attack.refused(RUN.format(busybox), "digest|missing|size|unpacked")
        path.unlink()
        os.mkfifo(path)
        attack.refused(RUN.format(busybox), "regular|missing|size|unpacked")
        path.unlink()
        path.symlink_to("/dev/zero")
        attack.refused(RUN.format(busybox), "regular|missing|size|unpacked")
        path.unlink()
        path.write_bytes(good)
    attack.fine(RUN.format(busybox))


def test_edited_step(attack: Attack, busybox: str, canary: Path) -> None:
    """Records of the step cache with other words in them are misses, not paths."""
    context = attack.context(f"FROM {busybox}\nRUN touch /x\nRUN touch /y\n")
    attack.fine(context)
    good = {path: path.read_text() for path in attack.orca.store.glob("steps/*/*")}
    for change in (
        {"snapshots": [f"../../../../..{canary}"]},
        {"snapshots": 7},
        {"manifest": {}},
        {"state": []},
        {"manifest": {"digest": "sha256:../..", "size": 1, "mediaType": "x"}},
        {"key": "x"},
    ):
        for path, text in good.items():
            path.write_text(json.dumps({**json.loads(text), **change}))
        attack(context)
    for path in good:
        path.write_text("[" * 100_000)
    attack.fine(context)


# --- other users


def test_store_of_another(attack: Attack, ordinary_user: User, canary: Path) -> None:
    """A store that somebody has prepared is not used."""
    if os.getuid():
        pytest.skip("needs two users")
    context = attack.context("FROM scratch\nCOPY Dockerfile /\n")
    theirs = ordinary_user.own_directory(attack.orca.top / "theirs")
    attack.refused(context, "belongs to user", env={"ORCA_ROOT": str(theirs)})
    ours = attack.orca.top / "open"
    ours.mkdir()
    ours.chmod(0o777)
    attack.refused(context, "can be written by others", env={"ORCA_ROOT": str(ours)})
    link = attack.orca.top / "link"
    link.symlink_to(canary)
    attack.refused(context, "not a directory", env={"ORCA_ROOT": str(link)})
    for part in ("images", "work", "snapshots", "builds"):
        ours = attack.orca.top / f"part-{part}"
        ours.mkdir(mode=0o700)
        (ours / part).symlink_to(canary)
        attack.refused(context, "not a directory|is there|file exists|of ours", env={"ORCA_ROOT": str(ours)})
    (attack.orca.top / "file").write_text("")
    attack.refused(context, "not a directory|exists", env={"ORCA_ROOT": str(attack.orca.top / "file")})


def test_modes_of_a_store(attack: Attack, base: Base, ordinary_user: User) -> None:
    """Nobody else can go into a store, whatever the modes of its directories were."""
    attack.fine(RUN.format(base()))
    store = attack.orca.store
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in store.iterdir() if path.is_dir())
    for path in store.iterdir():
        path.chmod(0o755)
    attack.fine(RUN.format(base()))
    for path in store.iterdir():
        assert path.stat().st_mode & 0o077 == 0
        assert ordinary_user.run("ls", path, check=False).returncode != 0


@pytest.mark.parametrize("name", ["with blank", "a:b", "a,b=c", "$(id)", "-v", "é\x1b]0;x\x07"])
def test_odd_names_of_stores_and_contexts(attack: Attack, open_path: Path, name: str) -> None:
    """Blanks, colons, commas: nothing is ever taken apart."""
    store = open_path / f"store-{name}"
    context = open_path / name
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /a\nCOPY Dockerfile /b\n")
    environment = {**attack.orca.environment(), "ORCA_ROOT": str(store)}
    command = attack.orca.command("build", "-q", "--", f"./{name}")
    done = subprocess.run(command, cwd=open_path, env=environment, capture_output=True, text=True, timeout=30)
    assert "bug in orca" not in done.stderr and "\x1b" not in done.stderr
    assert done.returncode == 0 or "store" in done.stderr, done.stderr


# --- words on command lines


@pytest.mark.parametrize(
    "name",
    [
        "--authfile=x",
        "-v",
        "a;id",
        "$(id)",
        "docker://x",
        "A\x1b[2J",
        "x@sha256:../..",
        "x:-v",
        "scratch@sha256:1",
        "\u202ex",
    ],
)
def test_names_of_images(attack: Attack, busybox: str, name: str) -> None:
    before = sorted(os.listdir(attack.orca.top))
    attack.refused(f"FROM {name}\nRUN true\n", "error")
    attack.refused(f"FROM {busybox}\nCOPY --from={name} / /\n", "error")
    attack.refused(f"ARG B={json.dumps(name, ensure_ascii=False)}\nFROM $B\nRUN true\n", "error")
    result = attack(f"FROM {busybox}\n", f"--tag={name}")
    assert result.returncode == 2, str(result)
    assert sorted(p for p in os.listdir(attack.orca.top) if not p.startswith("context")) == sorted(
        p for p in before if not p.startswith("context")
    )


@pytest.mark.parametrize("value", ["--help", "a b;$(id)", "a\nb", "a=b=c", "", "é\x1b[2J", "x" * 50_000])
def test_words_of_a_config(attack: Attack, busybox: str, value: str) -> None:
    """What umoci gets as words arrives as it was, however it looks."""
    quoted = json.dumps(value)[1:-1] if "\n" not in value else None
    words = f"ENTRYPOINT {json.dumps([value])}\nCMD {json.dumps(['-x', value])}\nMAINTAINER {quoted or 'x'}"
    dockerfile = f"FROM {busybox}\nARG V\nLABEL a=$V\nENV e=$V\n{words}\nRUN true\n"
    result = attack(dockerfile, f"--build-arg=V={value}", "-t", "words")
    if result.returncode == 0:
        config = attack.orca.config("localhost/words:latest")["config"]
        assert config["Labels"]["a"] == value
        assert f"e={value}" in config["Env"]
        assert config["Cmd"] == ["-x", value]
    harmless(result)
