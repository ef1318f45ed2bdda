"""An ordinary user builds the same image as root does, and other tools read the store of either."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.built import Built, File
from support.images import Layout
from support.kitchen import BASE, Kitchen
from support.leftovers import Leftovers
from support.orca import Orca
from support.proc import run
from support.registry import Registry
from support.users import User

pytestmark = pytest.mark.user

FILES: dict[str, str | bytes | Path] = {
    "Dockerfile": f"""\
FROM {BASE}
LABEL title="site" \\
      maker="orca"
ENV container=docker
COPY site /srv/site
COPY --chown=app:audio site/index.html /home/app/
RUN echo 'web:x:1001:1001::/home/web:/bin/sh' >> /etc/passwd && mkdir /home/web && chown -R web /srv /home/web \\
    && su web -s /bin/sh -c 'id -un > /srv/site/who' \\
    && mkdir -m 2770 /srv/shared && chgrp audio /srv/shared && chmod g+s /srv/shared && ln -s site /srv/link \\
    && chown 65000:65000 /srv/link -h && mkfifo /tmp/pipe && rm -r /var/tmp && mkdir /var/tmp && echo SUCCESS > /srv/ok
USER web
WORKDIR /srv/site/run
RUN echo $HOME > home && rm ../who
EXPOSE 80
ENTRYPOINT ["/bin/httpd"]
CMD ["-f", "-h", "/srv/site"]
""",
    "site/index.html": "<p>It works",
    "site/sub/page": "page",
}


@pytest.fixture
def both(orca: Orca, busybox: str, busybox_layout: Layout, ordinary_user: User) -> tuple[Built, Built]:
    """The image as whoever tests has built it, and as the ordinary user has."""
    assert busybox == BASE
    orca.load(busybox_layout, BASE, user=ordinary_user)
    context = Kitchen(orca).context(FILES)
    leftovers = Leftovers(orca.top)
    found = []
    for who in (None, ordinary_user):
        result = orca("build", "-t", "site", context, user=who)
        found.append(Built(orca.store_of(who) / "images", result.out, result))
        found[-1].check()
    leftovers.assert_none()
    return found[0], found[1]


def timeless(layer: dict[str, File]) -> dict[str, File]:
    return {name: replace(file, mtime=0) for name, file in layer.items()}


def test_same_image(both: tuple[Built, Built]) -> None:
    root, user = both
    assert user.config == root.config
    assert user.config["Labels"] == {"title": "site", "maker": "orca"}
    assert "container=docker" in user.config["Env"]
    assert user.config["ExposedPorts"] == {"80/tcp": {}}
    assert user.config["Entrypoint"] == ["/bin/httpd"]
    assert user.config["Cmd"] == ["-f", "-h", "/srv/site"]
    assert user.history == root.history
    assert len(user.layers) == len(root.layers) == 6
    for mine, theirs in zip(user.layers, root.layers, strict=True):
        assert list(mine) == list(theirs)
        different = {name for name in mine if timeless(mine)[name] != timeless(theirs)[name]}
        assert different == set()
    assert user.files["srv/ok"].text == "SUCCESS\n"
    assert user.files["srv/link"].owner == (65000, 65000)
    assert user.files["srv/shared"].permissions == "2770"
    assert user.files["home/app/index.html"].owner == (1000, 29)
    assert user.files["srv/site/run/home"].text == "/home/web\n"
    assert "srv/site/who" not in user.files
    assert "var/.wh.tmp" in user.layers[3] or "var/tmp/.wh..wh..opq" in user.layers[3]


def test_other_tools_read_the_store(both: tuple[Built, Built], orca: Orca, ordinary_user: User) -> None:
    for who, built in zip((None, ordinary_user), both, strict=True):
        runner = who.run if who else run
        layout = orca.store_of(who) / "images"
        assert "localhost/site:latest" in runner("umoci", "ls", "--layout", layout).stdout.split()
        said = json.loads(runner("skopeo", "inspect", f"oci:{layout}:localhost/site:latest").stdout)
        assert said["Digest"] == built.digest
        assert said["Labels"] == {"title": "site", "maker": "orca"}
        assert len(said["Layers"]) == 6
        assert "site" in runner("umoci", "stat", "--image", f"{layout}:localhost/site:latest").stdout


def test_the_second_build_is_cached(both: tuple[Built, Built], orca: Orca, ordinary_user: User) -> None:
    context = Kitchen(orca).context(FILES)
    again = orca("build", context, user=ordinary_user)
    assert again.out == both[1].digest
    assert again.stderr.count("CACHED") == 12


@pytest.mark.root
def test_through_a_registry_to_buildah(both: tuple[Built, Built], registry: Registry, tmp_path: Path) -> None:
    """What the ordinary user has built is the same image for others."""
    built = both[1]
    name = f"{registry.address}/rootless/site:1"
    source = f"oci:{built.images}:localhost/site:latest"
    run("skopeo", "copy", "-q", "--dest-tls-verify=false", source, f"docker://{name}")
    storage = (f"--root={tmp_path / 'root'}", f"--runroot={tmp_path / 'run'}", "--storage-driver=vfs")
    run("buildah", *storage, "pull", "-q", "--tls-verify=false", name)
    seen = json.loads(run("buildah", *storage, "inspect", "--type=image", name).stdout)
    assert seen["FromImageDigest"] == built.digest
    assert seen["OCIv1"]["config"] == built.config
    container = run("buildah", *storage, "from", "--pull-never", name).out
    try:
        root = Path(run("buildah", *storage, "mount", container).out)
        assert (root / "srv/ok").read_text() == "SUCCESS\n"
        assert (root / "srv/link").lstat().st_uid == 65000
        assert not (root / "srv/site/who").exists()
        names = {str(path.relative_to(root)) for path in root.rglob("*")}
        assert set(built.files) <= names
    finally:
        run("buildah", *storage, "rm", container)


def test_user_of_any_number(orca: Orca, busybox_layout: Layout, ordinary_user: User) -> None:
    """Ids that a user's range has work; others are refused in words."""
    orca.load(busybox_layout, BASE, user=ordinary_user)
    kitchen = Kitchen(orca)
    context = kitchen.context(f"FROM {BASE}\nRUN touch /f && chown 65000:65000 /f\n")
    result = orca("build", context, user=ordinary_user)
    assert Built(orca.store_of(ordinary_user) / "images", result.out).files["f"].owner == (65000, 65000)
    beyond = kitchen.context(f"FROM {BASE}\nCOPY --chown=99999999 Dockerfile /\n")
    said = orca("build", beyond, user=ordinary_user, check=False)
    assert said.returncode == 125
    assert "Traceback" not in said.stderr
    assert "2 │ COPY --chown=99999999" in said.stderr
