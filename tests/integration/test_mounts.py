"""RUN --mount: what a RUN sees of its mounts, what stays of them, and what never does."""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import cannot, need
from support.images import Layout
from support.kitchen import BASE, Kitchen, parse_events
from support.leftovers import Leftovers
from support.orca import Orca
from support.proc import run
from support.users import User

SENTINEL = "sentinel-d3adb33f-of-a-secret"


@pytest.fixture(autouse=True)
def nothing_stays(kitchen: Kitchen) -> Iterator[None]:
    """No mount, process or scratch file is left by any of these."""
    leftovers = Leftovers(kitchen.orca.top)
    yield
    leftovers.assert_none()


def said(kitchen: Kitchen, files: dict[str, str | bytes | Path], *options: str, **more: object) -> list[str]:
    """What the RUNs of a context print."""
    result = kitchen.run(files, "--progress=json", *options, check=True, **more)  # type: ignore[arg-type]
    return [event["text"] for event in parse_events(result.stderr) if event["event"] == "output"]


def dockerfile(*lines: str) -> str:
    return "\n".join((f"FROM {BASE}", *lines, ""))


def search(store: Path, word: str) -> list[str]:
    """The files of a store that hold `word`, also when they are compressed, and those named by it."""
    found = []
    for path in store.rglob("*"):
        if word in path.name:
            found.append(str(path))
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            with contextlib.suppress(OSError, EOFError):
                data += gzip.decompress(data)
            if word.encode() in data:
                found.append(str(path))
    return found


# --- bind


def test_bind_from_the_context(kitchen: Kitchen) -> None:
    files = {
        "Dockerfile": dockerfile(
            "WORKDIR /w",
            "RUN --mount=target=all cat all/dir/f; ls all",
            "RUN --mount=type=bind,source=dir,target=/d --mount=src=one,dst=/etc/one cat /d/f /etc/one",
            "RUN ls -d all /d /etc/one 2>/dev/null || echo gone",
        ),
        "dir/f": "inner\n",
        "one": "1\n",
    }
    assert said(kitchen, files) == ["inner", "Dockerfile", "dir", "one", "inner", "1", "gone"]


def test_bind_is_read_only(kitchen: Kitchen) -> None:
    context = kitchen.context({
        "Dockerfile": dockerfile("RUN --mount=target=/x touch /x/new 2>&1; echo > /x/f; rm /x/f; chmod 777 /x; true"),
        "f": "kept",
    })  # fmt: skip
    before = context.stat().st_mode
    result = kitchen.run(context, check=True)
    assert result.stdout
    assert (context / "f").read_text() == "kept"
    assert sorted(p.name for p in context.iterdir()) == ["Dockerfile", "f"]
    assert context.stat().st_mode == before
    lines = said(kitchen, {"Dockerfile": dockerfile("RUN --mount=target=/x touch /x/new 2>&1; true")})
    assert ["Read-only file system" in line for line in lines] == [True]


def test_what_is_written_to_a_bind_is_thrown_away(kitchen: Kitchen) -> None:
    context = kitchen.context({
        "Dockerfile": dockerfile(
            "RUN --mount=target=/x,rw echo new > /x/f && rm -r /x/d && touch /x/n && cat /x/f && ls /x",
            "RUN --mount=target=/x,rw cat /x/f && ls /x",
            "RUN --mount=target=/y,source=f,rw echo new > /y && cat /y",
        ),
        "f": "kept\n",
        "d/g": "g",
    })  # fmt: skip
    result = kitchen.run(context, "--progress=json", check=True)
    lines = [e["text"] for e in parse_events(result.stderr) if e["event"] == "output"]
    assert lines == ["new", "Dockerfile", "f", "n", "kept", "Dockerfile", "d", "f", "new"]
    assert (context / "f").read_text() == "kept\n"
    assert (context / "d/g").read_text() == "g"
    assert not (context / "n").exists()


def test_bind_from_a_stage_and_an_image(kitchen: Kitchen) -> None:
    text = f"""\
FROM {BASE} AS a
RUN mkdir /out && echo made > /out/f && chown 5:6 /out/f && chmod 640 /out/f
FROM {BASE}
RUN --mount=from=a,source=/out,target=/x cat /x/f && stat -c '%u %g %a' /x/f
RUN --mount=from=A,source=out/f,target=/x,rw echo more >> /x && cat /x && stat -c '%u %g %a' /x
RUN --mount=from=0,source=out,target=/x,rw echo other > /x/f; cat /x/f
RUN --mount=from=a,target=/x cat /x/out/f
RUN --mount=from={BASE},source=etc,target=/x head -n 1 /x/passwd
"""
    lines = said(kitchen, {"Dockerfile": text})
    assert lines == [
        "made", "5 6 640", "made", "more", "5 6 640", "other", "made", "root:x:0:0:root:/root:/bin/sh",
    ]  # fmt: skip


def test_a_stage_that_only_a_mount_needs_is_built(kitchen: Kitchen) -> None:
    text = f"FROM {BASE} AS a\nRUN echo needed\nFROM {BASE} AS b\nRUN echo not\nFROM {BASE}\n"
    lines = said(kitchen, {"Dockerfile": text + "RUN --mount=from=a,target=/x echo last\n"}, "--no-cache")
    assert lines == ["needed", "last"]


def test_bind_respects_the_ignore_rules(kitchen: Kitchen) -> None:
    files = {
        "Dockerfile": dockerfile("RUN --mount=target=/x find /x -type f | sort"),
        ".dockerignore": "secret*\nDockerfile\n.dockerignore\nd\n!d/back\n",
        "secret.txt": "s",
        "f": "f",
        "d/gone": "",
        "d/back": "",
    }
    assert said(kitchen, files) == ["/x/d/back", "/x/f"]
    files["Dockerfile"] = dockerfile("RUN --mount=source=secret.txt,target=/x cat /x")
    assert "secret.txt" in kitchen.fails(files)


def test_variables(kitchen: Kitchen) -> None:
    text = dockerfile(
        "ARG WHERE=/a", "ENV SRC=f ID=some",
        "RUN --mount=target=${WHERE}/b,source=$SRC cat /a/b",
        "RUN --mount=type=tmpfs,target=$SRC,size=${SIZE:-1m} df -k /f | tail -n 1 | awk '{print $2}'",
    )  # fmt: skip
    assert said(kitchen, {"Dockerfile": text, "f": "by name\n"}) == ["by name", "1024"]
    assert said(kitchen, {"Dockerfile": text.replace("/a/b", "/c/b"), "f": "by name\n"}, "--build-arg", "WHERE=/c") == [
        "by name", "1024",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("target=/x,source=not-there", "not-there"),
        ("target=/x,from=not-there-at-all,source=y", "not-there-at-all"),
        ("target=/x,from=base,source=nix", "the source base:nix of a mount cannot be used: No such file"),
        ("target=/x,from=base,source=pipe", "is neither a file nor a directory"),
        ("target=/x,from=$HOME", "variables are not expanded in --from"),
        ("target=/x,from=last", "names this stage itself"),
        ("target=/etc/passwd", "the mount target /etc/passwd is not a directory in the image"),
        ("target=/etc/passwd/x", "the mount target /etc/passwd/x is not a directory in the image"),
        ("target=/etc,source=f", "the mount target /etc is a directory in the image"),
        ("target=/to-root", "the mount target /to-root is the root of the image"),
        ("type=bind", "--mount=type=bind needs a target"),
        ("target=/x,sorce=f", "did you mean source?"),
        ("type=cahce,target=/x", "did you mean cache?"),
        ("target=/x --mount=type=tmpfs,target=/x/", "two mounts at /x"),
        ("type=secret,id=s,required", "the secret s is required and was not given"),
        ("type=ssh,required", "the ssh agent default is required and was not given"),
    ],
)
def test_what_cannot_be(kitchen: Kitchen, flag: str, message: str) -> None:
    text = (
        f"FROM {BASE} AS base\nRUN mkfifo /pipe\nFROM {BASE} AS last\nRUN ln -s . /to-root\nRUN --mount={flag} true\n"
    )
    shown = kitchen.fails({"Dockerfile": text, "f": ""})
    assert message in shown
    assert "5 │ RUN --mount" in shown


@pytest.mark.parametrize("target", ["/proc", "/proc/self", "/etc/hosts", "/etc/resolv.conf/x"])
def test_targets_that_belong_to_the_run(kitchen: Kitchen, target: str) -> None:
    kitchen.fails(dockerfile(f"RUN --mount=type=cache,target={target} true"))


def test_one_mount_in_another(kitchen: Kitchen) -> None:
    text = dockerfile(
        "RUN --mount=type=tmpfs,target=/x --mount=target=/x/y/z,source=f cat /x/y/z",
        "RUN --mount=type=tmpfs,target=/tmp/in --mount=target=/tmp/in/f,source=f cat /tmp/in/f && ls /tmp",
    )
    built = kitchen.build({"Dockerfile": text, "f": "within\n"})
    assert not [name for name in built.files if name.startswith(("x", "tmp/"))]
    kitchen.fails({
        "Dockerfile": dockerfile("RUN --mount=target=/a/b,source=f --mount=type=tmpfs,target=/a/b/c true"), "f": "",
    })  # fmt: skip
    context = kitchen.context({"Dockerfile": dockerfile("RUN --mount=target=/a --mount=type=tmpfs,target=/a/b true")})
    kitchen.fails(context, code=125)
    assert [p.name for p in context.iterdir()] == ["Dockerfile"]


# --- cache


def test_a_cache_is_kept(fresh: Kitchen) -> None:
    text = dockerfile("ARG N", "RUN --mount=type=cache,target=/c echo $N >> /c/log && cat /c/log && ls /c")
    assert said(fresh, {"Dockerfile": text}, "--build-arg=N=1") == ["1", "log"]
    assert said(fresh, {"Dockerfile": text}, "--build-arg=N=2") == ["1", "2", "log"]
    assert said(fresh, {"Dockerfile": text}, "--build-arg=N=3", "--no-cache") == ["1", "2", "3", "log"]
    # Its content is in no cache key.
    assert said(fresh, {"Dockerfile": text}, "--build-arg=N=3") == []
    assert not [name for name in fresh.build(text, "--build-arg=N=3").files if name.startswith("c/") or name == "c"]


def test_caches_by_id(fresh: Kitchen) -> None:
    text = dockerfile(
        "WORKDIR /w",
        "RUN --mount=type=cache,target=/c echo target > /c/f",
        "RUN --mount=type=cache,target=/c/,id=other ls /c | wc -l; echo other > /c/f",
        "RUN --mount=type=cache,target=/d,id=/c cat /d/f",
        "RUN --mount=type=cache,target=/c/./ cat /c/f",
        "RUN --mount=type=cache,target=/e,id=other --mount=type=cache,target=/c cat /e/f /c/f",
        "RUN --mount=type=cache,target=/c,ro touch /c/new 2>/dev/null || echo read-only",
    )
    assert said(fresh, {"Dockerfile": text}) == ["0", "target", "target", "other", "target", "read-only"]


def test_owner_and_mode_of_a_cache(fresh: Kitchen) -> None:
    text = dockerfile(
        "RUN --mount=type=cache,target=/a --mount=type=cache,target=/b,mode=0700,uid=1000,gid=29 "
        "stat -c '%a %u %g' /a /b",
        "USER app",
        "RUN --mount=type=cache,target=/b touch /b/mine && ls /b",
    )
    assert said(fresh, {"Dockerfile": text}) == ["755 0 0", "700 1000 29", "mine"]


def test_a_cache_that_begins_with_something(fresh: Kitchen) -> None:
    text = f"""\
FROM {BASE} AS seed
RUN mkdir -p /s/d && echo seed > /s/d/f && chown 1000 /s/d/f
FROM {BASE}
RUN --mount=type=cache,target=/c,from=seed,source=/s cat /c/d/f && stat -c %u /c/d/f && echo changed > /c/d/f
RUN --mount=type=cache,target=/c,from=seed,source=/s echo $(cat /c/d/f)
RUN --mount=type=cache,target=/i,id=/c,source=d cat /i/f
"""
    assert said(fresh, {"Dockerfile": text}) == ["seed", "1000", "changed", "changed"]


@pytest.mark.parametrize("sharing", ["shared", "locked", "private"])
def test_one_cache_twice_in_one_run(kitchen: Kitchen, sharing: str) -> None:
    flags = " ".join(f"--mount=type=cache,id=two-{sharing},target={t},sharing={sharing}" for t in ("/a", "/b"))
    assert said(kitchen, {"Dockerfile": dockerfile(f"RUN {flags} echo x > /a/f && cat /b/f")}, "--no-cache") == ["x"]


def parallel(sharing: str, work: str) -> str:
    """Two stages that do `work` in the same cache, in parallel; the third waits for both."""
    stages = "".join(
        f"FROM {BASE} AS s{n}\n"
        f"RUN --mount=type=cache,id=p-{sharing},target=/c,sharing={sharing} {work.format(n=n)}\n"
        f"RUN touch /done{n}\n"
        for n in (1, 2)
    )
    return stages + f"FROM {BASE}\nCOPY --from=s1 /done1 /\nCOPY --from=s2 /done2 /\n"


# Tells whether another was inside at the same time.
MEET = (
    "sh -c 'touch /c/{n}; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do "
    "test $(ls /c | wc -l) = 2 && echo met && break; sleep 0.1; done; sleep 0.3; rm /c/{n}'"
)


@pytest.mark.parametrize(("sharing", "met"), [("shared", 2), ("private", 0), ("locked", 0)])
def test_sharing(fresh: Kitchen, sharing: str, met: int) -> None:
    assert said(fresh, {"Dockerfile": parallel(sharing, MEET)}, "--jobs=2").count("met") == met
    directories = list((fresh.orca.store / "cache").glob("mount-*/fs*/"))
    assert len([d for d in directories if d.is_dir()]) == (2 if sharing == "private" else 1)


def test_locks_are_taken_in_one_order(fresh: Kitchen) -> None:
    """Two stages that want the same two caches the other way round do not wait for each other for ever."""

    def mounts(*ids: str) -> str:
        return " ".join(f"--mount=type=cache,id={i},target=/{i},sharing=locked" for i in ids)

    text = "".join(
        f"FROM {BASE} AS {name}\n" + "".join(f"RUN {mounts(*ids)} echo {n} > /f\n" for n in range(8))
        for name, ids in (("one", "ab"), ("two", "ba"))
    )
    text += f"FROM {BASE}\nCOPY --from=one /f /1\nCOPY --from=two /f /2\n"
    result = fresh.orca("build", "--jobs=2", fresh.context(text), timeout=60)
    assert result.out.startswith("sha256:")


# --- tmpfs


def test_tmpfs(kitchen: Kitchen) -> None:
    text = dockerfile(
        "RUN --mount=type=tmpfs,target=/t,size=2m df -k /t | tail -n 1 | awk '{print $1, $2}'; "
        "head -c 3000000 /dev/zero > /t/f 2>/dev/null || echo full; stat -c %a /t",
        "RUN --mount=type=tmpfs,target=/var/lib ls /var/lib | wc -l; touch /var/lib/x",
        "RUN ls -d /t /var/lib/x 2>/dev/null || echo gone",
    )
    assert said(kitchen, {"Dockerfile": text}) == ["tmpfs 2048", "full", "1777", "0", "gone"]


# --- secrets


@pytest.fixture
def key(open_path: Path) -> Path:
    (open_path / "key").write_text(f"{SENTINEL}\nsecond line\n")
    return open_path / "key"


LOOK = "sh -c 'sha256sum < /run/secrets/s; stat -c \"%a %u %g\" /run/secrets/s'"


def test_a_secret_as_a_file(kitchen: Kitchen, key: Path) -> None:
    digest = run("sha256sum", stdin=key.read_bytes()).out
    text = (
        dockerfile(
            f"RUN --mount=type=secret,id=s {LOOK}",
            f"RUN --mount=type=secret,id=s,mode=0440,uid=1000,gid=29 {LOOK}",
            "USER app",
            "RUN --mount=type=secret,id=s cat /run/secrets/s 2>&1",
            "RUN --mount=type=secret,id=s,uid=1000,target=/deep/down/s cat /deep/down/s | wc -l",
            "USER root",
            "RUN --mount=type=secret,id=s sh -c 'echo > /run/secrets/s' 2>&1",
        )
        .replace("secrets/s 2>&1", "secrets/s 2>&1 || true")
        .replace("' 2>&1", "' 2>&1 || true")
    )
    lines = said(kitchen, {"Dockerfile": text}, f"--secret=id=s,src={key}")
    assert lines[:5] == [
        digest,
        "400 0 0",
        digest,
        "440 1000 29",
        "cat: can't open '/run/secrets/s': Permission denied",
    ]
    assert lines[5] == "2"
    assert "Read-only file system" in lines[6]


def test_a_secret_as_a_variable(kitchen: Kitchen) -> None:
    text = dockerfile(
        "RUN --mount=type=secret,id=s,env=TOKEN echo ${#TOKEN} && ls /run 2>/dev/null | wc -l",
        "RUN --mount=type=secret,id=s,env=TOKEN,target=/f echo ${#TOKEN} $(wc -c < /f)",
        "RUN echo ${TOKEN-unset}",
    )
    built = kitchen.build(text, "--secret=id=s,env=HOST", env={"HOST": SENTINEL})
    n = str(len(SENTINEL))
    assert said(kitchen, {"Dockerfile": text}, "--no-cache", "--secret=id=s,env=HOST", env={"HOST": SENTINEL}) == [
        n, "0", f"{n} {n}", "unset",
    ]  # fmt: skip
    assert not any("TOKEN=" in word for word in built.config.get("Env", []))


def test_a_secret_that_is_not_given(kitchen: Kitchen) -> None:
    text = dockerfile(
        "RUN --mount=type=secret,id=s --mount=type=secret,id=s,env=V ls /run/secrets 2>&1; echo ${V-unset}"
    )
    assert said(kitchen, {"Dockerfile": text})[-1] == "unset"
    shown = kitchen.fails(dockerfile("RUN --mount=type=secret,id=s,required true"))
    assert "--secret id=s,src=FILE" in shown
    assert "bad --secret" in kitchen.fails(text, "--secret=s", code=2)
    assert "cannot read" in kitchen.fails(text, "--secret=id=s,src=/not/there")


def test_a_secret_with_a_nul_byte_is_no_variable(kitchen: Kitchen, key: Path) -> None:
    key.write_bytes(b"a\0b-sentinel")
    said_ = kitchen.fails(dockerfile("RUN --mount=type=secret,id=s,env=V true"), f"--secret=id=s,src={key}")
    assert "the secret s holds a NUL byte" in said_
    assert "sentinel" not in said_


@pytest.mark.parametrize("progress", ["plain", "json"])
def test_a_secret_stays_nowhere(fresh: Kitchen, key: Path, progress: str) -> None:
    text = dockerfile(
        "RUN --mount=type=secret,id=s --mount=type=secret,id=s,env=V --mount=type=secret,id=s,target=/new/dir/s "
        "cat /run/secrets/s >&2; echo before $V after; tr '\\n' ' ' < /new/dir/s; cat /run/secrets/s; printf x$V; true",
        "RUN --mount=type=cache,target=/c --mount=type=secret,id=s env | wc -l",
    )
    result = fresh.run(text, f"--progress={progress}", f"--secret=id=s,src={key}", "-t", "kept", check=True)
    assert SENTINEL not in result.stderr + result.stdout
    assert "second line" not in result.stderr
    assert "before ***** ***** after" in result.stderr
    assert search(fresh.orca.store, SENTINEL) == []
    assert search(fresh.orca.store, "second line") == []
    assert any("before ***** ***** after" in p.read_text() for p in (fresh.orca.store / "builds").rglob("*.log"))
    built = fresh.build(text, f"--secret=id=s,src={key}")
    assert not [name for name in built.files if name.startswith(("new", "run", "c/"))]


def test_a_secret_stays_nowhere_when_the_run_fails(fresh: Kitchen, key: Path) -> None:
    text = dockerfile("RUN --mount=type=secret,id=s,env=V cat /run/secrets/s; echo $V >&2; exit 3")
    shown = fresh.fails(text, f"--secret=id=s,src={key}", code=3)
    assert SENTINEL not in shown
    assert search(fresh.orca.store, SENTINEL) == []


def test_a_secret_in_a_line_without_end(fresh: Kitchen, key: Path) -> None:
    """Wherever such a line is cut, the secret does not slip through."""
    text = dockerfile(
        "RUN --mount=type=secret,id=s S=$(head -n 1 /run/secrets/s); head -c 65520 /dev/zero | tr '\\0' z; printf $S; "
        "sleep 0.1; for i in 1 2 3 4; do head -c 16000 /dev/zero | tr '\\0' z; sleep 0.05; printf ${S%-*}; sleep 0.05; "
        "printf -- -${S##*-}; done"
    )
    result = fresh.run(text, "--progress=json", f"--secret=id=s,src={key}", check=True)
    text = "".join(e["text"] for e in parse_events(result.stderr) if e["event"] == "output")
    assert SENTINEL not in text
    assert text.count("z") == 65520 + 4 * 16000
    assert search(fresh.orca.store, SENTINEL) == []


def test_it_was_found_if_it_were_there(fresh: Kitchen) -> None:
    """The search of the tests above finds what a careless Dockerfile leaves."""
    fresh.build(dockerfile("RUN echo sentinel-careless > /f"))
    assert len(search(fresh.orca.store, "sentinel-careless")) >= 2


# --- what is left in the image


def test_no_mount_point_stays(kitchen: Kitchen) -> None:
    text = dockerfile(
        "RUN mkdir -m 750 /have && chown 1000:29 /have && touch -d @1000000000 /have /have",
        "RUN --mount=target=/have/a/b --mount=type=cache,target=/opt/c --mount=type=tmpfs,target=/have "
        "--mount=type=tmpfs,target=/srv/t --mount=target=/home/app/f,source=f echo > /root/made",
        "RUN --mount=target=/have/a/b --mount=type=tmpfs,target=/home/app/t true",
    ).replace("--mount=target=/have/a/b --mount=type=cache", "--mount=type=cache")
    built = kitchen.build({"Dockerfile": text, "f": ""})
    names = set(built.files)
    assert "root/made" in names
    assert not [n for n in names if n.split("/")[0] in ("opt", "srv") or n.startswith(("have/", "home/app/"))]
    have = built.files["have"]
    assert (have.permissions, have.owner, have.mtime) == ("750", (1000, 29), 1_000_000_000)


def test_what_is_made_beside_a_mount_point_stays(kitchen: Kitchen) -> None:
    text = dockerfile("RUN --mount=type=tmpfs,target=/new/t touch /new/t/no && touch /new/yes && mkdir /new/t2")
    files = kitchen.build(text).files
    assert {"new", "new/yes", "new/t2"} <= set(files)
    assert "new/t/no" not in files


# --- the step cache


def test_cache_keys(fresh: Kitchen, key: Path) -> None:
    text = dockerfile(
        "RUN --mount=target=/x,source=d --mount=type=secret,id=s --mount=type=cache,target=/c echo ran; cat /x/f"
    )
    context = fresh.context({"Dockerfile": text, "d/f": "1\n", "else": "1"})
    secret = f"--secret=id=s,src={key}"

    def ran(*options: str) -> list[str]:
        result = fresh.run(context, "--progress=json", *options, check=True)
        return [e["text"] for e in parse_events(result.stderr) if e["event"] == "output"]

    assert ran(secret) == ["ran", "1"]
    assert ran(secret) == []
    key.write_text("another secret\n")
    assert ran(secret) == []
    assert ran() == []
    (context / "else").write_text("2")
    assert ran() == []
    (context / "d/f").write_text("2\n")
    assert ran() == ["ran", "2"]
    (context / "d/f").chmod(0o600)
    assert ran() == ["ran", "2"]
    (context / "d/new").write_text("")
    assert ran() == ["ran", "2"]
    (context / "Dockerfile").write_text(text.replace("target=/c ", "target=/c2 "))
    assert ran() == ["ran", "2"]


def test_a_changed_stage_is_a_miss(fresh: Kitchen) -> None:
    text = f"FROM {BASE} AS a\nRUN echo {{}} > /f\nFROM {BASE}\nRUN --mount=from=a,target=/x cat /x/f\n"
    assert said(fresh, {"Dockerfile": text.format("one")}) == ["one"]
    assert said(fresh, {"Dockerfile": text.format("one")}) == []
    assert said(fresh, {"Dockerfile": text.format("two")}) == ["two"]


# --- ssh


@pytest.fixture
def ssh_agent(open_path: Path) -> Iterator[tuple[Path, str]]:
    """The socket of an agent, and the fingerprint of the key that it holds."""
    if not shutil.which("ssh-agent"):
        cannot("not installed: ssh-agent")
    place = open_path / "agent"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "a key", "-f", open_path / "id", env=dict(os.environ))
    with subprocess.Popen(["ssh-agent", "-D", "-a", place], stdout=subprocess.DEVNULL) as process:
        try:
            for _ in range(100):
                if place.exists():
                    break
                process.poll()
                threading.Event().wait(0.05)
            environment = {**os.environ, "SSH_AUTH_SOCK": str(place)}
            run("ssh-add", "-q", open_path / "id", env=environment)
            yield place, run("ssh-add", "-l", env=environment).out.split()[1]
        finally:
            process.terminate()


def with_ssh_add(kitchen: Kitchen, text: str) -> Path:
    """A context with ssh-add and the libraries that it needs."""
    need("ldd", "ssh-add")
    context = kitchen.context({"Dockerfile": text, "root/bin/": ""})
    binary = shutil.which("ssh-add")
    assert binary
    shutil.copy(binary, context / "root/bin/ssh-add")
    for library in re.findall(r"(/\S+)", run("ldd", binary).out):
        path = context / "root" / library.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, path)
    return context


def test_an_agent(kitchen: Kitchen, ssh_agent: tuple[Path, str]) -> None:
    place, fingerprint = ssh_agent
    text = dockerfile(
        "COPY root/ /",
        "RUN --mount=type=ssh ssh-add -l && stat -c '%a %u %F' $SSH_AUTH_SOCK",
        "RUN --mount=type=ssh,id=k,target=/a/sock,mode=0666 echo $SSH_AUTH_SOCK",
        "RUN --mount=type=ssh,uid=1000 su app -s /bin/sh -c 'ssh-add -l'",
        "RUN echo ${SSH_AUTH_SOCK-unset}; ls /run/buildkit /a 2>/dev/null || echo gone",
        "USER app",
        "RUN --mount=type=ssh ssh-add -l 2>&1 || echo none",
    )
    context = with_ssh_add(kitchen, text)
    result = kitchen.run(
        context, "--progress=json", "--ssh=default", f"--ssh=k={place}", env={"SSH_AUTH_SOCK": str(place)}, check=True
    )
    lines = [e["text"] for e in parse_events(result.stderr) if e["event"] == "output"]
    assert fingerprint in lines[0]
    assert lines[1:3] == ["600 0 socket", "/a/sock"]
    assert fingerprint in lines[3]
    assert lines[4:6] == ["unset", "gone"]
    assert lines[-1] == "none"


def test_no_agent(kitchen: Kitchen) -> None:
    text = dockerfile("RUN --mount=type=ssh echo ${SSH_AUTH_SOCK-unset}")
    assert said(kitchen, {"Dockerfile": text}) == ["unset"]
    # What the caller has is not passed on unasked.
    assert said(kitchen, {"Dockerfile": text}, "--no-cache", env={"SSH_AUTH_SOCK": "/x"}) == ["unset"]
    assert "there is no agent" in kitchen.fails(text, "--ssh=default", code=2)
    assert "is no private key" in kitchen.fails(text, "--ssh=k=/etc/passwd", code=2)


def test_keys(kitchen: Kitchen, open_path: Path) -> None:
    """Keys instead of an agent: orca starts one for the RUN, and nothing of them stays."""
    need("ssh-agent", "ssh-keygen")
    for name in ("one", "two"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", open_path / name, env=dict(os.environ))
    before = "COPY root/ /\n"
    context = with_ssh_add(kitchen, f"FROM {BASE}\n{before}RUN --mount=type=ssh,required ssh-add -l\nRUN true\n")
    keys = f"{open_path}/one,{open_path}/two"
    result = kitchen.run(context, f"--ssh=default={keys}", "--progress=json", check=True)
    lines = [e["text"] for e in parse_events(result.stderr) if e["event"] == "output"]
    assert [line.split()[2] for line in lines] == ["one", "two"]
    secret = (open_path / "one").read_text().splitlines()[2]
    assert search(kitchen.orca.store, secret) == []
    (open_path / "two").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nnonsense\n")
    assert "a passphrase" in kitchen.fails(context, f"--ssh=default={keys}", "--no-cache", code=2)
    (open_path / "two").write_text("-----BEGIN RSA PRIVATE KEY-----\nnonsense\n-----END RSA PRIVATE KEY-----\n")
    assert "ssh-add does not take a key" in kitchen.fails(context, f"--ssh=default={keys}", "--no-cache")


# --- an ordinary user


@pytest.mark.user
def test_as_an_ordinary_user(orca: Orca, busybox_layout: Layout, ordinary_user: User, open_path: Path) -> None:
    orca.load(busybox_layout, BASE, user=ordinary_user)
    (open_path / "key").write_text(f"{SENTINEL}\n")
    text = f"""\
FROM {BASE} AS a
RUN mkdir /out && echo stage > /out/f && chown 5:6 /out/f
FROM {BASE}
RUN --mount=target=/x --mount=from=a,source=out,target=/y,rw cat /x/f /y/f && echo no > /y/f && stat -c '%u %g' /y/f
RUN --mount=target=/x,rw echo no > /x/f && cat /x/f
RUN --mount=type=cache,target=/c,uid=1000,mode=0700 stat -c '%a %u' /c && echo cached > /c/f
RUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/t,size=1m cat /c/f && touch /t/f
RUN --mount=type=secret,id=s,uid=1000 stat -c '%a %u' /run/secrets/s && cat /run/secrets/s && echo > /made
"""
    context = Kitchen(orca).context({"Dockerfile": text, "f": "context\n"})
    leftovers = Leftovers(orca.top)
    result = orca(
        "build", "--progress=json", f"--secret=id=s,src={open_path / 'key'}", context, user=ordinary_user
    )  # fmt: skip
    lines = [e["text"] for e in parse_events(result.stderr) if e["event"] == "output"]
    assert lines == ["context", "stage", "5 6", "no", "700 1000", "cached", "400 1000", "*****"]
    assert (context / "f").read_text() == "context\n"
    assert search(orca.store_of(ordinary_user), SENTINEL) == []
    leftovers.assert_none()


def test_the_sockets_here_are_not_passed_by_name(kitchen: Kitchen, open_path: Path) -> None:
    """A socket in the context is no source of a mount."""
    context = kitchen.context(dockerfile("RUN --mount=target=/s,source=sock true"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(context / "sock"))
        shown = kitchen.run(context)
    assert shown.returncode == 125, shown
    assert "sock" in shown.stderr
