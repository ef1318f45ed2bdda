"""The step cache: what is built again and what is not, and what a fully cached build costs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.built import Built
from support.images import Layout
from support.kitchen import BASE, Kitchen, parse_events
from support.orca import Orca
from support.proc import run

DOCKERFILE = f"""\
FROM {BASE}
ARG V=1
ENV E=1
COPY dir /dir
RUN cat /dir/file > /made
WORKDIR /work
CMD ["x"]
"""
STEPS = 7


@pytest.fixture
def context(kitchen: Kitchen) -> Path:
    """A context of this test's own, so that nothing of it is in the cache yet."""
    unique = os.urandom(4).hex()
    return kitchen.context(
        {"Dockerfile": DOCKERFILE, "dir/file": f"content {unique}", "dir/other": "other", "dir/sub/x": "x"}
    )


def cached(kitchen: Kitchen, context: Path, *options: str) -> list[str]:
    """Build; the instructions' names that came from the cache."""
    found = parse_events(kitchen.run(context, "--progress=json", *options, check=True).stderr)
    names = {e["step"]: e["text"].split()[0] for e in found if e["event"] == "step-started"}
    return [names[e["step"]] for e in found if e["event"] == "step-finished" and e["cached"]]


ALL = ["FROM", "ARG", "ENV", "COPY", "RUN", "WORKDIR", "CMD"]
UNTIL_COPY = ["FROM", "ARG", "ENV"]


def settle() -> None:
    """Longer than the time for which the stat cache does not trust a file that has just changed."""
    time.sleep(0.08)


def test_everything_is_cached_the_second_time(kitchen: Kitchen, context: Path) -> None:
    first = kitchen.build(context)
    second = kitchen.build(context)
    assert second.digest == first.digest
    assert second.stderr.count("CACHED") == STEPS
    assert cached(kitchen, context) == ALL


@pytest.mark.skipif(not shutil.which("strace"), reason="no strace")
def test_a_cached_build_starts_no_process(kitchen: Kitchen, context: Path, tmp_path: Path) -> None:
    kitchen.build(context)
    log = tmp_path / "trace"
    command = kitchen.orca.command("build", context)
    said = run(
        "strace", "-f", "-o", log, "-e", "trace=execve,clone,clone3,fork,vfork,unshare,mount,connect", *command,
        env=kitchen.orca.environment(),
    )  # fmt: skip
    assert said.out.startswith("sha256:")
    calls = [line for line in log.read_text().splitlines() if not re.search(r"ENOENT|\+\+\+|---", line)]
    programs = [match[1] for line in calls if (match := re.search(r'execve\("([^"]+)"', line))]
    assert [name for name in programs if not re.search(r"/(orca|python3?[0-9.]*)$", name)] == []
    others = [line for line in calls if "execve(" not in line]
    assert others == [], "no process, no namespace, no mount, no network"


@pytest.mark.parametrize("options", [[], ["-t", "cached"], ["-q"]])
def test_a_cached_build_imports_nothing_heavy(kitchen: Kitchen, context: Path, options: list[str]) -> None:
    kitchen.build(context, *options)
    result = kitchen.run(context, *options, env={"PYTHONPROFILEIMPORTTIME": "1"}, check=True)
    modules = {
        line.rpartition("|")[2].strip() for line in result.stderr.splitlines() if line.startswith("import time:")
    }
    assert "orca.executor.build" in modules
    heavy = {
        "sh",
        "rich",
        "asyncio",
        "multiprocessing",
        "subprocess",
        "tomllib",
        "difflib",
        "http",
        "ssl",
        "tarfile",
        "concurrent.futures",
    }
    assert heavy & modules == set()


def test_no_cache(kitchen: Kitchen, context: Path) -> None:
    kitchen.build(context)
    assert cached(kitchen, context, "--no-cache") == ["FROM"]
    assert cached(kitchen, context) == ALL


# --- the context


def test_content(kitchen: Kitchen, context: Path) -> None:
    kitchen.build(context)
    (context / "dir/file").write_text("changed")
    assert cached(kitchen, context) == UNTIL_COPY
    assert kitchen.build(context).files["made"].text == "changed"
    # Back again is still known.
    (context / "dir/other").write_text("1")
    kitchen.build(context)
    (context / "dir/other").write_text("other")
    assert cached(kitchen, context) == ALL


CHANGES: dict[str, tuple[Callable[[Path], object], bool]] = {
    "mode": (lambda d: (d / "file").chmod(0o700), False),
    "mode of a directory": (lambda d: (d / "sub").chmod(0o700), False),
    "new file": (lambda d: (d / "new").touch(), False),
    "new empty directory": (lambda d: (d / "new").mkdir(), False),
    "removed": (lambda d: (d / "other").unlink(), False),
    "renamed": (lambda d: (d / "other").rename(d / "another"), False),
    "link instead of a file": (lambda d: ((d / "other").unlink(), (d / "other").symlink_to("file")), False),
    "times": (lambda d: [os.utime(p, (1, 1)) for p in (d / "file", d / "sub", d)], True),
    "owner": (lambda d: os.chown(d / "file", 7, 7), True),
    "outside of what is copied": (lambda d: (d.parent / "elsewhere").write_text("x"), True),
    "copied anew": (lambda d: (shutil.copytree(d, d.parent / "c"), shutil.rmtree(d), (d.parent / "c").rename(d)), True),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes(kitchen: Kitchen, context: Path, name: str) -> None:
    change, hit = CHANGES[name]
    if name == "owner" and os.getuid():
        pytest.skip("needs root")
    kitchen.build(context)
    settle()
    change(context / "dir")
    assert cached(kitchen, context) == (ALL if hit else UNTIL_COPY)


def test_target_of_a_link(kitchen: Kitchen, context: Path) -> None:
    (context / "dir/link").symlink_to("a")
    kitchen.build(context)
    (context / "dir/link").unlink()
    (context / "dir/link").symlink_to("b")
    assert cached(kitchen, context) == UNTIL_COPY


def test_ignored_files_do_not_matter(kitchen: Kitchen, context: Path) -> None:
    (context / ".dockerignore").write_text("dir/other\n")
    kitchen.build(context)
    (context / "dir/other").write_text("changed")
    assert cached(kitchen, context) == ALL
    (context / ".dockerignore").write_text("dir/other\n# more\nnothing\n")
    assert cached(kitchen, context) == ALL
    (context / ".dockerignore").write_text("")
    assert cached(kitchen, context) == UNTIL_COPY


def test_stat_cache_sees_a_change_that_hides(kitchen: Kitchen, context: Path) -> None:
    """Same size, same inode, modification time put back: the change time tells."""
    file = context / "dir/file"
    settle()
    kitchen.build(context)
    assert cached(kitchen, context) == ALL
    before = file.stat()
    with file.open("r+") as f:
        f.write("X")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    assert cached(kitchen, context) == UNTIL_COPY
    assert kitchen.build(context).files["made"].text.startswith("Xontent")


def test_changes_in_quick_succession(kitchen: Kitchen, context: Path) -> None:
    """Written and built, again and again, faster than a clock's tick: never an old file."""
    for number in range(6):
        (context / "dir/file").write_text(f"round {number}")
        assert kitchen.build(context).files["made"].text == f"round {number}"


def test_stat_cache_reads_no_file_twice(kitchen: Kitchen, context: Path, tmp_path: Path) -> None:
    settle()
    kitchen.build(context)
    log = tmp_path / "trace"
    run(
        "strace",
        "-f",
        "-o",
        log,
        "-e",
        "trace=openat,openat2,open",
        *kitchen.orca.command("build", context),
        env=kitchen.orca.environment(),
    )
    opened = [line for line in log.read_text().splitlines() if re.search(r'"(dir/)?(file|other)"', line)]
    assert not [line for line in opened if "O_PATH" not in line]


# --- the Dockerfile and the command line


def test_a_comment_is_no_change(kitchen: Kitchen, context: Path) -> None:
    kitchen.build(context)
    text = DOCKERFILE.replace("ENV E=1", "# new\n\n  env   E=1").replace("RUN cat", "RUN \\\n# within\n   cat")
    (context / "Dockerfile").write_text("# syntax=docker/dockerfile:1\n" + text)
    found = cached(kitchen, context)
    assert [name.upper() for name in found[:4]] == ALL[:4]


def test_instructions(kitchen: Kitchen, context: Path) -> None:
    kitchen.build(context)
    (context / "Dockerfile").write_text(DOCKERFILE.replace("> /made", "> /made2"))
    assert cached(kitchen, context) == ALL[:4]
    (context / "Dockerfile").write_text(DOCKERFILE.replace('["x"]', '["y"]'))
    assert cached(kitchen, context) == ALL[:6]
    (context / "Dockerfile").write_text(DOCKERFILE.replace("ENV E=1", "ENV E=2"))
    assert cached(kitchen, context) == ALL[:2]


def test_args(kitchen: Kitchen, context: Path) -> None:
    kitchen.build(context)
    assert cached(kitchen, context, "--build-arg=V=1") == ALL
    found = cached(kitchen, context, "--build-arg=V=2")
    assert "RUN" not in found
    assert found[0] == "FROM"
    assert cached(kitchen, context, "--build-arg=UNDECLARED=1") == ALL
    assert cached(kitchen, context, "--label=l=1") == ALL


def test_network_and_hosts_are_part_of_a_run(kitchen: Kitchen, context: Path) -> None:
    kitchen.build(context)
    assert "RUN" not in cached(kitchen, context, "--network=none")
    assert "RUN" not in cached(kitchen, context, "--add-host=h:127.0.0.1")


def test_platform_is_part_of_everything(kitchen: Kitchen) -> None:
    text = "FROM scratch\nENV A=1\n"
    amd = kitchen.build(text, "--platform=linux/amd64")
    assert kitchen.build(text, "--platform=linux/arm64").digest != amd.digest
    assert kitchen.build(text, "--platform=linux/amd64").digest == amd.digest


def test_stages_are_cached_by_what_is_copied(kitchen: Kitchen, context: Path) -> None:
    (context / "Dockerfile").write_text(
        f"FROM {BASE} AS a\nCOPY dir /dir\nFROM {BASE}\nCOPY --from=a /dir/file /f\nRUN cat /f > /g\n"
    )
    kitchen.build(context)
    assert cached(kitchen, context) == ["FROM", "COPY", "FROM", "COPY", "RUN"]
    (context / "dir/file").write_text("changed")
    assert kitchen.build(context).files["g"].text == "changed"


# --- bases


def test_a_base_that_differs_in_its_config_alone(kitchen: Kitchen) -> None:
    name = f"base-{os.urandom(4).hex()}"
    kitchen.build(f"FROM {BASE}\nHEALTHCHECK CMD one\n", "-t", name)
    child = kitchen.context(f"FROM {name}\nRUN touch /child\n")
    first = kitchen.build(child)
    assert first.config["Healthcheck"]["Test"] == ["CMD-SHELL", "one"]
    kitchen.build(f"FROM {BASE}\nHEALTHCHECK CMD two\n", "-t", name)
    assert cached(kitchen, child) == ["FROM"]
    assert kitchen.build(child).config["Healthcheck"]["Test"] == ["CMD-SHELL", "two"]


# --- a store that is not as it was


def layer_blobs(built: Built) -> list[Path]:
    return [built.blob(layer["digest"]) for layer in built.manifest["layers"]]


@pytest.mark.parametrize("damage", ["truncated", "removed", "manifest", "record", "snapshots"])
def test_a_damaged_cache_is_built_again(fresh: Kitchen, damage: str) -> None:
    kitchen = fresh
    context = kitchen.context({"Dockerfile": DOCKERFILE, "dir/file": "content", "dir/other": "other"})
    built = kitchen.build(context)
    store = kitchen.orca.store
    expected = built.files["made"].text
    made = next(blob for blob, layer in zip(layer_blobs(built), built.layers, strict=True) if "made" in layer)
    if damage == "truncated":
        os.truncate(made, made.stat().st_size - 1)
    elif damage == "removed":
        made.unlink()
    elif damage == "manifest":
        built.blob(built.digest).unlink()
    elif damage == "record":
        for record in (store / "steps").glob("*/*"):
            record.write_text('{"key": 1}' if record.stat().st_ino % 2 else "{")
    else:
        for snapshot in (store / "snapshots").iterdir():
            shutil.rmtree(snapshot)
    again = kitchen.build(context)
    again.check()
    assert again.files["made"].text == expected
    assert again.config["Cmd"] == ["x"]
    # And goes on from there.
    (context / "Dockerfile").write_text(DOCKERFILE + "RUN cat /made /dir/other > /more\n")
    assert kitchen.build(context).files["more"].text == f"{expected}other"


def test_a_killed_build_keeps_what_it_has_finished(orca: Orca, busybox: str) -> None:
    kitchen = Kitchen(orca)
    text = f"FROM {busybox}\nRUN echo one > /one\nRUN echo two > /two\nRUN test -e /never || sleep 300\n"
    context = kitchen.context(text)
    process = orca.start("build", "--progress=json", context)
    wait_for(orca.log, '"layer-committed"', '"step": 3')
    process.send_signal(signal.SIGKILL)
    process.wait()
    (context / "Dockerfile").write_text(text.replace("test -e /never || sleep 300", "cat /one /two > /three"))
    assert cached(kitchen, context) == ["FROM", "RUN", "RUN"]
    assert kitchen.build(context).files["three"].text == "one\ntwo\n"


def wait_for(log: Path, *words: str) -> None:
    """Until one line of the log has all `words`."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        if any(all(word in line for word in words) for line in lines):
            return
        time.sleep(0.02)
    raise AssertionError(f"no line with {words} in\n{log.read_text(errors='replace')}")


def test_a_failed_build_keeps_what_it_has_finished(kitchen: Kitchen, context: Path) -> None:
    (context / "Dockerfile").write_text(DOCKERFILE + "RUN exit 4\n")
    kitchen.fails(context, code=4)
    (context / "Dockerfile").write_text(DOCKERFILE + "RUN true\n")
    assert cached(kitchen, context) == ALL


def test_cached_from_another_directory(kitchen: Kitchen, context: Path, tmp_path: Path) -> None:
    """A checkout somewhere else, with other times and owners, is the same context."""
    kitchen.build(context)
    copy = tmp_path / "copy"
    shutil.copytree(context, copy, copy_function=shutil.copy)
    assert cached(kitchen, copy) == ALL


def test_layout_of_a_step_record(kitchen: Kitchen, context: Path) -> None:
    """What a key was made of stands beside it, so that a miss can be explained."""
    kitchen.build(context)
    records = [json.loads(path.read_text()) for path in (kitchen.orca.store / "steps").glob("*/*")]
    run_record = next(r for r in records if r["text"] == "RUN cat /dir/file > /made")
    assert run_record["ingredients"]["run"] == ["/bin/sh", "-c", "cat /dir/file > /made"]
    assert ["E", "1"] in run_record["ingredients"]["env"]


def test_two_stores_share_nothing(kitchen: Kitchen, context: Path, orca: Orca, busybox_layout: Layout) -> None:
    kitchen.build(context)
    orca.load(busybox_layout, BASE)
    assert cached(Kitchen(orca), context) == ["FROM"]
