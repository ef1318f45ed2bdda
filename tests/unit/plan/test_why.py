"""Why a step was not cached: traces compared."""

from __future__ import annotations

from typing import Any

import pytest

from orca.plan import why
from orca.plan.why import Memory, Missed, Reason

Step = dict[str, Any]


def step(number: int, text: str, key: str, *, cached: bool = True, stage: str = "0", **more: Any) -> Step:
    common = {"step": number, "stage": stage, "platform": "linux/amd64", "line": number}
    return {**common, "text": text, "key": key, "cached": cached, **more}


def trace(*steps: Step, **more: Any) -> dict[str, Any]:
    return {"steps": list(steps), **more}


FROM = step(1, "FROM x", "k1", made_of={"from": "sha256:1", "image": "x", "platform": "linux/amd64"})
MEMORY = Memory(lambda old, new: [("a", "content"), ("b", "added")], lambda key: None)


def first(new: dict[str, Any], *older: dict[str, Any], memory: Memory = MEMORY) -> Missed:
    ((found, _),) = why.missed(new, older, memory)
    return found


def missing(text: str = "RUN a", made: dict[str, Any] | None = None, variables: Any = None, **more: Any) -> Step:
    return step(2, text, "new", cached=False, made_of=made or {}, variables=variables or {}, **more)


def had(text: str = "RUN a", made: dict[str, Any] | None = None, variables: Any = None) -> Step:
    return step(2, text, "old", made_of=made or {}, variables=variables or {})


def texts(new: Step, old: Step) -> list[str]:
    return [str(reason) for reason in first(trace(FROM, new), trace(FROM, old)).reasons]


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        (missing(made={"files": "n"}), had(made={"files": "o"}), ["a changed", "b is new"]),
        (missing(variables={"V": "2"}), had(variables={"V": "1"}), ["V: 1 → 2"]),
        (missing(variables={"V": ""}), had(), ['V: not set → ""']),
        (missing(made={"env": [["V", "2"]]}, variables={"V": "2"}),
         had(made={"env": [["V", "1"]]}, variables={"V": "1"}), ["V: 1 → 2"]),
        (missing(variables={"API_TOKEN": "2"}), had(variables={"API_TOKEN": "1"}), ["API_TOKEN changed"]),
        (missing(variables={"https_proxy": "2"}), had(), ["https_proxy changed"]),
        (missing(made={"source": "k9", "from": "b"}), had(made={"source": "k8", "from": "b"}), ["the stage b changed"]),
        (missing(made={"source": "sha256:2", "from": "i"}), had(made={"source": "sha256:1", "from": "i"}),
         ["the image i: sha256:1 → sha256:2"]),
        (missing(made={"mounts": [{"kind": "cache"}, {"kind": "bind"}], "sources": ["n"]}),
         had(made={"mounts": [{"kind": "cache"}, {"kind": "bind"}], "sources": ["o"]}), ["a changed", "b is new"]),
        (missing(made={"mounts": [{"kind": "bind", "from_": "s"}], "sources": ["n"]}),
         had(made={"mounts": [{"kind": "bind", "from_": "s"}], "sources": ["o"]}), ["the stage s changed"]),
        (missing(made={"user": "b", "cwd": "/x"}), had(made={"user": "a", "cwd": "/x"}), ["USER: a → b"]),
        (missing(made={"contents": [["E", "2"]]}), had(made={"contents": [["E", "1"]]}), ["a here-document changed"]),
        (missing(made={"epoch": 1}), had(), ["SOURCE_DATE_EPOCH: not set → 1"]),
        (missing(made={"config": "LABEL a=2"}), had(made={"config": "LABEL a=1"}), ["it: LABEL a=1 → LABEL a=2"]),
        (missing(), had(), ["this version of orca carries it out in another way"]),
        (missing("RUN b"), had("RUN a"), ["the instruction was: RUN a"]),
        (missing("ENV TOKEN=b"), had("ENV TOKEN=a"), ["the instruction was: ENV TOKEN=…"]),
    ],
)  # fmt: skip
def test_reason(new: Step, old: Step, expected: list[str]) -> None:
    assert texts(new, old) == expected


def test_files_of_which_nobody_knows_any_more() -> None:
    memory = Memory(lambda old, new: None, lambda key: None)
    new, old = missing(made={"files": "n"}), had(made={"files": "o"})
    assert first(trace(FROM, new), trace(FROM, old), memory=memory).reasons == (Reason("file"),)
    assert str(Reason("file")) == "the files changed"


def test_what_a_cached_step_was_made_of_is_in_its_record() -> None:
    memory = Memory(lambda old, new: None, {"old": ({}, {"V": "1"})}.get)
    old = step(2, "RUN a", "old")
    assert first(trace(FROM, missing(variables={"V": "2"})), trace(FROM, old), memory=memory).reasons == (
        Reason("variable", "V", old="1", new="2"),
    )
    found = first(trace(FROM, missing()), trace(FROM, old))  # the record is gone
    assert str(found.reasons[0]) == "something that it was made of changed"


def test_instructions_that_come_and_go() -> None:
    a, b = step(2, "RUN a", "ka"), step(3, "RUN b", "kb")
    new = step(2, "RUN b", "n", cached=False)
    assert first(trace(FROM, new), trace(FROM, a, b)).reasons == (Reason("instruction", how="removed", old="RUN a"),)
    added = step(2, "RUN c", "n", cached=False)
    later = step(3, "RUN a", "n2", cached=False)
    assert first(trace(FROM, added, later), trace(FROM, a, b)).reasons == (Reason("instruction", how="added"),)
    assert first(trace(FROM, a, step(3, "RUN x", "n", cached=False)), trace(FROM, a)).reasons[0].how == "added"


def test_the_base() -> None:
    new = step(1, "FROM x", "n", made_of={"from": "sha256:2", "image": "x", "platform": "linux/amd64"})
    found = first(trace(new, missing()), trace(FROM, had()))
    assert found.step is new
    assert [str(reason) for reason in found.reasons] == ["the image x: sha256:1 → sha256:2"]
    other = step(1, "FROM y", "n", made_of={"from": "sha256:2", "image": "y"})
    assert first(trace(other, missing()), trace(FROM, had())).reasons[0].kind == "instruction"
    stage = step(1, "FROM s", "n", made_of={"stage": "s"})
    assert first(trace(stage, missing()), trace(FROM, had())).reasons == (
        Reason("instruction", how="changed", old="FROM x", new="FROM s"),
    )
    before = step(1, "FROM s", "o", made_of={"stage": "s"})
    assert first(trace(stage, missing()), trace(before, had())).reasons == (Reason("stage", "s"),)


def test_nothing_to_compare() -> None:
    assert first(trace(FROM, missing())).reasons == (Reason("new"),)
    assert first(trace(FROM, missing(), no_cache=True), trace(FROM, had())).reasons == (Reason("no-cache"),)
    assert first(trace(FROM, missing(anew=True)), trace(FROM, had())).reasons == (Reason("no-cache"),)
    again = {**had(), "key": "new"}
    assert first(trace(FROM, missing()), trace(FROM, again)).reasons == (Reason("gone"),)
    assert first(trace(FROM, missing()), trace(FROM, {**again, "failed": True})).reasons == (Reason("failed"),)
    assert list(why.missed(trace(FROM, had()), [], MEMORY)) == []


def test_each_stage_is_compared_with_the_likest_trace() -> None:
    near = trace(FROM, step(2, "RUN a", "k2"), step(3, "RUN b", "x"), build="near")
    far = trace(FROM, step(2, "RUN z", "z"), build="far")
    other = trace(step(1, "FROM x", "k1", stage="other"), build="other")
    new = trace(FROM, step(2, "RUN a", "k2"), step(3, "RUN c", "n", cached=False))
    ((found, before),) = why.missed(new, [far, other, near], MEMORY)
    assert before is near
    assert found.reasons == (Reason("instruction", how="changed", old="RUN b", new="RUN c"),)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ENV A=1 MY_TOKEN=abc B=2", "ENV A=1 MY_TOKEN=… B=2"),
        ('ARG PASSWORD="a b" X', "ARG PASSWORD=… X"),
        ("ENV secret_x some words", "ENV secret_x …"),
        ("ENV other some words", "ENV other some words"),
        ("RUN |1 DB_PASSWORD=x /bin/sh", "RUN |1 DB_PASSWORD=… /bin/sh"),
        ("ARG HTTP_PROXY=http://u:p@h", "ARG HTTP_PROXY=…"),
    ],
)
def test_masked(text: str, shown: str) -> None:
    assert why.masked(text) == shown


def test_json_has_no_empty_fields() -> None:
    found = first(trace(FROM, missing(variables={"V": "2"})), trace(FROM, had()))
    assert found.to_json()["reasons"] == [{"kind": "variable", "what": "V", "new": "2"}]
