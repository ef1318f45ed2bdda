"""The build checks that need variables, stages, the ignore rules or base images."""

from __future__ import annotations

import pytest

from orca.dockerfile import parser
from orca.dockerfile.checks import Selection
from orca.dockerfile.ignore import IgnoreRules
from orca.dockerfile.instructions import Finding
from orca.oci.platform import Platform
from orca.plan import checks
from orca.plan.checks import Base, Facts
from orca.plan.scope import make_scope, platform_args
from orca.plan.stages import split

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
IMAGES = {"x": Base(frozenset({"PATH", "HOME"}), AMD64), "arm": Base(frozenset(), ARM64)}


def check(
    text: str, *, given: dict[str, str] | None = None, ignore: str = "", reached: frozenset[int] | None = None
) -> list[Finding]:
    source = parser.parse(text)
    scope = make_scope(
        source, split(source)[0], given=given or {}, predefined=platform_args(AMD64, AMD64), proxies={}
    )  # fmt: skip
    rules = IgnoreRules.parse(ignore)
    return checks.check(Facts(scope, AMD64, reached, lambda name, _: IMAGES.get(name), rules), Selection())


def found(rule: str, text: str, **more: object) -> list[int]:
    return [finding.span.first for finding in check(text, **more) if finding.rule == rule]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "text", "expected"),
    [
        ("CopyIgnoredFile", "FROM x\nCOPY a.log b /", [2]),
        ("CopyIgnoredFile", "FROM x\nARG N=a\nADD $N.log /", [3]),
        ("CopyIgnoredFile", "FROM x\nCOPY ./dir/../a.log /", [2]),
        ("CopyIgnoredFile", "FROM x\nCOPY b /", []),
        ("CopyIgnoredFile", "FROM x\nCOPY --from=x a.log /", []),
        ("CopyIgnoredFile", "FROM x\nCOPY *.log /", []),
        ("CopyIgnoredFile", "FROM x\nADD https://host.example/a.log /", []),
        ("CopyIgnoredFile", "FROM x\nCOPY kept /", []),  # something below comes back
        ("ExposeInvalidFormat", "FROM x\nEXPOSE 127.0.0.1:80:80", [2]),
        ("ExposeInvalidFormat", "FROM x\nEXPOSE 1 8080:80 [::1]:5:5", [2, 2]),
        ("ExposeInvalidFormat", "FROM x\nARG P=80:80\nEXPOSE $P", [3]),
        ("ExposeInvalidFormat", "FROM x\nEXPOSE 80 90/udp 1-2/tcp", []),
        ("ExposeProtoCasing", "FROM x\nEXPOSE 80/TCP", [2]),
        ("ExposeProtoCasing", "FROM x\nENV P=Udp\nEXPOSE 80/$P", [3]),
        ("ExposeProtoCasing", "FROM x\nEXPOSE 80 80/tcp", []),
        ("FromPlatformFlagConstDisallowed", "FROM --platform=linux/arm64 x", [1]),
        ("FromPlatformFlagConstDisallowed", "FROM --platform=$BUILDPLATFORM x", []),
        ("FromPlatformFlagConstDisallowed", "FROM --platform=arm64 x AS build_arm64", []),
        ("FromPlatformFlagConstDisallowed", "FROM --platform=?? x AS b", [1]),
        ("RedundantTargetPlatform", "FROM --platform=${TARGETPLATFORM} x", [1]),
        ("RedundantTargetPlatform", "FROM --platform=$TARGETPLATFORM x", [1]),
        ("RedundantTargetPlatform", "FROM --platform=$TARGETOS/arm64 x", []),
        ("InvalidBaseImagePlatform", "FROM arm", [1]),
        ("InvalidBaseImagePlatform", "FROM --platform=linux/arm64 arm", []),
        ("InvalidBaseImagePlatform", "FROM unknown", []),
        ("InvalidBaseImagePlatform", "FROM scratch AS arm\nFROM arm", []),
        ("InvalidDefaultArgInFrom", "ARG T\nFROM x:$T", [2]),
        ("InvalidDefaultArgInFrom", "ARG I\nFROM $I", [2]),
        ("InvalidDefaultArgInFrom", "ARG I=A:B:C\nFROM $I", [2]),
        ("InvalidDefaultArgInFrom", "ARG T=1\nFROM x:$T", []),
        ("InvalidDefaultArgInFrom", "ARG T\nFROM x:${T:-1}", []),
        ("InvalidDefaultArgInFrom", "FROM x AS base\nFROM base", []),
        ("JSONArgsRecommended", "FROM x\nCMD a", [2]),
        ("JSONArgsRecommended", "FROM x\nENTRYPOINT a", [2]),
        ("JSONArgsRecommended", 'FROM x\nCMD ["a"]', []),
        ("JSONArgsRecommended", 'FROM x AS b\nSHELL ["/b", "-c"]\nFROM b\nCMD a', []),
        ("JSONArgsRecommended", "FROM x\nHEALTHCHECK CMD a", []),
        ("MultipleInstructionsDisallowed", 'FROM x\nCMD ["a"]\nCMD ["b"]\nCMD ["c"]', [2, 3]),
        ("MultipleInstructionsDisallowed", "FROM x\nHEALTHCHECK NONE\nHEALTHCHECK CMD a", [2]),
        ("MultipleInstructionsDisallowed", 'FROM x AS b\nCMD ["a"]\nFROM b\nCMD ["b"]', []),
        ("MultipleInstructionsDisallowed", 'FROM x\nCMD ["a"]\nENTRYPOINT ["b"]', []),
        ("SecretsUsedInArgOrEnv", "FROM x\nARG TOKEN", [2]),
        ("SecretsUsedInArgOrEnv", "FROM x\nENV A=1 DB_PASSWORD=2", [2]),
        ("SecretsUsedInArgOrEnv", "FROM x\nENV PUBLIC_KEY=1\nLABEL key=1", []),
        ("UndefinedArgInFrom", "FROM x:$T", [1]),
        ("UndefinedArgInFrom", "FROM --platform=$PLAT x", [1]),
        ("UndefinedArgInFrom", "ARG T\nFROM --platform=$TARGETPLATFORM x:$T", []),
        ("UndefinedArgInFrom", "FROM x:${T:-1}", []),
        ("UndefinedArgInFrom", "FROM x\nARG T\nFROM x:$T", [3]),
        ("UndefinedVar", "FROM x\nCOPY $a /", [2]),
        ("UndefinedVar", "FROM x\nENV a=1 b=$a", [2]),
        ("UndefinedVar", "FROM x\nARG a\nWORKDIR /$a$PATH$HOME", []),
        ("UndefinedVar", "FROM x\nUSER ${a:-b}\nVOLUME ${a-b}${a:+c}\nSTOPSIGNAL ${a:?d}", []),
        ("UndefinedVar", "FROM x\nLABEL a='$b' c=\\$d", []),
        ("UndefinedVar", "FROM x\nRUN echo $a\nCMD [\"$a\"]", []),
        ("UndefinedVar", "FROM x\nRUN --mount=target=$a true", [2]),
        ("UndefinedVar", "ARG a=1\nFROM x\nEXPOSE $a", [3]),
        ("UndefinedVar", "FROM x AS b\nENV a=1\nFROM b\nEXPOSE $a", []),
        ("UndefinedVar", "FROM unknown\nEXPOSE $a", []),
        ("UndefinedVar", "FROM unknown\nARG PORTS\nEXPOSE $PORT", [3]),
        ("UndefinedVar", "FROM x\nENV a=$http_proxy b=$SOURCE_DATE_EPOCH", []),
        ("WorkdirRelativePath", "FROM x\nWORKDIR a", [2]),
        ("WorkdirRelativePath", "FROM x\nWORKDIR /a\nWORKDIR b", []),
        ("WorkdirRelativePath", "FROM x\nARG D=/a\nWORKDIR $D", []),
        ("WorkdirRelativePath", "FROM x AS b\nWORKDIR /a\nFROM b\nWORKDIR c\nFROM x\nWORKDIR d", [6]),
    ],
)  # fmt: skip
def test_rule(rule: str, text: str, expected: list[int]) -> None:
    assert found(rule, text, ignore="*.log\nkept\n!kept/a") == expected


def test_a_build_argument_does_not_hide_a_bad_default() -> None:
    assert found("InvalidDefaultArgInFrom", "ARG T\nFROM x:$T", given={"T": "1"}) == [2]


def message(text: str) -> str:
    (finding,) = [finding for finding in check(text) if finding.rule.startswith("Undefined")]
    return finding.message


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("FROM x\nARG VERSION=1\nLABEL a=$VERSOIN", "(did you mean $VERSION?)"),
        ("FROM x\nLABEL a=$PAHT", "(did you mean $PATH?)"),
        ("ARG V=1\nFROM x\nLABEL a=$V", "(ARG V brings it in)"),
        ("FROM x\nLABEL a=$TARGETARCH", "(ARG TARGETARCH brings it in)"),
        ("FROM --platform=$BUILDPLATFOM x", "(did you mean BUILDPLATFORM?)"),
    ],
)
def test_near_names(text: str, hint: str) -> None:
    assert hint in message(text)


def test_stages_that_are_not_built_do_not_count() -> None:
    text = "FROM x\nCMD a\nFROM x\nCMD b"
    assert found("JSONArgsRecommended", text) == [2, 4]
    assert found("JSONArgsRecommended", text, reached=frozenset({1})) == [4]


def test_findings_come_in_the_order_of_the_lines() -> None:
    assert [f.rule for f in check("FROM x as a\nWORKDIR b\nCMD c\nMAINTAINER d")] == [
        "FromAsCasing", "WorkdirRelativePath", "JSONArgsRecommended", "MaintainerDeprecated",
    ]  # fmt: skip


def test_a_broken_word_is_left_to_the_build() -> None:
    assert check("FROM x\nEXPOSE ${a\nLABEL b='c\nWORKDIR \"/d") == []
