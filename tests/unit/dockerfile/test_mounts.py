"""RUN --mount: what each kind of mount knows, its defaults, and that nothing else gets through."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca.dockerfile.mounts import AGENT, OPTIONS, Mount, MountError, parse, size, source_stage

VARIABLES = {"$T": "/t", "$ID": "id", "$K": "cache", "$M": "0700"}


def expand(text: str) -> str:
    for name, value in VARIABLES.items():
        text = text.replace(name, value)
    return text


def mount(text: str, directory: str = "/w") -> Mount:
    return parse(text, expand, directory)


def bind(target: str, **more: Any) -> Mount:
    return Mount("bind", target, **{"read_only": True, **more})


def cache(target: str, **more: Any) -> Mount:
    return Mount("cache", target, **{"id": target, "mode": 0o755, **more})


def secret(target: str, name: str, **more: Any) -> Mount:
    return Mount("secret", target, **{"id": name, "mode": 0o400, **more})


def ssh(**more: Any) -> Mount:
    return Mount("ssh", **{"id": "default", "mode": 0o600, **more})


PARSED = [
    # bind, which is also what no type means
    ("target=/x", bind("/x")),
    ("type=bind,target=/x", bind("/x")),
    ("type=bind,dst=/x", bind("/x")),
    ("type=bind,destination=/x", bind("/x")),
    ("TYPE=bind,TARGET=/x", bind("/x")),
    ("target=/x,type=bind", bind("/x")),
    ("target=/x,source=a/b", bind("/x", source="a/b")),
    ("target=/x,src=/a", bind("/x", source="/a")),
    ("target=/x,from=base", bind("/x", from_="base")),
    ("target=/x,from=host.invalid:5000/a@sha256:00", bind("/x", from_="host.invalid:5000/a@sha256:00")),
    ("target=/x,rw", bind("/x", read_only=False)),
    ("target=/x,rw=true", bind("/x", read_only=False)),
    ("target=/x,readwrite=1", bind("/x", read_only=False)),
    ("target=/x,rw=false", bind("/x")),
    ("target=/x,ro=false", bind("/x", read_only=False)),
    ("target=/x,readonly", bind("/x")),
    ("target=/x,ro,rw", bind("/x", read_only=False)),
    # where the target is
    ("target=x/../y", bind("/w/y")),
    ("target=../../../x", bind("/x")),
    ("target=//x//y/", bind("/x/y")),
    ("target=.", bind("/w")),
    # cache
    ("type=cache,target=/x", cache("/x")),
    ("type=cache,target=/x/", cache("/x")),
    ("type=cache,target=x", cache("/w/x", id="x")),
    ("type=cache,target=/x,id=n", cache("/x", id="n")),
    ("type=cache,target=/x,id=../../n", cache("/x", id="../../n")),
    ("type=cache,target=/x,sharing=locked", cache("/x", sharing="locked")),
    ("type=cache,target=/x,sharing=private", cache("/x", sharing="private")),
    ("type=cache,target=/x,sharing=shared", cache("/x")),
    ("type=cache,target=/x,ro", cache("/x", read_only=True)),
    ("type=cache,target=/x,from=a,source=b", cache("/x", from_="a", source="b")),
    ("type=cache,target=/x,mode=0700,uid=1,gid=2", cache("/x", mode=0o700, uid=1, gid=2)),
    # tmpfs
    ("type=tmpfs,target=/x", Mount("tmpfs", "/x")),
    ("type=tmpfs,target=/x,size=64m", Mount("tmpfs", "/x", size=64 << 20)),
    # secret
    ("type=secret,id=s", secret("/run/secrets/s", "s")),
    ("type=secret,id=s,target=t", secret("/w/t", "s")),
    ("type=secret,target=/etc/t", secret("/etc/t", "t")),
    ("type=secret,id=s,env=V", secret("", "s", env="V")),
    ("type=secret,id=s,env=V,target=/t", secret("/t", "s", env="V")),
    ("type=secret,id=s,required", secret("/run/secrets/s", "s", required=True)),
    ("type=secret,id=s,required=false", secret("/run/secrets/s", "s")),
    ("type=secret,id=s,mode=4755,uid=0,gid=4294967294",
     secret("/run/secrets/s", "s", mode=0o4755, gid=4294967294)),
    # ssh
    ("type=ssh", ssh()),
    ("type=ssh,id=k,target=/a,required=true,mode=666,uid=5,gid=6",
     ssh(id="k", target="/a", required=True, mode=0o666, uid=5, gid=6)),
    # as CSV
    ('type=bind,"target=/a,b"', bind("/a,b")),
    ('type=bind,"target=/a""b"', bind('/a"b')),
    ("target=/x,source=a=b", bind("/x", source="a=b")),
    # variables
    ("type=$K,target=$T,id=$ID,mode=$M", cache("/t", id="id", mode=0o700)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), PARSED)
def test_parsed(text: str, expected: Mount) -> None:
    assert mount(text) == expected


REFUSED = [
    ("type=bing,target=/x", "unknown mount type 'bing'", "did you mean bind?"),
    ("type=zzz", "unknown mount type 'zzz'", "known are bind, cache, tmpfs, secret, ssh"),
    ("type=npipe,target=/x", "unknown mount type", "known are"),
    ("target=/x,targte=/y", "unknown option 'targte'", "did you mean target?"),
    ("target=/x,bind-propagation=rshared", "unknown option 'bind-propagation'", "known are"),
    ("target=/x,bind-nonrecursive", "unknown option", None),
    ("target=/x,Z", "unknown option 'z'", None),
    ("target=/x,consistency=cached", "unknown option", None),
    ("target=/x,upperdir=/etc", "unknown option", None),
    ("target=/x,size=1", "unknown option 'size' of --mount=type=bind", None),
    ("target=/x,id=a", "unknown option 'id'", None),
    ("type=tmpfs,target=/x,mode=1", "unknown option 'mode'", None),
    ("type=tmpfs,target=/x,rw", "unknown option 'rw'", None),
    ("type=secret,id=s,source=/etc/shadow", "unknown option 'source'", None),
    ("type=ssh,env=A", "unknown option 'env'", None),
    ("type=cache,target=/x,required", "unknown option 'required'", None),
    ("type=cache,target=/x,sharing=all", "sharing=all should be one of shared, private, locked", None),
    ("type=cache,target=/x,mode=8", "mode=8 should be an octal mode", None),
    ("type=cache,target=/x,mode=u+x", "should be an octal mode", None),
    ("type=cache,target=/x,mode=77777", "should be an octal mode", None),
    ("type=cache,target=/x,uid=-1", "uid=-1 should be a number", None),
    ("type=cache,target=/x,uid=root", "should be a number", None),
    ("type=cache,target=/x,gid=4294967295", "should be a number", None),
    ("type=cache,target=/x,uid=²", "should be a number", None),
    ("type=tmpfs,target=/x,size=many", "size=many should be a size", None),
    ("type=tmpfs,target=/x,size=-1", "should be a size", None),
    ("type=tmpfs,target=/x,size=1,size=2x", "should be a size", None),
    ("target=/x,ro=maybe", "ro=maybe should be true or false", None),
    ("target", "target should be given a value", None),
    ("target=", "should be a path", None),
    ("target=/x,from=", "should be a name", None),
    ("target=/x,from=$T", "should be a stage or image without variables", None),
    ("type=secret,id=s,env=A=B", "should be the name of a variable", None),
    ("type=secret,id=", "should be a name", None),
    ("type=bind", "needs a target", "add target=/PATH"),
    ("type=cache,id=a", "needs a target", None),
    ("type=tmpfs", "needs a target", None),
    ("type=secret", "a secret needs an id", None),
    ("target=/", "cannot have / as its target", None),
    ("target=//", "cannot have / as its target", None),
    ("target=/x/..", "cannot have / as its target", None),
    ("target=/x,", "has an empty option", None),
    ("target=/x,=y", "has an empty option", None),
    ('"target=/x', "cannot be read", None),
    ("target=/x\ntype=bind", "cannot be read", None),
]


@pytest.mark.parametrize(("text", "message", "hint"), REFUSED)
def test_refused(text: str, message: str, hint: str | None) -> None:
    with pytest.raises(MountError) as caught:
        mount(text)
    assert message in caught.value.message
    if hint:
        assert hint in (caught.value.hint or "")


def test_a_target_is_below_the_working_directory() -> None:
    assert mount("target=x", "/").target == "/x"
    assert mount("target=x", "").target == "/x"
    with pytest.raises(MountError, match="cannot have /"):
        mount("target=.", "/")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("1", 1), ("10b", 10), ("1k", 1024), ("1K", 1024), ("2kb", 2048), ("3MiB", 3 << 20), ("1g", 1 << 30),
     ("1TB", 1 << 40)],
)  # fmt: skip
def test_sizes(text: str, expected: int) -> None:
    assert size(text) == expected


@pytest.mark.parametrize("text", ["", "m", "1.5m", "1 m", "-1", "0x10", "1e3", "1mm", "9" * 19, "1\n", "50%"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="a size"):
        size(text)


def test_what_a_cache_key_holds() -> None:
    assert mount("type=tmpfs,target=/x").to_json() == {"kind": "tmpfs", "target": "/x"}
    assert mount("type=secret,id=s").to_json() == {
        "kind": "secret", "target": "/run/secrets/s", "id": "s", "mode": 0o400,
    }  # fmt: skip


def test_sources() -> None:
    assert source_stage("target=/x") is None
    assert source_stage("FROM=a,target=/x") == "a"
    assert source_stage("type=cache,target=/x,from=img:1") == "img:1"
    assert AGENT.startswith("/run/")


WORDS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(sorted({name for options in OPTIONS.values() for name in options} | {"type"})),
    st.sampled_from(["bind", "cache", "tmpfs", "secret", "ssh", "/x", "..", "/", "true", "1", "$T", '"', "\0"]),
)
TEXTS = st.lists(st.tuples(WORDS, st.sampled_from(["=", "", "=="]), WORDS).map("".join), max_size=6).map(",".join)


@given(TEXTS, st.sampled_from(["/", "/w", ""]))
def test_anything_is_a_mount_or_a_mount_error(text: str, directory: str) -> None:
    with contextlib.suppress(MountError):
        source_stage(text)
    try:
        found = mount(text, directory)
    except MountError as error:
        assert error.message
        return
    assert found.kind in OPTIONS
    assert found.target == "" or (found.target.startswith("/") and found.target.strip("/"))
    assert ".." not in found.target.split("/")
    assert found.target or found.env or found.kind == "ssh"
