"""What the command line gives to RUN, takes from it, and lets it ask for."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import cannot, need
from support.images import Layout
from support.kitchen import BASE, Kitchen, parse_events
from support.leftovers import Leftovers
from support.orca import CHECKOUT, Orca
from support.proc import run
from support.users import User

INSECURE = "--allow=security.insecure"


@pytest.fixture(autouse=True)
def nothing_stays(kitchen: Kitchen) -> Iterator[None]:
    """No mount, process or scratch file is left by any of these."""
    leftovers = Leftovers(kitchen.orca.top)
    yield
    leftovers.assert_none()


def status(lines: list[str]) -> dict[str, int]:
    """The capability sets in lines of /proc/self/status."""
    return {name: int(value, 16) for name, _, value in (line.partition(":") for line in lines) if name[:3] == "Cap"}


# --- what a Dockerfile may ask for


@pytest.mark.parametrize(
    ("flag", "message", "hint"),
    [
        ("--network=host", "asks for network.host", "--allow network.host"),
        ("--security=insecure", "asks for security.insecure", "--allow security.insecure"),
        ("--device=nvidia.com/gpu=all", "asks for a CDI device", "--device /dev/NAME"),
        ("--security=odd", "unknown --security=odd", "sandbox or insecure"),
    ],
)
def test_what_is_not_granted_is_refused(kitchen: Kitchen, flag: str, message: str, hint: str) -> None:
    told = kitchen.fails(f"FROM {BASE}\nRUN echo never\nRUN {flag} true\n", "--progress=plain")
    assert message in told
    assert hint in told
    assert "Dockerfile:3" in told


def test_a_trigger_of_a_base_is_granted_nothing(kitchen: Kitchen) -> None:
    kitchen.build(f"FROM {BASE}\nONBUILD RUN --security=insecure true\n", "-t", "trigger")
    told = kitchen.fails("FROM localhost/trigger\n")
    assert "asks for security.insecure" in told
    kitchen.build("FROM localhost/trigger\n", INSECURE)


def test_what_is_granted(kitchen: Kitchen) -> None:
    host = os.readlink("/proc/self/ns/net")
    assert kitchen.output("--network=host readlink /proc/self/ns/net", "--allow=network.host") == [host]
    assert kitchen.output("--network=host readlink /proc/self/ns/net", "--network=host") == [host]
    usual = kitchen.output("--security=sandbox grep -E 'Cap|Seccomp:' /proc/self/status", INSECURE)
    assert status(usual)["CapEff"] == 0xA80425FB
    assert "Seccomp:\t2" in usual
    lines = kitchen.output(
        "--security=insecure grep -E 'Cap|Seccomp:' /proc/self/status; mount -t tmpfs x /mnt && echo mounted;"
        " mount | grep -c ' /proc/'; true",
        INSECURE,
        before="WORKDIR /mnt\nWORKDIR /",
    )
    assert status(lines)["CapEff"] > 0x1FFFFFFFFF
    assert lines[-3:] == ["Seccomp:\t0", "mounted", "0"]


def test_security_is_part_of_the_key(kitchen: Kitchen) -> None:
    text = f"FROM {BASE}\nARG S=sandbox\nRUN --security={{}} cat /proc/self/status > /status\n"
    built = [kitchen.build(text.format(kind), INSECURE) for kind in ("insecure", "sandbox", "insecure")]
    seccomp = ["Seccomp:\t0" in one.files["status"].text for one in built]
    assert seccomp == [True, False, True]
    assert built[0].digest == built[2].digest


# --- capabilities and limits


def test_capabilities(kitchen: Kitchen) -> None:
    held = status(kitchen.output("grep Cap /proc/self/status", "--cap-add=sys_ptrace,CAP_SYS_TIME", "--cap-drop=mknod"))
    assert held["CapBnd"] == held["CapEff"] == (0xA80425FB | 1 << 19 | 1 << 25) & ~(1 << 27)
    assert status(kitchen.output("grep Cap /proc/self/status", "--cap-drop=all", "--cap-add=chown"))["CapEff"] == 1
    told = kitchen.fails(f"FROM {BASE}\nRUN true\n", "--cap-add=SYS_MAGIC", code=2)
    assert "there is no capability 'SYS_MAGIC'" in told


def test_a_capability_reaches_as_far_as_the_namespace(kitchen: Kitchen) -> None:
    """The clock, modules and the machine's power are nobody's in a user namespace."""
    lines = kitchen.output("date -s @0 2>&1; mount -t tmpfs x /tmp && echo mounted", "--cap-add=ALL")
    assert any("Operation not permitted" in line for line in lines)
    assert lines[-1] == "mounted"
    assert time.time() > 1_000_000_000


def test_limits_of_processes(kitchen: Kitchen) -> None:
    lines = kitchen.output(
        "ulimit -Sn; ulimit -Hn; ulimit -c; df -k /dev/shm | tail -n 1",
        "--ulimit=nofile=100:200", "--ulimit=core=0", "--shm-size=8m",
    )  # fmt: skip
    assert lines[:3] == ["100", "200", "0"]
    assert lines[3].split()[1] == "8192"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--ulimit=nofile=9999999999", "the hard limit here is"),
        ("--ulimit=nofile", "bad --ulimit"),
        ("--ulimit=nofile=2:1", "above the hard one"),
        ("--ulimit=magic=1", "bad --ulimit"),
        ("--shm-size=lots", "is no size"),
        ("--memory=1k", "too little"),
        ("--memory-swap=1g", "without --memory"),
        ("--cpu-quota=-5", "no number from"),
        ("--cpuset-cpus=a", "no list of numbers"),
        ("--allow=everything", "'everything' is unknown"),
        ("--allow=device", "no CDI devices"),
        ("--dns=example", "is not an address"),
        ("--volume=/nowhere-at-all:/x", "No such file or directory"),
        ("--volume=/tmp", "bad --volume"),
        ("--volume=/tmp:/", "cover the whole image"),
        ("--volume=/tmp:/x:U", "'U' is not supported"),
        ("--device=/etc/passwd", "is not a device"),
        ("--on-error=shell", "needs a terminal"),
        ("--env==x", "no name"),
    ],
)
def test_bad_options(kitchen: Kitchen, option: str, message: str) -> None:
    assert message in kitchen.fails(f"FROM {BASE}\n", option, code=2)


def cgroups_or_skip(kitchen: Kitchen) -> None:
    """Cgroups for us, with the controllers of memory and processors?"""
    result = kitchen.run(f"FROM {BASE}\nRUN true\n", "--memory=64m", "--cpu-shares=512", "--no-cache")
    if result.returncode:
        assert "cgroup" in result.stderr
        cannot("no cgroups for us here")


def test_memory_and_processors(kitchen: Kitchen) -> None:
    if os.getuid():
        cannot("cgroups are root's")
    cgroups_or_skip(kitchen)
    context = kitchen.context(
        f"FROM {BASE}\nRUN cat /proc/self/cgroup\nRUN head -c 200m /dev/zero | tail > /dev/null; echo $?\n"
        "RUN x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo $x | wc -c\n"
    )
    result = kitchen.run(context, "--memory=48m", "--memory-swap=48m", "--progress=plain", "--cpu-quota=50000")
    if "memory.memsw" in result.stderr:  # a kernel that does not count swap
        result = kitchen.run(context, "--memory=48m", "--progress=plain", "--cpu-quota=50000")
    assert "/orca-" in result.stderr
    assert result.returncode == 137, result
    assert "--memory gives it 48 MiB" in result.stderr
    for name in ("memory", "cpu", "cpuset"):
        assert not list(Path("/sys/fs/cgroup").glob(f"{name}/**/orca-*"))


def test_no_cgroups_for_an_ordinary_user(orca: Orca, busybox_layout: Layout, ordinary_user: User) -> None:
    orca.load(busybox_layout, BASE, user=ordinary_user)
    context = Kitchen(orca).context(f"FROM {BASE}\nRUN true\n")
    result = orca("build", "--memory=64m", context, user=ordinary_user, check=False)
    if result.returncode == 0:
        cannot("this user has cgroups")
    assert result.returncode == 125
    assert "cgroup" in result.stderr
    assert "systemd-run --user --scope" in result.stderr


# --- names


def test_resolv_conf(kitchen: Kitchen) -> None:
    options = (
        "--dns=192.0.2.1",
        "--dns=192.0.2.2",
        "--dns-search=a.test",
        "--dns-search=b.test",
        "--dns-option=ndots:3",
    )
    lines = kitchen.output("cat /etc/resolv.conf", *options)
    expected = ["nameserver 192.0.2.1", "nameserver 192.0.2.2", "search a.test b.test", "options ndots:3"]
    assert lines[:4] == expected
    assert not any(line.startswith(("nameserver", "search", "options")) for line in lines[4:])


def test_files_of_the_image_itself(kitchen: Kitchen) -> None:
    before = "COPY <<f /etc/hosts\n192.0.2.9 own\nf\nCOPY <<f /etc/resolv.conf\nnameserver 192.0.2.8\nf\n"
    text = (
        f"FROM {BASE}\n{before}RUN cat /etc/hosts /etc/resolv.conf; ls /etc/hostname; echo more >> /etc/hosts; true\n"
    )
    built = kitchen.build(text, "--no-hosts", "--dns=none", "--no-hostname", "--progress=plain")
    assert "192.0.2.9 own" in built.stderr
    assert "nameserver 192.0.2.8" in built.stderr
    assert "/etc/hostname: No such file" in built.stderr
    assert built.last["etc/hosts"].text == "192.0.2.9 own\nmore\n"
    plain = kitchen.build(text)
    assert plain.files["etc/hosts"].text == "192.0.2.9 own\n"
    assert "no meaning with --no-hosts" in kitchen.fails(text, "--no-hosts", "--add-host=a:192.0.2.1", code=2)


# --- volumes and devices


def test_volumes(kitchen: Kitchen, open_path: Path) -> None:
    place = open_path / "volume"
    place.mkdir()
    (place / "f").write_text("here\n")
    text = f"""FROM {BASE}
RUN cat /v/f /ro/f /o/f /deep/er/one; echo new > /v/new; echo new > /o/new; ls /o; touch /ro/x 2>&1 || true
RUN ls -d /v /ro /o /deep && ls /v
"""
    options = (f"-v={place}:/v", f"-v={place}:/ro:ro,Z", f"-v={place}:/o:O", f"--volume={place}/f:/deep/er/one:ro")
    result = kitchen.run(text, *options, "--progress=json", check=True)
    lines = [event["text"] for event in parse_events(result.stderr) if event["event"] == "output"]
    assert lines[:4] == ["here"] * 4
    assert lines[4:6] == ["f", "new"]
    assert "Read-only file system" in lines[6]
    assert sorted(p.name for p in place.iterdir()) == ["f", "new"]
    built = kitchen.build(text, *options)
    assert not {"v", "ro", "o", "deep"} & {name.split("/")[0] for name in built.files}
    # Volumes are part of the key, what is in them is not.
    assert "2 of 3 steps cached" not in kitchen.build(text, *options, "--progress=plain").stderr
    assert "ls: /v" in kitchen.fails(text, code=1)


def test_devices(kitchen: Kitchen) -> None:
    lines = kitchen.output("stat -c %t,%T /dev/nothing /dev/zero2", "--device=/dev/null:/dev/nothing:rw",
                           "--device=/dev/zero:/dev/zero2")  # fmt: skip
    assert lines == ["1,3", "1,5"]


# --- long things


def test_a_long_text(kitchen: Kitchen) -> None:
    """execve takes 128 KiB of one word."""
    filler = "".join(f": {number:09}; \\\n" for number in range(14000))
    assert len(filler) > 150_000
    built = kitchen.build(f"FROM {BASE}\nRUN {filler}  echo $0 end > /end\n")
    assert built.last["end"].text == "/bin/sh end\n"
    assert list(built.last) == ["end"]
    # What umoci is told is one word too.
    assert built.history[-1].startswith("RUN /bin/sh -c : 000000000; : 000000001; ")
    assert built.history[-1].endswith("…")
    told = kitchen.fails(f'FROM {BASE}\nRUN ["/bin/echo", "{"x" * 140_000}"]\n')
    assert "a word of /bin/echo has 140000 bytes" in told


def test_waiting_for_a_cache_can_be_interrupted(fresh: Kitchen) -> None:
    text = f"FROM {BASE}\nRUN --mount=type=cache,id=c,target=/c,sharing=locked echo got\n"
    fresh.build(text)
    (lock,) = (fresh.orca.store / "cache").glob("mount-*/fs.lock")
    with lock.open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = fresh.orca.start("build", "--no-cache", "--progress=plain", fresh.context(text))
        deadline = time.monotonic() + 30
        while "[2/2] RUN" not in fresh.orca.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        waiting.send_signal(signal.SIGINT)
        try:
            assert waiting.wait(20) == 130
        except subprocess.TimeoutExpired:
            waiting.kill()
            raise
    assert "\n[2/2] got" not in fresh.orca.log.read_text()


def test_a_log_file(kitchen: Kitchen, open_path: Path) -> None:
    log = open_path / "log"
    log.write_text("before\n")
    built = kitchen.build(f"FROM {BASE}\nRUN echo told\n", "--no-cache", f"--logfile={log}", "--progress=plain")
    assert built.stderr == ""
    assert log.read_text().startswith("before\n")
    assert "[2/2] told\n" in log.read_text()
    told = kitchen.fails(f"FROM {BASE}\nRUN false\n", f"--logfile={log}", code=1)
    assert "RUN ended with exit code 1" in told
    assert "No such file" in kitchen.fails(f"FROM {BASE}\n", "--logfile=/none/at/all")


def test_environment(kitchen: Kitchen) -> None:
    text = f"FROM {BASE} AS a\nLABEL keep=1 drop=2\nENV OWN=1 GONE=2\nFROM a\nRUN echo $A $B $OWN $GONE > /f\n"
    options = ("--env=A=1", "--env=B", "--unsetenv=GONE", "--unsetlabel=drop")
    built = kitchen.build(text, *options, env={"B": "from here"})
    assert built.files["f"].text == "1 from here 1 2\n"
    assert {"A": "1", "B": "from here", "OWN": "1"}.items() <= built.env.items()
    assert "GONE" not in built.env
    assert built.config["Labels"] == {"keep": "1"}
    again = kitchen.build(text, *options, env={"B": "from here"})
    assert again.digest == built.digest
    assert "GONE" in kitchen.build(text).env


def test_a_file_of_build_arguments(kitchen: Kitchen, open_path: Path) -> None:
    file = open_path / "args"
    file.write_text("# a comment\nA=1\n\n  B = two words \nC=from the file\nHOSTS\n")
    text = f"FROM {BASE}\nARG A\nARG B\nARG C\nARG HOSTS\nRUN echo $A,$B,$C,$HOSTS\n"
    result = kitchen.run(text, f"--build-arg-file={file}", "--build-arg=C=word", "--progress=plain", "--no-cache",
                         env={"HOSTS": "here"}, check=True)  # fmt: skip
    assert "] 1,two words,word,here\n" in result.stderr
    file.write_text("=x\n")
    assert "args:1" in kitchen.fails(text, f"--build-arg-file={file}", code=2)
    assert "cannot read" in kitchen.fails(text, "--build-arg-file=/none")


# --- the table of flags


def test_every_flag_of_buildah_is_in_the_table() -> None:
    need("buildah")
    said = run("buildah", "bud", "--help", check=False).stdout
    flags = set(re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", said, re.MULTILINE))
    assert len(flags) > 80
    table = (CHECKOUT / "docs" / "options.md").read_text("utf-8")
    assert [flag for flag in sorted(flags) if not re.search(rf"^\|[^|]*`{flag}`", table, re.MULTILINE)] == []


def test_a_flag_that_is_not_meant(kitchen: Kitchen) -> None:
    assert "orca makes no attestations" in kitchen.fails(f"FROM {BASE}\n", "--sbom=true", code=2)
    kitchen.build(f"FROM {BASE}\n", "--provenance=false", "--sbom", "false", "--rm", "--force-rm", "--isolation=oci")
