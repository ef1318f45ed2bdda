"""Which variables are seen where; docs/dockerfile.md, "Variables"."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from orca.dockerfile import parser
from orca.dockerfile.instructions import From, Instruction
from orca.errors import DockerfileError
from orca.oci.platform import Platform
from orca.plan import scope as scopes
from orca.plan.scope import Scope, make_scope
from orca.plan.stages import split

PREDEFINED = scopes.platform_args(Platform("linux", "arm", "v7"), Platform("linux", "amd64"))


def scope_of(text: str, given: Mapping[str, str] | None = None, proxies: Mapping[str, str] | None = None) -> Scope:
    source = parser.parse(text)
    global_args, _ = split(source)
    return make_scope(source, global_args, given=given or {}, predefined=PREDEFINED, proxies=proxies or {})


def origin(scope: Scope) -> Instruction:
    return next(each for each in scope.source.instructions if isinstance(each, From))


def test_platform_args() -> None:
    assert PREDEFINED == {
        "TARGETPLATFORM": "linux/arm/v7",
        "TARGETOS": "linux",
        "TARGETARCH": "arm",
        "TARGETVARIANT": "v7",
        "BUILDPLATFORM": "linux/amd64",
        "BUILDOS": "linux",
        "BUILDARCH": "amd64",
        "BUILDVARIANT": "",
    }


@pytest.mark.parametrize(
    ("args", "given", "image", "expected"),
    [
        ("ARG V=12", {}, "debian:$V", "debian:12"),
        ("ARG V=12", {"V": "13"}, "debian:$V", "debian:13"),
        ("ARG V=12", {"V": ""}, "debian:${V:-sid}", "debian:sid"),
        ("ARG V", {}, "debian:${V:-sid}", "debian:sid"),
        ("ARG V", {"V": "13"}, "debian:$V", "debian:13"),
        ("ARG A=1\nARG B=${A}2", {}, "x:$B", "x:12"),
        ("ARG A=1\nARG B=${A}2", {"A": "9"}, "x:$B", "x:92"),
        ("ARG A=1 B=${A}2", {}, "x:$B", "x:12"),
        ("ARG A=1\nARG A=2", {}, "x:$A", "x:2"),
        ("ARG B=$A\nARG A=1", {}, "x:v$B", "x:v"),
        ("ARG A='$B'", {}, "x:$A", "x:$B"),
        ("", {"V": "13"}, "x:v$V", "x:v"),  # not declared: not seen
        ("", {}, "x-$TARGETARCH:$BUILDOS", "x-arm:linux"),
        ("", {"TARGETARCH": "mine"}, "x-$TARGETARCH", "x-mine"),
        ("ARG TARGETARCH", {}, "x-$TARGETARCH", "x-arm"),
        ("ARG TARGETARCH=mine", {}, "x-$TARGETARCH", "x-mine"),
        ("ARG A=${TARGETOS}-$TARGETARCH", {}, "x:$A", "x:linux-arm"),
    ],
)
def test_from_lines(args: str, given: dict[str, str], image: str, expected: str) -> None:
    scope = scope_of(f"{args}\nFROM {image}", given)
    assert scope.expand(image, scope.in_from, origin(scope)) == expected


@pytest.mark.parametrize(
    ("name", "default", "given", "expected"),
    [
        ("V", None, {}, "12"),  # the global one's value
        ("V", "14", {}, "14"),  # the stage's own default beats it
        ("V", "14", {"V": "15"}, "15"),
        ("OTHER", None, {}, None),
        ("OTHER", "", {}, ""),
        ("OTHER", None, {"OTHER": ""}, ""),
        ("TARGETARCH", None, {}, "arm"),
        ("TARGETARCH", "x", {}, "x"),
        ("BUILDVARIANT", None, {}, ""),
        ("HTTP_PROXY", None, {}, None),  # the host's proxy is RUN's only
        ("HTTP_PROXY", None, {"HTTP_PROXY": "p"}, "p"),
    ],
)
def test_args_of_a_stage(name: str, default: str | None, given: dict[str, str], expected: str | None) -> None:
    scope = scope_of("ARG V=12\nFROM x", given, {"HTTP_PROXY": "http://host:1"})
    assert scope.arg_value(name, default) == expected


def test_proxies_of_the_command_line_beat_the_hosts() -> None:
    host = {"HTTP_PROXY": "host", "no_proxy": "local"}
    scope = scope_of("FROM x", {"HTTP_PROXY": "given", "all_proxy": "all", "OTHER": "x"}, host)
    assert scope.proxies == {"HTTP_PROXY": "given", "no_proxy": "local", "all_proxy": "all"}


def test_proxies_have_both_spellings() -> None:
    assert {"HTTPS_PROXY", "https_proxy", "NO_PROXY", "ftp_proxy"} <= scopes.PROXIES
    assert len(scopes.PROXIES) == 10


def test_a_bad_default_is_shown_at_its_line() -> None:
    with pytest.raises(DockerfileError, match="version is needed") as caught:
        scope_of('# a comment\nARG A="${B:?version is needed}"\nFROM x')
    at = caught.value.location
    assert at is not None and (at.line, at.lines) == (2, ('ARG A="${B:?version is needed}"',))


def test_expansion_keeps_to_the_escape_directive() -> None:
    scope = scope_of("# escape=`\nFROM x")
    assert scope.expand("a`$b\\c", {}.get, origin(scope)) == "a$b\\c"


def test_expand_words_cuts_unquoted_values() -> None:
    scope = scope_of("FROM x")
    values = {"A": "1 2", "E": ""}.get
    assert scope.expand_words('$A "$A" $E', values, origin(scope)) == ["1", "2", "1 2"]
    with pytest.raises(DockerfileError, match="closing double quote"):
        scope.expand_words('"$A', values, origin(scope))
