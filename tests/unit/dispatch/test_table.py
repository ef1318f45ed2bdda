"""The table is complete; ops explain themselves; states survive being stored."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca.dispatch import table
from orca.dispatch.ops import Op, Step
from orca.dispatch.state import State, from_base
from orca.dockerfile import instructions as i
from orca.errors import DockerfileError
from orca.oci.image import DEFAULT_PATH, History, ImageConfig
from orca.plan.cachekey import step_key

Translate = Callable[..., list[Step]]

EXAMPLES = {
    "ADD": "ADD a.tar /x/",
    "ARG": "ARG A=1",
    "CMD": "CMD x",
    "COPY": "COPY --from=b a <<doc /x\nbody\ndoc",
    "ENTRYPOINT": "ENTRYPOINT x",
    "ENV": "ENV A=1",
    "EXPOSE": "EXPOSE 80",
    "HEALTHCHECK": "HEALTHCHECK CMD x",
    "LABEL": "LABEL a=b",
    "MAINTAINER": "MAINTAINER me",
    "ONBUILD": "ONBUILD RUN x",
    "RUN": "RUN x",
    "SHELL": 'SHELL ["a"]',
    "STOPSIGNAL": "STOPSIGNAL TERM",
    "USER": "USER me",
    "VOLUME": "VOLUME /x",
    "WORKDIR": "WORKDIR /x",
}


def subclasses(kind: type) -> Iterator[type]:
    for each in kind.__subclasses__():
        yield each
        yield from subclasses(each)


def test_every_instruction_but_from_has_a_row() -> None:
    assert set(table.TABLE) == set(subclasses(i.Instruction)) - {i.From}
    assert {kind.keyword for kind in table.TABLE} == set(EXAMPLES)


def test_from_is_no_instruction_of_a_stage() -> None:
    with pytest.raises(KeyError):
        table.translate(i.From(span=i.Span(1, 1), text="FROM x", image="x"), State(ImageConfig()), None)  # type: ignore[arg-type]


def test_every_kind_of_op_says_what_it_does() -> None:
    for kind in subclasses(Op):
        assert {"describe", "ingredients"} <= vars(kind).keys()


@pytest.mark.parametrize("keyword", EXAMPLES)
def test_descriptions_are_for_people(keyword: str, steps: Translate) -> None:
    (step,) = steps(EXAMPLES[keyword])
    told = step.op.describe()
    assert re.fullmatch(r"\S[^\n]{20,200}\.", told)
    assert step.instruction.keyword == keyword
    assert step.history.startswith(keyword)


@pytest.mark.parametrize("network", ["default", "none", "host"])
def test_run_tells_its_network_and_user(network: str, steps: Translate) -> None:
    told = steps(f"USER bob\nRUN --network={network} x", allowed=["network.host"])[-1].op.describe()
    assert "as user bob" in told and {"default": "slirp4netns", "none": "without", "host": "host's"}[network] in told


@pytest.mark.parametrize("keyword", EXAMPLES)
def test_ingredients_can_be_stored_and_hashed(keyword: str, steps: Translate) -> None:
    (step,) = steps(EXAMPLES[keyword])
    ingredients = step.op.ingredients()
    assert step_key("", json.loads(json.dumps(ingredients))) == step_key("", ingredients)


def test_two_copies_differ_by_anything(steps: Translate) -> None:
    texts = [
        "COPY a /x", "COPY b /x", "COPY a b /x/", "COPY a /x/", "COPY --from=s a /x", "COPY --chown=1 a /x",
        "COPY --chmod=600 a /x", "ADD a /x", "COPY <<a /x\na", "COPY <<a /x\n1\na", "COPY <<b /x\n1\nb",
    ]  # fmt: skip
    keys = {step_key("", steps(text)[0].op.ingredients()) for text in texts}
    assert len(keys) == len(texts)


def test_from_a_base() -> None:
    base = ImageConfig(
        created="then", env=(("PATH", "/x"),), onbuild=("RUN x",), cmd=("c",), diff_ids=("sha256:" + "0" * 64,),
        history=(History(created_by="x"),),
    )  # fmt: skip
    assert from_base(base) == State(ImageConfig(env=(("PATH", "/x"),), cmd=("c",)))
    assert from_base(ImageConfig()).config.env == (("PATH", DEFAULT_PATH),)


WORD = st.text("abc$XY{}:-+'\"\\=/ 0é", min_size=1, max_size=8)
NAME = st.sampled_from(["A", "B", "PATH", "HTTP_PROXY"])
TEMPLATES = st.sampled_from(
    [
        "ENV {name}={word}", "ENV {name} {word}", "ENV {word}={word}", "ARG {name}={word}", "ARG {name}",
        "LABEL {word}={word}", "CMD {word}", 'CMD ["{name}"]', "CMD []", "ENTRYPOINT {word}", "ENTRYPOINT []",
        "USER {word}", "EXPOSE 80/{word}", "EXPOSE 1-3", "VOLUME {word}", "STOPSIGNAL {word}", "STOPSIGNAL 9",
        "HEALTHCHECK CMD {word}", "HEALTHCHECK NONE", "ONBUILD CMD {word}", 'SHELL ["{name}"]', "MAINTAINER {word}",
        "WORKDIR {word}", "RUN {word}", "COPY {word} {word}",
    ]
)  # fmt: skip
LINES = st.builds(lambda template, name, word: template.format(name=name, word=word), TEMPLATES, NAME, WORD)


@settings(max_examples=200, deadline=None)
@given(st.lists(LINES, min_size=1, max_size=6), st.dictionaries(NAME, st.text("x= ", max_size=3), max_size=2))
def test_any_state_survives_being_stored(steps: Translate, lines: list[str], build_args: dict[str, str]) -> None:
    state = from_base(ImageConfig(architecture="amd64"))
    for line in lines:
        try:
            state = steps(line, state=state, given=build_args)[-1].state
        except DockerfileError as error:
            assert error.location is not None and error.message
        except IndexError:
            continue  # the line began a comment
        assert State.from_json(json.loads(json.dumps(state.to_json()))) == state
