"""RUN: argument vectors, the environment, what history and keys see."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orca.dispatch.ops import ExecOp, Step
from orca.errors import NotAllowed
from orca.oci.image import DEFAULT_PATH, ImageConfig

Translate = Callable[..., list[Step]]


def exec_op(step: Step) -> ExecOp:
    assert isinstance(step.op, ExecOp)
    return step.op


@pytest.mark.parametrize(
    ("text", "argv"),
    [
        ("RUN echo $A", ("/bin/sh", "-c", "echo $A")),
        ('RUN ["echo", "a b"]', ("echo", "a b")),
        ("RUN ['echo']", ("/bin/sh", "-c", "['echo']")),
        ("RUN a && \\\n  # gone\n  b", ("/bin/sh", "-c", "a &&   b")),
        ("RUN <<EOF\na\n$B\nEOF", ("/bin/sh", "-c", "a\n$B\n")),
        ("RUN cat <<EOF\na\nEOF", ("/bin/sh", "-c", "cat <<EOF\na\nEOF")),
    ],
)
def test_commands(text: str, argv: tuple[str, ...], steps: Translate) -> None:
    (step,) = steps(text)
    assert (exec_op(step).argv, exec_op(step).script) == (argv, None)
    assert step.history == f"RUN {' '.join(argv)} # orca"


def test_a_script_is_a_file_that_is_executed(steps: Translate) -> None:
    (step,) = steps("RUN <<here\n#!/usr/bin/awk -f\nBEGIN { }\nhere")
    op = exec_op(step)
    assert op.argv == ("/dev/pipes/here",)
    assert op.script == "#!/usr/bin/awk -f\nBEGIN { }\n"
    assert step.history.startswith("RUN <<EOF #!/usr/bin/awk -f")


def test_what_surrounds_a_command(steps: Translate) -> None:
    (step,) = steps(
        "RUN --network=none x",
        base=ImageConfig(env=(("A", "1"),), user="7", working_dir="/w"),
        proxies={"http_proxy": "p"},
        hosts=[("db", "10.0.0.1")],
    )
    assert step.op == ExecOp(
        ("/bin/sh", "-c", "x"),
        (("PATH", DEFAULT_PATH), ("http_proxy", "p"), ("A", "1")),
        exec_op(step).hidden,
        "/w",
        "7",
        "none",
        (("db", "10.0.0.1"),),
    )
    assert "http_proxy" in exec_op(step).hidden


@pytest.mark.parametrize(
    ("text", "default", "expected"),
    [
        ("RUN x", "default", "default"),
        ("RUN x", "host", "host"),
        ("RUN --network=default x", "none", "default"),
        ("RUN --network=host x", "host", "host"),
        ("ENV N=none\nRUN --network=$N x", "host", "none"),
        ("RUN --security=sandbox x", "default", "default"),
    ],
)
def test_network(text: str, default: str, expected: str, steps: Translate) -> None:
    assert exec_op(steps(text, network=default)[-1]).network == expected


@pytest.mark.parametrize(
    ("text", "flag"),
    [
        ("RUN --network=host x", "--allow network.host"),
        ("RUN --security=insecure x", "--allow security.insecure"),
        ("RUN --device=vendor.com/gpu=all x", "--device /dev/"),
    ],
)
def test_what_only_the_command_line_grants(text: str, flag: str, steps: Translate) -> None:
    with pytest.raises(NotAllowed) as caught:
        steps(text)
    assert flag in (caught.value.hint or "")
    at = caught.value.location
    assert at is not None and at.lines == (text,)
    if "device" not in text:
        (step,) = steps(text, allowed=[flag.split()[1]])
        assert exec_op(step).network == ("host" if "network" in text else "default")
        assert exec_op(step).insecure == ("insecure" in text)


def test_what_is_granted_is_in_the_key_only_where_it_is_used(steps: Translate) -> None:
    both = ["network.host", "security.insecure"]
    assert steps("RUN x", allowed=both)[0].op.ingredients() == steps("RUN x")[0].op.ingredients()
    insecure = steps("RUN --security=insecure x", allowed=both)[0].op
    assert insecure.ingredients()["security"] == "insecure"
    assert "every capability" in insecure.describe()
    around = {"capabilities": ["CAP_CHOWN"]}
    assert steps("RUN x", around=around)[0].op.ingredients()["around"] == around


def test_environment_env_beats_arg_beats_proxy(steps: Translate) -> None:
    text = "ENV A=env\nARG A=arg\nARG B=arg\nARG C\nARG no_proxy=mine\nRUN x"
    op = exec_op(steps(text, proxies={"no_proxy": "host", "HTTP_PROXY": "p"})[-1])
    found = dict(op.environment)
    assert found == {"PATH": DEFAULT_PATH, "no_proxy": "mine", "HTTP_PROXY": "p", "A": "env", "B": "arg"}
    assert "HTTP_PROXY" in op.hidden and "no_proxy" not in op.hidden


def test_proxies_are_in_no_key_and_no_history(steps: Translate) -> None:
    with_, without = (steps("ARG V=9\nRUN x", proxies=proxies)[-1] for proxies in ({"HTTP_PROXY": "p"}, {}))
    assert with_.op.ingredients() == without.op.ingredients()
    assert with_.history == without.history == "RUN |1 V=9 /bin/sh -c x # orca"
    assert with_.op != without.op


def test_a_declared_proxy_counts(steps: Translate) -> None:
    one, two = (steps("ARG HTTP_PROXY\nRUN x", given={"HTTP_PROXY": value})[-1] for value in ("a", "b"))
    assert one.op.ingredients() != two.op.ingredients()
    assert one.history == two.history == "RUN /bin/sh -c x # orca"


def test_history_counts_args_that_are_set(steps: Translate) -> None:
    assert steps("ARG A=1\nARG B\nARG C=\nRUN x")[-1].history == "RUN |2 A=1 C= /bin/sh -c x # orca"


@pytest.mark.parametrize(
    "other",
    [
        "RUN y",
        'RUN ["x"]',
        "RUN --network=none x",
        "USER 5\nRUN x",
        "WORKDIR /w\nRUN x",
        "ENV A=1\nRUN x",
        "ARG A=1\nRUN x",
        "RUN <<E\n#!/bin/x\nE",
    ],
)
def test_every_ingredient_counts(other: str, steps: Translate) -> None:
    assert steps(other)[-1].op.ingredients() != steps("RUN x")[-1].op.ingredients()


def test_hosts_count(steps: Translate) -> None:
    assert steps("RUN x", hosts=[("a", "1.2.3.4")])[0].op.ingredients() != steps("RUN x")[0].op.ingredients()
