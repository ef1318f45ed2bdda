"""orca mount and umount with the real mounts, as root and as an ordinary user."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.images import Layout
from support.kitchen import BASE
from support.leftovers import Leftovers
from support.orca import Orca
from support.users import User

SEE = 'test -x "$ORCA_MOUNT/bin/busybox" && '


@pytest.mark.parametrize("who", ["self", pytest.param("user", marks=pytest.mark.user)])
def test_a_command_sees_the_files(
    orca: Orca, busybox_layout: Layout, ordinary_user: User, who: str, leftovers: Leftovers
) -> None:
    user = ordinary_user if who == "user" else None
    orca.load(busybox_layout, BASE, user)
    assert orca("mount", BASE, "--", "sh", "-c", SEE + "echo yes; exit 7", user=user, check=False).returncode == 7
    assert "busybox" in orca("mount", BASE, "--", "ls", "$ORCA_MOUNT/bin", user=user).stdout.split()
    denied = orca("mount", BASE, "--", "sh", "-c", 'echo x > "$ORCA_MOUNT/new"', user=user, check=False)
    assert denied.returncode and "Read-only" in denied.stderr
    write = 'echo x > "$ORCA_MOUNT/new" && cat "$ORCA_MOUNT/new"'
    assert orca("mount", "--rw", BASE, "--", "sh", "-c", write, user=user).stdout == "x\n"
    gone = orca("mount", BASE, "--", "sh", "-c", 'test ! -e "$ORCA_MOUNT/new"', user=user)
    assert gone.returncode == 0
    leftovers.assert_none()


@pytest.mark.root
def test_root_can_leave_a_mount(orca: Orca, busybox: str, store: Path) -> None:
    place = Path(orca("mount", busybox).out)
    try:
        assert (place / "bin/busybox").is_file()
        with pytest.raises(OSError, match="Read-only"):
            (place / "new").touch()
        assert str(place) in orca("mount").stdout
        assert "mounts" in orca("du").stdout
        # Neither without a name nor by prune --all may what is mounted go.
        orca("rm", busybox)
        orca("prune", "--all")
        assert (place / "bin/busybox").is_file()
        with (place / "bin/busybox").open("rb"):
            busy = orca("umount", place, check=False)
            assert busy.returncode == 125 and "unmounted: Device or resource busy" in busy.stderr
        assert (place / "bin/busybox").is_file()
    finally:
        assert orca("umount", "--all", "--force").out == str(place)
    assert not os.listdir(store / "mounts")
    assert len(orca("mount").stdout.splitlines()) == 1
    assert orca("umount", place, check=False).returncode == 2


@pytest.mark.root
def test_a_writable_one_changes_nothing(orca: Orca, busybox: str) -> None:
    place = Path(orca("mount", "--rw", busybox).out)
    (place / "new").write_text("x")
    assert orca("umount", busybox).out == str(place)
    assert not place.parent.exists()
    assert "new" not in orca("run", busybox, "/bin/ls", "/").stdout.split()


@pytest.mark.user
def test_what_cannot_be_mounted(orca: Orca, busybox_layout: Layout, ordinary_user: User) -> None:
    orca.load(busybox_layout, BASE, ordinary_user)
    for words, code, message in (
        (("mount", BASE), 2, "only root can leave a mount behind"),
        (("mount", BASE, "--"), 2, "no command after --"),
        (("mount", BASE, "ls"), 2, "put -- before a command"),
        (("mount", "--", "ls"), 2, "which image?"),
        (("mount", "nothing", "--", "ls"), 125, "no image 'nothing'"),
        (("mount", BASE, "--", "no-such-command"), 125, "no-such-command"),
        (("umount",), 2, "say which mounts"),
    ):
        result = orca(*words, user=ordinary_user, check=False)
        assert result.returncode == code, result
        assert message in " ".join(result.stderr.split())
