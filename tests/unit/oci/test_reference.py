"""The grammar of image names."""

from __future__ import annotations

import re
import string
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca.errors import UsageError
from orca.oci import reference
from orca.oci.reference import Reference

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("app", Reference(None, "app")),
        ("app:1.0", Reference(None, "app", "1.0")),
        ("library/debian", Reference(None, "library/debian")),
        ("a/b/c/d:x", Reference(None, "a/b/c/d", "x")),
        ("localhost/app", Reference("localhost", "app")),
        ("localhost", Reference(None, "localhost")),
        ("localhost:5000", Reference(None, "localhost", "5000")),
        ("localhost:5000/app", Reference("localhost:5000", "app")),
        ("127.0.0.1:5000/a/b:t", Reference("127.0.0.1:5000", "a/b", "t")),
        ("[::1]:5000/app", Reference("[::1]:5000", "app")),
        ("[::1]/app", Reference("[::1]", "app")),
        ("example.org/app", Reference("example.org", "app")),
        ("host:1/app", Reference("host:1", "app")),
        ("Host/app", Reference("Host", "app")),
        ("a.b", Reference(None, "a.b")),
        (f"app@{DIGEST}", Reference(None, "app", None, DIGEST)),
        (f"example.org:5000/app:v1@{DIGEST}", Reference("example.org:5000", "app", "v1", DIGEST)),
        ("a__b-c--d.e_f", Reference(None, "a__b-c--d.e_f")),
        ("app:" + "t" * 128, Reference(None, "app", "t" * 128)),
        ("app:_x.y-Z", Reference(None, "app", "_x.y-Z")),
    ],
)
def test_parse(text: str, expected: Reference) -> None:
    assert reference.parse(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "App", "a b", "-app", "--help", "app ", "app\n", "app:", "app:-x", "app:.x", "app:" + "t" * 129,
        "app:a:b", "app@", "app@sha256:abc", "app@sha512:" + "0" * 128, f"@{DIGEST}", ":tag", "/app", "app/", "a//b",
        "a___b", "a..b", "a-/b", "a/-b", "host:/app", "host:x/app", "-host.org/app", "host-.org/app", "host..org/app",
        "[::1/app", "http://example.org/app", "docker://app", "../app", "./app", "a/../b", "äpp", "a\0b", "x" * 1025,
        "example.org/App",
    ],
)  # fmt: skip
def test_bad_names_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="bad image name") as caught:
        reference.parse(text)
    assert caught.value.hint


def test_hint_for_upper_case() -> None:
    with pytest.raises(UsageError) as caught:
        reference.parse("My/App:V1")
    assert caught.value.hint == "repository names are lower case: my/app:v1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("app", "localhost/app:latest"),
        ("app:1", "localhost/app:1"),
        ("team/app", "localhost/team/app:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("example.org/app", "example.org/app:latest"),
        ("example.org:5000/app:1", "example.org:5000/app:1"),
    ],
)
def test_local_name_of_what_is_built_here(text: str, expected: str) -> None:
    assert str(reference.local(text)) == expected


def test_new_image_has_no_digest() -> None:
    with pytest.raises(UsageError, match="a digest cannot be given"):
        reference.local(f"app@{DIGEST}")


def test_at_a_registry_with_a_prefix() -> None:
    assert str(reference.parse("team/app:1").at("example.org/mirror")) == "example.org/mirror/team/app:1"
    assert str(reference.parse("app").at("example.org")) == "example.org/app"


def test_tagged_leaves_digests_alone() -> None:
    assert str(reference.parse("app").tagged()) == "app:latest"
    assert str(reference.parse(f"app@{DIGEST}").tagged()) == f"app@{DIGEST}"


@settings(max_examples=200, deadline=None)
@given(st.text(string.ascii_letters + string.digits + "._-:/@[]", max_size=24))
def test_what_is_parsed_is_written_the_same(text: str) -> None:
    try:
        found = reference.parse(text)
    except UsageError:
        return
    assert str(found) == text
    assert reference.parse(str(found.tagged())) == found.tagged()


@pytest.mark.parametrize("text", ["a" * 1024 + "!", "a-" * 512, "a." * 512, "a/" * 512, "_" * 1024, "A" * 1000 + ":"])
def test_no_name_takes_long(text: str) -> None:
    begun = time.perf_counter()
    with pytest.raises(UsageError):
        reference.parse(text)
    assert time.perf_counter() - begun < 0.5


@pytest.mark.parametrize(
    ("text", "hint"),
    [("a.example:0/x", "0 is no port"), ("a.example:65536/x", "no port"),
     (f"a.example:{'9' * 900}/x", "no port|at most"),
     ("a.example/" + "x" * 246, "at most 255"), ("[::1]:70000/x", "no port")],
)  # fmt: skip
def test_what_no_registry_takes(text: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        reference.parse(text)
    assert re.search(hint, caught.value.hint or "")


def test_the_longest_name() -> None:
    assert reference.parse("a.example:65535/" + "x" * 239).path == "x" * 239
