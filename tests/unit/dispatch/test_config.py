"""Instructions that change the config only: history, the state after, errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from orca.dispatch.ops import ConfigOp, Step
from orca.errors import DockerfileError
from orca.oci.image import DEFAULT_PATH, ImageConfig

Translate = Callable[..., list[Step]]
BASE = ImageConfig(
    env=(("PATH", "/base"), ("OLD", "o")), cmd=("base-cmd",), labels=(("l", "base"),), exposed_ports=("80/tcp",),
    volumes=("/v",),
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "history", "change"),
    [
        ("ENV A=1", "ENV A=1", {"env": (*BASE.env, ("A", "1"))}),
        ("ENV OLD=new B='2 3' C=4\\ 5", "ENV OLD=new B=2 3 C=4 5",
         {"env": (("PATH", "/base"), ("OLD", "new"), ("B", "2 3"), ("C", "4 5"))}),
        ("ENV A b  c", "ENV A=b  c", {"env": (*BASE.env, ("A", "b  c"))}),
        ("ENV A=$OLD-${NO:-d}$NO", "ENV A=o-d", {"env": (*BASE.env, ("A", "o-d"))}),
        ("ENV OLD=x A=$OLD", "ENV OLD=x A=o", {"env": (("PATH", "/base"), ("OLD", "x"), ("A", "o"))}),
        ("ENV PATH=$PATH:/more", "ENV PATH=/base:/more", {"env": (("PATH", "/base:/more"), ("OLD", "o"))}),
        ("ENV A='$OLD' B=\\$OLD C=\"$OLD\"", "ENV A=$OLD B=$OLD C=o",
         {"env": (*BASE.env, ("A", "$OLD"), ("B", "$OLD"), ("C", "o"))}),
        ("LABEL l=new m=\"1 2\" \"k$OLD\"=v", "LABEL l=new m=1 2 ko=v",
         {"labels": (("l", "new"), ("m", "1 2"), ("ko", "v"))}),
        ("MAINTAINER Me <me@example.org>", "MAINTAINER Me <me@example.org>", {"author": "Me <me@example.org>"}),
        ("USER daemon", "USER daemon", {"user": "daemon"}),
        ("USER ${OLD}:5", "USER o:5", {"user": "o:5"}),
        ("EXPOSE 443/UDP 80 443", "EXPOSE [443/tcp 443/udp 80/tcp]",
         {"exposed_ports": ("80/tcp", "443/udp", "443/tcp")}),
        ("EXPOSE 8000-8002", "EXPOSE [8000/tcp 8001/tcp 8002/tcp]",
         {"exposed_ports": ("80/tcp", "8000/tcp", "8001/tcp", "8002/tcp")}),
        ("EXPOSE 127.0.0.1:8080:81 [::1]:1:82/sctp 9:83", "EXPOSE [81/tcp 82/sctp 83/tcp]",
         {"exposed_ports": ("80/tcp", "81/tcp", "82/sctp", "83/tcp")}),
        ("EXPOSE $NOTHING", "EXPOSE []", {}),
        ("VOLUME /v /w", "VOLUME [/v /w]", {"volumes": ("/v", "/w")}),
        ('VOLUME ["/a b", "$OLD"]', "VOLUME [/a b o]", {"volumes": ("/v", "/a b", "o")}),
        ("STOPSIGNAL SIGTERM", "STOPSIGNAL SIGTERM", {"stop_signal": "SIGTERM"}),
        ("STOPSIGNAL 64", "STOPSIGNAL 64", {"stop_signal": "64"}),
        ("STOPSIGNAL SIGRTMIN+3", "STOPSIGNAL SIGRTMIN+3", {"stop_signal": "SIGRTMIN+3"}),
        ("STOPSIGNAL $S", None, DockerfileError),
        ('SHELL ["/bin/bash", "-ec"]', "SHELL [/bin/bash -ec]", {"shell": ("/bin/bash", "-ec")}),
        ("ONBUILD RUN x $OLD", "ONBUILD RUN x $OLD", {"onbuild": ("RUN x $OLD",)}),
        ("ONBUILD COPY . /src", "ONBUILD COPY . /src", {"onbuild": ("COPY . /src",)}),
        ("CMD echo $OLD", 'CMD ["/bin/sh" "-c" "echo $OLD"]',
         {"cmd": ("/bin/sh", "-c", "echo $OLD"), "args_escaped": True}),
        ('CMD ["echo", "a\\"b"]', 'CMD ["echo" "a\\"b"]', {"cmd": ("echo", 'a"b')}),
        ("CMD []", "CMD []", {"cmd": None}),
        ('ENTRYPOINT ["/e"]', 'ENTRYPOINT ["/e"]', {"entrypoint": ("/e",), "cmd": None}),
        ("ENTRYPOINT e $X", 'ENTRYPOINT ["/bin/sh" "-c" "e $X"]',
         {"entrypoint": ("/bin/sh", "-c", "e $X"), "cmd": None, "args_escaped": True}),
        ("HEALTHCHECK NONE", "HEALTHCHECK NONE", {"healthcheck": {"Test": ["NONE"]}}),
        ("HEALTHCHECK CMD curl x", 'HEALTHCHECK ["CMD-SHELL" "curl x"]',
         {"healthcheck": {"Test": ["CMD-SHELL", "curl x"]}}),
        ('HEALTHCHECK --interval=1m30s --timeout=2s --start-period=3s --retries=4 CMD ["a", "b"]',
         'HEALTHCHECK ["CMD" "a" "b"]',
         {"healthcheck": {"Test": ["CMD", "a", "b"], "Interval": 90 * 10**9, "Timeout": 2 * 10**9,
                          "StartPeriod": 3 * 10**9, "Retries": 4}}),
        ("HEALTHCHECK --start-interval=500ms CMD x", 'HEALTHCHECK ["CMD-SHELL" "x"]',
         {"healthcheck": {"Test": ["CMD-SHELL", "x"], "StartInterval": 5 * 10**8}}),
        ("HEALTHCHECK --interval=0s CMD x", 'HEALTHCHECK ["CMD-SHELL" "x"]',
         {"healthcheck": {"Test": ["CMD-SHELL", "x"]}}),
        ("ARG A", "ARG A", {}),
        ("ARG A=1 B C=$OLD", "ARG A=1 B C=o", {}),
    ],
)  # fmt: skip
def test_translation(text: str, history: str | None, change: Any, steps: Translate) -> None:
    if history is None:
        with pytest.raises(change):
            steps(text, base=BASE)
        return
    (step,) = steps(text, base=BASE)
    assert step.history == history
    assert step.op == ConfigOp(history)
    assert step.state.config == replace(BASE, **change)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ENV $X=1", "ENV needs a name"),
        ("ENV \"$BAD\"=1", "the name 'a=b' holds an ="),
        ("ENV A='x", "single quote"),
        ("ENV A=${B:?give", "closes a"),
        ("ENV A=\"${B:?give B}\"", "B: give B"),
        ("LABEL $X=1", "LABEL needs a name"),
        ("USER $X", "USER is empty"),
        ("EXPOSE 0", "bad port '0'"),
        ("EXPOSE 65536", "bad port"),
        ("EXPOSE 9-8", "bad port '9-8'"),
        ("EXPOSE 80/http", "bad port '80/http'"),
        ("EXPOSE http", "bad port"),
        ("EXPOSE 1-99999999999999999999", "bad port"),
        ("EXPOSE " + "9" * 5000, "bad port"),
        ("EXPOSE -1", "bad port"),
        ("EXPOSE ²", "bad port"),
        ("VOLUME $X", "VOLUME is empty"),
        ('VOLUME ["/a", "$X"]', "VOLUME is empty"),
        ("STOPSIGNAL 0", "unknown signal '0'"),
        ("STOPSIGNAL 65", "unknown signal"),
        ("STOPSIGNAL " + "9" * 5000, "unknown signal"),
        ("STOPSIGNAL ²", "unknown signal"),
        ("STOPSIGNAL SIGNO", "unknown signal 'SIGNO'"),
        ("STOPSIGNAL SIG", "unknown signal"),
        ("WORKDIR $X", "WORKDIR is empty"),
        ("COPY $X /", "a source is empty"),
        ("COPY a $X", "the destination is empty"),
        ("COPY --chmod=999 a /", "bad mode"),
        ("COPY --chmod=17777 a /", "bad mode"),
        ("RUN --network=$X x", "unknown network mode"),
        ("RUN --security=odd x", "unknown --security=odd"),
        ("CMD x\nRUN", "RUN"),
    ],
)  # fmt: skip
def test_errors_point_at_their_instruction(text: str, message: str, steps: Translate) -> None:
    with pytest.raises(DockerfileError, match=message) as caught:
        steps(f"ARG BAD\n{text}", base=BASE, given={"BAD": "a=b"})
    at = caught.value.location
    assert at is not None and at.lines and at.lines[-1] == text.splitlines()[-1]


@pytest.mark.parametrize(
    ("base", "text", "expected"),
    [
        (("base",), 'ENTRYPOINT ["e"]', None),
        (("base",), 'CMD ["mine"]\nENTRYPOINT ["e"]', ("mine",)),
        (("base",), 'ENTRYPOINT ["e"]\nCMD ["mine"]', ("mine",)),
        (("base",), 'CMD ["base"]\nENTRYPOINT ["e"]\nENTRYPOINT ["f"]', ("base",)),
        (("base",), "LABEL x=1", ("base",)),
    ],
)
def test_entrypoint_forgets_the_bases_cmd(
    base: tuple[str, ...], text: str, expected: tuple[str, ...] | None, steps: Translate
) -> None:
    assert steps(text, base=ImageConfig(cmd=base))[-1].state.config.cmd == expected


def test_shell_counts_from_its_line_on(steps: Translate) -> None:
    text = 'CMD a\nSHELL ["/bin/bash", "-c"]\nENTRYPOINT b\nRUN c\nCMD d\nHEALTHCHECK CMD e'
    done = steps(text)
    assert done[0].state.config.cmd == ("/bin/sh", "-c", "a")
    assert done[2].state.config.entrypoint == ("/bin/bash", "-c", "b")
    assert done[3].history == "RUN /bin/bash -c c # orca"
    assert done[-1].state.config.cmd == ("/bin/bash", "-c", "d")
    assert done[-1].state.config.healthcheck == {"Test": ["CMD-SHELL", "e"]}


def test_a_bases_shell_is_used(steps: Translate) -> None:
    base = ImageConfig(shell=("/bin/ash", "-c"))  # noqa: S604 (no subprocess)
    assert steps("CMD x", base=base)[0].state.config.cmd == ("/bin/ash", "-c", "x")


def test_exec_form_takes_back_args_escaped(steps: Translate) -> None:
    done = steps('CMD x\nCMD ["x"]')
    assert [step.state.config.args_escaped for step in done] == [True, False]


@pytest.mark.parametrize(
    ("text", "given", "seen"),
    [
        ("ARG A=1", {}, "1"),
        ("ARG A=1", {"A": "2"}, "2"),
        ("ARG A", {}, None),
        ("ARG A=", {}, ""),
        ("ENV A=env\nARG A=1", {}, "env"),  # ENV beats ARG
        ("ARG A=1\nENV A=env", {}, "env"),
        ("ENV A=env\nARG A=1", {"A": "2"}, "2"),  # but a given one declared after it wins
        ("ARG A=1\nENV A=env", {"A": "2"}, "env"),
        ("ENV A=env\nARG A\nENV A=again", {"A": "2"}, "again"),
        ("ENV A=env\nARG A\nENV A=x$A", {"A": "2"}, "x2"),
        ("ARG A=1\nARG A=2", {}, "2"),
        ("ARG A=1\nARG A", {}, None),
        ("ARG A=$B\nARG B=1", {}, ""),
        ("ARG B=1\nARG A=$B", {}, "1"),
        ("ARG B=1 A=$B", {}, ""),  # a whole instruction sees the state before it
        ("ARG TARGETARCH\nARG A=$TARGETARCH", {}, "amd64"),
        ("ARG A=$TARGETARCH", {}, ""),  # a stage has to declare it
    ],
)
def test_who_wins(text: str, given: dict[str, str], seen: str | None, steps: Translate) -> None:
    state = steps(text, given=given)[-1].state
    assert state.lookup("A") == seen
    assert state.run_environment({}).get("A") == seen


def test_global_args_come_by_name(steps: Translate) -> None:
    (step,) = steps("ARG V", before="ARG V=12\n")
    assert (step.history, step.state.lookup("V")) == ("ARG V=12", "12")


def test_a_given_proxys_value_is_not_in_history(steps: Translate) -> None:
    done = steps("ARG HTTP_PROXY\nRUN x", given={"HTTP_PROXY": "http://user:secret@host"})
    assert [step.history for step in done] == ["ARG HTTP_PROXY", "RUN /bin/sh -c x # orca"]


def test_path_of_a_base_without_one(steps: Translate) -> None:
    (step,) = steps("LABEL a=b", base=ImageConfig(env=(("A", "1"),)))
    assert step.state.config.env == (("A", "1"), ("PATH", DEFAULT_PATH))
