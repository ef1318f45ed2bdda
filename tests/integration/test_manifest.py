"""orca manifest, and every other command on an index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.built import Built
from support.kitchen import BASE, Kitchen
from support.proc import run
from support.registry import Registry

from orca.oci import platform

HOST = str(platform.host())
OTHER = "linux/s390x" if HOST != "linux/s390x" else "linux/amd64"
TEXT = "FROM scratch\nARG TARGETARCH\nCOPY Dockerfile /$TARGETARCH\n"


@pytest.fixture(scope="module")
def built(kitchen: Kitchen) -> dict[str, str]:
    """Digests: `both` is an index of two images, `here` and `there` are its images; all are names too."""
    context = kitchen.context(TEXT)
    options = {"both": f"{HOST},{OTHER}", "here": HOST, "there": OTHER}
    return {
        name: kitchen.run(context, f"--platform={value}", "-t", name, check=True).out for name, value in options.items()
    }


def inspect(kitchen: Kitchen, name: str) -> list[dict[str, Any]]:
    value = json.loads(kitchen.orca("manifest", "inspect", name).out)
    assert value["schemaVersion"] == 2
    entries: list[dict[str, Any]] = value["manifests"]
    return entries


def places(entries: list[dict[str, Any]]) -> list[str]:
    parts = ("os", "architecture", "variant")
    return ["/".join(entry["platform"][part] for part in parts if part in entry["platform"]) for entry in entries]


def fails(kitchen: Kitchen, *words: str, code: int = 125) -> str:
    result = kitchen.orca(*words, check=False)
    assert result.returncode == code, result
    assert result.stdout == ""
    assert "bug in orca" not in result.stderr
    return " ".join(result.stderr.split())


class TestLists:
    def test_from_create_to_rm(self, kitchen: Kitchen, built: dict[str, str]) -> None:
        digest = kitchen.orca("manifest", "create", "mine", "here").out
        assert kitchen.orca("images", "-q", "mine").out == digest
        assert [entry["digest"] for entry in inspect(kitchen, "mine")] == [built["here"]]
        described = ("--variant=v1", "--os-version=9", "--os-features=a,b", "--features=sse", "--annotation=k=v")
        kitchen.orca("manifest", "add", *described, "mine", "there")
        entry = inspect(kitchen, "mine")[1]
        assert entry["digest"] == built["there"]
        assert entry["annotations"] == {"k": "v"}
        assert entry["platform"] == {
            "os": "linux", "architecture": OTHER[6:], "variant": "v1", "os.version": "9", "os.features": ["a", "b"],
            "features": ["sse"],
        }  # fmt: skip
        kitchen.orca("manifest", "annotate", "--arch=riscv64", "--annotation=l=w", "mine", built["there"][:20])
        entry = inspect(kitchen, "mine")[1]
        assert entry["annotations"] == {"k": "v", "l": "w"}
        assert (entry["platform"]["architecture"], "variant" in entry["platform"]) == ("riscv64", False)
        # Once more is the same entry.
        kitchen.orca("manifest", "add", "mine", "here")
        assert places(inspect(kitchen, "mine")) == [HOST, "linux/riscv64"]
        left = kitchen.orca("manifest", "remove", "mine", "there").out
        assert places(inspect(kitchen, left)) == [HOST]
        assert kitchen.orca("manifest", "rm", "mine").out == "localhost/mine:latest"
        assert "no image" in fails(kitchen, "manifest", "inspect", "localhost/mine")
        assert kitchen.orca("images", "-q", "here").out == built["here"]

    def test_lists_of_lists(self, kitchen: Kitchen, built: dict[str, str]) -> None:
        kitchen.orca("manifest", "create", "--all", "l1", "both")
        assert places(inspect(kitchen, "l1")) == [HOST, OTHER]
        kitchen.orca("manifest", "create", "l2", "both")
        assert places(inspect(kitchen, "l2")) == [HOST]
        kitchen.orca("manifest", "add", f"--arch={OTHER[6:]}", "l2", "both")
        assert places(inspect(kitchen, "l2")) == [HOST, OTHER]
        again = kitchen.orca("manifest", "create", "--amend", "l2", "both").out
        assert inspect(kitchen, again) == inspect(kitchen, "both")

    def test_errors(self, kitchen: Kitchen, built: dict[str, str]) -> None:
        kitchen.orca("manifest", "create", "empty")
        assert "--amend goes on with it" in fails(kitchen, "manifest", "create", "empty")
        assert "is an image, not a manifest list" in fails(kitchen, "manifest", "create", "--amend", "here")
        assert "is an image, not a manifest list" in fails(kitchen, "manifest", "add", "here", "there")
        assert "no image 'nolist'" in fails(kitchen, "manifest", "add", "nolist", "here")
        assert "no image 'localhost/gone'" in fails(kitchen, "manifest", "add", "empty", "localhost/gone")
        assert "the list has no entry" in fails(kitchen, "manifest", "remove", "empty", built["here"])
        assert "is empty" in fails(kitchen, "manifest", "push", "empty", "oci:x:y")
        assert "nothing to say" in fails(kitchen, "manifest", "annotate", "empty", "x", code=2)
        assert "--all adds images" in fails(kitchen, "manifest", "add", "--all", "--arch=arm", "empty", "both", code=2)
        assert "invalid choice: 'made'" in fails(kitchen, "manifest", "made", "empty", code=2)
        assert "not there for linux/ppc64le" in fails(kitchen, "manifest", "add", "--arch=ppc64le", "empty", "both")
        assert inspect(kitchen, "empty") == []
        assert "create" in kitchen.orca("manifest", "--help").out
        assert "--variant" in kitchen.orca("manifest", "annotate", "--help").out

    def test_a_build_joins_a_list(self, kitchen: Kitchen, built: dict[str, str]) -> None:
        context = kitchen.context(TEXT)
        one = kitchen.run(context, f"--platform={HOST}", "--manifest=joined", check=True).out
        both = kitchen.run(context, f"--platform={OTHER},linux/arm/v6", "--manifest=joined", check=True).out
        entries = inspect(kitchen, "joined")
        assert places(entries) == [HOST, OTHER, "linux/arm/v6"]
        assert entries[0]["digest"] == one
        assert [entry["digest"] for entry in entries[1:]] == [entry["digest"] for entry in inspect(kitchen, both)]
        # The next image for a platform takes the place of the last.
        new = kitchen.run(f"{TEXT}ENV A=1\n", f"--platform={OTHER}", "--manifest=joined", check=True).out
        assert [entry["digest"] for entry in inspect(kitchen, "joined")] == [one, new, entries[2]["digest"]]
        assert "bad image name" in kitchen.fails(context, "--manifest=Bad/Name", code=2)
        assert "is an image" in kitchen.run(context, "--manifest=here").stderr


class TestRegistry:
    def test_there_and_back(self, kitchen: Kitchen, built: dict[str, str], registry: Registry, tmp_path: Path) -> None:
        plain, place = "--tls-verify=false", f"docker://{registry.address}/lists/both:1"
        kitchen.orca("manifest", "create", "--all", "sent", "both")
        words = ("--all", "--rm", f"--digestfile={tmp_path / 'digest'}", plain)
        assert kitchen.orca("manifest", "push", *words, "sent", place).out == built["both"]
        assert (tmp_path / "digest").read_text() == built["both"]
        assert "no image" in fails(kitchen, "manifest", "push", "localhost/sent", place)
        assert kitchen.orca("manifest", "inspect", plain, place).out == kitchen.orca("manifest", "inspect", "both").out
        kitchen.orca("manifest", "create", "got")
        kitchen.orca("manifest", "add", plain, f"--arch={OTHER[6:]}", "got", place)
        assert places(inspect(kitchen, "got")) == [OTHER]
        kitchen.orca("manifest", "add", plain, "--all", "got", place)
        assert sorted(entry["digest"] for entry in inspect(kitchen, "got")) == sorted(
            entry["digest"] for entry in inspect(kitchen, "both")
        )
        wrong = fails(kitchen, "manifest", "add", plain, "--arch=mips64le", "got", place)
        assert f"it has: {HOST}, {OTHER}" in wrong
        # One image of it.
        alone = f"{registry.address}/lists/one:1"
        assert kitchen.orca("push", plain, f"--platform={OTHER}", "both", alone).out == built["there"]
        assert "is an image, not a manifest list" in fails(kitchen, "manifest", "inspect", plain, f"docker://{alone}")
        assert "there is no such image" in fails(kitchen, "manifest", "inspect", plain, f"{place}x")

    def test_a_base_for_each_platform(
        self, kitchen: Kitchen, built: dict[str, str], registry: Registry, registries_conf: Path
    ) -> None:
        env = {"CONTAINERS_REGISTRIES_CONF": str(registries_conf)}
        kitchen.orca("push", "both", f"{registry.address}/multi:1", env=env)
        text = "FROM multi:1\nENV A=1\n"
        result = kitchen.run(text, f"--platform={HOST},{OTHER}", env=env, check=True)
        assert places(inspect(kitchen, result.out)) == [HOST, OTHER]
        # Both are in the store now, under one name.
        name = f"{registry.address}/multi:1"
        (row,) = (row for row in json.loads(kitchen.orca("images", "--json").out) if row["name"].endswith("multi:1"))
        assert sorted(row["platforms"]) == sorted([HOST, OTHER]), name
        assert kitchen.run(text, f"--platform={OTHER}", "--pull=never", env=env, check=True).out in {
            entry["digest"] for entry in inspect(kitchen, result.out)
        }
        said = kitchen.fails(text, "--platform=linux/riscv64", env=env)
        assert f"it has: {HOST}, {OTHER}" in said  # the registry's own index
        assert "1 │ FROM multi:1" in said


class TestIndexesEverywhere:
    """images, inspect, history, tag, push, unpack, run, prune: none of them stumbles over an index."""

    def test_reading(self, kitchen: Kitchen, built: dict[str, str]) -> None:
        (row,) = json.loads(kitchen.orca("images", "--json", "both").out)
        assert (row["platforms"], row["layers"], row["error"]) == ([HOST, OTHER], 2, None)
        (value,) = json.loads(kitchen.orca("inspect", "both").out)
        assert (value["digest"], value["index"]) == (built["here"], built["both"])
        assert value["platforms"] == [HOST, OTHER]
        (value,) = json.loads(kitchen.orca("inspect", f"--platform={OTHER}", "both").out)
        assert value["digest"] == built["there"]
        rows = json.loads(kitchen.orca("history", "--json", f"--platform={OTHER}", "both").out)
        assert f"COPY Dockerfile /{OTHER[6:]}" in rows[0]["created_by"]
        assert f"it has: {HOST}, {OTHER}" in fails(kitchen, "inspect", "--platform=linux/arm/v5", "both")
        kitchen.orca("tag", built["both"], "again")
        assert kitchen.orca("inspect", "--raw", "again").out == kitchen.orca("inspect", "--raw", "both").out
        kitchen.orca("rm", "again")

    def test_writing(self, kitchen: Kitchen, built: dict[str, str], tmp_path: Path) -> None:
        assert kitchen.orca("push", "both", f"oci:{tmp_path / 'all'}:x").out == built["both"]
        words = ("push", f"--platform={OTHER}", "both", f"docker-archive:{tmp_path / 'a.tar'}")
        kitchen.orca(*words)
        found = json.loads(run("skopeo", "inspect", "--config", f"docker-archive:{tmp_path / 'a.tar'}").stdout)
        assert found["architecture"] == OTHER[6:]
        said = fails(kitchen, "push", "both", f"docker-archive:{tmp_path / 'b.tar'}", code=2)
        assert "docker-archive takes one image" in said
        assert f"choose one with --platform: {HOST}, {OTHER}" in said
        kitchen.orca("unpack", f"--platform={OTHER}", "both", tmp_path / "root")
        assert (tmp_path / "root" / OTHER[6:]).exists()
        context = kitchen.context(TEXT)
        kitchen.run(context, f"--platform={HOST},{OTHER}", f"--output=type=local,dest={tmp_path / 'files'}", check=True)
        names = [name.replace("/", "_") for name in (HOST, OTHER)]
        assert sorted(path.name for path in (tmp_path / "files").iterdir()) == sorted(names)
        assert (tmp_path / "files" / names[1] / OTHER[6:]).exists()
        said = kitchen.fails(
            context, f"--platform={HOST},{OTHER}", f"--output=type=docker,dest={tmp_path / 'd'}", code=125
        )
        assert "one image, not an index" in " ".join(said.split())

    def test_running(self, kitchen: Kitchen) -> None:
        kitchen.orca("manifest", "create", "runs", BASE)
        assert kitchen.orca("run", "--network=none", "runs", "echo", "it", "runs").out == "it runs"

    def test_pruning(self, fresh: Kitchen) -> None:
        context = fresh.context(TEXT)
        digest = fresh.run(context, f"--platform={HOST},{OTHER}", "-t", "both", check=True).out
        fresh.orca("prune", "--all")
        for entry in inspect(fresh, "both"):
            Built(fresh.orca.store / "images", entry["digest"]).check()
        fresh.orca("rm", "both")
        fresh.orca("prune", "--all")
        assert not (fresh.orca.store / "images/blobs" / digest.replace(":", "/")).exists()
