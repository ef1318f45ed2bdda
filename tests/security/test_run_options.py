"""What a hostile image or Dockerfile may try with the options of RUN."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from security.conftest import Attack
from support.users import User


@pytest.fixture
def volume(open_path: Path, who: User | None) -> Path:
    """A directory of the caller's, with a file in it."""
    place = open_path / "volume"
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    (place / "mine").write_text("mine\n")
    return place


def test_target_of_a_volume_is_a_link(attack: Attack, who: User | None, canary: Path, volume: Path) -> None:
    """The image's link at a volume's target is resolved inside the image."""
    image = attack.busybox(who)
    trap = f"FROM {image}\nRUN mkdir /inside && ln -s {canary} /v && ln -s ../../../inside /w\n"
    attack.fine(trap, "-t", "trap", user=who)
    said = attack.fine(
        "FROM localhost/trap\n"
        f"RUN ls -d {canary} /inside; echo SEEN $(cat /v/mine) $(cat /inside/mine); touch /v/made\n"
        f"RUN rm -rf /v/* /w/*; ls {canary} 2>/dev/null; true\n",
        f"--volume={volume}:/v",
        f"--volume={volume}:/w:O",
        user=who,
    ).stderr
    assert "] SEEN mine mine\n" in said
    assert list(volume.iterdir()) == []  # what the RUN deleted there was granted


def test_read_only_volume(attack: Attack, who: User | None, canary: Path) -> None:
    """Neither a RUN nor a later mount of it makes it writable; the canary stays as it is."""
    image = attack.busybox(who)
    text = f"FROM {image}\nRUN touch /v/x; rm -rf /v/*; mount -o remount,bind,rw /v; echo > /v/file; umount /v; true\n"
    for mode in ("ro", "O"):
        attack.fine(text, f"--volume={canary}:/v:{mode}", user=who)
    attack.fine(text, f"--volume={canary}:/v:ro", "--cap-add=DAC_OVERRIDE,FOWNER", "--no-cache", user=who)


@pytest.mark.parametrize("target", ["/proc/self/fd", "/proc/1", "/proc"])
def test_volume_over_the_kernel_s_files(attack: Attack, busybox: str, canary: Path, target: str) -> None:
    attack.refused(f"FROM {busybox}\nRUN true\n", r"proc|mount target", f"--volume={canary}:{target}:ro")


def test_insecure_without_leave(attack: Attack, who: User | None) -> None:
    """CVE-2024-23653: by no way but --allow, and then in the namespace all the same."""
    image = attack.busybox(who)
    for text in (
        "RUN --security=insecure true",
        'ARG S=insecure\nRUN --security="insecure" true',
        "RUN --network=host true",
        "ARG N=host\nRUN --network=$N true",
    ):
        attack.refused(f"FROM {image}\n{text}\n", r"asks for|unknown --security", user=who)
    said = attack.fine(
        f"FROM {image}\nRUN --security=insecure date -s @0; echo s > /proc/sysrq-trigger; mknod /tmp/d b 7 0; true\n"
        "RUN test $(date +%s) -gt 1000000000 && echo SEEN\n",
        "--allow=security.insecure",
        user=who,
    ).stderr
    assert said.count("Operation not permitted") + said.count("Permission denied") >= 2
    assert "] SEEN" in said


def test_no_more_than_the_namespace_has(attack: Attack, who: User | None) -> None:
    image = attack.busybox(who)
    own = os.readlink("/proc/self/ns/user")
    said = attack.fine(
        f"FROM {image}\nRUN echo SEEN $(readlink /proc/self/ns/user); date -s @0; chroot /proc/1/root true; "
        "mknod /tmp/null c 1 3; swapoff -a; true\n",
        "--cap-add=ALL",
        user=who,
    ).stderr
    assert own not in said
    assert "Operation not permitted" in said


def test_names_for_resolv_conf_are_one_line(attack: Attack, busybox: str) -> None:
    for option in ("--dns-search=a\nnameserver 6.6.6.6", "--dns-option=\n", "--dns=1.1.1.1\n2.2.2.2"):
        attack.refused(f"FROM {busybox}\nRUN true\n", "--dns", option)
