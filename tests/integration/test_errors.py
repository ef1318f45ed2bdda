"""Bad input and a bad world: the right exit code, the line, a hint, no traceback, nothing left behind."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.images import Layout
from support.kitchen import BASE, Kitchen
from support.leftovers import Leftovers
from support.orca import Orca
from support.proc import free_port, run
from support.registry import RegistryImage
from support.users import SYSTEM_PATH, User


@pytest.fixture(autouse=True)
def nothing_left(kitchen: Kitchen) -> Iterator[None]:
    """Each of these tests leaves no process, mount or scratch file behind."""
    leftovers = Leftovers(kitchen.orca.top)
    yield
    leftovers.assert_none()


# --- the Dockerfile


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("FROM {b}\nENV A=1\nCOPPY a b\n", ['unknown instruction "COPPY"', "Dockerfile:3", "3 │ COPPY a b", "COPY"]),
        ("FROM {b}\nCOPY --form=x a b\n", ["COPY", "--form", "2 │ COPY --form=x a b", "from"]),
        ("FROM {b}\nRUN <<EOF\necho\n", ['"EOF" does not end', "2 │ RUN <<EOF"]),
        ("FROM {b}\nENV\n", ["ENV", "2 │ ENV"]),
        ("RUN true\n", ["before the first FROM", "1 │ RUN true"]),
        ("", ["Dockerfile"]),
        ("# only a comment\n", ["the file holds no instructions"]),
        ("FROM {b}\nEXPOSE 99999\n", ["bad port '99999'", "2 │ EXPOSE 99999"]),
        ("FROM {b}\nENV X=${{Y:?is needed}}\n", ["is needed", "2 │ ENV X="]),
        ("FROM {b}\nENV X='open\n", ["quote", "2 │ ENV X="]),
        ("FROM {b}\nSTOPSIGNAL SIGNOPE\n", ["unknown signal 'SIGNOPE'"]),
        ("FROM {b}\nHEALTHCHECK --interval=soon CMD x\n", ["interval", "2 │ HEALTHCHECK"]),
        ("FROM {b}\nONBUILD ONBUILD RUN x\n", ["ONBUILD", "2 │ ONBUILD"]),
        ("FROM {b}\nCOPY --chmod=999 Dockerfile /\n", ["--chmod=999"]),
        ("FROM {b}\nWORKDIR /proc/x\n", ["/proc"]),
        ("FROM $NOTHING\n", ["is empty", "1 │ FROM $NOTHING"]),
        ("FROM --platform=what/is/this/then {b}\n", ["bad platform"]),
        ("FROM {b} AS 1bad\n", ["1bad"]),
        ("FROM {b}\nUSER $NONE\n", ["USER is empty"]),
        ("FROM {b}\nADD missing.tar /\n", ["missing.tar"]),
        ("FROM {b}\nCOPY a[ /\n", ["a["]),
    ],
)
def test_bad_dockerfile(kitchen: Kitchen, text: str, words: list[str]) -> None:
    said = kitchen.fails(text.format(b=BASE))
    for word in words:
        assert word in said, said


def test_the_caret_stands_below_the_word(kitchen: Kitchen) -> None:
    lines = kitchen.fails(f"FROM {BASE}\n  COPY --form=x a b\n").splitlines()
    shown = next(number for number, line in enumerate(lines) if "COPY --form" in line)
    assert "^" in lines[shown + 1]
    assert lines[shown + 1].index("^") >= lines[shown].index("COPY")


def test_not_a_dockerfile(kitchen: Kitchen) -> None:
    kitchen.fails({"Dockerfile": os.urandom(5000)})
    kitchen.fails({"Dockerfile": b"FROM x\0y\n"})
    context = kitchen.context({"Dockerfile/": ""})
    assert "Is a" in kitchen.fails(context)
    pipe = kitchen.context({"x": ""})
    os.mkfifo(pipe / "Dockerfile")
    assert "not a regular file" in kitchen.fails(pipe)  # and does not wait for somebody to write


def test_unicode_and_bytes_in_an_error(kitchen: Kitchen) -> None:
    said = kitchen.fails({"Dockerfile": f"FROM {BASE}\nENV A=ü\n".encode("latin-1")})
    assert "bytes that are not UTF-8" in said
    assert "Dockerfile:2" in said
    assert 'unknown instruction "ÜBEL"' in kitchen.fails(f"FROM {BASE}\nübel x\n")


# --- sources


def test_missing_source(kitchen: Kitchen) -> None:
    said = kitchen.fails({"Dockerfile": f"FROM {BASE}\nCOPY src/mian.py /\n", "src/main.py": ""})
    assert "src/mian.py: no such file or directory in the build context" in said
    assert "hint: did you mean src/main.py?" in said
    assert "2 │ COPY src/mian.py /" in said


def test_source_that_an_ignore_line_hides(kitchen: Kitchen) -> None:
    said = kitchen.fails(
        {"Dockerfile": f"FROM {BASE}\nCOPY a/secret /\n", "a/secret": "", ".dockerignore": "# no\n\n**/secr*\n"}
    )
    assert "a/secret is excluded from the build context" in said
    assert "line 3 of .dockerignore hides it: **/secr*" in said


def test_bad_ignore_file(kitchen: Kitchen) -> None:
    said = kitchen.fails({"Dockerfile": f"FROM {BASE}\nCOPY . /x\n", ".dockerignore": "ok\n[\n"})
    assert ".dockerignore" in said
    leads_out = {"Dockerfile": f"FROM {BASE}\nCOPY . /x\n", ".dockerignore": Path("/etc/passwd")}
    assert "leads out of the build context" in kitchen.fails(leads_out, code=2)


@pytest.mark.user
def test_unreadable_context(kitchen: Kitchen, ordinary_user: User, busybox_layout: Layout) -> None:
    kitchen.orca.load(busybox_layout, BASE, user=ordinary_user)
    context = kitchen.context({"Dockerfile": f"FROM {BASE}\nCOPY d /d\n", "d/secret": "s", "d/in/x": "x"})
    for name, words in (("d/secret", "cannot read d/secret: Permission denied"), ("d/in", "cannot read d/in")):
        (context / name).chmod(0)
        result = kitchen.orca("build", context, user=ordinary_user, check=False)
        (context / name).chmod(0o755)
        assert result.returncode == 125, result
        assert words in result.stderr
        assert "name it in .dockerignore" in result.stderr
        assert "2 │ COPY d /d" in result.stderr
        assert "Traceback" not in result.stderr


# --- RUN


def test_run_that_fails(kitchen: Kitchen) -> None:
    said = kitchen.fails(
        f"FROM {BASE}\nRUN echo before && \\\n    for i in 1 2 3; do echo line $i; done; exit 7\n", code=7
    )
    assert "RUN ended with exit code 7" in said
    assert "2 │ RUN echo before" in said
    assert "3 │     for i in" in said
    assert "│ line 3" in said
    assert "exit code: 7" in said
    log = Path(next(line.split("full log: ")[1] for line in said.splitlines() if "full log: " in line))
    assert log.read_text() == "before\nline 1\nline 2\nline 3\n"


def test_the_log_of_a_failed_step_is_complete(kitchen: Kitchen) -> None:
    said = kitchen.fails(f"FROM {BASE}\nRUN seq 20000; exit 3\n", "-q", code=3)
    log = Path(said.split("full log: ")[1].split("\n")[0])
    assert log.read_text().split() == [str(n) for n in range(1, 20001)]
    assert said.count("\n") < 40


def test_command_not_found(kitchen: Kitchen) -> None:
    said = kitchen.fails(f"FROM {BASE}\nRUN no-such-thing\n", code=127)
    assert "hint: " in said
    assert "not found" in said


# --- images


def test_missing_base(kitchen: Kitchen, busybox_image: RegistryImage, registries_conf: Path) -> None:
    env = {"CONTAINERS_REGISTRIES_CONF": str(registries_conf)}
    said = kitchen.fails(f"ARG X\nFROM {busybox_image.location}-not\n", env=env)
    assert "there is no such image" in said
    assert "2 │ FROM" in said
    assert "check the name and the tag" in said
    assert "skopeo" in said
    short = kitchen.fails("FROM no-such-name-here:3\n", env=env)
    assert "no-such-name-here:3" in short


def test_registry_is_down(kitchen: Kitchen) -> None:
    said = kitchen.fails(f"FROM 127.0.0.1:{free_port()}/x/y\n")
    assert "the registry cannot be reached" in said
    assert "1 │ FROM 127.0.0.1" in said


def test_registry_that_speaks_nonsense(kitchen: Kitchen) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        import threading

        def answer() -> None:
            for _ in range(20):
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connection.sendall(b"\x1b[2J\x1b]0;owned\x07 no http\r\n\r\n")
                connection.close()

        threading.Thread(target=answer, daemon=True).start()
        said = kitchen.fails(f"FROM 127.0.0.1:{server.getsockname()[1]}/x/y\n")
    assert "\x1b" not in said
    assert "\x07" not in said


@pytest.mark.parametrize("name", ["UPPER/case", "a//b", "x:y:z", "-x", "a@sha256:123", "http://x/y"])
def test_bad_names(kitchen: Kitchen, name: str) -> None:
    said = kitchen.run(f"FROM {name}\n")
    assert said.returncode in (2, 125)
    assert "Traceback" not in said.stderr
    assert "bug in orca" not in said.stderr
    assert f"1 │ FROM {name}" in said.stderr


# --- the machine


@pytest.mark.parametrize("tool", ["umoci", "slirp4netns", "tar"])
def test_missing_tool(kitchen: Kitchen, tmp_path: Path, tool: str) -> None:
    """All programs but one on PATH."""
    for directory in reversed(SYSTEM_PATH.split(":")):
        for entry in os.scandir(directory) if os.path.isdir(directory) else ():
            link = tmp_path / entry.name
            if entry.name != tool and not (tool == "slirp4netns" and entry.name in ("pasta", "passt")):
                link.unlink(missing_ok=True)
                link.symlink_to(entry.path)
    unique = os.urandom(4).hex()
    said = kitchen.fails(f"FROM {BASE}\nRUN touch /{unique}\n", env={"PATH": str(tmp_path)})
    assert tool in said
    assert "hint: " in said
    assert "install" in said


@pytest.mark.root
def test_full_disk(kitchen: Kitchen, tmp_path: Path) -> None:
    """A store on a small file system of its own, in a mount namespace of its own."""
    place = tmp_path / "small"
    place.mkdir()
    context = kitchen.context(f"FROM {BASE}\nRUN head -c 30000000 /dev/urandom > /big\n")
    inner = (
        f"mount -t tmpfs -o size=12m none {place} && mkdir {place}/s && ORCA_ROOT={place}/s && export ORCA_ROOT && "
        f"cp -a {kitchen.orca.store}/images {place}/s/images 2>/dev/null; "
        f'"$@"; echo "exit $?"; find {place}/s/work -mindepth 1; grep -c {place}/ /proc/self/mountinfo; exit 0'
    )
    small = Kitchen(Orca(tmp_path, lambda: Path()))
    small.orca.load(Layout(kitchen.orca.store / "images", BASE), BASE)
    said = run(
        "unshare", "-m", "sh", "-c", inner.replace(str(kitchen.orca.store), str(small.orca.store)), "sh",
        *kitchen.orca.command("build", context), env=kitchen.orca.environment(),
    )  # fmt: skip
    # The disk that the RUN sees is full, or that of the layer: never a success, never a traceback.
    assert said.stdout.splitlines() == ["exit 1", "0"] or said.stdout.splitlines() == ["exit 125", "0"], said
    assert "o space left" in said.stderr
    assert "Traceback" not in said.stderr
    assert "RUN head" in said.stderr


@pytest.mark.root
def test_full_disk_for_a_copy(kitchen: Kitchen, tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    context = kitchen.context({"Dockerfile": "FROM scratch\nCOPY big /\n", "big": os.urandom(6_000_000)})
    for size in (1, 4, 8):  # no room for the copy, no room for its layer
        inner = (
            f'mount -t tmpfs -o size={size}m none {place} && ORCA_ROOT={place}/s "$@"; echo "exit $?"; '
            f"find {place}/s/work -mindepth 1"
        )
        said = run(
            "unshare", "-m", "sh", "-c", inner, "sh", *kitchen.orca.command("build", context),
            env=kitchen.orca.environment(), check=False,
        )  # fmt: skip
        assert said.stdout.splitlines() == ["exit 125"], said
        assert "no space left on the device" in said.stderr
        assert "orca prune" in said.stderr
        assert "Traceback" not in said.stderr


@pytest.mark.root
@pytest.mark.user
def test_user_without_subordinate_ids(kitchen: Kitchen, installed_orca: Path, shared_dir: Path) -> None:
    """Any number without an entry in /etc/subuid will do."""
    uid = 54321
    context = kitchen.context("FROM scratch\nCOPY Dockerfile /\n")
    place = Path(shutil.os.path.join(kitchen.orca.top, "nobody"))
    place.mkdir()
    os.chown(place, uid, uid)
    said = run(
        installed_orca / "bin" / "orca", "build", context, check=False, ids=(uid, uid),
        env={"PATH": SYSTEM_PATH, "HOME": str(place), "ORCA_ROOT": str(place / "s")},
    )  # fmt: skip
    assert said.returncode == 125
    assert "has no subordinate ids in /etc/subuid" in said.stderr
    assert "usermod --add-subuids" in said.stderr


def test_store_of_somebody_else(kitchen: Kitchen, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    said = kitchen.fails(f"FROM {BASE}\n", env={"ORCA_ROOT": str(file)})
    assert "is not a directory" in said or "Not a directory" in said or "File exists" in said
    if os.getuid() == 0:
        other = tmp_path / "other"
        other.mkdir()
        os.chown(other, 1234, 1234)
        said = kitchen.fails(f"FROM {BASE}\n", env={"ORCA_ROOT": str(other)})
        assert "belongs to user 1234" in said


# --- what must not reach a terminal


def test_control_characters_are_escaped(kitchen: Kitchen) -> None:
    evil = "\x1b]0;evil\x07\u202e\x9b1m"
    said = kitchen.fails(f"FROM {BASE}\nCOPY {evil} /\n")
    said += kitchen.fails(f"FROM {BASE} AS x\nFROM x\nCOPY --from=0 {evil} /\n")
    said += kitchen.fails(f"FROM {BASE}\n{evil} x\n")
    said += kitchen.fails(f"FROM {BASE}\nUSER {evil}\nRUN true\n")
    said += kitchen.run(f"FROM {evil}\n").stderr
    said += kitchen.fails(f"FROM {BASE}\n", "-t", evil, code=2)
    said += kitchen.fails(f"FROM {BASE}\n", "--target", evil, code=2)
    said += kitchen.fails(f"FROM {BASE}\nRUN printf '\\033[2Jx'; exit 1\n", "-q", code=1)
    context = kitchen.context(f"FROM {BASE}\nCOPY . /\n")
    os.mkfifo(context / "pipe\x1b[31m")
    said += kitchen.fails(context)
    for bad in "\x1b\x07\u202e\x9b":
        assert bad not in said, said
    assert "evil" in said
