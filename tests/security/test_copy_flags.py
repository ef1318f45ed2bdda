"""Attacks on the flags of COPY and ADD: links among the parents, destinations that are traps, bombs of patterns."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from security.conftest import Attack
from support.built import Built
from support.users import User


@pytest.fixture
def linked(dockerfile_context: Callable[..., Path], canary: Path) -> Callable[[str], Path]:
    """`linked(instructions)`: a context in which links lead to the canary."""

    def make(text: str) -> Path:
        context = dockerfile_context({"Dockerfile": f"FROM localhost/busybox:latest\n{text}\n", "d/f": "f"})
        (context / "out").symlink_to(canary)
        (context / "up").symlink_to("../" * 12 + str(canary).lstrip("/"))
        (context / "d/out").symlink_to(canary / "dir")
        return context

    return make


@pytest.mark.parametrize(
    "source",
    ["out/shadow", "out/./shadow", "up/./dir", "up/dir/inner", "d/out/./inner", "d/out/inner", "./out/././file"],
)
def test_parents_through_links(source: str, attack: Attack, linked: Callable[[str], Path]) -> None:
    attack.busybox(None)
    reason = "does not go through links|no such file|leads nowhere|not a directory"
    attack.refused(linked(f"COPY --parents {source} /x/"), reason)


def test_parents_take_links_as_links(attack: Attack, linked: Callable[[str], Path], canary: Path) -> None:
    attack.busybox(None)
    result = attack.fine(linked("COPY --parents out d/out **/f /x/\nCOPY --parents out/** up/**/inner /y/"))
    files = Built(attack.orca.store / "images", result.out).files
    assert {name: file.target for name, file in files.items() if file.kind == "link" and name.startswith("x/")} == {
        "x/out": str(canary),
        "x/d/out": str(canary / "dir"),
    }
    assert not any(name.startswith("y") for name in files)


def test_link_into_a_trap(attack: Attack, linked: Callable[[str], Path], canary: Path, who: User | None) -> None:
    """What is below has links at the destination: the layer has directories there, however it is unpacked."""
    attack.busybox(who)
    text = (
        f"RUN ln -s {canary} /app && ln -s {canary}/file /file && ln -s ../../../..{canary} /up\n"
        "COPY --link d/f /app/dir/new\nCOPY --link d/f /file\nCOPY --link d /up/\nADD --link d/f /app/../app/\n"
        "RUN test ! -L /app && test ! -L /up && cat /app/dir/new /file /up/f > /seen"
    )
    result = attack.fine(linked(text), user=who)
    built = Built(attack.orca.store_of(who) / "images", result.out)
    assert built.files["seen"].text == "fff"
    assert [built.files[name].kind for name in ("app", "file", "up")] == ["dir", "file", "dir"]
    if who is None and not os.getuid():
        root = built.unpack(attack.orca.top / "unpacked")
        assert (root / "app/dir/new").read_text() == "f"
        assert not (root / "app").is_symlink()


def test_link_unpacks_an_archive_that_wants_out(attack: Attack, linked: Callable[[str], Path], canary: Path) -> None:
    attack.busybox(None)
    context = linked("ADD --link evil.tar /a/")
    with tarfile.open(context / "evil.tar", "w") as tar:
        for name, target in (("out", str(canary)), ("up", "../" * 9 + str(canary).lstrip("/"))):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
            tar.addfile(tarfile.TarInfo(f"{name}/planted"))
        tar.addfile(tarfile.TarInfo("../../../planted"))
    attack(context)  # whatever becomes of it: the canary is as it was


@pytest.mark.parametrize(
    "pattern",
    ["*a" * 400, "**/" * 400 + "x", "[a-z]*" * 300, "?" * 2000, "{a,b}" * 300, "(a+)+", "\\*" * 500, "**" * 900],
)
def test_patterns_that_could_explode(pattern: str, attack: Attack, linked: Callable[[str], Path]) -> None:
    attack.busybox(None)
    context = linked(
        f"COPY --exclude={pattern} --exclude=!{pattern} . /x/\nCOPY --parents ./d/./{pattern}* nothing*/{pattern} /y/"
    )
    (context / ("a" * 250)).mkdir()
    (context / ("a" * 250) / ("a" * 250)).write_text("")
    attack.fine(context)
    assert attack.seconds < 15


def test_more_patterns_than_are_taken(attack: Attack, linked: Callable[[str], Path]) -> None:
    attack.busybox(None)
    many = " ".join(f"--exclude={'*' * 90}{number}" for number in range(2000))
    attack.refused(linked(f"COPY {many} . /x/"), "the patterns have more than")
