"""orca why, and the hint in a build's own output."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.kitchen import BASE, Kitchen, parse_events
from support.orca import Orca

DOCKERFILE = f"""\
ARG G=1
FROM {BASE} AS one
ARG V=1
ENV E=$V
COPY site /srv
RUN --mount=type=bind,source=conf,target=/conf cat /conf/c
FROM {BASE}
ARG API_TOKEN
COPY --from=one /srv /srv
"""


@pytest.fixture
def orca(kitchen: Kitchen) -> Orca:
    """The one that builds."""
    return kitchen.orca


@pytest.fixture
def context(kitchen: Kitchen) -> Path:
    """A context that has been built."""
    unique = os.urandom(4).hex()
    files = {"Dockerfile": DOCKERFILE, "site/index.html": unique, "site/a": "", "conf/c": "c"}
    context = kitchen.context(files)
    kitchen.build(context, "--build-arg=API_TOKEN=SENTINEL1")
    return context


def why(orca: Orca, *options: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """Each first step that missed, and the reasons."""
    value = json.loads(orca("why", "--json", *options).stdout)
    return [(step["text"], step["reasons"]) for step in value["missed"]]


TOKEN = "--build-arg=API_TOKEN=SENTINEL1"


def test_files(kitchen: Kitchen, orca: Orca, context: Path) -> None:
    (context / "site/index.html").write_text("other")
    (context / "site/new").write_text("")
    (context / "site/a").unlink()
    said = kitchen.build(context, TOKEN, "--progress=plain").stderr
    assert "not cached: site/a is gone, and 2 more" in said
    found = why(orca)
    assert found[0] == ("COPY site /srv", [
        {"kind": "file", "what": "site/a", "how": "removed"},
        {"kind": "file", "what": "site/index.html", "how": "content"},
        {"kind": "file", "what": "site/new", "how": "added"},
    ])  # fmt: skip
    assert found[1] == ("COPY --from=one /srv /srv", [{"kind": "stage", "what": "one"}])
    text = orca("why").stdout
    assert "COPY site /srv  (line 5)\n  site/a is gone\n  site/index.html changed\n  site/new is new\n" in text
    (context / "conf/c").write_text("d")
    kitchen.build(context, TOKEN)
    assert why(orca)[0][1] == [{"kind": "file", "what": "conf/c", "how": "content"}]


def test_variables_and_instructions(kitchen: Kitchen, orca: Orca, context: Path) -> None:
    kitchen.build(context, TOKEN, "--build-arg=V=2")
    assert why(orca)[0] == ("ARG V=1", [{"kind": "variable", "what": "V", "old": "1", "new": "2"}])
    kitchen.build(context, "--build-arg=API_TOKEN=SENTINEL2")
    assert why(orca) == [("ARG API_TOKEN", [{"kind": "variable", "what": "API_TOKEN"}])]
    assert "SENTINEL" not in orca("why").stdout
    (context / "Dockerfile").write_text(DOCKERFILE.replace("ENV E=$V", "ENV E=2"))
    kitchen.build(context, TOKEN)
    assert why(orca)[0] == (
        "ENV E=2", [{"kind": "instruction", "how": "changed", "old": "ENV E=$V", "new": "ENV E=2"}]
    )  # fmt: skip


def test_the_base(kitchen: Kitchen, orca: Orca) -> None:
    context = kitchen.context(f"FROM why-base\nRUN echo {os.urandom(4).hex()}\n")
    kitchen.build(f"FROM {BASE}\nLABEL a=1\n", "-t", "why-base")
    kitchen.build(context)
    kitchen.build(f"FROM {BASE}\nLABEL a=2\n", "-t", "why-base")
    kitchen.build(context)
    ((text, (reason,)),) = why(orca)
    assert text == "FROM why-base"
    assert (reason["kind"], reason["what"]) == ("base", "why-base")
    assert reason["old"].startswith("sha256:")
    assert reason["old"] != reason["new"]


def test_a_failed_build_and_names(kitchen: Kitchen, orca: Orca) -> None:
    unique = os.urandom(4).hex()
    context = kitchen.context(f"FROM {BASE}\nRUN echo {unique}\n")
    kitchen.build(context, "-t", "why-app")
    (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN exit 3 # {unique}\n")
    kitchen.fails(context, code=3)
    assert why(orca)[0][1][0]["kind"] == "instruction"
    assert [reason["kind"] for _, (reason,) in why(orca, "-t", "why-app")] == ["new"]
    assert "not cached: it failed the last time" in kitchen.fails(context, code=3)
    assert why(orca)[0][1] == [{"kind": "failed"}]
    kitchen.fails(context, "--no-cache", code=3)
    assert why(orca)[0][1] == [{"kind": "no-cache"}]
    build = json.loads(orca("why", "--json", "-t", "why-app").stdout)["build"]
    assert json.loads(orca("why", "--json", build).stdout)["tags"] == ["localhost/why-app:latest"]


def test_gone(kitchen: Kitchen, orca: Orca) -> None:
    context = kitchen.context(f"FROM {BASE}\nRUN echo {os.urandom(4).hex()}\n")
    kitchen.build(context)
    record = json.loads(orca("why", "--json").stdout)["build"]
    steps = json.loads((orca.store / "builds" / record / "trace.json").read_text())["steps"]
    (orca.store / "steps" / steps[1]["key"][:2] / steps[1]["key"]).unlink()
    kitchen.build(context)
    assert why(orca)[0][1] == [{"kind": "gone"}]


def test_errors(kitchen: Kitchen, orca: Orca) -> None:
    result = orca("why", "nothing-like-it", check=False)
    assert (result.returncode, result.stdout) == (125, "")
    assert "error: no record of a build nothing-like-it" in result.stderr
    result = orca("why", "-t", "never/built", check=False)
    assert "no record of a build of localhost/never/built:latest" in result.stderr
    (orca.store / "builds/x").mkdir()
    (orca.store / "builds/x/trace.json").write_text('{"steps": [1], "time": 0}')  # of no use, and no harm
    assert "no record of a build x" in orca("why", "x", check=False).stderr
    shutil.rmtree(orca.store / "builds/x")


def test_events(kitchen: Kitchen, context: Path) -> None:
    (context / "site/index.html").write_text("third")
    events = parse_events(kitchen.run(context, TOKEN, "--progress=json", check=True).stderr)
    missed = [(event["step"], event["why"]) for event in events if event["event"] == "step-missed"]
    assert missed == [(4, "site/index.html changed"), (8, "the stage one changed")]
