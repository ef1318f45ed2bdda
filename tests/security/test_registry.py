"""Hostile registries, for pull, push, tags, search and login: who gets credentials, and what is believed."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable, Iterator

import pytest
from security.conftest import Attack, harmless
from support import hostile
from support.hostile import MANIFEST, HostileRegistry, digest
from support.proc import Result

Base = Callable[..., str]
INDEX = "application/vnd.oci.image.index.v1+json"
SENTINEL = "s3ntinel-4711"
SECRET = base64.b64encode(f"u:{SENTINEL}".encode()).decode()
CREDS = f"--creds=u:{SENTINEL}"
PLAIN = "--tls-verify=false"


@pytest.fixture
def other() -> Iterator[HostileRegistry]:
    """A second server, of somebody else."""
    with hostile.serve() as registry:
        yield registry


@pytest.fixture
def call(attack: Attack) -> Callable[..., Result]:
    """`call("pull", …)`: orca with these words, however it ends, which must be harmless."""

    def orca(*words: str, **more: object) -> Result:
        result = attack.orca(*words, check=False, timeout=30, **more)  # type: ignore[arg-type]
        harmless(result)
        assert SENTINEL not in result.stdout + result.stderr
        return result

    return orca


@contextlib.contextmanager
def wanting(registry: HostileRegistry, challenge: str = 'Basic realm="x"') -> Iterator[None]:
    """The registry asks everybody who begins for credentials."""
    registry.table["/v2/"] = lambda handler: handler.say(401, b"{}", WWW_Authenticate=challenge)
    registry.requests.clear()
    try:
        yield
    finally:
        del registry.table["/v2/"]


def told(registry: HostileRegistry) -> list[str]:
    """The paths for which a server was given the credentials."""
    return [path for path, headers in registry.requests if SECRET in headers.get("Authorization", "")]


def layer_of(evil: HostileRegistry, image: str) -> str:
    """The path of an image's only layer."""
    name = image.removeprefix(f"{evil.address}/").partition(":")[0]
    manifest = json.loads(evil.table[f"/v2/{name}/manifests/latest"][1])  # type: ignore[index]
    return f"/v2/{name}/blobs/{manifest['layers'][0]['digest']}"


def test_a_blob_elsewhere_is_fetched_without_credentials(
    call: Callable[..., Result], evil: HostileRegistry, other: HostileRegistry, base: Base
) -> None:
    image = base()
    place = layer_of(evil, image)
    other.table[place] = evil.table[place]
    port = other.address.rpartition(":")[2]
    evil.table[place] = lambda handler: handler.say(307, b"", Location=f"http://localhost:{port}{place}")
    with wanting(evil):
        result = call("pull", PLAIN, CREDS, image)
        assert result.returncode == 0, str(result)
        assert told(evil), "the registry itself was to get them"
    assert [path for path, _ in other.requests] == [place] and told(other) == []


def test_a_token_server_that_sends_on(
    call: Callable[..., Result], evil: HostileRegistry, other: HostileRegistry, base: Base
) -> None:
    image = base()
    port = other.address.rpartition(":")[2]
    other.table["/token"] = ("application/json", b'{"token":"t"}')
    evil.table["/token"] = lambda handler: handler.say(307, b"", Location=f"http://localhost:{port}/token")
    found = evil.answer
    evil.answer = lambda path: evil.table["/token"] if path.startswith("/token") else found(path)  # type: ignore[method-assign]
    try:
        with wanting(evil, f'Bearer realm="http://{evil.address}/token",service="s"'):
            call("pull", PLAIN, CREDS, image)
            assert any(path.startswith("/token") for path in told(evil))
    finally:
        del evil.answer  # type: ignore[method-assign]
    assert other.requests and told(other) == []


def test_neither_a_dockerfile_nor_a_mirror_gets_them(
    attack: Attack, call: Callable[..., Result], evil: HostileRegistry, other: HostileRegistry, base: Base
) -> None:
    image = base()
    place = str(attack.context(f"FROM {image}\nRUN true\n"))
    with wanting(evil), wanting(other):
        for words in (
            ("build", PLAIN, CREDS, "-t", f"{other.address}/app", place),
            ("build", PLAIN, CREDS, "--creds-for", other.address, place),
            ("build", PLAIN, CREDS, "--cache-from", f"{other.address}/cache", place),
        ):
            call(*words)
        assert evil.requests and told(evil) == []
    conf = attack.orca.top / "mirrored.conf"
    conf.write_text(
        f'[[registry]]\nlocation = "{other.address}"\ninsecure = true\n'
        f'[[registry.mirror]]\nlocation = "{evil.address}"\ninsecure = true\n'
    )
    with wanting(evil), wanting(other):
        call("pull", CREDS, f"{other.address}/app", env={"CONTAINERS_REGISTRIES_CONF": str(conf)})
        assert evil.requests and told(evil) == []


def test_nothing_is_left_of_them(
    call: Callable[..., Result], attack: Attack, evil: HostileRegistry, base: Base
) -> None:
    image = base()
    with wanting(evil):
        assert call("pull", PLAIN, CREDS, "--progress=json", image).returncode == 0
        call("push", PLAIN, CREDS, image, f"{evil.address}/no")
        call("login", PLAIN, "-u", "u", "--password-stdin", evil.address, stdin=SENTINEL,
             env={"REGISTRY_AUTH_FILE": str(attack.orca.top / "auth.json")})  # fmt: skip
    for path in attack.orca.store.rglob("*"):
        data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        assert SENTINEL.encode() not in data and SECRET.encode() not in data, path


def test_a_pin_is_a_pin(call: Callable[..., Result], attack: Attack, evil: HostileRegistry, base: Base) -> None:
    good, bad, sent = base(), base(b"\0" * 1024), "the registry sent sha256:"
    names = [image.removeprefix(f"{evil.address}/").partition(":")[0] for image in (good, bad)]
    data: bytes = evil.table[f"/v2/{names[0]}/manifests/latest"][1]  # type: ignore[index]
    evil.table[f"/v2/{names[0]}/manifests/{digest(data)}"] = evil.table[f"/v2/{names[1]}/manifests/latest"]
    failed = call("pull", PLAIN, f"{evil.address}/{names[0]}@{digest(data)}")
    assert failed.returncode == 125 and sent in " ".join(failed.stderr.split())
    # The same behind an index, for one platform and for all.
    entry = {"mediaType": MANIFEST, "digest": digest(data), "size": len(data),
             "platform": {"os": "linux", "architecture": "amd64"}}  # fmt: skip
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()
    evil.manifest(names[0], "list", INDEX, index)
    for word in ("--platform=linux/amd64", "--all-platforms"):
        failed = call("pull", PLAIN, word, f"{evil.address}/{names[0]}:list")
        assert failed.returncode == 125 and sent in " ".join(failed.stderr.split()), str(failed)
    assert json.loads(attack.orca("images", "--json").stdout) == []


def test_an_index_that_is_none(call: Callable[..., Result], attack: Attack, evil: HostileRegistry) -> None:
    for number, entries in enumerate((7, [7], [{"digest": "sha256:../../x"}], [{}], [])):
        evil.manifest("none", str(number), INDEX, json.dumps({"schemaVersion": 2, "manifests": entries}).encode())
        result = call("pull", PLAIN, "--all-platforms", f"{evil.address}/none:{number}")
        assert result.returncode == 125, str(result)
    assert json.loads(attack.orca("images", "--json").stdout) == []


def test_lists_of_a_registry(call: Callable[..., Result], evil: HostileRegistry, base: Base) -> None:
    base()
    tags = ["ok", "--authfile=x", "\x1b[2Jx", "a\nb", "../x", "x" * 200]
    evil.table["/v2/listed/tags/list"] = ("application/json", json.dumps({"name": "listed", "tags": tags}).encode())
    assert call("tags", PLAIN, f"{evil.address}/listed").stdout == "ok\n"
    failed = call("pull", PLAIN, "--all-tags", f"{evil.address}/listed")
    assert failed.returncode == 125 and "listed:ok: there is no such image" in failed.stderr
    names = ["fine/name", "\x1b]0;x\x07", "-v", "a b", "../x", 7]
    evil.table["/v2/_catalog?n=1000"] = ("application/json", json.dumps({"repositories": names}).encode())
    assert call("search", PLAIN, evil.address).stdout == f"{evil.address}/fine/name\n"
    body = json.dumps({"errors": [{"code": "DENIED", "message": "\x1b[2J no \u202e"}]}).encode()
    evil.table["/v2/listed/tags/list"] = lambda handler: handler.say(403, body)
    evil.table["/v2/_catalog?n=1000"] = lambda handler: handler.say(403, body)
    for words in (("tags", PLAIN, f"{evil.address}/listed"), ("search", PLAIN, evil.address)):
        assert call(*words).returncode == 125


@pytest.mark.parametrize("name", ["--authfile=/etc/passwd", "-v", "a b", "x;y", "$(id)", "docker://x/y", "oci:/etc"])
def test_words_that_are_no_names(call: Callable[..., Result], name: str) -> None:
    for verb in ("pull", "tags", "login", "logout"):
        result = call(verb, *(("-u", "u", "-p", "p") if verb == "login" else ()), "--", name)
        assert result.returncode == 2, str(result)
