"""The flags of COPY and ADD: --parents, --exclude, --chmod, --unpack, --link."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from support.built import Built
from support.kitchen import BASE, Kitchen, parse_events

Files = dict[str, str | bytes | Path]


def copied(kitchen: Kitchen, instructions: str, files: Files, *options: str) -> Built:
    """Build `instructions` on a base with `files` in the context."""
    return kitchen.build({"Dockerfile": f"FROM {BASE}\n{instructions}\n", **files}, *options)


def below(built: Built, directory: str) -> set[str]:
    """The names below a directory; directories with a slash."""
    return {
        name.removeprefix(f"{directory}/") + ("/" if file.kind == "dir" else "")
        for name, file in built.files.items()
        if name.startswith(f"{directory}/")
    }


def archive(**files: str) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text), 0o640
            tar.addfile(member, io.BytesIO(text.encode()))
    return data.getvalue()


TREE: Files = {
    "x/a.txt": "a", "x/b.md": "b", "x/y/c.txt": "c", "x/y/z/d.txt": "d", "w/e.txt": "e", "top.txt": "t", "x/empty/": "",
}  # fmt: skip


# --- --parents


def test_parents(kitchen: Kitchen) -> None:
    built = copied(
        kitchen,
        "COPY --parents ./x/a.txt w/e.txt /whole/\n"
        "COPY --parents x/./y/*.txt /pivot\n"
        "COPY --parents **/*.txt /deep/\n"
        "COPY --parents x /dir/\n"
        "COPY --parents ./x/././*.md /last/\n"
        "COPY --parents */./?.txt /wild/\n"
        "COPY --parents x/./ top.txt /two/",
        TREE,
    )
    assert below(built, "whole") == {"x/", "x/a.txt", "w/", "w/e.txt"}
    assert below(built, "pivot") == {"y/", "y/c.txt"}
    names = {"top.txt", "x/", "x/a.txt", "x/y/", "x/y/c.txt", "x/y/z/", "x/y/z/d.txt", "w/", "w/e.txt"}
    assert below(built, "deep") == names
    assert below(built, "dir") == {"x/", "x/a.txt", "x/b.md", "x/y/", "x/y/c.txt", "x/y/z/", "x/y/z/d.txt", "x/empty/"}
    assert below(built, "last") == {"b.md"}
    assert below(built, "wild") == {"a.txt", "e.txt"}
    assert {"top.txt", "a.txt", "y/z/d.txt", "empty/"} < below(built, "two")
    assert built.history[-1] == "COPY --parents x/./ top.txt /two/ # orca"


def test_parents_keep_the_modes_of_their_sources(kitchen: Kitchen) -> None:
    context = kitchen.context(
        {
            "Dockerfile": f"FROM {BASE} AS one\nCOPY --parents --chown=5:6 d/in/f /to/\n"
            f"FROM {BASE} AS s\nRUN mkdir -p /d/in && touch /d/in/f && chmod 2750 /d && chown 7:8 /d /d/in\n"
            "FROM one\nCOPY --parents --from=s /d/./in/f /d/in /stage/\n",
            "d/in/f": "f",
        }
    )
    context.chmod(0o711)
    (context / "d").chmod(0o750)
    built = kitchen.build(context)
    # Where the copy goes is made as every COPY makes it, whatever the context's own directory is like.
    assert (built.files["to"].permissions, built.files["to"].owner) == ("755", (5, 6))
    assert (built.files["to/d"].permissions, built.files["to/d"].owner) == ("750", (5, 6))
    assert below(built, "stage") == {"in/", "in/f", "d/", "d/in/", "d/in/f"}
    assert (built.files["stage/d"].permissions, built.files["stage/d"].owner) == ("2750", (7, 8))


def test_parents_and_links(kitchen: Kitchen) -> None:
    files: Files = {**TREE, "link": Path("x"), "x/y/up": Path("../a.txt")}
    built = copied(kitchen, "COPY --parents x/y/up link /to/\nCOPY --parents link/./y/c.txt /behind/", files)
    assert (built.files["to/x/y/up"].kind, built.files["to/x/y/up"].target) == ("link", "../a.txt")
    assert built.files["to/link"].kind == "link"
    assert below(built, "behind") == {"y/", "y/c.txt"}
    said = kitchen.fails({"Dockerfile": f"FROM {BASE}\nCOPY --parents link/a.txt /to/\n", **files})
    assert "COPY --parents does not go through links: link/a.txt" in said
    assert "link/./" in said
    assert "Dockerfile:2" in said


def test_parents_that_find_nothing(kitchen: Kitchen) -> None:
    assert "nothing*/x matches nothing" in copied(kitchen, "COPY --parents nothing*/x /to/", TREE).stderr
    said = kitchen.fails({"Dockerfile": f"FROM {BASE}\nCOPY --parents x/y/c.text /to/\n", **TREE})
    assert "x/y/c.text: no such file or directory" in said
    assert "did you mean x/y/c.txt?" in said
    said = kitchen.fails({"Dockerfile": f"FROM {BASE}\nCOPY --parents top.txt/./x /to/\n", **TREE})
    assert "top.txt is not a directory" in said
    said = kitchen.fails({"Dockerfile": f"FROM {BASE}\nCOPY --parents w/e.txt /to/\n", **TREE, ".dockerignore": "w"})
    assert "w/e.txt is excluded from the build context" in said


# --- --exclude


def test_exclude(kitchen: Kitchen) -> None:
    files: Files = {**TREE, "node/big/f": "f", "node/keep": "k", "x/a.md": "", "a.md": "", "b.txt": ""}
    built = copied(
        kitchen,
        "ENV E=md\n"
        "COPY --exclude=**/*.txt --exclude=node . /one/\n"
        "COPY --exclude=*.$E x /two/\n"
        "COPY --exclude=*.md *.* /three/\n"
        "COPY --exclude=node --exclude=!node/keep --exclude=x --exclude=w . /four/\n"
        "COPY --parents --exclude=x/y --exclude=**/*.md x/./y x /five/\n"
        "ADD --exclude=y --exclude=*.md x /six/\n"
        "COPY --exclude=a.md *.md /seven/",
        {**files, ".dockerignore": "Dockerfile\n.dockerignore\n"},
    )
    assert below(built, "one") == {"x/", "x/a.md", "x/b.md", "x/y/", "x/y/z/", "x/empty/", "w/", "a.md"}
    assert below(built, "two") == {"a.txt", "y/", "y/c.txt", "y/z/", "y/z/d.txt", "empty/"}
    assert below(built, "three") == {"b.txt", "top.txt"}
    assert below(built, "four") == {"node/", "node/keep", "a.md", "b.txt", "top.txt"}
    # What counts is the path below the pivot.
    assert below(built, "five") == {"x/", "x/a.txt", "x/empty/", "y/", "y/c.txt", "y/z/", "y/z/d.txt"}
    assert below(built, "six") == {"a.txt", "empty/"}
    assert not [name for name in built.files if name.startswith("seven")]
    assert "COPY --exclude=**/*.txt --exclude=node . /one/ # orca" in built.history


def test_what_is_excluded_is_in_no_key(kitchen: Kitchen) -> None:
    files: Files = {"Dockerfile": f"FROM {BASE}\nCOPY --exclude=*.log d /d/\n", "d/f": "f", "d/x.log": "1"}
    context = kitchen.context(files)
    first = kitchen.build(context)
    (context / "d/x.log").write_text("2")
    assert kitchen.build(context).digest == first.digest
    (context / "d/f").write_text("other")
    assert kitchen.build(context).digest != first.digest


def test_what_is_excluded_is_not_read(kitchen: Kitchen) -> None:
    context = kitchen.context({"Dockerfile": f"FROM {BASE}\nCOPY --exclude=fifo --exclude=dir . /d/\n", "f": "f"})
    os.mkfifo(context / "fifo")
    (context / "dir").mkdir()
    os.mkfifo(context / "dir/fifo")
    assert below(kitchen.build(context), "d") == {"Dockerfile", "f"}


# --- --chmod


def test_symbolic_chmod(kitchen: Kitchen) -> None:
    context = kitchen.context(
        {
            "Dockerfile": f"FROM {BASE}\nARG M=rwX\nCOPY --chmod=u=$M,go=rX d /d/\n"
            "COPY --chmod=go-rwx --chown=5:6 <<one <<'two' /docs/\n1\none\n2\ntwo\n"
            "COPY --chmod=a+x d/f /f\nADD --chmod=u+w,g= a.tar /unpacked/\nCOPY --chmod=4711 <<x /x\nx\n",
            "d/f": "f", "d/run": "r", "d/in/g": "g", "a.tar": archive(f="f"),
        }
    )  # fmt: skip
    (context / "d/f").chmod(0o600)
    (context / "d/run").chmod(0o700)
    (context / "d/in").chmod(0o700)
    built = kitchen.build(context)
    names = ("d/f", "d/run", "d/in", "d/in/g", "docs/one", "docs/two", "f", "unpacked/f", "x")
    assert [built.files[name].permissions for name in names] == [
        "644", "755", "755", "644", "600", "600", "711", "600", "4711",
    ]  # fmt: skip
    assert built.files["docs/one"].owner == (5, 6)
    assert "COPY --chmod=u=rwX,go=rX d /d/ # orca" in built.history
    assert "COPY --chown=5:6 --chmod=go-rwx <<one <<two /docs/ # orca" in built.history


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("COPY --chmod=u=q f /", "bad mode --chmod=u=q"),
        ("COPY --chmod=$UNSET$M f /", "bad mode --chmod=nine"),
        ("COPY --exclude=[a f /", "bad pattern of --exclude"),
        ("COPY --link=maybe f /", "--link takes true or false"),
        ("ADD --parents f /", 'unknown flag "--parents" of ADD'),
        ("COPY --unpack f /", 'unknown flag "--unpack" of COPY'),
    ],
)
def test_bad_flags(line: str, said: str, kitchen: Kitchen) -> None:
    text = kitchen.fails({"Dockerfile": f"FROM {BASE}\nENV M=nine\n{line}\n", "f": "f"})
    assert said in text
    assert "Dockerfile:3" in text


# --- --unpack


def test_unpack(kitchen: Kitchen) -> None:
    built = copied(
        kitchen,
        "ADD a.tar /default/\nADD --unpack=true a.tar f /yes/\nADD --unpack=false a.tar f /no/",
        {"a.tar": archive(inside="i"), "f": "f"},
    )
    assert below(built, "default") == {"inside"}
    assert below(built, "yes") == {"inside", "f"}
    assert below(built, "no") == {"a.tar", "f"}


# --- --link


def layers(built: Built) -> list[str]:
    return [layer["digest"] for layer in built.manifest["layers"]]


def calls(built: Built) -> list[str]:
    """The tools that a build with --progress=json called."""
    return [event["argv"][0] for event in parse_events(built.stderr) if event["event"] == "tool-started"]


def unpacks(built: Built) -> list[object]:
    return [event["argv"] for event in parse_events(built.stderr) if "unpack" in event.get("argv", ())]


def test_link_is_made_as_if_into_an_empty_root(fresh: Kitchen) -> None:
    built = copied(
        fresh,
        "RUN mkdir -p -m 700 /made && ln -s /made /dir && mkdir /app && touch /app/old && chmod 1777 /app\n"
        "COPY --link f /dir/f\nCOPY --link d /app/\nCOPY --link --chown=5 --chmod=640 f /own/er\nCOPY --link d /\n"
        "ADD --link a.tar /a/\nCOPY --link <<doc /docs/\nhere\ndoc\nCOPY --link none* /x/\n"
        "RUN cat /dir/f /app/old /app/one /one /a/f /docs/doc > /all; stat -c '%a %u' / /own /app > /stats",
        {"f": "f", "d/one": "1", "a.tar": archive(f="u")},
    )
    # The link at the destination is no more: the layer has a directory there.
    assert (built.files["dir"].kind, built.files["dir/f"].text) == ("dir", "f")
    assert not below(built, "made")
    # What was in a directory stays in it.
    assert below(built, "app") == {"old", "one"}
    assert built.files["all"].text == "f11uhere\n"
    # Directories above a destination are in the layer, as those that a COPY makes.
    assert built.files["stats"].text == "755 0\n755 5\n755 0\n"
    first = built.layers[-7]
    assert list(first) == ["dir", "dir/f"]
    assert (first["dir"].permissions, first["dir"].owner) == ("755", (0, 0))
    assert (built.files["own/er"].permissions, built.files["own/er"].owner) == ("640", (5, 5))
    assert not any(".wh." in name for layer in built.layers for name in layer)
    assert built.history[-2] == "COPY none* /x/ # orca"
    assert built.image["history"][-2]["empty_layer"] is True


def test_link_is_put_on_another_base(fresh: Kitchen) -> None:
    files: Files = {"d/f": "f", "g": "g"}
    text = "FROM {b}\n{before}COPY --link d /d/\nENV A=1\nCOPY --link g /g\nRUN cat /d/f /g {x}\n"
    first = fresh.build({"Dockerfile": text.format(b=BASE, before="", x=""), **files})
    other = fresh.build(
        {"Dockerfile": text.format(b=BASE, before="RUN touch /new\nENV B=2\n", x="&& ls /new"), **files},
        "--progress=json",
    )
    # The same blobs, on something else.
    assert layers(other)[-2:] == layers(first)[-2:]
    assert len(layers(other)) == len(layers(first)) + 1
    assert other.config["Env"] == [*first.config["Env"][:-1], "B=2", "A=1"]
    assert calls(other).count("tar") == 1  # of RUN touch
    done = {e["step"]: e["cached"] for e in parse_events(other.stderr) if e["event"] == "step-finished"}
    assert [done[step] for step in (2, 4, 5, 6, 7)] == [False, True, False, True, False]
    # On a base of which nothing is unpacked nothing has to be.
    alone = fresh.build(
        {"Dockerfile": "FROM scratch\nCOPY --link d /d/\nCOPY --link g /g\n", **files}, "--progress=json"
    )
    assert layers(alone) == layers(first)[-2:]
    assert set(calls(alone)) <= {"umoci"}
    assert fresh.build({"Dockerfile": text.format(b=BASE, before="", x=""), **files}).digest == first.digest
    # Without its snapshots, too.
    shutil.rmtree(fresh.orca.store / "snapshots")
    again = fresh.build({"Dockerfile": text.format(b=BASE, before="RUN touch /n\n", x="&& ls /n"), **files})
    assert layers(again)[-2:] == layers(first)[-2:]


def test_link_alone_unpacks_no_base(fresh: Kitchen) -> None:
    files: Files = {"f": "f"}
    built = fresh.build({"Dockerfile": f"FROM {BASE}\nCOPY --link f /f\nENV A=1\n", **files}, "--progress=json")
    assert not unpacks(built)
    # Whoever needs the files unpacks what is below, once.
    more = fresh.build({"Dockerfile": f"FROM {BASE}\nCOPY --link f /g\nENV A=1\nCOPY f /h\n", **files})
    assert (more.files["g"].text, more.files["h"].text) == ("f", "f")
    third = f"FROM {BASE}\nCOPY --link f /g\nENV A=1\nRUN cat /g > /i\n"
    last = fresh.build({"Dockerfile": third, **files}, "--progress=json")
    assert last.files["i"].text == "f"
    assert not unpacks(last)


def test_link_and_names_of_owners(fresh: Kitchen) -> None:
    text = f"FROM {BASE}\n{{}}COPY --link --chown=app:app f /f\nCOPY --link --chown=root f /g\n"
    first = fresh.build({"Dockerfile": text.format(""), "f": "f"})
    assert first.files["f"].owner == (1000, 1000)
    # The name has the same number: the same layer.
    same = fresh.build({"Dockerfile": text.format("RUN touch /x\n"), "f": "f"})
    assert layers(same)[-2:] == layers(first)[-2:]
    other = fresh.build({"Dockerfile": text.format("RUN sed -i s/1000/1001/g /etc/passwd /etc/group\n"), "f": "f"})
    assert other.files["f"].owner == (1001, 1001)
    assert layers(other)[-1] == layers(first)[-1]
    said = fresh.fails({"Dockerfile": "FROM scratch\nCOPY --link --chown=app f /f\n", "f": "f"})
    assert "no user 'app' in the image" in said


def test_link_from_a_stage(kitchen: Kitchen) -> None:
    text = (
        f"FROM {BASE} AS s\nRUN mkdir -p /d/in && touch /d/in/f && chown -R 7:8 /d && chmod 750 /d/in\n"
        f"FROM {BASE} AS link\nCOPY --from=s --link --parents /d/./in /to/\n"
        "FROM link\nCOPY --link --from=link /to/in/f /last\nRUN ls /last /to/in\n"
    )
    built = kitchen.build(text)
    assert (built.files["to/in"].permissions, built.files["to/in"].owner) == ("750", (7, 8))
    assert built.files["last"].owner == (7, 8)
