"""orca doctor and orca info on this machine."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from support.leftovers import Leftovers
from support.orca import Orca
from support.users import SYSTEM_PATH, User

TOOLS = ("skopeo", "umoci", "runc", "slirp4netns", "tar")


@pytest.fixture(params=["me", pytest.param("user", marks=pytest.mark.user)])
def who(request: pytest.FixtureRequest) -> User | None:
    return None if request.param == "me" else request.getfixturevalue("ordinary_user")


@pytest.mark.network
def test_builds_work_here(orca: Orca, who: User | None, leftovers: Leftovers) -> None:
    done = orca("doctor", user=who)
    assert done.stderr == ""
    assert "✘" not in done.stdout
    assert "built, unpacked, ran and committed an image in" in done.stdout
    assert done.stdout.endswith("orca can build images here.\n")
    value = json.loads(orca("doctor", "--json", user=who).stdout)
    assert value["works"] is True
    versions = {check["name"]: check["detail"] for check in value["checks"]}
    assert all(versions[tool][0].isdigit() for tool in TOOLS)
    assert {check["name"] for check in value["checks"] if check["group"] == "Trial"} == {"overlay", "build"}
    leftovers.assert_none()


def path_without(directory: Path, *names: str) -> str:
    """A PATH with everything that is in the system's but `names`."""
    directory.mkdir()
    for place in reversed(SYSTEM_PATH.split(":")):
        for entry in Path(place).iterdir():
            link = directory / entry.name
            link.unlink(missing_ok=True)
            link.symlink_to(entry)
    for name in names:
        (directory / name).unlink()
    return str(directory)


def test_a_missing_tool(orca: Orca, open_path: Path) -> None:
    done = orca("doctor", env={"PATH": path_without(open_path / "bin", "umoci", "skopeo")}, check=False)
    assert done.returncode == 125
    lines = done.stdout.splitlines()
    for tool in ("umoci", "skopeo"):
        assert any(tool in line and "missing" in line for line in lines)
    assert any("not tried: skopeo, umoci missing" in line for line in lines)
    assert lines[-1] == "2 problems: orca cannot build here yet."


def test_with_an_empty_path(orca: Orca) -> None:
    done = orca("doctor", env={"PATH": ""}, check=False)
    assert done.returncode == 125
    for tool in ("skopeo", "umoci", "slirp4netns", "tar"):
        assert any(tool in line and "missing" in line for line in done.stdout.splitlines()), done.stdout


@pytest.mark.root
def test_an_ordinary_user_without_subordinate_ids(orca: Orca, installed_orca: Path) -> None:
    """Nobody's uid has no ranges."""
    nobody = User("nobody", orca.top, (65534, 65534))
    done = orca("doctor", user=nobody, check=False)
    assert done.returncode == 125
    assert "/etc/subuid gives nobody no ids" in done.stdout
    assert "usermod --add-subuids" in done.stdout
    assert "not tried" in done.stdout


@pytest.mark.root
def test_tun_that_is_closed(orca: Orca, ordinary_user: User, installed_orca: Path, open_path: Path) -> None:
    """A copy of the machine's /dev without access for the user, in a mount namespace of its own."""
    program = " ".join(orca.command("doctor", user=ordinary_user))
    inner = f"setpriv --reuid {ordinary_user.ids[0]} --regid {ordinary_user.ids[1]} --clear-groups {program}"  # type: ignore[index]
    closed = open_path / "tun"
    closed.touch(0o600)
    env = orca.environment(ordinary_user)
    script = f"mount --bind {closed} /dev/net/tun && exec {inner}"
    done = User("root", open_path, None).run("unshare", "--mount", "sh", "-c", script, env=env, check=False)
    assert done.returncode == 125
    assert "chmod 0666 /dev/net/tun" in done.stdout


def test_a_store_of_somebody_else(orca: Orca, ordinary_user: User) -> None:
    done = orca("doctor", user=ordinary_user, env={"ORCA_ROOT": "/proc/store"}, check=False)
    assert done.returncode == 125
    assert "✘  /proc/store" in done.stdout


def test_info(orca: Orca, busybox: str, who: User | None, leftovers: Leftovers) -> None:
    value = json.loads(orca("info", "--json", user=who).stdout)
    assert value["rootless"] is (who is not None or os.getuid() != 0)
    assert value["store"]["root"] == str(orca.store_of(who))
    assert value["store"]["names"] == (0 if who else 1)
    assert all(value["tools"][tool] for tool in TOOLS)
    assert value["platform"].startswith("linux/")
    page = orca("info", user=who).stdout
    assert str(orca.store_of(who)) in page
    assert f"skopeo {value['tools']['skopeo']}" in " ".join(page.split())
    leftovers.assert_none()


def test_info_makes_no_store_and_names_the_configuration(orca: Orca, open_path: Path) -> None:
    conf, auth = open_path / "registries.conf", open_path / "auth.json"
    conf.write_text("")
    auth.write_text("{}")
    env = {
        "ORCA_ROOT": str(open_path / "none" / "store"),
        "CONTAINERS_REGISTRIES_CONF": str(conf),
        "REGISTRY_AUTH_FILE": str(auth),
    }
    value = json.loads(orca("info", "--json", env=env).stdout)
    assert value["configuration"]["registries"] == [str(conf)]
    assert value["configuration"]["credentials"] == [str(auth)]
    assert value["store"]["images"] == value["store"]["snapshots"] == 0
    assert not (open_path / "none").exists()


def test_the_wrapper_imports_nothing_from_here(orca: Orca, open_path: Path) -> None:
    """`orca build .` in a stranger's directory must not run the stranger's json.py."""
    (open_path / "json.py").write_text("open('pwned', 'w')\n")
    (open_path / "sh.py").write_text("open('pwned', 'w')\n")
    assert json.loads(orca("info", "--json", cwd=open_path).stdout)["version"]
    assert not (open_path / "pwned").exists()
    assert shutil.which("sh")
