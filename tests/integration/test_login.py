"""login, logout, tags, search, and registries.conf: with registries on the loopback interface."""

from __future__ import annotations

import base64
import json
import os
import pty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import registry as registries
from support.images import Layout
from support.leftovers import Leftovers
from support.orca import Orca
from support.proc import run
from support.registry import PASSWORD_FILE, Registry, RegistryImage
from support.users import User

PLAIN = "--tls-verify=false"


@pytest.fixture(scope="module")
def locked(shared_dir: Path) -> Iterator[Registry]:
    """A registry that wants user u with password p."""
    with registries.serve(shared_dir / f"locked-{os.getpid()}", PASSWORD_FILE) as served:
        yield served


@pytest.fixture(scope="module")
def mirror(shared_dir: Path) -> Iterator[Registry]:
    """A second registry."""
    with registries.serve(shared_dir / f"mirror-{os.getpid()}") as served:
        yield served


@pytest.fixture
def authfile(orca: Orca) -> Path:
    """Where this test's credentials are kept."""
    path = orca.top / "auth" / "auth.json"
    orca.env["REGISTRY_AUTH_FILE"] = str(path)
    return path


class TestLogin:
    def test_credentials_that_all_tools_find(
        self, orca: Orca, busybox: str, locked: Registry, authfile: Path, leftovers: Leftovers
    ) -> None:
        place = f"{locked.address}/login/app:1"
        done = orca("login", PLAIN, "-u", "u", "--password-stdin", locked.address, stdin="p\n")
        assert (done.stdout, done.stderr) == ("", f"logged in to {locked.address} as u\n")
        assert json.loads(authfile.read_text())["auths"].keys() == {locked.address}
        assert authfile.stat().st_mode & 0o077 == 0
        assert orca("login", "--get-login", locked.address).out == "u"
        digest = orca("push", "-q", PLAIN, busybox, place).out
        assert orca("search", PLAIN, f"{locked.address}/LOGIN").out == f"{locked.address}/login/app"
        env = {"REGISTRY_AUTH_FILE": str(authfile), "PATH": os.environ["PATH"], "HOME": str(orca.top)}
        assert json.loads(run("skopeo", "list-tags", PLAIN, f"docker://{place[:-2]}", env=env).stdout)["Tags"] == ["1"]
        assert run("buildah", "login", "--get-login", locked.address, env=env).out == "u"
        done = orca("logout", locked.address)
        assert (done.stdout, done.stderr) == ("", f"logged out of {locked.address}\n")
        failed = orca("pull", PLAIN, place, check=False)
        assert failed.returncode == 125 and "the registry refuses access" in failed.stderr
        assert orca("pull", "-q", PLAIN, "--creds=u:p", place).out == digest
        leftovers.assert_none()

    def test_wrong_ones_are_not_kept(self, orca: Orca, locked: Registry, authfile: Path) -> None:
        failed = orca("login", PLAIN, "-u", "u", "-p", "wr0ng", locked.address, check=False)
        assert failed.returncode == 125 and "wr0ng" not in failed.stderr
        assert "the registry refuses access" in failed.stderr and "hint: check the name" in failed.stderr
        assert not authfile.exists()
        failed = orca("login", "--get-login", locked.address, check=False)
        assert failed.returncode == 125 and f"nobody is logged in to {locked.address}" in failed.stderr
        failed = orca("search", PLAIN, locked.address, check=False)
        assert failed.returncode == 125 and "does not show its repositories" in failed.stderr

    def test_it_asks_on_a_terminal_and_shows_no_password(self, orca: Orca, locked: Registry, authfile: Path) -> None:
        pid, terminal = pty.fork()
        if not pid:
            words = orca.command("login", PLAIN, locked.address)
            os.execve(words[0], words, orca.environment())
        said = b""
        for question, answer in ((b"Username: ", b"u\n"), (b"password of u: ", b"p\n")):
            while question not in said:
                said += os.read(terminal, 1000)
            os.write(terminal, answer)
        try:
            while data := os.read(terminal, 1000):
                said += data
        except OSError:
            pass
        os.close(terminal)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, said
        after = said.partition(b"password of u: ")[2].replace(locked.address.encode(), b"")
        assert b"logged in to" in after and b"p\r\n" not in after
        assert base64.b64decode(json.loads(authfile.read_text())["auths"][locked.address]["auth"]) == b"u:p"

    @pytest.mark.parametrize("who", ["me", pytest.param("user", marks=pytest.mark.user)])
    def test_a_build_finds_them(
        self, who: str, orca: Orca, busybox: str, locked: Registry, request: pytest.FixtureRequest
    ) -> None:
        """Without a variable that names the file, and inside the sandbox."""
        user = request.getfixturevalue("ordinary_user") if who == "user" else None
        if user is None:
            home = orca.top / "home"
            home.mkdir()
            orca.env |= {"HOME": str(home), "XDG_RUNTIME_DIR": str(home)}
        place = f"{locked.address}/for/{who}:1"
        orca("push", "-q", PLAIN, "--creds=u:p", busybox, place)
        orca("login", PLAIN, "-u", "u", "--password-stdin", locked.address, stdin="p", user=user)
        words = ("-q", PLAIN, "-t", f"{locked.address}/for/{who}:2", "--push", "-f", "-", orca.top)
        text = f"FROM {place}\nRUN true\n"
        assert orca("build", *words, stdin=text, user=user).out.startswith("sha256:")
        orca("logout", locked.address, user=user)
        failed = orca("build", "--pull", *words, stdin=text, user=user, check=False)
        assert failed.returncode == 125 and "the registry refuses access" in failed.stderr, failed

    def test_all_registries_and_an_ordinary_user(self, orca: Orca, ordinary_user: User, locked: Registry) -> None:
        place = ordinary_user.home / ".config/containers/auth.json"
        orca("login", PLAIN, "-uu", "--password-stdin", locked.address, stdin="p", user=ordinary_user)
        if ordinary_user.ids:
            assert locked.address in json.loads(place.read_text())["auths"]
            assert place.stat().st_uid == ordinary_user.ids[0]
        assert orca("login", "--get-login", locked.address, user=ordinary_user).out == "u"
        orca("logout", "--all", user=ordinary_user)
        assert orca("login", "--get-login", locked.address, user=ordinary_user, check=False).returncode == 125

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (("login", "r.example"), "who logs in?"),
            (("login", "-u", "x", "r.example"), "nobody can be asked"),
            (("login", "-u", "x", "--password-stdin", "r.example"), "there is no password"),
            (("login", "-u", "a:b", "-p", "x", "r.example"), "no user name"),
            (("login", "-u", "x", "-p", "x", "--password-stdin", "r.example"), "exclude each other"),
            (("login", "-u", "x", "-p", "x", "app"), "is no registry"),
            (("login", "-u", "x", "-p", "x", "r.example/UP"), "bad image name"),
            (("login",), "required: REGISTRY"),
            (("logout",), "which registry?"),
            (("logout", "--all", "r.example"), "--all, or one registry?"),
            (("search", "term"), "is no registry"),
            (("search", "r.example/x", "--limit", "0"), "less than 1"),
            (("tags", "r.example/x:1"), "names one image"),
        ],
    )
    def test_what_is_wrong_with_the_words(self, orca: Orca, words: tuple[str, ...], message: str) -> None:
        failed = orca(*words, check=False)
        assert failed.returncode == 2 and message in failed.stderr, failed


def test_tags_and_repositories(orca: Orca, busybox: str, mirror: Registry) -> None:
    for name in ("list/app:b", "list/app:a", "list/other:1"):
        orca("push", "-q", PLAIN, busybox, f"{mirror.address}/{name}")
    repository = f"{mirror.address}/list/app"
    assert orca("tags", PLAIN, repository).stdout == "a\nb\n"
    assert json.loads(orca("tags", PLAIN, "--json", repository).stdout) == {"name": repository, "tags": ["a", "b"]}
    assert orca("search", PLAIN, f"{mirror.address}/list/").stdout == f"{repository}\n{mirror.address}/list/other\n"
    found = json.loads(orca("search", PLAIN, "--json", "--limit=1", f"{mirror.address}/app").stdout)
    assert found == [{"name": repository}]
    assert orca("search", PLAIN, f"{mirror.address}/nothing").stdout == ""
    failed = orca("search", repository, check=False)
    assert failed.returncode == 125 and "hint: for http or another certificate: --tls-verify=false" in failed.stderr
    failed = orca("tags", PLAIN, f"{mirror.address}/no/such", check=False)
    assert failed.returncode == 125 and "there is no such image" in failed.stderr


class TestRegistriesConf:
    @pytest.fixture
    def configure(self, orca: Orca) -> Callable[[str], None]:
        """`configure(text)`: registries.conf for this test's orca."""

        def write(text: str) -> None:
            path = orca.top / "registries.conf"
            path.write_text(text)
            orca.env["CONTAINERS_REGISTRIES_CONF"] = str(path)

        return write

    def test_a_mirror_comes_first_and_the_registry_after_it(
        self, orca: Orca, busybox_layout: Layout, registry: Registry, mirror: Registry, configure: Callable[[str], None]
    ) -> None:
        only_there = registry.push(busybox_layout, "origin:1")
        mirrored = mirror.push(busybox_layout, "mirrored:1")
        configure(
            f'[[registry]]\nlocation = "{registry.address}"\ninsecure = true\n'
            f'[[registry.mirror]]\nlocation = "{mirror.address}"\ninsecure = true\n'
        )
        for name, image in (("origin", only_there), ("mirrored", mirrored)):
            place = f"{registry.address}/library/{name}:1"
            assert orca("pull", "-q", place).out == image.digest
            assert place in orca("images", "--json").stdout
        assert mirror.address not in orca("images", "--json").stdout

    def test_names_that_lead_elsewhere(
        self, orca: Orca, busybox_layout: Layout, mirror: Registry, configure: Callable[[str], None]
    ) -> None:
        digest = mirror.push(busybox_layout, "app:1").digest
        configure(
            'unqualified-search-registries = ["nowhere.example"]\n'
            f'[aliases]\n"short" = "prefix.example/there/app"\n'
            f'[[registry]]\nprefix = "prefix.example/there"\nlocation = "{mirror.address}/library"\ninsecure = true\n'
            '[[registry]]\nlocation = "blocked.example"\nblocked = true\n'
        )
        assert orca("pull", "-q", "short:1").out == digest
        assert json.loads(orca("images", "--json").stdout)[0]["name"] == "prefix.example/there/app:1"
        assert orca("pull", "-q", f"prefix.example/there/app@{digest}").out == digest
        for words in (("pull", "blocked.example/app"), ("push", "short:1", "blocked.example/app"),
                      ("tags", "blocked.example/app")):  # fmt: skip
            failed = orca(*words, check=False)
            assert failed.returncode == 125, failed
            assert "blocked.example/app" in failed.stderr and "registries.conf blocks it" in failed.stderr

    def test_several_registries_for_a_short_name(self, orca: Orca, configure: Callable[[str], None]) -> None:
        search = 'unqualified-search-registries = ["one.example", "two.example"]\n'
        configure(search + 'short-name-mode = "enforcing"\n')
        failed = orca("pull", "app", check=False)
        assert failed.returncode == 2
        assert "app may be one.example/app:latest, two.example/app:latest" in failed.stderr
        configure(search + 'short-name-mode = "sometimes"\n')
        failed = orca("pull", "app", check=False)
        assert failed.returncode == 125 and "short-name-mode is\n       none" in failed.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("127.0.0.1:1/App", "repository names are lower case: 127.0.0.1:1/app"),
        ("127.0.0.1:1/app:a/b", "bad image name"),
        ("127.0.0.1:1/app:-x", "bad image name"),
        ("127.0.0.1:1/app:" + "t" * 129, "bad image name"),
        ("127.0.0.1:99999999/app", "bad image name"),
        ("127.0.0.1:1/" + "a" * 1020, "bad image name"),
        ("127.0.0.1:1/" + "a/" * 130 + "b", "bad image name"),
        ("127.0.0.1:1/app@sha256:00", "bad image name"),
        ("[::1/app", "bad image name"),
        ("app:\x1b[2J", "bad image name"),
    ],
)
def test_names_that_are_none(orca: Orca, busybox: str, name: str, message: str) -> None:
    for words in (("pull", name), ("push", busybox, name)):
        failed = orca(*words, check=False)
        assert failed.returncode == 2 and message in failed.stderr and "\x1b" not in failed.stderr, failed


@pytest.mark.parametrize("name", ["[::1]:1/app", "[::1]:1/ns/app:_x.Y-1"])
def test_ipv6(orca: Orca, busybox: str, name: str) -> None:
    for words in (("pull", name), ("push", busybox, name)):
        failed = orca(*words, check=False)
        assert failed.returncode == 125, failed
        assert "skopeo cannot read this name" in failed.stderr or "cannot be reached" in failed.stderr, failed


def test_a_pin_that_the_registry_does_not_keep(orca: Orca, busybox_image: RegistryImage) -> None:
    name = busybox_image.location.rpartition(":")[0]
    failed = orca("pull", f"{name}@sha256:{'0' * 64}", check=False)
    assert failed.returncode == 125 and "there is no such image" in failed.stderr
