"""What instructions write into the image config: fields, surprises, history."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.kitchen import BASE, Kitchen
from support.orca import Orca
from support.proc import run
from support.registry import Registry, RegistryImage

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SECOND = 1_000_000_000


def config(kitchen: Kitchen, instructions: str, *options: str, base: str = BASE) -> dict[str, Any]:
    """The config after `instructions` on a base."""
    return kitchen.build(f"FROM {base}\n{instructions}\n", *options).config


# --- ENV, LABEL


def test_env_forms(kitchen: Kitchen) -> None:
    built = kitchen.build(f"""\
FROM {BASE}
ENV old form  with blanks
ENV a=1 b="2 3" c=4\\ 5 d='$a' e="$a" f=\\$a
ENV abc=hello
ENV abc=bye def=$abc
ENV ghi=$abc u=[$undefined] w=${{undefined:-word}} x=${{a:+set}}
""")
    assert built.env == {
        "PATH": PATH,
        "old": "form  with blanks",
        "a": "1",
        "b": "2 3",
        "c": "4 5",
        "d": "$a",
        "e": "",  # a whole instruction sees the state before it
        "f": "$a",
        "abc": "bye",
        "def": "hello",
        "ghi": "bye",
        "u": "[]",
        "w": "word",
        "x": "set",
    }


def test_env_keeps_its_place_and_odd_values(kitchen: Kitchen) -> None:
    built = kitchen.build(f'FROM {BASE}\nENV ONE=1 TWO=2\nENV ONE=new\nENV EQ=a=b=c EMPTY= QUOTE="a\\"b" NL=ü€😀\n')
    names = [word.partition("=")[0] for word in built.config["Env"]]
    assert names == ["PATH", "ONE", "TWO", "EQ", "EMPTY", "QUOTE", "NL"]
    assert built.env["ONE"] == "new"
    assert built.env["EQ"] == "a=b=c"
    assert built.env["EMPTY"] == ""
    assert built.env["QUOTE"] == 'a"b'
    assert built.env["NL"] == "ü€😀"


def test_labels(kitchen: Kitchen) -> None:
    assert config(
        kitchen,
        'ARG V=7\nLABEL a=1 "b c"="d e" ver="$V"\nLABEL a=2 multi="one \\\n  two"\nLABEL old style label',
    )["Labels"] == {"a": "2", "b c": "d e", "ver": "7", "multi": "one   two", "old": "style label"}


def test_label_option_wins(kitchen: Kitchen) -> None:
    built = kitchen.build(f"FROM {BASE}\nLABEL a=1 b=2\n", "--label", "a=option", "--label", "n=with=equals")
    assert built.config["Labels"] == {"a": "option", "b": "2", "n": "with=equals"}


# --- EXPOSE, VOLUME, STOPSIGNAL, USER, WORKDIR


def test_expose(kitchen: Kitchen) -> None:
    built = kitchen.build(f"FROM {BASE}\nARG P=90\nEXPOSE 80 443/UDP 8000-8002/tcp 80/tcp $P 127.0.0.1:81:82\n")
    assert set(built.config["ExposedPorts"]) == {
        "80/tcp", "443/udp", "8000/tcp", "8001/tcp", "8002/tcp", "90/tcp", "82/tcp",
    }  # fmt: skip
    assert all(value == {} for value in built.config["ExposedPorts"].values())
    assert built.history[-1] == "EXPOSE [443/udp 80/tcp 8000/tcp 8001/tcp 8002/tcp 82/tcp 90/tcp]"


def test_volume(kitchen: Kitchen) -> None:
    built = kitchen.build(f"""\
FROM {BASE}
ARG D=/data
VOLUME $D /logs
VOLUME ["/with blank", "/logs"]
RUN mkdir -p /data && echo kept > /data/file
""")
    assert built.config["Volumes"] == {"/data": {}, "/logs": {}, "/with blank": {}}
    # Later steps change a volume's content and the change is kept; the directory itself is not made.
    assert built.files["data/file"].text == "kept\n"
    assert "logs" not in built.files


@pytest.mark.parametrize("signal", ["SIGTERM", "9", "SIGRTMIN+3", "KILL"])
def test_stopsignal(kitchen: Kitchen, signal: str) -> None:
    assert config(kitchen, f"ARG S={signal}\nSTOPSIGNAL $S")["StopSignal"] == signal


def test_user(kitchen: Kitchen) -> None:
    assert config(kitchen, "ARG U=app\nUSER $U:1000")["User"] == "app:1000"
    # A name that nobody has is an error of the RUN that needs it, not of USER.
    assert config(kitchen, "USER nobody-here")["User"] == "nobody-here"


def test_workdir(kitchen: Kitchen) -> None:
    built = kitchen.build(f"FROM {BASE}\nENV D=deep\nWORKDIR /a\nWORKDIR b/../c\nWORKDIR $D/er/\nRUN pwd > where\n")
    assert built.config["WorkingDir"] == "/a/c/deep/er"
    assert built.files["a/c/deep/er/where"].text == "/a/c/deep/er\n"
    assert "a/b" not in built.files
    assert [text for text in built.history if text.startswith("WORKDIR")] == [
        "WORKDIR /a",
        "WORKDIR /a/c",
        "WORKDIR /a/c/deep/er",
    ]


# --- CMD, ENTRYPOINT, SHELL


def test_command_forms(kitchen: Kitchen) -> None:
    shell = config(kitchen, "CMD echo $HOME")
    assert shell["Cmd"] == ["/bin/sh", "-c", "echo $HOME"]
    assert shell["ArgsEscaped"] is True
    exec_form = config(kitchen, 'CMD ["echo", "$HOME"]')
    assert exec_form["Cmd"] == ["echo", "$HOME"]
    assert "ArgsEscaped" not in exec_form
    # What is not JSON with double quotes is the shell form, silently.
    assert config(kitchen, "CMD ['a', 'b']")["Cmd"] == ["/bin/sh", "-c", "['a', 'b']"]


def test_shell_applies_to_what_follows(kitchen: Kitchen) -> None:
    found = config(
        kitchen,
        'ENTRYPOINT before\nSHELL ["/bin/sh", "-ec"]\nCMD after\nHEALTHCHECK CMD check',
    )
    assert found["Shell"] == ["/bin/sh", "-ec"]
    assert found["Entrypoint"] == ["/bin/sh", "-c", "before"]
    assert found["Cmd"] == ["/bin/sh", "-ec", "after"]
    assert found["Healthcheck"]["Test"] == ["CMD-SHELL", "check"]


def test_shell_is_used_by_run(kitchen: Kitchen) -> None:
    # -e: the first failure ends it.
    kitchen.fails(f'FROM {BASE}\nSHELL ["/bin/sh", "-ec"]\nRUN false; true\n', code=1)


def test_entrypoint_clears_the_cmd_of_the_base(kitchen: Kitchen) -> None:
    assert "Cmd" not in config(kitchen, 'ENTRYPOINT ["e"]')  # the busybox image's CMD is /bin/sh
    own = config(kitchen, 'CMD ["c"]\nENTRYPOINT ["e"]')
    assert own["Cmd"] == ["c"]
    assert own["Entrypoint"] == ["e"]
    # A stage's base is a base too; the cache must not take this for the image above.
    two = kitchen.build(f'FROM {BASE} AS one\nCMD ["c"]\nFROM one\nENTRYPOINT ["e"]\n').config
    assert "Cmd" not in two
    assert "Entrypoint" not in config(kitchen, "ENTRYPOINT []")


# --- HEALTHCHECK, ONBUILD, MAINTAINER, ARG


def test_healthcheck(kitchen: Kitchen) -> None:
    found = config(
        kitchen,
        "HEALTHCHECK --interval=5m --timeout=3s --start-period=1m30s --start-interval=500ms --retries=4 "
        'CMD ["curl", "-f", "localhost"]',
    )
    assert found["Healthcheck"] == {
        "Test": ["CMD", "curl", "-f", "localhost"],
        "Interval": 300 * SECOND,
        "Timeout": 3 * SECOND,
        "StartPeriod": 90 * SECOND,
        "StartInterval": SECOND // 2,
        "Retries": 4,
    }
    assert config(kitchen, "HEALTHCHECK CMD a\nHEALTHCHECK NONE")["Healthcheck"] == {"Test": ["NONE"]}


def test_what_umoci_would_drop_is_there_for_skopeo(kitchen: Kitchen) -> None:
    kitchen.build(
        f'FROM {BASE}\nHEALTHCHECK CMD true\nONBUILD RUN x\nSHELL ["/bin/sh", "-xc"]\nENV LATER=1\nRUN true\n',
        "-t", "extensions",
    )  # fmt: skip
    found = kitchen.orca.config("localhost/extensions:latest")["config"]
    assert found["Healthcheck"] == {"Test": ["CMD-SHELL", "true"]}
    assert found["OnBuild"] == ["RUN x"]
    assert found["Shell"] == ["/bin/sh", "-xc"]
    assert "LATER=1" in found["Env"]


def test_onbuild_runs_once_in_the_child(kitchen: Kitchen) -> None:
    parent = kitchen.build(
        f"FROM {BASE}\nONBUILD COPY file /from-trigger\nONBUILD RUN echo ran >> /count\nONBUILD ENV T=$X\n",
        "-t",
        "parent",
    )
    assert parent.config["OnBuild"] == ["COPY file /from-trigger", "RUN echo ran >> /count", "ENV T=$X"]
    assert "count" not in parent.files
    child = kitchen.build({"Dockerfile": "FROM parent\nRUN echo own >> /count\n", "file": "f"}, "-t", "child")
    assert child.files["from-trigger"].text == "f"
    assert child.files["count"].text == "ran\nown\n"
    assert child.env["T"] == ""
    assert "OnBuild" not in child.config
    grandchild = kitchen.build("FROM child\nRUN echo again >> /count\n")
    assert grandchild.files["count"].text == "ran\nown\nagain\n"


def test_onbuild_in_a_stage_fires_in_the_stage_from_it(kitchen: Kitchen) -> None:
    built = kitchen.build(
        f"FROM {BASE} AS donor\nRUN echo gift > /gift\n"
        f"FROM {BASE} AS one\nONBUILD COPY --from=donor /gift /got\n"
        "FROM one\nRUN cat /got > /seen\n"
    )
    assert built.files["seen"].text == "gift\n"
    assert "OnBuild" not in built.config
    # The same steps written out keep the trigger: another image, whatever the cache knows.
    written_out = f"FROM {BASE}\nONBUILD RUN touch /x\nRUN touch /x\n"
    assert kitchen.build(written_out).config["OnBuild"] == ["RUN touch /x"]
    assert "OnBuild" not in kitchen.build(f"FROM {BASE} AS a\nONBUILD RUN touch /x\nFROM a\n").config


def test_maintainer(kitchen: Kitchen) -> None:
    built = kitchen.build(f"FROM {BASE}\nMAINTAINER Somebody <some@body.example>\nRUN true\n")
    assert built.image["author"] == "Somebody <some@body.example>"
    assert built.history[-2] == "MAINTAINER Somebody <some@body.example>"


def test_arg_scopes(kitchen: Kitchen) -> None:
    text = f"""\
ARG GLOBAL=g TAG=latest
FROM localhost/busybox:$TAG AS one
ARG GLOBAL
ARG A=1 B C=$A-c
ENV SEEN="$GLOBAL|$A|$B|$C|$TAG"
FROM one
ENV INHERITED="$A"
FROM {BASE} AS alone
ENV NOTHING="[$A$GLOBAL]"
COPY --from=1 /etc/passwd /x
"""
    assert (
        kitchen.build(text, "--target=one", "--build-arg", "B=b").env["SEEN"] == "g|1|b|-c|"
    )  # $A is not set yet where C is
    assert kitchen.build(text, "--target=1").env["INHERITED"] == "1"
    assert kitchen.build(text).env["NOTHING"] == "[]"


def test_env_beats_arg_but_a_given_arg_after_it_beats_env(kitchen: Kitchen) -> None:
    text = f"FROM {BASE}\nARG X=arg\nENV X=env\nENV FIRST=$X\nARG X\nENV SECOND=$X\nRUN echo $X > /ran\n"
    plain = kitchen.build(text)
    assert (plain.env["FIRST"], plain.env["SECOND"]) == ("env", "env")
    given = kitchen.build(text, "--build-arg", "X=given")
    assert (given.env["FIRST"], given.env["SECOND"]) == ("env", "given")
    assert given.files["ran"].text == "given\n"


def test_platform_args(kitchen: Kitchen) -> None:
    env = kitchen.build(
        f"ARG TARGETOS\nFROM {BASE}\nARG TARGETPLATFORM TARGETARCH\nARG BUILDOS\n"
        'ENV SEEN="$TARGETPLATFORM|$TARGETARCH|$BUILDOS|$TARGETOS"\n',
        "--platform=linux/amd64",
    ).env
    assert env["SEEN"] == "linux/amd64|amd64|linux|"


# --- bases


def test_scratch(kitchen: Kitchen) -> None:
    found = kitchen.build("FROM scratch\nLABEL only=this\n")
    assert found.config["Env"] == [f"PATH={PATH}"]
    assert found.config["WorkingDir"] == "/"
    assert found.manifest["layers"] == []
    assert found.image["os"] == "linux"
    assert found.image["architecture"]


def test_nothing_but_from(kitchen: Kitchen) -> None:
    """The image is the base but for its time."""
    built = kitchen.build(f"FROM {BASE}\n")
    base = kitchen.orca.config(BASE)
    assert built.config == base["config"]
    assert built.image["rootfs"] == base["rootfs"]
    assert built.image["history"] == base["history"]


def test_base_without_path_gets_one(kitchen: Kitchen, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    run("skopeo", "copy", "-q", f"oci:{kitchen.orca.store / 'images'}:{BASE}", f"oci:{layout}:x")
    run("umoci", "config", "--image", f"{layout}:x", "--clear=config.env", "--config.env=OTHER=1")
    run("skopeo", "copy", "-q", f"oci:{layout}:x", f"oci:{kitchen.orca.store / 'images'}:localhost/nopath:latest")
    built = kitchen.build("FROM nopath\nRUN echo $PATH > /path\n")
    assert built.env == {"OTHER": "1", "PATH": PATH}
    assert built.files["path"].text == f"{PATH}\n"


def test_docker_format_base_keeps_its_fields(
    orca: Orca, registry: Registry, busybox_image: RegistryImage, registries_conf: Path, tmp_path: Path
) -> None:
    """skopeo drops Healthcheck, OnBuild and Shell when it makes an OCI image of a Docker one: orca puts them back."""
    (tmp_path / "Dockerfile").write_text(
        f"FROM {busybox_image.location}\n"
        'SHELL ["/bin/sh", "-e", "-c"]\nHEALTHCHECK --retries=5 CMD probe\nONBUILD ENV TRIGGERED=yes\nCMD run it\n'
    )
    storage = (f"--root={tmp_path / 'root'}", f"--runroot={tmp_path / 'run'}", "--storage-driver=vfs")
    name = f"{registry.address}/library/docker-format:1"
    bud = ("bud", "-q", "--format=docker", "--isolation=chroot", "--tls-verify=false", "-t", name, tmp_path)
    run("buildah", *storage, *bud)
    run("buildah", *storage, "push", "-q", "--tls-verify=false", "--format=docker", name, f"docker://{name}")
    raw = json.loads(run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}").stdout)
    assert raw["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"

    kitchen = Kitchen(orca)
    built = kitchen.build(f"FROM {name}\nRUN touch /file\n")
    assert built.manifest["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"
    assert built.config["Healthcheck"] == {"Test": ["CMD-SHELL", "probe"], "Retries": 5}
    assert built.config["Shell"] == ["/bin/sh", "-e", "-c"]
    assert built.config["Cmd"] == ["/bin/sh", "-c", "run it"]  # buildah's SHELL is not CMD's
    assert built.env["TRIGGERED"] == "yes"
    assert "OnBuild" not in built.config
    # The base's SHELL is the child's.
    kitchen.fails(f"FROM {name}\nRUN false; true\n", code=1)


# --- history


def test_history_texts(kitchen: Kitchen) -> None:
    built = kitchen.build(
        {
            "Dockerfile": f"""\
FROM {BASE}
ARG V=9
ENV V2=$V
WORKDIR /rel
WORKDIR sub
RUN echo hi
RUN ["echo", "a b"]
COPY --chown=1:2 --chmod=600 d /chm
ADD d e /dir/
COPY <<EOF /doc
body
EOF
EXPOSE 443/udp 80
LABEL l="$V x"
USER app
VOLUME /v
STOPSIGNAL SIGINT
CMD ["/bin/bash", "-ec", "x y"]
ENTRYPOINT run
SHELL ["/bin/sh", "-c"]
HEALTHCHECK NONE
ONBUILD RUN later
""",
            "d": "d",
            "e": "e",
        }
    )
    entries = built.image["history"][len(kitchen.orca.config(BASE)["history"]) :]
    assert [(e["created_by"], e.get("empty_layer", False)) for e in entries] == [
        ("ARG V=9", True),
        ("ENV V2=9", True),
        ("WORKDIR /rel", False),
        ("WORKDIR /rel/sub", False),
        ("RUN |1 V=9 /bin/sh -c echo hi # orca", True),
        ("RUN |1 V=9 echo a b # orca", True),
        ("COPY --chown=1:2 --chmod=600 d /chm # orca", False),
        ("ADD d e /dir/ # orca", False),
        ("COPY <<EOF /doc # orca", False),
        ("EXPOSE [443/udp 80/tcp]", True),
        ("LABEL l=9 x", True),
        ("USER app", True),
        ("VOLUME [/v]", True),
        ("STOPSIGNAL SIGINT", True),
        ('CMD ["/bin/bash" "-ec" "x y"]', True),
        ('ENTRYPOINT ["/bin/sh" "-c" "run"]', True),
        ("SHELL [/bin/sh -c]", True),
        ("HEALTHCHECK NONE", True),
        ("ONBUILD RUN later", True),
    ]
    assert all(e["created"].endswith("Z") for e in entries)


def test_source_date_epoch(kitchen: Kitchen) -> None:
    """Everything that has a time has this one at most: built twice it is the same image."""
    files = {"Dockerfile": f"FROM {BASE}\nRUN mkdir /d && echo x > /d/f\nCOPY f /g\nENV A=1\n", "f": "f"}
    env = {"SOURCE_DATE_EPOCH": "1000000000"}
    one, two = (kitchen.build(files, "--no-cache", env=env) for _ in range(2))
    assert one.digest == two.digest
    assert one.image["created"] == "2001-09-09T01:46:40Z"
    assert one.files["d/f"].mtime == 1000000000
    assert one.files["g"].mtime == 1000000000
