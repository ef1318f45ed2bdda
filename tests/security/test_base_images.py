"""Hostile base images: what a layer or a config can try, from a registry through FROM into a RUN."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from security.conftest import Attack
from support.hostile import Member, directory, file, hard_link, link, special, tar
from support.users import User

Base = Callable[..., str]


# --- links where the container's own things go


@pytest.mark.parametrize("name", ["dev", "proc", "sys"])
def test_mount_point_is_a_link(attack: Attack, base: Base, canary: Path, name: str, who: User | None) -> None:
    """CVE-2026-41579: runc made its devices where the image's /dev pointed to."""
    image = base(tar(link(name, canary)))
    said = attack.fine(f"FROM {image}\nRUN echo I-RAN && ls -a /{name} && echo x >/dev/null\n", user=who).stderr
    assert "I-RAN" in said
    assert "inner" not in said


@pytest.mark.parametrize("name", ["dev", "proc", "sys"])
def test_mount_point_planted_by_copy(attack: Attack, busybox: str, canary: Path, name: str) -> None:
    context = attack.context({"Dockerfile": f"FROM {busybox}\nRUN rm -rf /x\nCOPY tree /\nRUN echo I-RAN\n"})
    (context / "tree").mkdir()
    (context / "tree" / name).symlink_to(canary)
    # A link cannot replace the directory that is there; where there is none it is only a link.
    attack.refused(context, "cannot copy|directory")
    (context / "Dockerfile").write_text(f"FROM scratch\nCOPY tree /\nCOPY --from={busybox} /bin /bin\nRUN echo I-RAN\n")
    assert "I-RAN" in attack.fine(context).stderr


@pytest.mark.parametrize("target", ["canary", "../../../../../..{}"])
def test_etc_is_a_link(attack: Attack, base: Base, canary: Path, target: str) -> None:
    image = base(tar(Member(".wh.etc"), link("etc", canary if target == "canary" else target.format(canary))))
    attack.refused(f"FROM {image}\nRUN echo x >>/etc/passwd\n", "/etc in the image is not a directory")
    attack.refused(f"FROM {image}\nUSER canary\nRUN id\n", "/etc in the image|no user")


@pytest.mark.parametrize("name", ["resolv.conf", "hosts", "hostname"])
def test_file_of_the_run_is_a_link(attack: Attack, base: Base, canary: Path, name: str) -> None:
    image = base(tar(link(f"etc/{name}", canary / "file")))
    assert "4242" not in attack.fine(f"FROM {image}\nRUN cat /etc/{name}; echo PWN >/etc/{name}\n").stderr


# --- users


def test_passwd_is_an_absolute_link_to_itself(attack: Attack, base: Base, ordinary_user: User) -> None:
    """The class of CVE-2024-9676: a name that only the host has must not be found."""
    image = base(tar(link("etc/passwd", "/etc/passwd")))
    attack.refused(f"FROM {image}\nUSER {ordinary_user.name}\nRUN id\n", "no user")
    attack.refused(f"FROM {image}\nCOPY --chown={ordinary_user.name} Dockerfile /\n", "no user")


def test_passwd_leads_out(attack: Attack, base: Base, canary: Path) -> None:
    image = base(tar(link("etc/passwd", canary / "passwd"), link("etc/group", f"../../../../../..{canary}/passwd")))
    attack.refused(f"FROM {image}\nUSER canary\nRUN id\n", "no user")
    attack.refused(f"FROM {image}\nUSER 0:canary\nRUN id\n", "no group")
    attack.refused(f"FROM {image}\nCOPY --chown=canary Dockerfile /\n", "no user")


@pytest.mark.parametrize("place", ["etc/passwd", "elsewhere"])
def test_passwd_is_a_fifo(attack: Attack, base: Base, place: str) -> None:
    members = [special(place, tarfile.FIFOTYPE)]
    if place == "elsewhere":
        members.append(link("etc/passwd", "/elsewhere"))
    image = base(tar(*members))
    attack.refused(f"FROM {image}\nUSER app\nRUN id\n", "not a regular file")
    attack.refused(f"FROM {image}\nUSER 7\nRUN id\n", "not a regular file")


def test_passwd_full_of_oddities(attack: Attack, base: Base) -> None:
    passwd = (
        "a:x:²:²:::\nb:x:-1:-1::/:\nc:x:99999999999:0::/:\nd:x:4294967296:1::/:\n"
        "e:x:5:5::/\x1b]0;title\x07:/bin/sh\nroot:x:0:0::/r:/bin/sh\n"
    )
    group = "g:x:²:e\nh:x:9999999999:e\ni:x:\x00:e\nj:x:7:e,e,e\n"
    image = base(tar(file("etc/passwd", passwd.encode()), file("etc/group", group.encode())))
    for user in "abcd":
        result = attack(f"FROM {image}\nUSER {user}\nRUN id -u\n")
        assert result.returncode != 0 or "] 0" not in result.stderr, str(result)
    attack.fine(f"FROM {image}\nUSER e\nRUN id -G | grep -qx '5 7'\n")


@pytest.mark.parametrize("user", ["99999999999", "4294967295", "0:99999999999", "²"])
def test_user_out_of_range(attack: Attack, base: Base, user: str) -> None:
    image = base(config={"User": user})
    attack.refused(f"FROM {image}\nRUN id\n", "out of range|no user|no group")


# --- configs


@pytest.mark.parametrize("directory", ["/proc/self/fd/3", "/proc/self/fd/7", "/proc/self/cwd", "/sys/x"])
def test_working_directory_in_the_container(attack: Attack, base: Base, directory: str) -> None:
    """CVE-2024-21626: a descriptor of runc's as the working directory."""
    attack.refused(f"FROM {base(config={'WorkingDir': directory})}\nRUN ls ..\n", "working directory")


@pytest.mark.parametrize("directory", ["proc/self/fd/7", "../../..", ".", "a/b", "\x1b]0;x\x07"])
def test_working_directory_relative(attack: Attack, base: Base, directory: str) -> None:
    attack.refused(f"FROM {base(config={'WorkingDir': directory})}\nRUN ls ..\n", "working directory")


def test_working_directory_leads_out(attack: Attack, base: Base, canary: Path) -> None:
    image = base(tar(link("w", canary), link("v", f"../../../../../..{canary}")), config={"WorkingDir": "/w/new"})
    said = attack.fine(f"FROM {image}\nRUN pwd && ls -a ..\nWORKDIR /v/other\nRUN pwd; touch PWN\n").stderr
    assert "inner" not in said


@pytest.mark.parametrize("entry", ["SECRET*", "=x", "", "NOEQUALS", "A=\0b"])
def test_bad_environment(attack: Attack, base: Base, entry: str) -> None:
    attack.refused(f"FROM {base(config={'Env': [entry]})}\nRUN env\n", "Env")


def test_environment_that_would_pull_strings(attack: Attack, base: Base, canary: Path) -> None:
    """What the image sets is for its own processes, not for the tools that orca starts."""
    words = [
        f"LD_PRELOAD={canary}/file",
        f"TMPDIR={canary}",
        f"PATH={canary}:/bin",
        "GCONV_PATH=/x",
        "HOME=/h\n\x1b[2J",
    ]
    attack.fine(f"FROM {base(config={'Env': words})}\nCOPY Dockerfile /\nRUN true\n")


def test_volumes_and_ports(attack: Attack, base: Base) -> None:
    config = {"Volumes": {"/../../host": {}, "\x1b[2J": {}}, "ExposedPorts": {"a;b": {}, "-x/tcp": {}}}
    attack.fine(f"FROM {base(config=config)}\nRUN true\nLABEL a=b\n")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("Env", {"a": 1}),
        ("Labels", ["x"]),
        ("OnBuild", [1]),
        ("User", 0),
        ("Healthcheck", []),
        ("Volumes", ["/x"]),
    ],
)
def test_wrong_types(attack: Attack, base: Base, field: str, value: object) -> None:
    attack.refused(f"FROM {base(config={field: value})}\nRUN true\n", field + "|json|unmarshal")


@pytest.mark.parametrize(
    "trigger",
    [
        "ONBUILD RUN true",
        "FROM scratch",
        "MAINTAINER x",
        "RUN --mount=type=secret,id=s,required true",
        "COPY ../../../etc/shadow /",
        "\x1b]0;x\x07",
        "RUN <<E\n",
    ],
)
def test_bad_triggers(attack: Attack, base: Base, trigger: str) -> None:
    attack.refused(
        f"FROM {base(config={'OnBuild': [trigger]})}\nRUN true\n",
        "ONBUILD|not (yet )?supported|no such|here-doc|heredoc|was not given",
    )


# --- layers


def _whole(canary: Path) -> dict[str, tuple[Member, ...]]:
    up = "../" * 12 + str(canary).lstrip("/")
    return {
        "dots": (file(f"{up}/PWN"), file("../PWN"), file("a/../../PWN")),
        "absolute": (file(f"{canary}/PWN"),),
        "through a link": (link("l", canary), file("l/PWN"), file("l/file")),
        "through a relative link": (link("l", up), file("l/PWN")),
        "over a link": (link("l", canary / "file"), file("l", b"PWN")),
        "chmod over a link": (link("l", canary), directory("l", mode=0o700)),
        "hard link": (hard_link("h", canary / "file"), file("h", b"PWN")),
        "relative hard link": (hard_link("h", f"{up}/file"), file("h", b"PWN")),
        "hard link through a link": (link("l", canary), hard_link("h", "l/file")),
        "hard link to a link": (link("l", canary / "file"), hard_link("h", "l"), file("h", b"PWN")),
        "the root as a link": (link(".", canary), file("PWN")),
        "the root as a link, with a slash": (link("./", canary), file("./PWN")),
        "the root as /": (link("/", canary), file("PWN")),
        "the root as a file": (file(".", b"PWN"),),
        "whiteout through a link": (link("l", canary), Member("l/.wh.file"), Member("l/.wh.dir")),
        "opaque through a link": (link("l", canary), Member("l/.wh..wh..opq")),
        "whiteout with dots": (Member(f"{up}/.wh.file"), Member(".wh..."), Member(".wh.../../file")),
        "whiteout of nothing": (Member(".wh."), Member("etc/.wh.")),
        "whiteout of .": (Member(".wh.."),),
        "whiteout of ..": (Member(".wh..."), Member("bin/.wh...")),
        "opaque root": (Member(".wh..wh..opq"),),
        "aufs": (directory(".wh..wh.plnk"), file(".wh..wh.plnk/x"), file(".wh..wh.aufs")),
        "devices": (special("d", tarfile.BLKTYPE, (7, 0)), special("m", tarfile.CHRTYPE, (1, 1))),
        "char 0:0": (special("bin/busybox", tarfile.CHRTYPE, (0, 0)),),
        "fifo": (special("f", tarfile.FIFOTYPE), special("etc/hosts", tarfile.FIFOTYPE)),
        "names": (file("a\nb"), file("c\x1b]0;title\x07d"), file("e\u202ef"), file("-rf"), file("--to-command=id")),
        "set-uid": (file("bin/s", mode=0o6755),),
        "reserved": (file("x" * 200, SCHILY_xattr=""), file("y/" * 120 + "z")),
    }


@pytest.mark.parametrize("name", list(_whole(Path("/x"))))
def test_layer(attack: Attack, base: Base, canary: Path, name: str) -> None:
    """Whatever a layer holds, nothing outside the root changes; a build on it works or says why not."""
    members = _whole(canary)[name]
    image = base(tar(*members))
    result = attack(
        f"FROM {image}\nRUN ls -la / /l/ ; cat /h /l/file 2>/dev/null; echo PWN >/h; echo PWN >/l/PWN; true\n"
    )
    assert "4242" not in result.stdout + result.stderr
    if result.returncode:
        assert result.returncode in (125, 126, 127)
        assert "error:" in result.stderr


def test_all_layers_at_once(attack: Attack, base: Base, canary: Path, ordinary_user: User) -> None:
    """The same as an ordinary user, each attack a layer; what umoci refuses is left out."""
    refused = ("the root", "whiteout with", "whiteout of", "devices")
    layers = [tar(*members) for name, members in _whole(canary).items() if not name.startswith(refused)]
    attack(f"FROM {base(*layers)}\nRUN ls -la / /l/; echo PWN >/h; echo PWN >/l/PWN; true\n", user=ordinary_user)


def test_link_and_write_in_different_layers(attack: Attack, base: Base, canary: Path) -> None:
    image = base(tar(link("l", canary)), tar(file("l/PWN")), tar(Member("l/.wh.file")), tar(directory("l", mode=0o700)))
    attack(f"FROM {image}\nRUN ls -la /l\n")


MARKS = {
    "user.overlay.opaque": "y",
    "user.overlay.redirect": "/bin",
    "user.overlay.metacopy": "y",
    "user.overlay.whiteouts": "y",
    "user.fuseoverlayfs.opaque": "y",
    "trusted.overlay.opaque": "y",
}


def test_overlay_attributes(attack: Attack, base: Base, who: User | None) -> None:
    """A mark planted in a layer must not hide what lies below it."""
    pax = {f"SCHILY.xattr.{name}": value for name, value in MARKS.items()}
    image = base(tar(directory("bin", pax=pax), directory("etc", pax=pax)))
    dockerfile = (
        f"FROM {image}\nRUN ls /bin/busybox /etc/passwd && echo more >/etc/more\nRUN ls /etc/passwd /etc/more\n"
    )
    assert attack.fine(dockerfile, user=who).stderr.count("/etc/passwd") >= 2
    snapshots = attack.orca.store_of(who) / "snapshots"
    found = [*snapshots.glob(f"b{'?' * 31}/fs/etc"), *snapshots.glob(f"b{'?' * 31}/fs/bin")]
    assert len(found) == 2
    for path in found:
        assert not set(MARKS) & set(os.listxattr(path))


def test_same_tree_for_everybody(attack: Attack, base: Base, ordinary_user: User) -> None:
    """A layer of oddities gives root and an ordinary user the same files."""
    members = (
        special("c", tarfile.CHRTYPE, (0, 0)),
        special("f", tarfile.FIFOTYPE),
        file("s", mode=0o6755),
        directory("d", pax={"SCHILY.xattr.user.overlay.opaque": "y"}),
        file("x", **{"SCHILY.xattr.user.a": "b"}),
    )
    image = base(tar(*members))
    seen = []
    for user in (None, ordinary_user):
        text = f'FROM {image}\nRUN for i in c f s d x; do stat -c "SEEN %n %F %a %u" /$i; done; true\n'
        said = attack.fine(text, user=user).stderr
        seen.append(
            sorted(line.split("SEEN ")[1] for line in said.splitlines() if "SEEN " in line and "stat -c" not in line)
        )
    assert seen[0] == seen[1] != []


def test_snapshots_are_out_of_reach(attack: Attack, base: Base, ordinary_user: User) -> None:
    """A set-uid file of an image is nobody's way to another user's rights."""
    image = base(tar(file("bin/s", mode=0o4755)))
    attack.fine(f"FROM {image}\nRUN ls -l /bin/s && cp /bin/busybox /bin/t && chmod 4755 /bin/t\n")
    found = list((attack.orca.store / "snapshots").glob("*/fs/bin/[st]"))
    assert len(found) >= 2 and all(path.stat().st_mode & stat.S_ISUID for path in found)
    for path in found:
        assert ordinary_user.run("ls", path, check=False).returncode != 0
