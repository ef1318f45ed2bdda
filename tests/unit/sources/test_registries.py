"""Short names: aliases, the search list, docker.io's own ways."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from orca.errors import OrcaError, UsageError
from orca.sources.registries import candidates

DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "registries.conf"
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(path))
    return path


SEARCH = 'unqualified-search-registries = ["one.example", "two.example:5000/prefix"]\n'
ALIASES = '[aliases]\n"debian" = "docker.io/library/debian"\n"team/app" = "quay.example/x/app"\n"off" = ""\n'


@pytest.mark.parametrize(
    ("text", "conf_text", "expected"),
    [
        ("debian", "", ["docker.io/library/debian:latest"]),
        ("debian:12", "", ["docker.io/library/debian:12"]),
        ("team/app", "", ["docker.io/team/app:latest"]),
        (f"debian@{DIGEST}", "", [f"docker.io/library/debian@{DIGEST}"]),
        ("docker.io/debian", "", ["docker.io/library/debian:latest"]),
        ("index.docker.io/debian:1", "", ["docker.io/library/debian:1"]),
        ("docker.io/team/app", "", ["docker.io/team/app:latest"]),
        ("quay.example/app", "", ["quay.example/app:latest"]),
        ("localhost:5000/app:1", SEARCH, ["localhost:5000/app:1"]),
        ("localhost/app", SEARCH, ["localhost/app:latest"]),
        ("app:1", SEARCH, ["one.example/app:1", "two.example:5000/prefix/app:1"]),
        ("app", 'unqualified-search-registries = ["docker.io"]', ["docker.io/library/app:latest"]),
        ("app", "unqualified-search-registries = []", ["docker.io/library/app:latest"]),
        ("debian:12", SEARCH + ALIASES, ["docker.io/library/debian:12"]),
        (f"debian@{DIGEST}", ALIASES, [f"docker.io/library/debian@{DIGEST}"]),
        ("team/app", ALIASES, ["quay.example/x/app:latest"]),
        ("off", SEARCH + ALIASES, ["one.example/off:latest", "two.example:5000/prefix/off:latest"]),
        ("x", '[aliases]\nx = "docker.io/x"', ["docker.io/library/x:latest"]),
        ("x", "[aliases]\nx = 7", ["docker.io/library/x:latest"]),
        ("x", '[[registry]]\nprefix = "a"\ninsecure = true', ["docker.io/library/x:latest"]),
    ],
)
def test_candidates(text: str, conf_text: str, expected: list[str], conf: Path) -> None:
    conf.write_text(conf_text)
    assert [str(found) for found in candidates(text)] == expected


def test_no_configuration_at_all(conf: Path) -> None:
    assert [str(found) for found in candidates("x")] == ["docker.io/library/x:latest"]


@pytest.mark.parametrize(
    ("conf_text", "message"),
    [
        ("unqualified-search-registries = [", "cannot read .*registries.conf"),
        ('unqualified-search-registries = "docker.io"', "unqualified-search-registries is not a list of names"),
        ("unqualified-search-registries = [1]", "is not a list of names"),
        ('unqualified-search-registries = [""]', "is not a list of names"),
        ("aliases = 3", "aliases is not a table"),
        ('[aliases]\nx = "Not A Name"', "the alias x is bad"),
        ('[aliases]\nx = "short"', "the alias x names no registry"),
        ("\udcff", "cannot read"),
    ],
)
def test_a_broken_configuration_says_so(conf_text: str, message: str, conf: Path) -> None:
    conf.write_bytes(conf_text.encode("utf-8", "surrogateescape"))
    with pytest.raises(OrcaError, match=message) as caught:
        candidates("x")
    assert caught.value.hint
    assert [str(found) for found in candidates("full.example/x")] == ["full.example/x:latest"]  # needs no file


def test_no_name(conf: Path) -> None:
    with pytest.raises(UsageError):
        candidates("Not A Name")


def test_a_configuration_that_is_a_directory(conf: Path) -> None:
    conf.mkdir()
    with pytest.raises(OrcaError, match="cannot read"):
        candidates("x")


def test_a_users_files_beat_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONTAINERS_REGISTRIES_CONF", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    user = tmp_path / "containers"
    (user / "registries.conf.d").mkdir(parents=True)
    (user / "registries.conf").write_text(SEARCH + ALIASES)
    (user / "registries.conf.d" / "10-a.conf").write_text('[aliases]\nz-test = "a.example/z"')
    (user / "registries.conf.d" / "20-b.conf").write_text('[aliases]\nz-test = "b.example/z"')
    (user / "registries.conf.d" / "30-c.txt").write_text("not read")
    assert [str(found) for found in candidates("z-test")] == ["b.example/z:latest"]
    assert [str(found) for found in candidates("team/app")] == ["quay.example/x/app:latest"]
    assert tomllib.loads(SEARCH)["unqualified-search-registries"][0] == "one.example"
