"""The build checks that need only the text, which rules are chosen, and the examples of docs/checks.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from orca.dockerfile import checks, parser
from orca.dockerfile.checks import Selection
from orca.dockerfile.ignore import IgnoreRules
from orca.errors import DockerfileError, UsageError
from orca.oci.platform import Platform
from orca.plan import checks as plan_checks
from orca.plan.checks import Base, Facts
from orca.plan.scope import make_scope, platform_args
from orca.plan.stages import split

ALL = Selection(experimental=None)
AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
DOCS = Path(__file__).parents[3] / "docs" / "checks.md"

BUILDKIT = """
    ConsistentInstructionCasing CopyIgnoredFile DuplicateStageName ExposeInvalidFormat ExposeProtoCasing FromAsCasing
    FromPlatformFlagConstDisallowed InvalidBaseImagePlatform InvalidDefaultArgInFrom InvalidDefinitionDescription
    JSONArgsRecommended LegacyKeyValueFormat MaintainerDeprecated MultipleInstructionsDisallowed NoEmptyContinuation
    RedundantTargetPlatform ReservedStageName SecretsUsedInArgOrEnv StageNameCasing UndefinedArgInFrom UndefinedVar
    WorkdirRelativePath
""".split()


def lines(text: str, rule: str) -> list[int]:
    """Where the rule finds something."""
    source = parser.parse(text)
    return [found.span.first for found in checks.run(checks.RULES, source, ALL) if found.rule == rule]


@pytest.mark.parametrize(
    ("rule", "text", "expected"),
    [
        ("ConsistentInstructionCasing", "FROM x\nrun a\nRUN b", [2]),
        ("ConsistentInstructionCasing", "from x\nrun a\nRUN b", [3]),
        ("ConsistentInstructionCasing", "FROM x\nRun a", [2]),
        ("ConsistentInstructionCasing", "from x\nrun a", []),
        ("ConsistentInstructionCasing", "arg A\nFROM x\nRUN a", []),  # before FROM nothing counts
        ("ConsistentInstructionCasing", "FROM x\nrun a", [2]),  # a draw: upper case
        ("DuplicateStageName", "FROM x AS a\nFROM y AS b\nFROM z AS A", [3]),
        ("DuplicateStageName", "FROM x AS a\nFROM y AS b", []),
        ("DuplicateStageName", "FROM x\nFROM x", []),
        ("FromAsCasing", "FROM x as a", [1]),
        ("FromAsCasing", "from x AS a", [1]),
        ("FromAsCasing", "from x as a", []),
        ("FromAsCasing", "FROM x AS as", []),
        ("StageNameCasing", "FROM x AS Ab", [1]),
        ("StageNameCasing", "FROM x AS ab", []),
        ("StageNameCasing", "FROM --platform=$A X AS b", []),
        ("ReservedStageName", "FROM x AS scratch", [1]),
        ("ReservedStageName", "FROM x AS Context", [1]),
        ("ReservedStageName", "FROM scratch AS contexts", []),
        ("InvalidDefinitionDescription", "# what\nFROM x AS a", [2]),
        ("InvalidDefinitionDescription", "# a is good\nFROM x AS a", []),
        ("InvalidDefinitionDescription", "# what\n\nFROM x AS a", []),
        ("InvalidDefinitionDescription", "# what\nFROM x", []),
        ("InvalidDefinitionDescription", "# syntax=x\nFROM x AS a", []),
        ("InvalidDefinitionDescription", "FROM x\n# A first\n# note\nARG A", [4]),
        ("InvalidDefinitionDescription", "FROM x\n# note\n# B is one\nARG A=1 B", []),
        ("InvalidDefinitionDescription", "FROM x\nRUN <<#E\nx\n#E\nARG A", []),
        ("LegacyKeyValueFormat", "FROM x\nENV a b", [2]),
        ("LegacyKeyValueFormat", "FROM x\nLABEL a b c", [2]),
        ("LegacyKeyValueFormat", "FROM x\nENV a=b", []),
        ("MaintainerDeprecated", "FROM x\nMAINTAINER a", [2]),
        ("MaintainerDeprecated", "FROM x\nMAINTAINER a\nmaintainer b", [2, 3]),
        ("MaintainerDeprecated", "FROM x\nLABEL maintainer=a", []),
        ("NoEmptyContinuation", "FROM x\nRUN a \\\n\n b", [3]),
        ("NoEmptyContinuation", "FROM x\nRUN a \\\n# why\n b", []),
        ("NoEmptyContinuation", "FROM x\nRUN <<E\n\n\nE", []),
    ],
)  # fmt: skip
def test_rule(rule: str, text: str, expected: list[int]) -> None:
    assert lines(text, rule) == expected


def test_there_are_all_rules_of_buildkit() -> None:
    names = [rule.name for rule in (*checks.RULES, *plan_checks.RULES)]
    assert sorted(names) == sorted(BUILDKIT)
    assert [rule.name for rule in checks.RULES if rule.experimental] == ["InvalidDefinitionDescription"]
    assert all(plan_checks.description(name).endswith(".") for name in names)


# -- the selection


def chosen(text: str, given: str | None = None) -> list[str]:
    source = parser.parse(text)
    return [found.rule for found in checks.run(checks.RULES, source, checks.selection(source, given))]


@pytest.mark.parametrize(
    ("option", "rules"),
    [
        ("", ["FromAsCasing", "StageNameCasing"]),
        ("skip=FromAsCasing", ["StageNameCasing"]),
        ("skip = fromascasing , StageNameCasing", []),
        ("skip=all", []),
        ("error=true;skip=StageNameCasing", ["FromAsCasing"]),
        ("experimental=all", ["FromAsCasing", "InvalidDefinitionDescription", "StageNameCasing"]),
        ("experimental=InvalidDefinitionDescription;skip=FromAsCasing",
         ["InvalidDefinitionDescription", "StageNameCasing"]),
        ("experimental=Other", ["FromAsCasing", "StageNameCasing"]),
    ],
)  # fmt: skip
def test_selection(option: str, rules: list[str]) -> None:
    body = "# text\nFROM x as A"
    assert chosen(body, option) == rules
    if option:
        assert chosen(f"# check={option}\n{body}") == rules


def test_the_build_argument_takes_the_place_of_the_directive() -> None:
    assert chosen("# check=skip=all\nFROM x as a", "error=false") == ["FromAsCasing"]


@pytest.mark.parametrize(("text", "error"), [("error=true", True), ("error=0", False), ("skip=a", False)])
def test_error(text: str, error: bool) -> None:
    assert checks.selection(parser.parse("FROM x"), text).error is error


@pytest.mark.parametrize("option", ["what", "error=maybe", "skip", "other=1"])
def test_a_bad_option(option: str) -> None:
    with pytest.raises(UsageError, match="bad check option"):
        checks.selection(parser.parse("FROM x"), option)
    with pytest.raises(DockerfileError, match="bad check option") as caught:
        checks.selection(parser.parse(f"# syntax=x\n# check={option}\nFROM x"), None)
    assert caught.value.location is not None
    assert caught.value.location.line == 2


# -- what rules share


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("api_key", True), ("DATABASE_PASSWORD", True), ("GITHUB_TOKEN", True), ("secret_MESSAGE", True),
        ("AUTH", True), ("MY_AUTH_X", True), ("APIKEY", True), ("aws_credentials", True), ("PASSWD", True),
        ("MONKEY", False), ("author", False), ("public_key", False), ("KEYS", False), ("PUBLIC_TOKEN", False),
        ("publication_key", True), ("tokens", False),
    ],
)  # fmt: skip
def test_names_of_secrets(name: str, secret: bool) -> None:
    assert checks.is_secret(name) is secret


def test_descriptions() -> None:
    source = parser.parse("# b no\n\n# other\n# B  the  build\nFROM x AS b\nRUN <<E\n# A no\nE\nARG A\n#A yes\nARG A")
    found = source.instructions
    assert checks.describes(source, found[0], "b") == "the  build"
    assert checks.describes(source, found[2], "A") == ""
    assert checks.describes(source, found[3], "A") == "yes"


# -- the documentation


def examples() -> Iterator[tuple[str, str, str]]:
    for section in re.split(r"^## ", DOCS.read_text(), flags=re.MULTILINE)[1:]:
        rule, _, rest = section.partition("\n")
        for kind, text in re.findall(r"^(Bad|Good):\n\n```dockerfile\n(.*?)```", rest, re.MULTILINE | re.DOTALL):
            yield rule, kind, text


def test_every_rule_is_documented_with_two_examples() -> None:
    names = [rule.name for rule in (*checks.RULES, *plan_checks.RULES)]
    assert [(rule, kind) for rule, kind, _ in examples()] == [(n, k) for n in sorted(names) for k in ("Bad", "Good")]


def base(image: str, platform: Platform) -> Base | None:
    return Base(frozenset({"PATH"}), ARM64 if image == "busybox:arm" else AMD64)


@pytest.mark.parametrize(("rule", "kind", "text"), list(examples()))
def test_example(rule: str, kind: str, text: str) -> None:
    source = parser.parse(text)
    predefined = platform_args(AMD64, AMD64)
    scope = make_scope(source, split(source)[0], given={}, predefined=predefined, proxies={})
    facts = Facts(scope, AMD64, None, base, IgnoreRules.parse("*.log"))
    found = {finding.rule for finding in plan_checks.check(facts, ALL)}
    assert found == ({rule} if kind == "Bad" else set())
