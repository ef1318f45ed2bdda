"""orca-build: the old command line as the new one."""

from __future__ import annotations

import pytest

from orca.cli import ancestor, build
from orca.cli.ancestor import Translation
from orca.errors import UsageError


@pytest.mark.parametrize(
    ("words", "build"),
    [
        (".", "build -- ."),
        ("-t app .", "build -tapp -- ."),
        ("-t a -t b:1 -f Other .", "build -ta -tb:1 -fOther -- ."),
        ("--build-arg A=1 --build-arg B=x=y .", "build --build-arg=A=1 --build-arg=B=x=y -- ."),
        ("--clean .", "build --no-cache -- ."),
        ("--verbose .", "build --progress=plain --explain -- ."),
        ("--output out .", "build -ooci:out:latest -- ."),
        ("--output out -t app .", "build -tapp -ooci:out:app -- ."),
        ("--output out -t host.example:5000/x/app:v1 .", "build -thost.example:5000/x/app:v1 -ooci:out:v1 -- ."),
        ("--output out -t a:1 -t b:1 -t b:2 .", "build -ta:1 -tb:1 -tb:2 -ooci:out:1 -ooci:out:2 -- ."),
        ("--output ./a/b -t x .", "build -tx -ooci:./a/b:x -- ."),
        ("--output oci:out -t x .", "build -tx -ooci:out:x -- ."),
        ("--output oci:out:y -t x .", "build -tx -ooci:out:y -- ."),
        ("--output docker-archive:f.tar .", "build -odocker-archive:f.tar -- ."),
    ],
)
def test_translation(words: str, build: str) -> None:
    assert ancestor.translate(words.split()) == Translation(tuple(build.split()))


def test_gc_and_rootless() -> None:
    found = ancestor.translate(["--gc", "--rootless", "."])
    assert found.prune
    assert found.build == ("build", "--", ".")
    assert "--rootless" in found.notes[0]


def test_orca_build_understands_the_translation() -> None:
    found = ancestor.translate("-t app --output out --clean --verbose --build-arg A=-x -f - ctx".split())
    given = build.make_parser().parse(found.build[1:])
    assert (given.tag, given.output, given.no_cache, given.explain) == (["app"], ["oci:out:app"], True, True)
    assert (given.build_arg, given.file, given.context, given.progress) == (["A=-x"], "-", "ctx", "plain")


@pytest.mark.parametrize("words", [[], ["--nonsense", "."], ["-t", "UPPER", "--output", "o", "."]])
def test_bad_words(words: list[str]) -> None:
    with pytest.raises(UsageError):
        ancestor.translate(words)


def test_help_says_what_became_of_each_option() -> None:
    text = ancestor.make_parser().format_help()
    for word in ("orca build --no-cache", "orca prune", "oci:DIR:TAG", "--progress plain --explain"):
        assert word in text
