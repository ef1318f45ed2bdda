"""The head of a Dockerfile: `# syntax=`, BuildKit's own ARGs, digest pins, the numbers of ONBUILD's steps."""

from __future__ import annotations

import pytest
from support.kitchen import BASE, Kitchen, parse_events


def test_syntax_is_noted_once(kitchen: Kitchen) -> None:
    text = f"# syntax=docker/dockerfile:1\nFROM {BASE} AS one\nENV A=1\nFROM one\nENV B=1\n"
    for _ in ("built", "cached"):
        said = kitchen.build(text).stderr
        assert said.count("syntax=docker/dockerfile:1 is not fetched") == 1
        assert "Dockerfile:1" in said
    said = kitchen.build(text, "--build-arg=BUILDKIT_SYNTAX=some/frontend").stderr
    assert said.count("is not fetched") == 1
    assert "BUILDKIT_SYNTAX=some/frontend is not fetched" in said


def test_args_of_buildkit_need_no_arg(kitchen: Kitchen) -> None:
    names = ("CONTEXT_KEEP_GIT_DIR", "INLINE_CACHE", "MULTI_PLATFORM", "BUILD_NAME")
    given = [f"--build-arg=BUILDKIT_{name}=1" for name in names]
    assert "is not used" not in kitchen.build(f"FROM {BASE}\n", *given, "--build-arg=TARGETOS=linux").stderr
    said = kitchen.build(f"FROM {BASE}\n", "--build-arg=BUILDKIT_NOTHING=1", "--build-arg=BUILDER=me").stderr
    assert "--build-arg BUILDKIT_NOTHING is not used" in said
    assert "--build-arg BUILDER is not used" in said


def test_host_name_of_run(kitchen: Kitchen) -> None:
    given = "--build-arg=BUILDKIT_SANDBOX_HOSTNAME=build.example"
    assert kitchen.output("hostname; cat /etc/hostname", given) == ["build.example"] * 2
    assert any(line.split()[1:] == ["build.example"] for line in kitchen.output("cat /etc/hosts", given))
    # It is in the key: a RUN may have written it down.
    text = f"FROM {BASE}\nRUN hostname > /name\n"
    assert kitchen.build(text).files["name"].text == "orca\n"
    assert kitchen.build(text, given).files["name"].text == "build.example\n"
    assert "build.example" not in str(kitchen.build(text, given).image)


@pytest.mark.parametrize("name", ["a b", "-x", "x" * 65, "a\x1b[2J", "a/../b"])
def test_bad_host_name(name: str, kitchen: Kitchen) -> None:
    said = kitchen.fails(f"FROM {BASE}\nRUN true\n", f"--build-arg=BUILDKIT_SANDBOX_HOSTNAME={name}", code=2)
    assert "is no host name" in said
    assert "\x1b" not in said


def test_caches_in_a_namespace(kitchen: Kitchen) -> None:
    mount = "--mount=type=cache,id=spaces,target=/c"
    kitchen.build(f"FROM {BASE}\nRUN {mount} touch /c/usual\n")
    given = "--build-arg=BUILDKIT_CACHE_MOUNT_NS=other"
    built = kitchen.build(f"FROM {BASE}\nRUN {mount} ls /c > /seen; touch /c/here\n", given)
    assert built.files["seen"].text == ""
    assert kitchen.build(f"FROM {BASE}\nRUN {mount} ls /c > /seen2\n", given).files["seen2"].text == "here\n"


def numbers(said: str) -> list[tuple[int, str]]:
    """The steps in the order of their numbers, from --progress=json; there are as many as were announced."""
    events = parse_events(said)
    steps = sorted((event["step"], event["text"]) for event in events if event["event"] == "step-started")
    total = [event["steps"] for event in events if event["event"] in ("build-started", "steps-added")][-1]
    assert [step for step, _ in steps] == list(range(1, total + 1))
    assert next(event["steps"] for event in events if event["event"] == "build-finished") == total
    return steps


def test_triggers_are_numbered_where_they_run(kitchen: Kitchen) -> None:
    kitchen.build(f"FROM {BASE}\nONBUILD ENV T=1\nONBUILD RUN echo $T > /t\n", "-t", "with-triggers")
    text = (
        f"FROM with-triggers AS a\nENV A=1\nFROM {BASE} AS b\nONBUILD COPY --from=a /t /u\nENV B=1\n"
        "FROM b\nRUN cat /u > /v\n"
    )
    expected = [
        "FROM with-triggers AS a", "ENV T=1", "RUN echo $T > /t", "ENV A=1", f"FROM {BASE} AS b",
        "ONBUILD COPY --from=a /t /u", "ENV B=1", "FROM b", "COPY --from=a /t /u", "RUN cat /u > /v",
    ]  # fmt: skip
    expected = expected[4:]  # nobody needs the stage before the trigger says so
    extra = ["FROM with-triggers AS a", "ENV T=1", "RUN echo $T > /t", "ENV A=1"]
    for _ in ("built", "cached"):
        built = kitchen.build(text, "--progress=json")
        found = [text for _, text in numbers(built.stderr)]
        assert found[:6] == expected
        assert sorted(found[6:]) == sorted(extra)
        assert built.files["v"].text == "1\n"
    plain = kitchen.build("FROM with-triggers\nENV X=1\n", "--progress=plain").stderr
    assert "[2/4] ENV T=1" in plain
    assert "[4/4] ENV X=1" in plain


def test_triggers_of_a_base_that_has_to_be_fetched(kitchen: Kitchen, registry: object, registries_conf: object) -> None:
    """Nobody knows of them before the pull."""
    from support.proc import run

    kitchen.build(f"FROM {BASE}\nONBUILD ENV T=1\n", "-t", "fetched")
    address = registry.address  # type: ignore[attr-defined]
    images = kitchen.orca.store / "images"
    run("skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{images}:localhost/fetched:latest",
        f"docker://{address}/fetched:1")  # fmt: skip
    conf = {"CONTAINERS_REGISTRIES_CONF": str(registries_conf)}
    built = kitchen.build(f"FROM {address}/fetched:1\nENV X=1\n", "--progress=json", env=conf)
    assert sorted(text for _, text in numbers(built.stderr)) == ["ENV T=1", "ENV X=1", f"FROM {address}/fetched:1"]
    again = kitchen.build(f"FROM {address}/fetched:1\nENV X=1\n", "--progress=json", env=conf)
    assert [text for _, text in numbers(again.stderr)] == [f"FROM {address}/fetched:1", "ENV T=1", "ENV X=1"]


def test_a_digest_pins_what_was_built_here(kitchen: Kitchen) -> None:
    digest = kitchen.build(f"FROM {BASE}\nENV PINNED=1\n", "-t", "pinned:1").digest
    for name in (f"pinned@{digest}", f"localhost/pinned:1@{digest}", f"pinned:other@{digest}"):
        assert kitchen.build(f"FROM {name}\nENV B=1\n").env["PINNED"] == "1"
    # The tag alone does not do, nor another repository.
    kitchen.fails(f"FROM localhost/pinned:1@sha256:{'0' * 64}\nENV B=2\n")
    kitchen.fails(f"FROM localhost/elsewhere@{digest}\nENV B=3\n")
