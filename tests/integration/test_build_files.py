"""COPY, ADD, WORKDIR and what RUN deletes: the files that end up in the layers."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support.built import Built
from support.kitchen import BASE, Kitchen

Files = dict[str, str | bytes | Path]


def copied(kitchen: Kitchen, instructions: str, files: Files, *options: str) -> Built:
    """Build `instructions` on a base with `files` in the context."""
    return kitchen.build({"Dockerfile": f"FROM {BASE}\n{instructions}\n", **files}, *options)


def below(built: Built, directory: str) -> dict[str, str]:
    """The files and links below a directory with what they hold; directories with a slash."""
    return {
        name.removeprefix(f"{directory}/") + ("/" if file.kind == "dir" else ""): file.target
        if file.kind == "link"
        else file.text
        for name, file in built.files.items()
        if name.startswith(f"{directory}/")
    }


# --- sources


def test_sources(kitchen: Kitchen) -> None:
    files: Files = {"f": "f", "d/one": "1", "d/in/two": "2", "d/empty/": ""}
    built = copied(kitchen, "COPY f /a\nCOPY /f /b\nCOPY ../../f /c\nCOPY d /d\nCOPY f d /into/\nCOPY . /all/", files)
    assert [built.files[name].text for name in "abc"] == ["f", "f", "f"]
    assert below(built, "d") == {"one": "1", "in/": "", "in/two": "2", "empty/": ""}
    # A directory's contents are copied, not itself.
    assert below(built, "into") == {"f": "f", "one": "1", "in/": "", "in/two": "2", "empty/": ""}
    assert set(below(built, "all")) == {"Dockerfile", "f", "d/", "d/one", "d/in/", "d/in/two", "d/empty/"}


def test_globs(kitchen: Kitchen) -> None:
    files: Files = {
        "a1.txt": "a1", "a2.txt": "a2", "b1.txt": "b1", "sub/a3.txt": "a3", "[x]": "bracket", "d1/in": "1",
        "d2/in2": "2",
    }  # fmt: skip
    built = copied(
        kitchen,
        "COPY *.txt /star/\nCOPY a?.txt /mark/\nCOPY [b-z]1.* /range/\nCOPY [[]x] /bracket/\n"
        "COPY */a3.txt /deep/\nCOPY d* /flat/\nCOPY nothing* f* b1.txt /none/",
        {**files, "f": "f"},
    )
    assert set(below(built, "star")) == {"a1.txt", "a2.txt", "b1.txt"}  # * does not cross /
    assert set(below(built, "mark")) == {"a1.txt", "a2.txt"}
    assert set(below(built, "range")) == {"b1.txt"}
    assert below(built, "bracket") == {"[x]": "bracket"}
    assert below(built, "deep") == {"a3.txt": "a3"}
    assert below(built, "flat") == {"in": "1", "in2": "2"}  # directories that a pattern found are flattened
    assert set(below(built, "none")) == {"f", "b1.txt"}
    assert "nothing* matches nothing" in built.stderr


def test_symbolic_links(kitchen: Kitchen) -> None:
    files: Files = {
        "real": "content", "dir/inner": "inner", "dir/link": Path("inner"), "dir/dangling": Path("/nowhere"),
        "to-file": Path("real"), "to-dir": Path("dir"), "absolute": Path("/real"),
    }  # fmt: skip
    built = copied(
        kitchen, "COPY to-file /a\nCOPY to-dir /b\nCOPY dir /c\nCOPY absolute /d\nCOPY to-* /globbed/", files
    )
    assert (built.files["a"].kind, built.files["a"].text) == ("file", "content")
    assert below(built, "b") == {"inner": "inner", "link": "inner", "dangling": "/nowhere"}
    assert built.files["b/link"].kind == "link"
    assert below(built, "c") == below(built, "b")
    # The context's root is the root of every link in it.
    assert built.files["d"].text == "content"
    assert below(built, "globbed") == {**below(built, "b"), "to-file": "content"}


def test_link_out_of_the_context_stays_inside(kitchen: Kitchen) -> None:
    said = kitchen.fails({"Dockerfile": f"FROM {BASE}\nCOPY out /x\n", "out": Path("../../../etc/hostname")})
    assert "out is a symbolic link that leads nowhere in the build context" in said


# --- destinations


def test_destinations(kitchen: Kitchen) -> None:
    built = copied(
        kitchen,
        "WORKDIR /w\nCOPY f name\nCOPY f dir/\nCOPY f /etc\nCOPY f new/deep/name\nCOPY f .\nCOPY f ./sub/\n"
        "ENV D=/by/env\nCOPY f $D/",
        {"f": "f"},
    )
    assert set(below(built, "w")) == {
        "name",
        "dir/",
        "dir/f",
        "new/",
        "new/deep/",
        "new/deep/name",
        "f",
        "sub/",
        "sub/f",
    }
    assert built.files["etc/f"].text == "f"
    assert built.files["by/env/f"].text == "f"
    made = built.files["w/new/deep"]
    assert (made.permissions, made.owner) == ("755", (0, 0))


def test_parents_belong_to_chown(kitchen: Kitchen) -> None:
    built = copied(kitchen, "USER app\nCOPY --chown=app f /made/by/chown\nCOPY f /plain/f", {"f": "f"})
    assert [built.files[name].owner for name in ("made", "made/by", "made/by/chown")] == [(1000, 1000)] * 3
    # Whatever USER says.
    assert [built.files[name].owner for name in ("plain", "plain/f")] == [(0, 0)] * 2


def test_destination_through_links(kitchen: Kitchen) -> None:
    built = copied(
        kitchen,
        "RUN mkdir /real && ln -s /real /dir && touch /file && ln -s file /link && ln -s /later/on /dangling \\\n"
        " && mkdir -p /p/q && ln -s /p/q /pq && ln -s ../up /p/q/up\n"
        "COPY f /dir/x\nCOPY f /link\nCOPY d /dir\nCOPY f /dangling/y\nCOPY f /pq/up/deep/z",
        {"f": "f", "d/e": "e"},
    )
    assert below(built, "real") == {"x": "f", "e": "e"}
    assert built.files["file"].text == "f"
    assert [built.files[name].kind for name in ("dir", "link", "dangling")] == ["link"] * 3
    assert built.files["later/on/y"].text == "f"
    assert built.files["p/up/deep/z"].text == "f"


def test_links_of_the_image_do_not_lead_out(kitchen: Kitchen, tmp_path: Path) -> None:
    place = tmp_path / "outside"
    place.mkdir(mode=0o777)
    built = copied(kitchen, f"RUN ln -s ../../../../../../..{place} /out\nCOPY f /out/f", {"f": "f"})
    assert built.files[f"{place}/f".lstrip("/")].text == "f"
    assert list(place.iterdir()) == []


def test_replacing(kitchen: Kitchen) -> None:
    built = copied(
        kitchen, "COPY a /x\nCOPY b /x\nCOPY a /bin/busybox\nCOPY d /bin", {"a": "a", "b": "b", "d/sh": "no link"}
    )
    assert built.files["x"].text == "b"
    assert built.files["bin/busybox"].text == "a"
    assert (built.files["bin/sh"].kind, built.files["bin/sh"].text) == ("file", "no link")


@pytest.mark.parametrize(
    ("instructions", "words"),
    [
        ("COPY dir /file", "cannot copy the directory dir over /file"),
        ("COPY dir /", "cannot copy the directory file over something"),
        ("COPY clash /", "over the directory dir"),
    ],
)
def test_kinds_that_do_not_fit(kitchen: Kitchen, instructions: str, words: str) -> None:
    files: Files = {"dir/file/x": "x", "clash/dir": "a file"}
    said = kitchen.fails({"Dockerfile": f"FROM {BASE}\nRUN touch /file; mkdir /dir\n{instructions}\n", **files})
    assert words in said
    assert f"3 │ {instructions}" in said


def test_last_of_several_files_wins(kitchen: Kitchen) -> None:
    built = copied(kitchen, "COPY a b /new", {"a": "a", "b": "b"})
    assert built.files["new"].text == "b"
    assert "the last one wins" in built.stderr


# --- owner and mode


@pytest.mark.parametrize(
    ("chown", "owner"),
    [
        ("app", (1000, 1000)), ("daemon:audio", (1, 29)), ("5", (5, 5)), ("5:6", (5, 6)), ("7:app", (7, 1000)),
        ("$WHO", (1, 1)), ("1000", (1000, 1000)), ("app:7", (1000, 7)),
    ],
)  # fmt: skip
def test_chown(kitchen: Kitchen, chown: str, owner: tuple[int, int]) -> None:
    files: Files = {"d/f": "f", "d/l": Path("f"), "d/s/g": "g"}
    built = copied(kitchen, f"ARG WHO=daemon\nCOPY --chown={chown} d /d", files)
    assert {built.files[name].owner for name in ("d", "d/f", "d/l", "d/s", "d/s/g")} == {owner}


def test_chown_of_numbers_needs_no_passwd(kitchen: Kitchen) -> None:
    built = kitchen.build({"Dockerfile": "FROM scratch\nCOPY --chown=12:34 f /\n", "f": "f"})
    assert built.files["f"].owner == (12, 34)
    said = kitchen.fails({"Dockerfile": "FROM scratch\nCOPY --chown=app f /\n", "f": "f"})
    assert "no user 'app' in the image" in said


def test_mode(kitchen: Kitchen) -> None:
    context = kitchen.context({"Dockerfile": "", "f": "f", "d/x": "x", "sticky/": "", "set-id": "s"})
    for name, mode in (("f", 0o640), ("d/x", 0o751), ("d", 0o750), ("sticky", 0o1777), ("set-id", 0o6755)):
        (context / name).chmod(mode)
    os.utime(context / "f", ns=(0, 1_234_567_890_999_999_999))
    os.chown(context / "f", 1234, 1234)
    (context / "Dockerfile").write_text(
        f"FROM {BASE}\nCOPY . /as-is/\nCOPY --chmod=600 . /given\nCOPY --chmod=4711 f /f\n"
    )
    built = kitchen.build(context)
    modes = {name: built.files[f"as-is/{name}"].permissions for name in ("f", "d", "d/x", "sticky", "set-id")}
    assert modes == {"f": "640", "d": "750", "d/x": "751", "sticky": "1777", "set-id": "6755"}
    # Directories too.
    assert {built.files[f"given/{name}"].permissions for name in ("f", "d", "d/x", "sticky")} == {"600"}
    assert built.files["f"].permissions == "4711"
    copy = built.files["as-is/f"]
    assert copy.owner == (0, 0)
    assert copy.mtime == 1_234_567_890  # whole seconds


def test_attributes(kitchen: Kitchen) -> None:
    context = kitchen.context({"Dockerfile": f"FROM {BASE}\nCOPY f /f\n", "f": "f"})
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    try:
        os.setxattr(context / "f", "user.mine", b"x")
        os.setxattr(context / "f", "security.capability", capability)
    except OSError:
        pytest.skip("this file system has no such attributes")
    names = [name for name, _ in kitchen.build(context).last["f"].attributes]
    assert names == ["SCHILY.xattr.security.capability"]


def test_hard_links(kitchen: Kitchen) -> None:
    context = kitchen.context({"Dockerfile": f"FROM {BASE}\nCOPY . /c/\nCOPY one /o\n", "one": "same", "sub/": ""})
    os.link(context / "one", context / "two")
    os.link(context / "one", context / "sub" / "three")
    built = kitchen.build(context)
    layer = built.layers[-2]
    assert sorted(layer[f"c/{name}"].kind for name in ("one", "two", "sub/three")) == ["file", "hard", "hard"]
    assert {built.files[f"c/{name}"].text for name in ("one", "two", "sub/three")} == {"same"}
    assert built.last["o"].kind == "file"


def test_special_files_are_refused(kitchen: Kitchen) -> None:
    context = kitchen.context(f"FROM {BASE}\nCOPY . /c\n")
    os.mkfifo(context / "pipe")
    assert "pipe is a FIFO, which is not copied" in kitchen.fails(context)
    (context / ".dockerignore").write_text("pipe\n")
    assert "c/pipe" not in kitchen.build(context).files


def test_odd_names(kitchen: Kitchen) -> None:
    names = [
        "-C",
        "--checkpoint-action=exec=sh",
        "with blank",
        "new\nline",
        "back\\slash",
        "ü",
        "*",
        "@LongLink",
        "x" * 250,
    ]
    context = kitchen.context(f'FROM {BASE}\nCOPY d /d\nRUN cd /d && for f in *; do cp -- "$f" ../tmp/; done\n')
    (context / "d").mkdir()
    for name in names:
        (context / "d" / name).write_text(name)
    (context / "d" / os.fsdecode(b"bytes\xff")).write_text("bytes")
    built = kitchen.build(context)
    for name in names:
        assert built.files[f"d/{name}"].text == name
        assert built.files[f"tmp/{name}"].text == name
    assert os.fsdecode(b"d/bytes\xff") in built.files


def test_whiteout_names_cannot_be_copied(kitchen: Kitchen) -> None:
    said = kitchen.fails({"Dockerfile": f"FROM {BASE}\nCOPY . /\n", ".wh.bin": ""})
    assert "names that begin with .wh. mean whiteouts" in said


# --- heredocs


def test_heredocs(kitchen: Kitchen) -> None:
    built = copied(
        kitchen,
        'ENV V=value\nCOPY <<one <<"two" <<-three /d/\n$V "q" \\$V\none\n$V\ntwo\n\t\ttabs\n\tthree\n'
        "COPY --chmod=755 --chown=app <<EOF /script\n#!/bin/sh\necho ran as $(id -u)\nEOF\n"
        "COPY f <<g /mix/\nG\ng\nRUN cat /d/one",
        {"f": "f"},
    )
    assert below(built, "d") == {"one": 'value "q" $V\n', "two": "$V\n", "three": "tabs\n"}
    assert built.files["d/one"].permissions == "644"
    assert (built.files["script"].permissions, built.files["script"].owner) == ("755", (1000, 1000))
    assert below(built, "mix") == {"f": "f", "g": "G\n"}


# --- ADD


def archive(pack: Callable[[bytes], bytes]) -> bytes:
    """A tar with a directory, a file of somebody's, links."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, kind, target, content in (
            ("top", tarfile.DIRTYPE, "", b""), ("top/file", tarfile.REGTYPE, "", b"file"),
            ("top/soft", tarfile.SYMTYPE, "file", b""), ("top/hard", tarfile.LNKTYPE, "top/file", b""),
            ("etc", tarfile.DIRTYPE, "", b""), ("etc/added", tarfile.REGTYPE, "", b"added"),
        ):  # fmt: skip
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.size, entry.mtime = kind, target, len(content), 1_111_111_111
            entry.uid, entry.gid, entry.mode = 12, 34, 0o750 if kind == tarfile.DIRTYPE else 0o640
            tar.addfile(entry, io.BytesIO(content))
    return pack(data.getvalue())


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, bz2.compress, lzma.compress], ids=["plain", "gzip", "bzip2", "xz"]
)
def test_add_unpacks(kitchen: Kitchen, pack: Callable[[bytes], bytes]) -> None:
    # Recognised by its content, whatever its name is; and COPY never unpacks.
    data = archive(pack)
    built = copied(kitchen, "ADD data /new/place\nADD data /\nCOPY data /data", {"data": data})
    file = built.files["new/place/top/file"]
    assert (file.text, file.permissions, file.owner, file.mtime) == ("file", "640", (12, 34), 1_111_111_111)
    assert built.files["new/place/top/soft"].target == "file"
    assert built.files["new/place/top/hard"].text == "file"
    assert built.files["new/place/top"].permissions == "750"
    assert built.files["new/place"].owner == (0, 0)
    assert built.files["etc/added"].text == "added"
    assert "etc/passwd" in built.files
    assert built.files["data"].data == data


def test_add_with_chown_and_what_is_no_archive(kitchen: Kitchen) -> None:
    files: Files = {"data.tar": archive(bytes), "no.tar.gz": gzip.compress(b"only text"), "f": "f"}
    built = copied(kitchen, "ADD --chown=app data.tar /a\nADD no.tar.gz f /b/", files)
    assert built.files["a/top/file"].owner == (1000, 1000)
    assert built.files["b/no.tar.gz"].data == files["no.tar.gz"]
    assert built.files["b/f"].text == "f"


def test_add_of_an_evil_archive_stays_inside(kitchen: Kitchen, tmp_path: Path) -> None:
    data = io.BytesIO()
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o777)
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, target in (
            (f"../../../../../../../..{outside}/up", ""),
            ("link", str(outside)),
            ("link/through", ""),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = (tarfile.SYMTYPE, target) if target else (tarfile.REGTYPE, "")
            tar.addfile(entry)
    copied(kitchen, "ADD evil.tar /a/", {"evil.tar": data.getvalue()})
    assert list(outside.iterdir()) == []


def test_add_of_a_damaged_archive(kitchen: Kitchen) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        entry = tarfile.TarInfo("noise")
        entry.size = 1_000_000
        tar.addfile(entry, io.BytesIO(os.urandom(entry.size)))
    files: Files = {"Dockerfile": f"FROM {BASE}\nADD cut.tar.gz /\n", "cut.tar.gz": data.getvalue()[:500_000]}
    assert "damaged archive" in kitchen.fails(files)


# --- .dockerignore


def test_dockerignore(kitchen: Kitchen) -> None:
    files: Files = {
        ".dockerignore": "# comment\n\n  *.log  \n/rooted\n**/deep.txt\nsecret\n!secret/but-this\n"
        "a/../b\n*.md\n!README.md\n",
        "x.log": "", "sub/y.log": "sub", "rooted": "", "sub/rooted": "sub", "deep.txt": "", "sub/in/deep.txt": "",
        "secret/hidden": "", "secret/but-this": "shown", "b": "", "a/c": "c", "OTHER.md": "", "README.md": "r",
        "X.LOG": "case",
    }  # fmt: skip
    built = copied(kitchen, "COPY . /c", files)
    assert below(built, "c") == {
        ".dockerignore": files[".dockerignore"],
        "Dockerfile": f"FROM {BASE}\nCOPY . /c\n",
        "sub/": "",
        "sub/y.log": "sub",
        "sub/rooted": "sub",
        "sub/in/": "",
        "secret/": "",
        "secret/but-this": "shown",
        "a/": "",
        "a/c": "c",
        "README.md": "r",
        "X.LOG": "case",
    }


def test_dockerignore_hides_from_names_and_patterns(kitchen: Kitchen) -> None:
    files: Files = {
        ".dockerignore": "hidden*\n!hidden/inner\n",
        "hidden1": "",
        "hidden/inner": "i",
        "hidden/other": "",
        "h": "h",
    }
    assert below(copied(kitchen, "COPY h* /c/", files), "c") == {"h": "h", "inner": "i"}
    assert below(copied(kitchen, "COPY hidden/inner /c/", files), "c") == {"inner": "i"}
    said = kitchen.fails({"Dockerfile": f"FROM {BASE}\nCOPY hidden1 /\n", **files})
    assert "hidden1 is excluded from the build context" in said
    assert "line 1 of .dockerignore hides it: hidden*" in said


def test_dockerignore_of_the_dockerfile_wins(kitchen: Kitchen) -> None:
    files: Files = {
        ".dockerignore": "a\n", "Dockerfile.dockerignore": "b\n",
        "other.dockerfile.dockerignore": "Dockerfile*\n*.docker*\n",
        "other.dockerfile": f"FROM {BASE}\nCOPY . /c\n", "a": "a", "b": "b",
    }  # fmt: skip
    built = copied(kitchen, "COPY . /c", files)
    assert "c/a" in built.files
    assert "c/b" not in built.files
    context = kitchen.context({"Dockerfile": "", **files})
    # The files of the build itself may be excluded: used all the same.
    other = kitchen.build(context, "-f", str(context / "other.dockerfile"))
    assert set(below(other, "c")) == {"a", "b"}


# --- WORKDIR


def test_workdir_belongs_to_the_user(kitchen: Kitchen) -> None:
    built = copied(kitchen, "USER app\nWORKDIR /new/one\nUSER 5:7\nWORKDIR two\nUSER root\nWORKDIR /home/app", {})
    assert [built.files[name].owner for name in ("new", "new/one", "new/one/two")] == [
        (1000, 1000),
        (1000, 1000),
        (5, 7),
    ]
    # One that is there is left alone: no layer.
    assert built.files["home/app"].owner == (1000, 1000)
    assert len(built.layers) == 3


def test_workdir_through_a_link(kitchen: Kitchen) -> None:
    built = copied(kitchen, "RUN mkdir /real && ln -s /real /link\nWORKDIR /link/sub\nRUN pwd > seen", {})
    assert built.config["WorkingDir"] == "/link/sub"
    assert built.files["real/sub/seen"].text == "/real/sub\n"


# --- what RUN does to files that are there


def test_removals(kitchen: Kitchen, tmp_path: Path) -> None:
    built = kitchen.build(f"""\
FROM {BASE}
RUN mkdir -p /d/sub /keep && echo 1 > /d/a && echo 2 > /d/sub/b && echo 3 > /f && echo 4 > /keep/k \
    && echo 5 > /was-file && mkdir /was-dir && touch /was-dir/x && ln -s a /d/link
RUN rm /f /d/link && rm -rf /d && mkdir /d && echo new > /d/c \
    && rm /was-file && mkdir /was-file && rm -r /was-dir && echo f > /was-dir
RUN rm /keep/k && chmod 700 /keep && mv /d/c /d/moved && rm /bin/yes
""")
    second, third = built.layers[-2:]
    assert ".wh.f" in second
    assert "d/.wh..wh..opq" in second
    assert second[".wh.f"].data == b""
    assert "keep/.wh.k" in third
    assert third["keep"].permissions == "700"
    gone = {"f", "d/a", "d/sub", "d/sub/b", "d/link", "keep/k", "was-dir/x", "d/c", "bin/yes"}
    assert not gone & set(built.files)
    assert built.files["d/moved"].text == "new\n"
    assert (built.files["was-file"].kind, built.files["was-dir"].text) == ("dir", "f\n")
    if os.getuid() == 0:  # umoci agrees
        root = built.unpack(tmp_path / "root")
        found = {
            os.path.relpath(os.path.join(at, name), root) for at, dirs, names in os.walk(root) for name in dirs + names
        }
        assert found == set(built.files)


def test_removals_are_seen_by_later_steps_from_the_cache(kitchen: Kitchen) -> None:
    text = f"FROM {BASE}\nRUN mkdir /d && touch /d/a /g\nRUN rm -r /d && mkdir /d && rm /g\n"
    kitchen.build(text)
    built = kitchen.build(text + "RUN ls -A /d > /listing; test ! -e /g\n")
    assert built.files["listing"].text == ""
    # Also with the snapshots gone: unpacked again.
    for snapshot in (kitchen.orca.store / "snapshots").iterdir():
        snapshot.rename(snapshot.with_name("zzzz" + snapshot.name))
    again = kitchen.build(text + "RUN ls -A /d > /listing2; test ! -e /g\n")
    assert again.files["listing2"].text == ""


def test_a_step_writes_only_what_it_changed(kitchen: Kitchen) -> None:
    built = kitchen.build(f"FROM {BASE}\nRUN mkdir -p /a/b && touch /a/b/c\nRUN chmod 600 /a/b/c\nRUN chmod 711 /\n")
    assert set(built.layers[-3]) == {"a", "a/b", "a/b/c"}
    assert set(built.layers[-2]) == {"a", "a/b", "a/b/c"}
    assert built.last["."].permissions == "711"
    assert set(built.last) == {"."}


def test_what_belongs_to_the_run_is_in_no_layer(kitchen: Kitchen) -> None:
    built = kitchen.build(
        f"FROM {BASE}\nRUN echo 1 >> /etc/hosts; echo 1 >> /etc/resolv.conf; "
        "touch /dev/x /proc/x /sys/x /dev/shm/y; touch /own\n"
    )
    assert set(built.last) == {"own"}


def test_files_of_every_kind(kitchen: Kitchen) -> None:
    built = kitchen.build(
        f"FROM {BASE}\nRUN cd /tmp && mkfifo pipe && touch f && ln f hard && chown 5:6 f && chmod 4755 f "
        "&& mkdir -m 1777 sticky && ln -s '../x y' soft && chown -h 7:8 soft && touch \"$(printf 'n\\nl')\"\n"
    )
    layer = built.last
    assert layer["tmp/pipe"].kind == "other"
    assert {layer["tmp/f"].kind, layer["tmp/hard"].kind} == {"file", "hard"}
    assert (built.files["tmp/f"].permissions, built.files["tmp/f"].owner) == ("4755", (5, 6))
    assert layer["tmp/sticky"].permissions == "1777"
    assert (layer["tmp/soft"].target, layer["tmp/soft"].owner) == ("../x y", (7, 8))
    assert "tmp/n\nl" in layer


def test_a_volume_that_is_full_of_files(kitchen: Kitchen) -> None:
    """Many names: sorted in the layer, all there."""
    built = kitchen.build(f"FROM {BASE}\nRUN mkdir /m && cd /m && for i in $(seq 1000); do echo $i > $i; done\n")
    names = [name for name in built.last if name.startswith("m/")]
    assert len(names) == 1000
    assert names == sorted(names)
    assert built.files["m/777"].text == "777\n"
