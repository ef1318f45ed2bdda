"""ostree's command lines and the names of branches."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca.errors import ImageError
from orca.tools import ostree

DIFF_ID = f"sha256:{'a' * 64}"


def test_a_layer_is_named_by_its_diff_id() -> None:
    assert ostree.layer_branch(DIFF_ID) == f"ociimage/{'a' * 64}"
    with pytest.raises(ImageError):
        ostree.layer_branch("sha256:../../x")


def test_an_image_is_named_as_atomic_did() -> None:
    name = "docker.io/library/busybox:latest"
    assert ostree.image_branch(name) == "ociimage/docker.io_2Flibrary_2Fbusybox_3Alatest"


@given(st.text(), st.text())
def test_branches_of_images_are_plain_and_differ(one: str, other: str) -> None:
    one, other = (text.encode("utf-8", "replace").decode() for text in (one, other))
    assert re.fullmatch(r"ociimage/[\w.-]*", ostree.image_branch(one), re.ASCII)
    assert (one == other) == (ostree.image_branch(one) == ostree.image_branch(other))


def test_a_commit_has_nothing_of_here_and_now() -> None:
    command = ostree.commit_layer(Path("/repo"), DIFF_ID)
    assert {"--timestamp=@0", "--parent=none", "--no-bindings"} <= set(command.argv)
    assert "--tree=tar=/dev/stdin" in command.argv


def test_a_checkout_is_links_or_copies() -> None:
    links, copies = (ostree.checkout(Path("/repo"), DIFF_ID, Path("/t"), copy=copy).argv for copy in (False, True))
    assert set(copies) - set(links) == {"--force-copy"}
    assert copies[-2:] == (f"ociimage/{'a' * 64}", "/t")


def test_many_branches_fit_into_command_lines() -> None:
    names = [str(number) for number in range(1001)]
    groups = ostree.in_groups(names)
    assert [len(group) for group in groups] == [500, 500, 1]
    assert [name for group in groups for name in group] == names
