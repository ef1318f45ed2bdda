"""Several stages, and the options of `orca build`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from support.images import Layout
from support.kitchen import BASE, Kitchen, parse_events
from support.orca import Orca
from support.proc import run
from support.registry import Registry, RegistryImage

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def events(kitchen: Kitchen, text: str, *options: str) -> list[dict[str, Any]]:
    """All events of a build."""
    return parse_events(kitchen.run(text, "--progress=json", *options, check=True).stderr)


def texts(found: list[dict[str, Any]]) -> list[str]:
    """The instructions that were begun, in that order."""
    return [event["text"] for event in found if event["event"] == "step-started"]


# --- stages


def test_multi_stage(kitchen: Kitchen) -> None:
    built = kitchen.build(f"""\
FROM {BASE} AS Build
WORKDIR /src
RUN echo program > program && echo waste > waste && chown 5:6 program && chmod 750 program
FROM scratch
COPY --from=build /src/program /bin/
COPY --from=0 --chown=1:1 /src /all
""")
    assert set(built.files) == {"bin", "bin/program", "all", "all/program", "all/waste"}
    program = built.files["bin/program"]
    # A stage's files keep their owner; those of the build context do not.
    assert (program.text, program.owner, program.permissions) == ("program\n", (5, 6), "750")
    assert built.files["all/program"].owner == (1, 1)
    assert built.config["Env"] == [f"PATH={PATH}"]
    assert not any("program >" in line for line in built.history)


def test_stage_from_a_stage(kitchen: Kitchen) -> None:
    built = kitchen.build(f"FROM {BASE} AS a\nENV A=1\nRUN touch /a\nFROM a AS b\nRUN touch /b\nFROM B\nRUN touch /c\n")
    assert {"a", "b", "c"} <= set(built.files)
    assert built.env["A"] == "1"
    assert len(built.layers) == 4


def test_a_stage_name_hides_an_image(kitchen: Kitchen) -> None:
    built = kitchen.build(f"FROM {BASE} AS busybox\nENV MINE=1\nFROM busybox\nRUN true\n")
    assert built.env["MINE"] == "1"


def test_target(kitchen: Kitchen) -> None:
    text = f"FROM {BASE} AS one\nENV N=1\nFROM {BASE} AS Two\nENV N=2\nFROM one\nENV N=3\n"
    found = {word: kitchen.build(text, "--target", word).env["N"] for word in ("one", "TWO", "0", "1", "2")}
    assert found == {"one": "1", "TWO": "2", "0": "1", "1": "2", "2": "3"}
    assert kitchen.build(text).env["N"] == "3"
    said = kitchen.fails(text, "--target", "tow", code=2)
    assert "did you mean two?" in said


def test_what_is_not_needed_is_not_built(kitchen: Kitchen) -> None:
    text = (
        f"FROM not-an-image-anywhere AS unused\nRUN exit 1\nFROM {BASE} AS used\nRUN echo used\n"
        f"FROM {BASE} AS last\nCOPY --from=used /etc/passwd /p\n"
    )
    found = events(kitchen, text)
    assert texts(found).count("RUN exit 1") == 0
    assert {event["stage"] for event in found if event["event"] == "step-started"} == {"used", "last"}
    assert found[0]["steps"] == 4
    assert texts(events(kitchen, text, "--target=used", "--no-cache")) == [f"FROM {BASE} AS used", "RUN echo used"]


def test_a_syntax_error_counts_wherever_it_is(kitchen: Kitchen) -> None:
    said = kitchen.fails(f"FROM {BASE} AS unused\nRNU x\nFROM {BASE}\n")
    assert 'unknown instruction "RNU"' in said
    assert "2 │ RNU x" in said


def test_independent_stages_run_at_the_same_time(kitchen: Kitchen) -> None:
    text = (
        f"FROM {BASE} AS a\nARG S\nRUN echo a begins; sleep $S; echo a ends\n"
        f"FROM {BASE} AS b\nARG S\nRUN echo b begins; sleep $S; echo b ends\n"
        f"FROM {BASE}\nCOPY --from=a /etc/passwd /a\nCOPY --from=b /etc/passwd /b\n"
    )
    said = [
        event["text"] for event in events(kitchen, text, "--no-cache", "--build-arg=S=2") if event["event"] == "output"
    ]
    assert sorted(said[:2]) == ["a begins", "b begins"]
    assert sorted(said[2:]) == ["a ends", "b ends"]
    found = events(kitchen, text, "--no-cache", "--jobs=1", "--build-arg=S=0")
    alone = [event["text"] for event in found if event["event"] == "output"]
    assert alone == ["a begins", "a ends", "b begins", "b ends"]


def test_a_failing_stage_ends_the_others(kitchen: Kitchen) -> None:
    said = kitchen.fails(
        f"FROM {BASE} AS slow\nRUN sleep 300\nFROM {BASE} AS bad\nRUN sleep 0.3; exit 9\n"
        f"FROM {BASE}\nCOPY --from=slow /x /\nCOPY --from=bad /x /\n",
        code=9,
    )
    assert "RUN sleep 0.3; exit 9" in said


def test_copy_from_an_image(kitchen: Kitchen, busybox_image: RegistryImage, registries_conf: Path) -> None:
    local = kitchen.build(f"FROM scratch\nCOPY --from={BASE} /etc/passwd /home/app /\n")
    assert "app:x:1000" in local.files["passwd"].text
    env = {"CONTAINERS_REGISTRIES_CONF": str(registries_conf)}
    pulled = kitchen.build(f"FROM scratch\nCOPY --from={busybox_image.location} /etc/group /\n", env=env)
    assert "audio:x:29" in pulled.files["group"].text


def test_sources_of_a_stage_know_no_ignore_rules(kitchen: Kitchen) -> None:
    built = kitchen.build(
        {
            "Dockerfile": f"FROM {BASE} AS a\nRUN touch /secret\nFROM scratch\nCOPY --from=a /secret /\n",
            ".dockerignore": "secret\n",
        }
    )
    assert "secret" in built.files


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("FROM {b} AS a\nCOPY --from=later /x /\nFROM {b} AS later\n", "names a later stage"),
        ("FROM {b} AS a\nCOPY --from=a /x /\n", "names this stage itself"),
        ("FROM {b}\nCOPY --from=3 /x /\n", "names a later stage"),
        ("FROM {b} AS a\nFROM {b}\nCOPY --from=a /etc/passwt /x\n", "did you mean etc/passwd?"),
    ],
)
def test_bad_stages(kitchen: Kitchen, text: str, words: str) -> None:
    assert words in kitchen.fails(text.format(b=BASE))


# --- where the Dockerfile is


def test_dockerfile_from_standard_input(kitchen: Kitchen) -> None:
    built = kitchen.build({"Dockerfile": "not this one", "f": "f"}, "-f", "-", stdin=f"FROM {BASE}\nCOPY f /in\n")
    assert built.files["in"].text == "f"


def test_other_names(kitchen: Kitchen) -> None:
    context = kitchen.context(
        {"dockerfile": f"FROM {BASE}\nENV W=lower\n", "deploy/Other": f"FROM {BASE}\nENV W=other\n"}
    )
    assert kitchen.build(context).env["W"] == "lower"
    assert kitchen.build(context, "--file", "deploy/Other").env["W"] == "other"
    assert kitchen.build(context, "-f", str(context / "deploy/Other")).env["W"] == "other"
    assert "there is no Dockerfile in" in kitchen.fails(kitchen.context({"x": ""}), code=2)


def test_bud_is_the_same(kitchen: Kitchen) -> None:
    context = kitchen.context(f"FROM {BASE}\nENV BUD=1\n")
    assert kitchen.orca("bud", context).out == kitchen.orca("build", context).out


# --- options


def test_build_args(kitchen: Kitchen) -> None:
    text = f"FROM {BASE}\nARG DECLARED=default\nARG FROM_ENV\nRUN echo $DECLARED $FROM_ENV > /f\n"
    built = kitchen.build(
        text, "--build-arg", "DECLARED=a=b c", "--build-arg", "FROM_ENV", "--build-arg", "UNKNOWN=x",
        "--build-arg", "NOT_THERE", env={"FROM_ENV": "e"},
    )  # fmt: skip
    assert built.files["f"].text == "a=b c e\n"
    assert "--build-arg UNKNOWN is not used" in built.stderr
    assert "--build-arg NOT_THERE is not in the environment" in built.stderr
    assert "DECLARED is not used" not in built.stderr
    assert "has no name" in kitchen.fails(text, "--build-arg", "=x", code=2)


def test_tags(kitchen: Kitchen) -> None:
    built = kitchen.build(f"FROM {BASE}\nENV TAGS=1\n", "-t", "one", "-t", "two:2", "-t", "host.invalid:5000/three/x")
    listed = run("umoci", "ls", "--layout", kitchen.orca.store / "images").stdout.split()
    assert {"localhost/one:latest", "localhost/two:2", "host.invalid:5000/three/x:latest"} <= set(listed)
    assert kitchen.build("FROM two:2\n").env["TAGS"] == "1"
    # A tag moves.
    other = kitchen.build(f"FROM {BASE}\nENV TAGS=2\n", "-t", "one")
    assert other.digest != built.digest
    assert kitchen.build("FROM one\n").env["TAGS"] == "2"
    for bad in ("UPPER", "a:b:c", "-x", ""):
        kitchen.fails(f"FROM {BASE}\n", f"--tag={bad}", code=2)


def test_files_about_the_result(kitchen: Kitchen, tmp_path: Path) -> None:
    ids, metadata = tmp_path / "iid", tmp_path / "metadata.json"
    for _ in range(2):  # also when all comes from the cache
        built = kitchen.build(
            f"FROM {BASE}\nENV F=1\n", "-t", "a", "-t", "b", f"--iidfile={ids}", f"--metadata-file={metadata}"
        )
        assert ids.read_text() == built.digest
        value = json.loads(metadata.read_text())
        assert value["containerimage.digest"] == built.digest
        assert value["containerimage.config.digest"] == built.manifest["config"]["digest"]
        assert value["image.name"] == "localhost/a:latest,localhost/b:latest"
        assert value["containerimage.descriptor"]["size"] == built.blob(built.digest).stat().st_size
        ids.unlink()
        metadata.unlink()
    for option in ("--iidfile", "--metadata-file"):  # told before anything is built
        said = kitchen.fails(f"FROM {BASE}\nRUN exit 9\n", f"{option}={tmp_path / 'not' / 'there'}", code=2)
        assert f"{tmp_path / 'not'} is not a directory" in " ".join(said.split())
        said = kitchen.fails(f"FROM {BASE}\nRUN exit 9\n", f"{option}={tmp_path}", code=2)
        assert "is not the name of a file" in " ".join(said.split())
    # One that fails all the same loses nobody the digest.
    full = kitchen.run(f"FROM {BASE}\nENV F=1\n", "--iidfile=/dev/full")
    assert (full.returncode, full.stdout.strip()) == (125, built.digest) and "no space left" in full.stderr


def test_output_to_a_layout(kitchen: Kitchen, tmp_path: Path) -> None:
    place = tmp_path / "out"
    built = kitchen.build(f"FROM {BASE}\nENV OUT=1\n", "-o", f"oci:{place}:app:1")
    config = json.loads(run("skopeo", "inspect", "--config", "--raw", f"oci:{place}:app:1").stdout)
    assert "OUT=1" in config["config"]["Env"]
    index = json.loads((place / "index.json").read_text())
    assert [entry["digest"] for entry in index["manifests"]] == [built.digest]


def test_quiet(kitchen: Kitchen) -> None:
    built = kitchen.build(f"FROM {BASE}\nRUN echo loud; echo louder >&2\n", "-q", "--no-cache")
    assert built.stderr == ""
    assert "exit code 3" in kitchen.fails(f"FROM {BASE}\nRUN exit 3\n", "-q", code=3)


def test_platform(kitchen: Kitchen) -> None:
    built = kitchen.build("FROM scratch\nENV A=1\n", "--platform=linux/arm64")
    assert (built.image["os"], built.image["architecture"]) == ("linux", "arm64")
    assert kitchen.build("FROM --platform=linux/arm/v7 scratch\nENV A=1\n").image["variant"] == "v7"
    assert kitchen.build("FROM scratch\nENV A=1\n").image["architecture"] != built.image["architecture"]
    kitchen.fails("FROM scratch\n", "--platform=linux/", code=2)


def test_usage(kitchen: Kitchen) -> None:
    context = kitchen.context(f"FROM {BASE}\n")
    for bad in (
        ["--no-such-option", context],
        [],
        [context, context],
        ["-t"],
        ["--network=bridge", context],
        [context / "x"],
    ):
        result = kitchen.orca("build", *bad, check=False)
        assert result.returncode == 2, result
        assert result.stdout == ""
        assert result.stderr.startswith("error: ")
    help_ = kitchen.orca("build", "--help")
    assert "examples:" in help_.stdout


# --- --pull


@pytest.fixture
def private(registry: Registry, busybox_layout: Layout, tmp_path: Path) -> tuple[Registry, Layout, str]:
    """An image of this test's own in the registry, to be pushed again changed."""
    layout = Layout(tmp_path / "private", "x")
    run("skopeo", "copy", "-q", busybox_layout.ref, layout.ref)
    name = f"private-{os.urandom(4).hex()}:1"
    registry.push(layout, name)
    return registry, layout, name


def change(private: tuple[Registry, Layout, str], value: str) -> None:
    registry, layout, name = private
    run("umoci", "config", "--image", f"{layout.path}:{layout.tag}", f"--config.env=PUSHED={value}")
    registry.push(layout, name)


def test_pull_policies(orca: Orca, registries_conf: Path, private: tuple[Registry, Layout, str]) -> None:
    assert registries_conf
    kitchen = Kitchen(orca)
    text = f"FROM {private[0].address}/library/{private[2]}\n"
    assert "--pull=never forbids" in kitchen.fails(text, "--pull=never")
    assert "PUSHED" not in kitchen.build(text).env
    change(private, "2")
    # What is there is good enough.
    assert "PUSHED" not in kitchen.build(text).env
    assert "PUSHED" not in kitchen.build(text, "--pull=never").env
    assert "PUSHED" not in kitchen.build(text, "--pull=missing").env
    assert kitchen.build(text, "--pull").env["PUSHED"] == "2"
    change(private, "3")
    assert kitchen.build(text, "--pull=newer").env["PUSHED"] == "3"
    change(private, "4")
    assert kitchen.build(text, "--pull=always").env["PUSHED"] == "4"
    # The one that was pulled last is the one that is there.
    assert kitchen.build(text, "--pull=never").env["PUSHED"] == "4"


def test_base_by_digest_and_by_short_name(orca: Orca, busybox_image: RegistryImage) -> None:
    kitchen = Kitchen(orca)
    name = busybox_image.location.rpartition(":")[0]
    built = kitchen.build(f"FROM {name}@{busybox_image.digest}\nENV BY=digest\n")
    assert built.env["BY"] == "digest"
    short = kitchen.build(f"FROM {busybox_image.name}\nENV BY=digest\n")
    assert short.config == built.config
    wrong = "sha256:" + "0" * 64
    assert "there is no such image" in kitchen.fails(f"FROM {name}@{wrong}\n")
