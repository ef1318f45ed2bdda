"""OSTree storage: pull, images, run, unpack, rm and prune with --storage=ostree."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import need
from support.images import Layout
from support.leftovers import Leftovers
from support.listing import listing
from support.orca import Orca
from support.registry import Registry
from support.users import User

OSTREE = "--storage=ostree"


@pytest.fixture(autouse=True)
def _ostree() -> None:
    need("ostree")


@pytest.fixture(params=["me", pytest.param("user", marks=pytest.mark.user)])
def who(request: pytest.FixtureRequest, orca: Orca, busybox_layout: Layout) -> User | None:
    """Whoever runs the tests, then an ordinary user; both have `busybox` in their stores."""
    user = None if request.param == "me" else request.getfixturevalue("ordinary_user")
    orca.load(busybox_layout, "localhost/busybox:latest", user)
    assert user is None or isinstance(user, User)
    return user


REDIS_LIKE = r"""FROM busybox
RUN echo redis:x:999:999::/:/bin/sh >>/etc/passwd && echo redis:x:999: >>/etc/group && \
    mkdir -p /var/lib/redis /data /usr/local/bin && chown redis:redis /var/lib/redis /data && \
    echo "port 6379" >/etc/redis.conf && echo old >/etc/old.conf && \
    mkdir -p /opt/src/deep && echo big >/opt/src/deep/file
COPY --chmod=4755 tool /usr/local/bin/
RUN rm -r /etc/old.conf /opt/src && mkdir /opt/src && echo new >/opt/src/new && chmod 700 /var/lib/redis && \
    ln /etc/redis.conf /etc/other.conf && rm -r /home/app && ln -s /srv /home/app
COPY server /usr/local/bin/redis-server
VOLUME /data
WORKDIR /var/lib/redis
USER redis
EXPOSE 6379
ENTRYPOINT ["/usr/local/bin/redis-server"]
CMD ["/etc/redis.conf"]
"""
SERVER = """#!/bin/sh
echo "serving $(cat $1) as $(id -un) in $(pwd)"
echo written >mine && echo kept >/data/mine && cat mine /data/mine
"""


@pytest.fixture
def app(orca: Orca, who: User | None, registry: Registry, dockerfile_context: Callable[..., Path]) -> Iterator[str]:
    """A server in the registry, of several layers, not root's, with a volume and whiteouts; not in the store."""
    context = dockerfile_context({"Dockerfile": REDIS_LIKE, "server": SERVER, "tool": "#!/bin/sh\nid -u\n"})
    (context / "server").chmod(0o755)
    name = f"{registry.address}/redis:7"
    orca.env["CONTAINERS_REGISTRIES_CONF"] = str(registry.write_registries_conf(orca.top / "registries.conf"))
    orca("build", "-q", "-t", name, context, user=who)
    orca("push", "-q", name, user=who)
    yield name


def test_the_story(orca: Orca, who: User | None, app: str, leftovers: Leftovers) -> None:
    """Story (c) of the blog: pulled into OSTree storage, run through runc; and what others can tell about it."""
    plain = orca.top / "plain"
    plain.mkdir(mode=0o777)
    plain.chmod(0o777)
    orca("unpack", "-q", app, plain / "a", user=who)
    orca("rm", "--all", user=who)
    first = orca("pull", OSTREE, app, user=who)
    assert "4 new layers" in first.stderr or "5 new layers" in first.stderr
    again = orca("pull", OSTREE, app, user=who)
    assert (again.out, "0 new layers" in again.stderr) == (first.out, True)
    assert app not in orca("images", user=who).out
    (row,) = json.loads(orca("images", OSTREE, "--json", user=who).stdout)
    assert (row["name"], row["digest"], row["error"]) == (app, first.out, None)

    done = orca("run", OSTREE, app, user=who)
    assert done.out == "serving port 6379 as redis in /var/lib/redis\nwritten\nkept"
    # Nothing that a container writes reaches the repository, nor the next container.
    assert orca("run", OSTREE, "--entrypoint", "ls", app, "/var/lib/redis", user=who).out == ""
    command = "echo x >>/etc/passwd; rm /etc/redis.conf; chmod 777 /bin/busybox; chown app /etc/group"
    orca("run", OSTREE, "-u", "0", "--entrypoint", "sh", app, "-c", command, user=who)
    inside = ("unshare", "--map-root-user", "--map-auto") if who else ()
    repo = orca.store_of(who) / "ostree/repo"
    (who.run if who else _run)(*inside, "ostree", "fsck", f"--repo={repo}")

    orca("unpack", "-q", OSTREE, app, plain / "b", user=who)
    assert listing(plain / "b", who) == listing(plain / "a", who)
    # The files are the user's own, not the repository's.
    assert os.stat(plain / "b/etc/passwd").st_nlink == 1
    assert json.loads(orca("du", "--json", user=who).stdout)["ostree"]["images"] == 1
    leftovers.assert_none()


def _run(*argv: str | os.PathLike[str]) -> None:
    subprocess.run(argv, check=True, capture_output=True)


def test_rm_and_prune(orca: Orca, who: User | None, dockerfile_context: Callable[..., Path]) -> None:
    for name, text in (("one", "RUN head -c 3000000 /dev/urandom >/big\n"), ("two", "RUN echo 2 >/two\n")):
        orca("build", "-q", "-t", name, dockerfile_context(f"FROM busybox\n{text}"), user=who)
        orca("pull", "-q", OSTREE, name, user=who)
        orca("run", OSTREE, name, "true", user=who)
    assert orca("prune", OSTREE, user=who).out == "freed 0 B (0 bytes)"
    done = orca("rm", OSTREE, "one", user=who)
    assert done.out == "localhost/one:latest"
    assert "orca prune --storage=ostree" in done.stderr
    assert len(json.loads(orca("images", "--json", "one", user=who).stdout)) == 1
    would = json.loads(orca("prune", OSTREE, "--dry-run", "--json", user=who).stdout)
    assert would["kinds"] == {"layers": 1, "images": 1, "checkouts": 1}
    assert would["bytes"] is None
    freed = json.loads(orca("prune", OSTREE, "--json", user=who).stdout)
    assert freed["bytes"] > 3_000_000
    assert orca("images", OSTREE, "-q", user=who).out.count("sha256:") == 1
    assert orca("run", OSTREE, "two", "cat", "/two", user=who).out == "2"
    orca("prune", "--all", user=who)  # has nothing to do with it
    assert orca("run", OSTREE, "two", "cat", "/two", user=who).out == "2"


def blocks(*tops: Path) -> int:
    """Bytes on the disk, each inode once."""
    found = {}
    for top in tops:
        for path in (top, *top.rglob("*")):
            at = path.lstat()
            found[at.st_dev, at.st_ino] = at.st_blocks * 512
    return sum(found.values())


def test_what_images_share_is_there_once(orca: Orca, busybox: str, dockerfile_context: Callable[..., Path]) -> None:
    """Ten images with the same files in different layers."""
    context = dockerfile_context({"Dockerfile": "", "data": os.urandom(1 << 20)})
    for number in range(10):
        (context / "Dockerfile").write_text(f"FROM busybox\nRUN echo {number} >/number\nCOPY data /copy{number}\n")
        orca("build", "-q", "-t", f"app{number}", context)
        orca("pull", "-q", OSTREE, f"app{number}")
    for number in range(10):
        assert orca("run", "--network=none", OSTREE, f"app{number}", "cat", "/number").out == str(number)
    place = orca.store / "ostree"
    trees = [blocks(tree) for tree in (place / "checkouts").iterdir()]
    assert len(trees) == 10
    assert blocks(place) < sum(trees) / 3
    told = json.loads(orca("du", "--json").stdout)["ostree"]
    assert (told["images"], told["checkouts"]) == (10, 10) and told["bytes"] < told["separate"] / 3
    assert "OSTree storage: 10 images of" in orca("du").stdout


def test_several_pull_at_once(orca: Orca, busybox: str, dockerfile_context: Callable[..., Path]) -> None:
    for name in ("one", "two"):
        orca("build", "-q", "-t", name, dockerfile_context(f"FROM busybox\nRUN echo {name} >/name\n"))
    processes = [
        subprocess.Popen(orca.command("pull", OSTREE, name), env=orca.environment(), stdout=-1, stderr=-1)
        for name in ("one", "two", "one", "two", "busybox")
    ]
    said = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 5, said
    repo = orca.store / "ostree/repo"
    done = subprocess.run(["ostree", "refs", f"--repo={repo}"], capture_output=True, text=True, check=True)
    assert len(done.stdout.split()) == 3 + 3  # layers and images
    assert {row["name"] for row in json.loads(orca("images", OSTREE, "--json").stdout)} == {
        "localhost/one:latest", "localhost/two:latest", "localhost/busybox:latest",
    }  # fmt: skip
    # The same layer gives the same commit, wherever and whenever.
    heads = {path.name: path.read_text() for path in (repo / "refs/heads/ociimage").iterdir()}
    orca("rm", OSTREE, "--all")
    orca("prune", OSTREE)
    assert not list((repo / "refs/heads/ociimage").iterdir())
    for name in ("one", "two", "busybox"):
        orca("pull", "-q", OSTREE, name)
    assert {path.name: path.read_text() for path in (repo / "refs/heads/ociimage").iterdir()} == heads


@pytest.mark.parametrize("call", [1, 2, 3])
def test_an_import_that_is_killed(orca: Orca, busybox: str, leftovers: Leftovers, call: int) -> None:
    """The next one finishes it; the repository is whole all the time."""
    stop = orca.top / "bin"
    stop.mkdir()
    # As ostree, but at its n-th call it only begins, and orca is killed meanwhile.
    (stop / "ostree").write_text(
        f"#!/bin/sh\necho x >>{stop}/calls\n"
        f'[ $(wc -l <{stop}/calls) -ne {call} ] || {{ head -c 100000 | /usr/bin/ostree "$@"; '
        f'touch {stop}/begun; sleep 60; }}\nexec /usr/bin/ostree "$@"\n'
    )
    (stop / "ostree").chmod(0o755)
    path = f"{stop}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    process = orca.start("pull", OSTREE, "busybox", env={"PATH": path})
    deadline = time.monotonic() + 30
    while not (stop / "begun").exists():
        assert time.monotonic() < deadline, orca.log.read_text()
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert orca("images", OSTREE, "-q").out == ""
    assert orca("run", "--network=none", OSTREE, "busybox", "echo", "works").out == "works"
    repo = orca.store / "ostree/repo"
    subprocess.run(["ostree", "fsck", f"--repo={repo}"], check=True, capture_output=True)
    leftovers.assert_none()


def test_what_can_go_wrong(orca: Orca, busybox: str, registries_conf: Path) -> None:
    def fails(*words: str, code: int = 125, env: dict[str, str] | None = None) -> str:
        done = orca(*words, check=False, env=env)
        assert (done.returncode, done.stdout) == (code, ""), str(done)
        return " ".join(done.stderr.split())

    assert "no image 'nothing' in the store" in fails("unpack", OSTREE, "nothing", str(orca.top / "x"))
    assert "there is no such image" in fails("pull", OSTREE, "nothing")
    assert "no image 'localhost/nothing' in the store" in fails("pull", OSTREE, "localhost/nothing")
    assert "--storage" in fails("images", "--storage=other", code=2)
    assert "--all has no meaning" in fails("prune", OSTREE, "--all", code=2)
    orca("pull", "-q", OSTREE, busybox)
    (branch,) = (path for path in (orca.store / "ostree/repo/refs/heads/ociimage").iterdir() if len(path.name) == 64)
    branch.unlink()
    assert "is not in the OSTree repository" in fails("run", "--network=none", OSTREE, busybox, "true")
    assert json.loads(orca("images", OSTREE, "--json").stdout)[0]["error"]
    orca("pull", "-q", OSTREE, busybox)
    assert orca("run", "--network=none", OSTREE, busybox, "echo", "again").out == "again"
    for blob in (orca.store / "ostree/images/blobs/sha256").iterdir():
        blob.write_bytes(b"{}")
    assert "cannot be read" in fails("prune", OSTREE)
    assert "does not match its digest" in fails("run", OSTREE, busybox, "true")
