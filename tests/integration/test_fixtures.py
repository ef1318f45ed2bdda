"""The images of `fixtures/`, built as a newcomer builds them: by root and by an ordinary user."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.leftovers import Leftovers
from support.orca import Orca
from support.proc import fetch, free_port
from support.registry import RegistryImage
from support.users import User, myself

from orca.dockerfile import parser

pytestmark = pytest.mark.slow


@pytest.fixture(params=["me", pytest.param("user", marks=pytest.mark.user)])
def builder(request: pytest.FixtureRequest) -> User:
    """Whoever runs the tests, then an ordinary user."""
    if request.param == "me":
        return myself()
    user = request.getfixturevalue("ordinary_user")
    assert isinstance(user, User)
    return user


def test_demo(builder: User, installed_orca: Path, open_path: Path, leftovers: Leftovers) -> None:
    place = builder.own_directory(open_path / "demo")
    said = builder.run(
        "/usr/bin/python3", installed_orca / "fixtures" / "demo.py", env={"ORCA_DEMO_DIR": str(place / "store-demo")}
    )
    assert "It works" in said.stdout
    assert "BusyBox v" in said.stdout
    assert "user root" in said.stdout
    assert "CACHED" in said.stderr
    assert not leftovers.found().processes
    assert not leftovers.found().mounts


@pytest.mark.network
def test_seed(
    orca: Orca, debian_image: RegistryImage, installed_orca: Path, ordinary_user: User, leftovers: Leftovers
) -> None:
    """The same image, whoever builds it: not one difference but the times in it."""
    context = installed_orca / "fixtures" / "seed"
    contents = []
    for who in (None, ordinary_user):
        digest = orca("build", "-t", "seed", context, user=who, timeout=300).out
        assert digest.startswith("sha256:")
        check_seed_config(orca.config("localhost/seed:latest", user=who))
        contents.append(layers(orca.store_of(who) / "images", digest))
        again = orca("build", "-t", "seed", context, user=who)
        assert again.out == digest
        assert again.stderr.count("CACHED") >= 2
        rows = json.loads(orca("images", "--json", user=who).stdout)
        assert [row["digest"] for row in rows if row["name"] == "localhost/seed:latest"] == [digest]
        port = free_port()
        id_ = orca("run", "-d", "--rm", "-p", f"{port}:80", "seed", user=who).out
        assert "SUCCESS" in fetch(f"http://127.0.0.1:{port}/")
        assert orca("stop", id_, user=who).out == id_
        check_script(orca, context, contents[-1], who)
    # mmdebstrap's layer is the base; then COPY, then RUN.
    assert len(contents[0]) == 3
    assert contents[0] == contents[1]
    assert "etc/lighttpd/lighttpd.conf" in contents[0][2]
    leftovers.assert_none()


def check_script(orca: Orca, context: Path, wanted: list[dict[str, Any]], who: User | None) -> None:
    """A shell script, instruction by instruction, makes the same image; all of it comes from the cache."""
    instructions = parser.parse((context / "Dockerfile").read_bytes()).instructions
    steps = [f"orca step -q $b - <<'END'\n{found.text}\nEND" for found in instructions[1:]]
    text = "\n".join(
        ["set -e", f'orca() {{ {orca.command(user=who)[0]} "$@"; }}', "b=$(orca from --name story debian:12)", *steps]
    )
    records = orca.store_of(who) / "builds"
    before = sorted(records.iterdir())
    for _ in range(2):
        run = (who or myself()).run(
            "sh", "-c", f"{text}\norca commit -q $b -t story", env=orca.environment(who), cwd=context
        )
        assert layers(orca.store_of(who) / "images", str(run.stdout).split()[-1]) == wanted
        check_seed_config(orca.config("localhost/story:latest", user=who))
        assert sorted(records.iterdir()) == before


def check_seed_config(image: dict[str, Any]) -> None:
    """What fixtures/seed/Dockerfile says, exactly."""
    config = image["config"]
    assert config["Labels"] == {
        "org.opencontainers.image.title": "webserver",
        "org.opencontainers.image.description": "lighttpd on Debian, built without a daemon",
    }
    assert config["Env"] == [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "container=docker",
    ]
    assert config["ExposedPorts"] == {"80/tcp": {}}
    assert config["Entrypoint"] == ["/usr/sbin/lighttpd"]
    assert config["Cmd"] == ["-D", "-f", "/etc/lighttpd/lighttpd.conf"]


def layers(images: Path, digest: str) -> list[dict[str, tuple[object, ...]]]:
    """Every layer of an image as {name: all that matters but the times}; checks SUCCESS on the way."""
    manifest = json.loads(blob(images, digest).read_text())
    found = [dict(entries(blob(images, layer["digest"]))) for layer in manifest["layers"]]
    page = next(layer["var/www/html/index.html"] for layer in reversed(found) if "var/www/html/index.html" in layer)
    assert page[-1] == "SUCCESS"
    return found


def entries(layer: Path) -> Iterator[tuple[str, tuple[object, ...]]]:
    with gzip.open(layer) as stream, tarfile.open(fileobj=stream) as tar:  # type: ignore[arg-type]
        for e in tar:
            file = tar.extractfile(e) if e.isreg() else None
            data = file.read() if file else b""
            what = "SUCCESS" if data.startswith(b"SUCCESS") else hashlib.sha256(data).hexdigest()
            yield e.name.removeprefix("./"), (e.type, e.mode, e.uid, e.gid, e.linkname, e.size, what)


def blob(images: Path, digest: str) -> Path:
    return images / "blobs" / digest.replace(":", "/")
