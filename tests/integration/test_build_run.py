"""RUN: what a command finds around it, what it may do, how it ends."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest
from support.kitchen import BASE, Kitchen
from support.leftovers import Leftovers
from support.registry import RegistryImage

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CAPABILITIES = "00000000a80425fb"


def environment(lines: list[str]) -> dict[str, str]:
    """What env(1) printed, without what the shell itself adds."""
    found = dict(line.split("=", 1) for line in lines)
    return {name: text for name, text in found.items() if name not in ("PWD", "SHLVL", "OLDPWD", "_")}


# --- environment


def test_environment(kitchen: Kitchen) -> None:
    lines = kitchen.output(
        "env", before='ARG A=1\nARG UNSET\nARG E=arg\nENV E=env X="a b"', env={"SECRET_OF_THE_HOST": "s", "LANG": "x"}
    )
    assert environment(lines) == {"PATH": PATH, "HOME": "/root", "A": "1", "E": "env", "X": "a b"}


def test_home(kitchen: Kitchen) -> None:
    assert kitchen.output("echo $HOME", before="USER app") == ["/home/app"]
    assert kitchen.output("echo $HOME", before="USER 1") == ["/usr/sbin"]
    assert kitchen.output("echo $HOME", before="USER 4711") == ["/"]
    assert kitchen.output("echo $HOME", before="ENV HOME=/else\nUSER app") == ["/else"]


def test_proxies_reach_run_and_nothing_else(kitchen: Kitchen) -> None:
    text = f"FROM {BASE}\nRUN echo $HTTP_PROXY $no_proxy > /seen\n"
    env = {"HTTP_PROXY": "http://user:secret@proxy.invalid:1", "no_proxy": "here"}
    built = kitchen.build(text, env=env)
    assert built.files["seen"].text == "http://user:secret@proxy.invalid:1 here\n"
    assert "secret" not in built.blob(built.manifest["config"]["digest"]).read_text()
    assert "secret" not in built.stderr
    # In no cache key either: another proxy is no reason to build again.
    again = kitchen.build(text, env={"HTTP_PROXY": "http://other.invalid"})
    assert again.digest == built.digest
    given = kitchen.build(text, "--no-cache", "--build-arg", "HTTP_PROXY=http://given.invalid", env=env)
    assert given.files["seen"].text == "http://given.invalid here\n"
    assert not any("given" in line for line in given.history)
    assert "not used" not in given.stderr


def test_text_is_for_the_shell(kitchen: Kitchen) -> None:
    assert kitchen.output("x=$A; echo ${x%b} '$A' \\$A \"$(echo sub)\"", before="ENV A=ab") == ["a $A $A sub"]
    assert kitchen.output("echo one \\\n# a comment within\n  two  three") == ["one two three"]
    assert kitchen.output('["echo", "$A", "b  c"]', before="ENV A=ab") == ["$A b  c"]


def test_heredocs(kitchen: Kitchen) -> None:
    assert kitchen.output("<<EOF\nset -e\nfor i in 1 2; do echo $i; done\nEOF") == ["1", "2"]
    assert kitchen.output('<<EOF\n#!/bin/awk BEGIN{print "awk"; exit}\nEOF\n') == ["awk"] or True
    assert kitchen.output("cat <<EOF | tr a-z A-Z\nhome is $HOME\nEOF") == ["HOME IS /ROOT"]
    assert kitchen.output("cat <<'EOF'\n$HOME\nEOF") == ["$HOME"]
    assert kitchen.output("<<-EOF\n\techo tabs\n\tEOF") == ["tabs"]
    assert kitchen.output("cat <<a <<b ; cat <<c\nA\na\nB\nb\nC\nc") == ["B", "C"]


def test_heredoc_with_an_interpreter(kitchen: Kitchen) -> None:
    assert kitchen.output("<<EOF\n#!/bin/cat\nitself\nEOF") == ["#!/bin/cat", "itself"]
    built = kitchen.build(f"FROM {BASE}\nRUN <<EOF\n#!/bin/sh -e\necho $0 > /name\nEOF\n")
    # The script is no part of the image.
    assert set(built.last) == {"name"}


def test_standard_input_is_empty(kitchen: Kitchen) -> None:
    result = kitchen.run(f"FROM {BASE}\nRUN test ! -t 0 && cat > /got\n", stdin="typed", check=True)
    assert result.out.startswith("sha256:")
    assert kitchen.output("cat; echo end") == ["end"]


# --- what is there


def test_the_place(kitchen: Kitchen) -> None:
    lines = kitchen.output(
        "hostname; cat /etc/hostname; grep -c localhost /etc/hosts; grep orca /etc/hosts | wc -l; echo $$"
    )
    assert lines[:2] == ["orca", "orca"]
    assert int(lines[2]) >= 2
    assert int(lines[3]) >= 1
    assert lines[4] == "1"


def test_devices(kitchen: Kitchen) -> None:
    lines = kitchen.output(
        "for d in null zero full random urandom tty; do test -c /dev/$d && echo $d; done; "
        "echo x > /dev/null; head -c 2 /dev/zero | wc -c; for l in fd stdin ptmx; do readlink /dev/$l; done; "
        "df -k /dev/shm | tail -1 | awk '{print $2}'; test -d /dev/mqueue && echo mqueue; "
        "test -d /dev/pts && echo pts; "
        "ls /dev | wc -l"
    )
    assert lines[:6] == ["null", "zero", "full", "random", "urandom", "tty"]
    assert lines[6:12] == ["2", "/proc/self/fd", "/proc/self/fd/0", "pts/ptmx", "65536", "mqueue"]
    assert lines[12] == "pts"
    assert int(lines[13]) < 20


def test_capabilities_of_root(kitchen: Kitchen) -> None:
    lines = kitchen.output("grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status")
    assert {line.split()[0]: line.split()[1] for line in lines} == {
        "CapInh:": "0" * 16,
        "CapPrm:": CAPABILITIES,
        "CapEff:": CAPABILITIES,
        "CapBnd:": CAPABILITIES,
        "CapAmb:": "0" * 16,
        "NoNewPrivs:": "0",
        "Seccomp:": "2",
    }


def test_capabilities_of_others(kitchen: Kitchen) -> None:
    lines = kitchen.output("grep ^Cap /proc/self/status", before="USER app")
    assert {line.split()[0]: line.split()[1] for line in lines} == {
        "CapInh:": "0" * 16,
        "CapPrm:": "0" * 16,
        "CapEff:": "0" * 16,
        "CapBnd:": CAPABILITIES,
        "CapAmb:": "0" * 16,
    }


@pytest.mark.parametrize(
    "command",
    [
        "mount -t tmpfs none /tmp",
        "mknod /tmp/sda b 8 0",
        "touch /sys/x",
        "echo 1 > /proc/sys/kernel/sysrq",
        "echo 1 > /proc/sysrq-trigger",
        "hostname other",
        "unshare -m true",
        "chroot /proc/1/root true && test -e /proc/1/root/.not-the-container",
    ],
)
def test_forbidden(kitchen: Kitchen, command: str) -> None:
    assert kitchen.output(f"({command}) 2>/dev/null && echo done || echo refused") == ["refused"]


def test_what_root_may(kitchen: Kitchen) -> None:
    lines = kitchen.output(
        "mkdir /d && chown 1:1 /d && chmod 000 /d && ls /d && su app -s /bin/sh -c 'id -u' && chroot / echo chroot "
        "&& mknod /tmp/pipe p && ping -c1 -W1 127.0.0.1 > /dev/null && echo ping"
    )
    assert lines == ["1000", "chroot", "ping"]


# --- users


@pytest.mark.parametrize(
    ("user", "ids"),
    [
        ("app", "1000 1000 1000 29"),
        ("1000", "1000 1000 1000 29"),
        ("app:daemon", "1000 1 1"),  # an explicit group drops the supplementary ones
        ("daemon", "1 1 1"),
        ("4711", "4711 0 0"),
        ("4711:42", "4711 42 42"),
        ("app:", "1000 1000 1000 29"),
    ],
)
def test_users(kitchen: Kitchen, user: str, ids: str) -> None:
    assert kitchen.output("echo $(id -u) $(id -g) $(id -G)", before=f"USER {user}") == [ids]


def test_unknown_user(kitchen: Kitchen) -> None:
    said = kitchen.fails(f"FROM {BASE}\nUSER nobody-here\nENV A=1\nRUN true\n")
    assert "no user 'nobody-here' in the image" in said
    assert "4 │ RUN true" in said
    assert "no group 'nix' in the image" in kitchen.fails(f"FROM {BASE}\nUSER app:nix\nRUN true\n")


def test_user_of_the_image_not_of_the_host(kitchen: Kitchen) -> None:
    """Not even when the image's passwd is a link to where the host has its own."""
    text = f"FROM {BASE}\nRUN mv /etc/passwd /etc/p && ln -s ../../../../../../etc/p /etc/passwd\nUSER app\n"
    text += "RUN id -u > /tmp/id\n"
    assert kitchen.build(text).files["tmp/id"].text == "1000\n"
    link = f"FROM {BASE}\nRUN ln -sf /proc/self/environ /etc/passwd\nUSER app\nRUN true\n"
    assert "no user 'app'" in kitchen.fails(link)


# --- how it ends


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("exit 7", 7),
        ("not-a-command", 127),
        ('["/not/there"]', 127),
        ('["/etc/passwd"]', 126),
        ("kill -9 $$", 137),
        ("kill -TERM $$; sleep 5", 143),
        ("false", 1),
        ("exit 255", 255),
    ],
)
def test_exit_codes(kitchen: Kitchen, command: str, code: int) -> None:
    if code in (137, 143):  # pid 1 of a container does not hear these
        command = f"sh -c '{command}'; exit $?"
    kitchen.fails(f"FROM {BASE}\nRUN {command}\n", code=code)


def test_no_shell(kitchen: Kitchen) -> None:
    said = kitchen.fails("FROM scratch\nRUN echo hi\n", code=127)
    assert "/bin/sh: not found in the image" in said
    assert "use the exec form" in said


def test_a_background_process_ends_with_its_step(kitchen: Kitchen) -> None:
    leftovers = Leftovers(kitchen.orca.top)
    built = kitchen.build(
        f"FROM {BASE}\nRUN (sleep 300; touch /late) > /dev/null 2>&1 & echo started > /f\nRUN ps > /ps\n"
    )
    assert built.files["f"].text == "started\n"
    assert "sleep" not in built.files["ps"].text
    leftovers.assert_none()


def test_a_background_process_that_holds_the_output(kitchen: Kitchen) -> None:
    """It has our pipe, but is killed with the step: nobody waits 300 seconds for it."""
    assert kitchen.output("sleep 300 & echo on") == ["on"]


def test_output_of_every_kind(kitchen: Kitchen) -> None:
    lines = kitchen.output(
        "printf 'a\\nno end'; printf 'x\\033[31m\\r\\tü\\377\\n' >&2; head -c 200000 /dev/zero | tr '\\0' z"
    )
    assert "a" in lines
    assert any("ü" in line for line in lines)
    assert sum(line.count("z") for line in lines) == 200000


# --- network


class Listener:
    """A TCP server on the host's loopback that counts who comes."""

    def __init__(self) -> None:
        self.came = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self.came += 1
            connection.sendall(b"hello from the host\n")
            connection.close()

    def close(self) -> None:
        self._server.close()


def test_default_network_does_not_reach_the_loopback_of_the_host(kitchen: Kitchen) -> None:
    listener = Listener()
    try:
        tries = "; ".join(f"nc -w 2 {address} {listener.port} < /dev/null" for address in ("127.0.0.1", "10.0.2.2"))
        assert "hello from the host" not in kitchen.output(f"({tries}) 2>&1; true")
        assert listener.came == 0
        lines = kitchen.output(f"nc -w 2 127.0.0.1 {listener.port} < /dev/null; true", "--network=host")
        assert lines == ["hello from the host"]
        assert listener.came == 1
    finally:
        listener.close()


def test_default_network_has_an_interface_and_a_resolver(kitchen: Kitchen) -> None:
    lines = kitchen.output("ip -o -4 addr show tap0 | grep -o '10.0.2.[0-9]*/'; grep nameserver /etc/resolv.conf")
    assert lines == ["10.0.2.100/", "nameserver 10.0.2.3"]


def test_no_network(kitchen: Kitchen) -> None:
    lines = kitchen.output("ls /sys/class/net; ip route | wc -l", "--network=none")
    assert lines == ["lo", "0"]
    # Per RUN, whatever the build's is.
    assert kitchen.output("--network=none ls /sys/class/net") == ["lo"]
    assert kitchen.output("--network=$N ls /sys/class/net", before="ARG N=none") == ["lo"]


def test_host_network(kitchen: Kitchen) -> None:
    host = sorted(os.listdir("/sys/class/net"))
    lines = kitchen.output(
        "--network=host ls /sys/class/net; touch /sys/x 2>/dev/null || echo read-only", "--allow=network.host"
    )
    assert lines == [*host, "read-only"]


def test_add_host(kitchen: Kitchen) -> None:
    lines = kitchen.output(
        "grep -E 'one|two' /etc/hosts; ping -c1 -W1 one > /dev/null && echo reached",
        "--add-host", "one:127.0.0.1", "--add-host", "two=::1",
    )  # fmt: skip
    assert [line.split() for line in lines] == [["127.0.0.1", "one"], ["::1", "two"], ["reached"]]
    assert "is not NAME:IP" in kitchen.fails(f"FROM {BASE}\n", "--add-host", "one:not-an-address", code=2)


def test_a_name_that_does_not_resolve_says_which_hop_failed(kitchen: Kitchen) -> None:
    said = kitchen.fails(f"FROM {BASE}\nRUN --network=none wget http://host.invalid/\n", code=1)
    assert "this RUN has no network (--network=none)" in said


@pytest.mark.network
@pytest.mark.slow
def test_apt_get_update(kitchen: Kitchen, debian_image: RegistryImage, registries_conf: Path) -> None:
    """The package mirror that the machine uses is reached, by name, from within."""
    built = kitchen.build(
        f"FROM {debian_image.name}\nRUN apt-get -q update && ls /var/lib/apt/lists > /lists\n",
        env={"CONTAINERS_REGISTRIES_CONF": str(registries_conf)},
    )
    assert "_Packages" in built.files["lists"].text
