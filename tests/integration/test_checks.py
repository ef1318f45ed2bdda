"""Build checks after a build and instead of one; --call outline and targets."""

from __future__ import annotations

import base64
import json
from typing import Any

from support.images import Layout
from support.kitchen import BASE, Kitchen, parse_events
from support.orca import Orca

CLEAN = f"FROM {BASE}\nENV A=1\n"
BAD = f"FROM {BASE} as a\nENV A 1\nLABEL x=$OTHER\n"


def findings(stderr: str) -> list[dict[str, Any]]:
    return [event for event in parse_events(stderr) if event["event"] == "check-found"]


def test_after_a_build(kitchen: Kitchen) -> None:
    context = kitchen.context(BAD)
    for said in (kitchen.build(context).stderr, kitchen.build(context).stderr):  # carried out, then cached
        assert said.index("sha256:") < said.index("warning: FromAsCasing: ")
        assert said.count("warning: ") == 3
        assert "Dockerfile:2\n   2 │ ENV A 1\n" in said
        assert "$OTHER is not defined here" in said
    assert "warning" not in kitchen.build(CLEAN).stderr


def test_as_events_and_quietly(kitchen: Kitchen) -> None:
    context = kitchen.context(BAD)
    found = findings(kitchen.run(context, "--progress=json", check=True).stderr)
    assert [(event["rule"], event["location"]["line"]) for event in found] == [
        ("FromAsCasing", 1), ("LegacyKeyValueFormat", 2), ("UndefinedVar", 3),
    ]  # fmt: skip
    assert found[1]["description"].startswith("ENV and LABEL should")
    assert kitchen.build(context, "-q").stderr == ""


def test_ten_are_enough(kitchen: Kitchen) -> None:
    said = kitchen.build(f"FROM {BASE}\n" + "LABEL a b\n" * 13).stderr
    assert said.count("LegacyKeyValueFormat") == 10
    assert "3 more" in said
    assert "orca build --check" in said


def test_error_stops_the_build(kitchen: Kitchen) -> None:
    text = f"# check=error=true;skip=LegacyKeyValueFormat\n{BAD}RUN echo never\n"
    said = kitchen.fails(text)
    assert "error: the build checks found something: FromAsCasing, UndefinedVar" in said
    assert "warning: FromAsCasing" in said
    assert "never" not in said
    quiet = kitchen.fails(text, "-q")
    assert quiet.startswith("error: the build checks found something")
    kitchen.build(text, "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all")
    assert kitchen.build(f"# check=error=true\n{CLEAN}").digest


def test_a_bad_option_of_the_directive(kitchen: Kitchen) -> None:
    said = kitchen.fails(f"# check=skipp=all\n{CLEAN}")
    assert 'bad check option "skipp=all"' in said
    assert "Dockerfile:1" in said
    said = kitchen.fails(CLEAN, "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=x", code=2)
    assert 'bad check option "x"' in said


def test_check(kitchen: Kitchen) -> None:
    result = kitchen.run(BAD, "--check")
    assert result.returncode == 1
    assert result.stderr == ""
    assert result.stdout.startswith("warning: FromAsCasing")
    assert result.stdout.endswith("Dockerfile: 3 warnings\n")
    result = kitchen.run(CLEAN, "--call", "check")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith("Dockerfile: no warnings\n")


def test_check_as_json(kitchen: Kitchen) -> None:
    result = kitchen.run(BAD, "--call=check,format=json")
    assert result.returncode == 1
    value = json.loads(result.stdout)
    assert base64.b64decode(value["sources"][0]["data"]).decode() == BAD
    assert value["warnings"][1] == {
        "ruleName": "LegacyKeyValueFormat",
        "description": "ENV and LABEL should have an = between name and value.",
        "detail": "write ENV name=value, not the old form ENV name value",
        "location": {"ranges": [{"start": {"line": 2}, "end": {"line": 2}}]},
    }
    value = json.loads(kitchen.run(CLEAN, "--call=check,format=json", check=True).stdout)
    assert value["warnings"] == []


def test_check_of_what_cannot_be_built(kitchen: Kitchen) -> None:
    text = "FROM scratch as a\nCOPY --from=b x /\nFROM scratch AS b\nFROM a"
    result = kitchen.run(text, "--check")
    assert result.returncode == 125
    assert "warning: FromAsCasing" in result.stdout
    assert "error: --from=b names a later stage" in result.stderr
    result = kitchen.run(text, "--call=check,format=json")
    assert result.returncode == 1
    error = json.loads(result.stdout)["buildError"]
    assert error["location"]["ranges"][0]["start"]["line"] == 2
    assert "no stage 'zzz'" in kitchen.fails(CLEAN, "--check", "--target=zzz", code=2)
    assert "invalid choice" in kitchen.fails(CLEAN, "--call=nothing", code=2)


def test_copy_of_what_is_ignored(kitchen: Kitchen) -> None:
    result = kitchen.run({"Dockerfile": "FROM scratch\nCOPY a /\n", ".dockerignore": "x\na\n", "a": ""}, "--check")
    assert result.returncode == 1
    assert 'CopyIgnoredFile: COPY of "a", which line 2 of .dockerignore excludes' in " ".join(result.stdout.split())


def test_check_fetches_nothing(kitchen: Kitchen, orca: Orca, busybox_layout: Layout) -> None:
    text = "FROM nowhere.example/base\nENV A=$HOME\nCMD a\n"
    result = kitchen.run(text, "--check")
    assert result.returncode == 1
    assert "JSONArgsRecommended" in result.stdout
    assert "UndefinedVar" not in result.stdout
    assert "UndefinedVar" in kitchen.run(text.replace("nowhere.example/base", BASE), "--check").stdout


OUTLINE = f"""\
# VERSION of the base
ARG VERSION=1
ARG UNUSED
# build compiles it
FROM {BASE} AS build
ARG VERSION
# MODE is fast or small
ARG MODE=${{VERSION}}-fast
RUN --mount=type=secret,id=tok,required --mount=type=cache,target=/c true
FROM scratch AS other
ARG OTHER=1
# release is what you want
FROM build AS release
RUN --mount=type=secret,id=tok --mount=type=ssh true
"""


def test_outline(kitchen: Kitchen) -> None:
    value = json.loads(kitchen.run(OUTLINE, "--call=outline,format=json", check=True).stdout)
    assert (value["name"], value["description"]) == ("release", "is what you want")
    assert [(arg["name"], arg["value"], arg.get("description")) for arg in value["args"]] == [
        ("VERSION", "1", "of the base"), ("MODE", "1-fast", "is fast or small"),
    ]  # fmt: skip
    assert value["args"][0]["location"]["ranges"][0]["start"]["line"] == 2
    assert [(secret["name"], secret["required"]) for secret in value["secrets"]] == [("tok", True)]
    assert [(agent["name"], "required" in agent) for agent in value["ssh"]] == [("default", False)]
    assert [cache["ID"] for cache in value["cache"]] == ["/c"]
    options = ["--target=other", "--build-arg=OTHER=2", "--call=outline,format=json"]
    value = json.loads(kitchen.run(OUTLINE, *options, check=True).stdout)
    assert [(arg["name"], arg["value"]) for arg in value["args"]] == [("OTHER", "2")]
    text = kitchen.run(OUTLINE, "--call=outline", check=True).stdout
    assert text.startswith("TARGET:      release\nDESCRIPTION: is what you want\n\nBUILD ARG  VALUE")


def test_targets(kitchen: Kitchen) -> None:
    value = json.loads(kitchen.run(OUTLINE, "--call=targets,format=json", check=True).stdout)
    assert [(t["name"], t.get("default", False), t["base"], t.get("description")) for t in value["targets"]] == [
        ("build", False, BASE, "compiles it"), ("other", False, "scratch", None),
        ("release", True, "build", "is what you want"),
    ]  # fmt: skip
    text = kitchen.run(OUTLINE, "--call", "targets", check=True).stdout
    assert "release (default)" in text
    assert text.splitlines()[0].split() == ["TARGET", "BASE", "DESCRIPTION"]
