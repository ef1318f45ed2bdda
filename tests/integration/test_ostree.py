"""OSTree storage: pull, images, run, unpack, rm and prune with --storage=ostree."""

from __future__ import annotations

import json
import os
import subprocess
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
