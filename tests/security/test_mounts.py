"""RUN --mount: what a hostile Dockerfile, stage or cache may try by it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from security.conftest import Attack
from support.users import User


def lines(text: str, word: str = "SEEN ") -> list[str]:
    """What a RUN printed after `word`, without the echo of the instruction itself."""
    return [line.split(word, 1)[1] for line in text.splitlines() if word in line and "RUN" not in line]


def test_source_is_a_link_to_the_root(attack: Attack, who: User | None, canary: Path) -> None:
    """CVE-2024-1753: the link leads to the stage's root, not to the host's."""
    image = attack.busybox(who)
    flag = "--mount=type=bind,from=base,target=/x,rw"
    said = attack.fine(
        f"FROM {image} AS base\nRUN ln -s / /rootdir && ln -s {canary} /can && ln -s ../../../../.. /up && touch /mark\n"  # noqa: E501
        f"FROM {image}\nRUN {flag},source=/rootdir echo SEEN $(ls /x/mark) && touch /x/PWN\n"
        f"RUN {flag},source=/up/rootdir echo SEEN $(ls /x/mark) && touch /x/PWN && rm -rf /x/tmp /x{canary}\n",
        user=who,
    ).stderr
    assert lines(said) == ["/x/mark", "/x/mark"]
    assert not Path("/PWN").exists()
    for source in ("/can/shadow", str(canary), f"../../..{canary}", f"rootdir/{canary}"):
        attack.refused(
            f"FROM {image} AS base\nRUN ln -s {canary} /can; ln -s / /rootdir\n"
            f"FROM {image}\nRUN {flag},source={source} touch /x/PWN\n",
            r"cannot\s+be\s+used:\s+No\s+such\s+file",
            user=who,
        )


def test_source_in_the_context_is_a_link(attack: Attack, busybox: str, canary: Path) -> None:
    for options in ("", ",rw"):
        for target in (str(canary), f"../../../../../..{canary}", "/proc/self/root", "/etc/shadow"):
            context = attack.context(f"FROM {busybox}\nRUN --mount=source=l,target=/x{options} touch /x/PWN\n")
            (context / "l").symlink_to(target)
            assert attack(context).returncode != 0
        for source in (f"../../../..{canary}", str(canary)):
            assert attack(f"FROM {busybox}\nRUN --mount=source={source},target=/x{options} true\n").returncode != 0


@pytest.mark.parametrize(
    "option",
    ["bind-propagation=rshared", "bind-propagation=", "shared", "rshared", "z", "Z", "U", "exec", "dev", "suid", "idmap",  # noqa: E501
     "relabel=shared", "upperdir=/etc", "O", "notmpcopyup", "tmpcopyup", "consistency=cached", "volume-opt=type=nfs",
     "bind-nonrecursive=true", "rprivate", "size=1m", "env=LD_PRELOAD", "src=/etc,mount_program=/bin/sh"],
)  # fmt: skip
def test_junk_options(attack: Attack, busybox: str, option: str) -> None:
    """CVE-2024-9407: what is not in the table is an error."""
    said = attack.refused(f"FROM {busybox}\nRUN --mount=type=bind,target=/x,{option} true\n", "unknown option")
    assert said.returncode == 125


@pytest.mark.parametrize("kind", ["devpts", "proc", "sysfs", "volume", "image", "glob", "npipe", "overlay", "cgroup"])
def test_junk_types(attack: Attack, busybox: str, kind: str) -> None:
    attack.refused(f"FROM {busybox}\nRUN --mount=type={kind},target=/x true\n", "unknown mount type")


def test_cache_id_and_source(attack: Attack, who: User | None, canary: Path) -> None:
    """CVE-2024-9675: an id is no path, and a source stays inside its cache."""
    image = attack.busybox(who)
    store = attack.orca.store_of(who)
    ids = ("../../../../../../.." + str(canary), str(canary), "..", ".", "/", "a/../../../x", "-rf", "x" * 300)
    for name in ids:
        said = attack.fine(
            f"FROM {image}\nRUN --mount=type=cache,id={name},target=/x echo SEEN $(ls -A /x) && touch /x/PWN\n",
            user=who,
        ).stderr
        assert lines(said) in ([""], []), said
    for source in ("../../..", "../../../../../../.." + str(canary), str(canary), ".", "a/../../b"):
        attack.fine(
            f"FROM {image}\nRUN --mount=type=cache,id=c,source={source},target=/x touch /x/PWN && ls -A /x\n", user=who
        )
    caches = store / "cache"
    assert list(caches.rglob("PWN"))
    assert not [p for p in store.rglob("PWN") if caches not in p.parents]
    assert all(p.name.startswith("mount-") for p in caches.iterdir())


def test_cache_source_is_a_link(attack: Attack, who: User | None, canary: Path) -> None:
    """A link that an earlier RUN left in the cache leads nowhere outside."""
    image = attack.busybox(who)
    for number, target in enumerate((str(canary), "../../../../../../.." + str(canary), "/proc/self/root", "/")):
        flag = f"--mount=type=cache,id=l{number},target=/x"
        result = attack(
            f"FROM {image}\nRUN {flag} ln -s {target} /x/l\nRUN {flag},source=l touch /x/PWN\n"
            f"RUN {flag},source=l/dir touch /x/PWN\n",
            user=who,
        )
        assert "bug" not in result.stderr
    assert not Path("/PWN").exists()


def test_cache_source_is_swapped(attack: Attack, busybox: str, canary: Path) -> None:
    """CVE-2024-11218, CVE-2024-23651: one stage swaps the directory and a link while the other mounts it."""
    swap = (
        "RUN --mount=type=cache,id=race,target=/c mkdir -p /c/real /c/real/dir; i=0; while test $i -lt 400; do "
        f"rm -rf /c/d; ln -s {canary} /c/d; mv -T /c/d /c/e; mkdir -p /c/d/dir; rm -rf /c/e; i=$((i+1)); done; rm -rf /c/d"  # noqa: E501
    )
    mounts = "".join(
        f"RUN --mount=type=cache,id=race,source=d/dir,target=/x touch /x/PWN{n} 2>/dev/null; "
        "test -e /x/inner && echo SEEN $(ls /x); true\n"
        for n in range(12)
    )
    # Where d is a link just then the source cannot be made: that stage fails, which is fine, so it is tried again.
    for _ in range(4):
        result = attack(
            f"FROM {busybox} AS a\n{swap}\nFROM {busybox} AS b\n{mounts}FROM {busybox}\n"
            "COPY --from=a /etc/passwd /a\nCOPY --from=b /etc/passwd /b\n",
            "--jobs=2", "--no-cache",
        )  # fmt: skip
        assert lines(result.stderr) == []


def test_parent_of_the_target_is_swapped(attack: Attack, who: User | None, canary: Path) -> None:
    """CVE-2024-23652: the target did not exist; RUN puts a link where its parent was. Nothing outside is removed."""
    image = attack.busybox(who)
    up = "../../../../../../../.." + str(canary)
    for kind in ("type=tmpfs", "type=cache", "type=bind"):
        for target in (str(canary), up):
            result = attack(
                f"FROM {image}\nRUN --mount={kind},target=/p/q/dir umount /p/q/dir 2>/dev/null; mv /p /old 2>/dev/null; "  # noqa: E501
                f"rm -rf /p 2>/dev/null; ln -s {target} /p; ln -s {target} /p/q; echo SEEN\nRUN ls -l /\n",
                user=who,
            )
            assert "SEEN" in result.stderr


def test_target_below_a_link(attack: Attack, who: User | None, canary: Path) -> None:
    """The way to the target is resolved in the image, absolute and relative links too."""
    image = attack.busybox(who)
    for number, target in enumerate(
        (str(canary), "../../../../../../../.." + str(canary), "/proc/1/root", "/proc/self/cwd")
    ):
        attack(
            f"FROM {image}\nRUN ln -s {target} /l{number}\n"
            f"RUN --mount=type=tmpfs,target=/l{number}/dir touch /l{number}/dir/PWN\n"
            f"RUN --mount=type=cache,target=/l{number}/new/deep touch /l{number}/new/deep/PWN\n",
            user=who,
        )
    said = attack.fine(
        f"FROM {image}\nRUN mkdir /real && ln -s /real /l\n"
        "RUN --mount=type=tmpfs,target=/l/new touch /real/new/in && echo SEEN $(ls /l/new)\nRUN echo SEEN $(ls -A /real)\n",  # noqa: E501
        user=who,
    ).stderr
    assert lines(said) == ["in", ""] or lines(said) == ["in"]


@pytest.mark.root
def test_what_is_mounted_below_the_context_is_read_only(attack: Attack, busybox: str) -> None:
    """A read-only bind is so all the way down."""
    context = attack.context({
        "Dockerfile": f"FROM {busybox}\nRUN --mount=target=/x touch /x/sub/PWN && echo SEEN; true\n", "sub/": "",
    })  # fmt: skip
    script = 'mount -t tmpfs none "$1/sub" && shift && "$@"; test ! -e sub/PWN && echo intact'
    command = attack.orca.command("build", "--progress=plain", context)
    done = User("root", context, None).run(
        "unshare", "-m", "sh", "-c", script, "sh", str(context), *command, env=attack.orca.environment(), cwd=context
    )
    assert "intact" in done.stdout
    assert "Read-only file system" in done.stderr
    assert lines(done.stderr) == []


def test_hidden_files_stay_hidden_from_a_bind(attack: Attack, busybox: str) -> None:
    context = attack.context({
        "Dockerfile": f"FROM {busybox}\nRUN --mount=target=/x echo SEEN $(ls -A /x) $(cat /x/link)\n",
        ".dockerignore": "*\n!link\n", "secret": "hidden-4711",
    })  # fmt: skip
    os.symlink("secret", context / "link")
    assert "hidden-4711" not in attack(context).stderr


def test_a_base_image_gets_no_secret_unasked(attack: Attack, busybox: str, open_path: Path) -> None:
    """Nothing of a --secret is in a RUN that does not mount it."""
    (open_path / "key").write_text("sentinel-4711\n")
    said = attack.fine(
        f"FROM {busybox}\nRUN ls -d /run/secrets 2>/dev/null; env; grep -r sentinel /run /etc /tmp /var 2>/dev/null; "
        "echo SEEN $(cat /proc/self/mountinfo | grep -c secrets)\n",
        f"--secret=id=s,src={open_path / 'key'}", env={"SSH_AUTH_SOCK": "/tmp/sentinel-4711"},
    ).stderr  # fmt: skip
    assert lines(said) == ["0"]
    assert "sentinel-4711" not in said.replace("grep -r sentinel", "")
