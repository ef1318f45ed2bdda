"""Builds for other platforms, and for several at once: what is shared, what the index says, who can read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import binfmt
from support.built import Built
from support.images import busybox_binary
from support.kitchen import BASE, Kitchen, parse_events
from support.proc import Result, run

from orca.oci import platform
from orca.tools import emulation

HOST = str(platform.host())
OTHER = "linux/s390x" if HOST != "linux/s390x" else "linux/amd64"

SHARED = f"""\
FROM --platform=$BUILDPLATFORM {BASE} AS tool
RUN echo once >> /tool; sleep 0.2
FROM scratch
ARG TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT BUILDPLATFORM
COPY --from=tool /tool /tool
COPY $TARGETARCH.txt /arch
LABEL p=$TARGETPLATFORM os=$TARGETOS v=-$TARGETVARIANT- b=$BUILDPLATFORM
"""
CONTEXT = {"Dockerfile": SHARED, "amd64.txt": "amd64", "arm64.txt": "arm64", "arm.txt": "arm"}
THREE = ("--platform=linux/amd64,linux/arm64/v8", "--platform", "linux/arm/v7")
NAMES = ["linux/amd64", "linux/arm64", "linux/arm/v7"]


def blob(kitchen: Kitchen, digest: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((kitchen.orca.store / "images/blobs" / digest.replace(":", "/")).read_text())
    return value


def images(kitchen: Kitchen, digest: str) -> dict[str, Built]:
    """The images of an index by platform."""
    found = {}
    for entry in blob(kitchen, digest)["manifests"]:
        place = entry["platform"]
        name = "/".join(place[part] for part in ("os", "architecture", "variant") if part in place)
        found[name] = Built(kitchen.orca.store / "images", entry["digest"])
        found[name].check()
    return found


class TestSeveral:
    """The same small build for three platforms."""

    def test_an_index(self, kitchen: Kitchen, tmp_path: Path) -> None:
        files = (f"--iidfile={tmp_path / 'id'}", f"--metadata-file={tmp_path / 'meta'}")
        layout = f"--output=oci:{tmp_path / 'out'}:app"
        result = kitchen.run(CONTEXT, *THREE, "-t", "app", "--progress=json", *files, layout, check=True)
        found = images(kitchen, result.out)
        assert list(found) == NAMES
        for name, built in found.items():
            system, arch, *variant = name.split("/")
            assert built.image["architecture"] == arch
            assert built.image.get("variant") == (variant[0] if variant else None)
            assert built.config["Labels"] == {
                "p": name, "os": system, "v": f"-{''.join(variant)}-", "b": HOST,
            }  # fmt: skip
            assert built.files["arch"].text == arch
            assert built.files["tool"].text == "once\n"
        # The stage that is the same for all was built once, and its layer is one.
        assert len({built.manifest["layers"][0]["digest"] for built in found.values()}) == 1
        events = parse_events(result.stderr)
        assert [event["platforms"] for event in events if event["event"] == "build-finished"] == [NAMES]
        started = next(event for event in events if event["event"] == "build-started")
        assert [(part["platform"], part["first"], part["steps"]) for part in started["parts"]] == [
            ("linux/amd64", 1, 7), ("linux/arm64", 8, 7), ("linux/arm/v7", 15, 7),
        ]  # fmt: skip
        steps = [event["step"] for event in events if event["event"] == "step-started"]
        assert sorted(steps) == list(range(1, 22))
        runs = [event for event in events if event["event"] == "tool-started" and event["argv"][0] == "runc"]
        assert len(runs) == 1
        meta = json.loads((tmp_path / "meta").read_text())
        assert (tmp_path / "id").read_text() == meta["containerimage.digest"] == result.out
        assert meta["containerimage.descriptor"]["mediaType"].endswith("image.index.v1+json")
        assert "containerimage.config.digest" not in meta
        assert meta["image.name"] == "localhost/app:latest"
        run("skopeo", "inspect", "--override-arch=arm64", f"oci:{tmp_path / 'out'}:app")
        # From the cache: the same, without a process.
        again = kitchen.run(CONTEXT, *THREE, check=True)
        assert again.out == result.out
        assert "[linux/arm/v7 7/7] CACHED" in again.stderr
        assert "an index: linux/amd64, linux/arm64, linux/arm/v7" in " ".join(again.stderr.split())
        # Of one platform alone: the same image, no index.
        assert kitchen.run(CONTEXT, "--platform=linux/arm64", check=True).out == found["linux/arm64"].digest

    def test_without_the_cache_too(self, kitchen: Kitchen) -> None:
        result = kitchen.run(CONTEXT, "--no-cache", "--progress=json", *THREE, check=True)
        argvs = [event["argv"] for event in parse_events(result.stderr) if event["event"] == "tool-started"]
        assert sum(argv[0] == "runc" for argv in argvs) == 1
        assert list(images(kitchen, result.out)) == NAMES

    def test_one_that_fails_ends_all(self, kitchen: Kitchen) -> None:
        text = f"FROM --platform=$BUILDPLATFORM {BASE}\nARG TARGETARCH\n"
        text += "RUN test $TARGETARCH != arm64 || exit 7; sleep 60\n"
        said = kitchen.fails(text, "--platform=linux/amd64,linux/arm64", code=7)
        assert "[linux/arm64 3/3] FAILED" in said
        assert "3 │ RUN test" in said
        assert "RUN ended with exit code 7" in said

    def test_a_file_that_one_platform_lacks(self, kitchen: Kitchen) -> None:
        said = kitchen.fails(CONTEXT, "--platform=linux/amd64,linux/s390x")
        assert "s390x.txt" in said
        assert "6 │ COPY $TARGETARCH.txt /arch" in said

    def test_warnings_are_said_once(self, kitchen: Kitchen) -> None:
        said = kitchen.run("FROM scratch\nCOPY no* /\n", "--platform=linux/amd64,linux/arm64", check=True).stderr
        assert said.count("no* matches nothing") == 1

    @pytest.mark.parametrize("word", ["linux/amd64,", ",", "linux/amd64,linux//x"])
    def test_bad_lists(self, kitchen: Kitchen, word: str) -> None:
        assert "bad platform" in kitchen.fails("FROM scratch\n", f"--platform={word}", code=2)


def test_the_image_says_another_platform(kitchen: Kitchen) -> None:
    text = f"FROM --platform=$BUILDPLATFORM {BASE}\nENV A=1\n"
    said = kitchen.run(text, f"--platform={HOST},{OTHER}", check=True).stderr
    assert f"the image for {OTHER} says that it is for {HOST}" in " ".join(said.split())


class TestBases:
    """FROM finds the image of the platform."""

    def test_an_index_of_the_store(self, kitchen: Kitchen) -> None:
        base = "FROM scratch\nARG TARGETARCH\nENV A=$TARGETARCH\n"
        kitchen.run(base, f"--platform={HOST},{OTHER}", "-t", "both", check=True)
        text = "FROM both\nCOPY --from=both / /x\n"
        for name in (HOST, OTHER):
            built = kitchen.build(text, f"--platform={name}")
            assert built.env["A"] == name.split("/")[1] == built.image["architecture"]
        assert kitchen.build("FROM both\nENV B=1\n").env["A"] == HOST.split("/")[1]
        built = kitchen.build("ARG W=s390x\nFROM --platform=linux/$W both\nENV C=1\n", f"--build-arg=W={OTHER[6:]}")
        assert built.env["A"] == OTHER.split("/")[1]
        said = kitchen.fails("FROM both\nENV D=1\n", "--platform=linux/ppc64le")
        assert "the image is not there for linux/ppc64le" in said or "both" in said
        assert f"it has: {HOST}, {OTHER}" in said
        assert "1 │ FROM both" in said

    def test_an_image_for_another_platform(self, kitchen: Kitchen) -> None:
        said = kitchen.fails(f"FROM {BASE}\nENV A=1\n", f"--platform={OTHER}")
        assert f"{BASE} is for {HOST}, not for {OTHER}" in " ".join(said.split())
        # Files alone may be of use.
        text = f"FROM scratch\nCOPY --from={BASE} /etc/group /\n"
        result = kitchen.run(text, f"--platform={OTHER}", check=True)
        assert f"{BASE} is for {HOST}, not for {OTHER}" in " ".join(result.stderr.split())
        # Nobody asked for a platform.
        kitchen.build("FROM scratch\nENV A=1\n", f"--platform={OTHER}", "-t", "foreign")
        result = kitchen.run("FROM foreign\nENV B=1\n", check=True)
        assert f"foreign is for {OTHER}, not for {HOST}" in " ".join(result.stderr.split())
        said = kitchen.fails("FROM --platform=$BUILDPLATFORM foreign\nENV B=1\n")
        assert f"foreign is for {OTHER}, not for {HOST}" in " ".join(said.split())

    def test_a_stage_has_the_platform_of_the_one_below(self, kitchen: Kitchen) -> None:
        text = f"FROM --platform=$BUILDPLATFORM {BASE} AS a\nFROM a AS b\nRUN echo x > /x\n"
        text += "FROM scratch\nCOPY --from=b /x /\n"
        assert kitchen.build(text, f"--platform={OTHER}").image["architecture"] == OTHER.split("/")[1]


ARM = platform.host().architecture != "arm64"


@pytest.mark.skipif(not ARM, reason="arm64 is not foreign here")
class TestForeign:
    """RUN for arm64: without an emulator, and with one. Busybox is it: a program's name tells it what to do."""

    TEXT = "FROM scratch\nCOPY program /bin/sh\nCOPY program /bin/echo\nRUN echo it runs; echo made > /made\n"
    RULE = binfmt.arm64_rule(str(busybox_binary()))

    def context(self) -> dict[str, str | bytes | Path]:
        program = emulation.program("arm64")
        assert program is not None
        return {"Dockerfile": self.TEXT, "program": program}

    def emulated(self, kitchen: Kitchen, place: Path, *words: str, rule: str = RULE) -> Result:
        """An orca command where an emulator is registered."""
        argv = binfmt.command(rule, *kitchen.orca.command(*words, *([place] if place.is_dir() else [])))
        result = run(*argv, env=kitchen.orca.environment(None), check=False)
        if result.returncode == binfmt.IMPOSSIBLE:
            pytest.skip("the kernel has no binfmt_misc for each user namespace")
        return result

    def test_none_is_there(self, kitchen: Kitchen) -> None:
        if Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists():
            pytest.skip("QEMU is registered on this machine")
        place = kitchen.context(self.context())
        (place / "program").chmod(0o755)
        said = kitchen.fails(place, "--platform=linux/arm64")
        assert "this machine" in said and "cannot run programs for linux/arm64" in said
        assert "4 │ RUN echo it runs" in said
        assert "qemu-user-static" in said
        assert "COPY program" not in said, "nothing else was done"
        said = kitchen.fails(place, "--platform=linux/amd64,linux/arm64") if HOST == "linux/amd64" else said
        assert "COPY program" not in said

    @pytest.mark.root
    def test_one_is_there(self, kitchen: Kitchen) -> None:
        place = kitchen.context(self.context())
        (place / "program").chmod(0o755)
        result = self.emulated(kitchen, place, "build", "--platform=linux/arm64", "-t", "emulated")
        assert result.returncode == 0, result
        assert "it runs" in result.stderr
        built = Built(kitchen.orca.store / "images", result.out)
        assert built.files["made"].text == "made\n"
        assert built.image["architecture"] == "arm64"
        # All in the cache, but for the last step, which needs no emulator.
        (place / "Dockerfile").write_text(f"{self.TEXT}ENV A=1\n")
        assert kitchen.build(place, "--platform=linux/arm64").env["A"] == "1"
        ran = self.emulated(kitchen, Path("-"), "run", "--network=none", "emulated", "/bin/echo", "run", "too")
        assert (ran.returncode, ran.stdout) == (0, "run too\n"), ran
        alone = kitchen.orca("run", "--network=none", "emulated", "/bin/echo", "x", check=False)
        assert alone.returncode == 125
        assert "cannot run programs for linux/arm64" in alone.stderr

    @pytest.mark.root
    def test_one_that_containers_do_not_find(self, kitchen: Kitchen) -> None:
        place = kitchen.context(self.context())
        rule = binfmt.arm64_rule(str(busybox_binary()), "O")
        result = self.emulated(kitchen, place, "build", "--no-cache", "--platform=linux/arm64", rule=rule)
        assert result.returncode == 125, result
        assert "registered without the flag F" in " ".join(result.stderr.split())
