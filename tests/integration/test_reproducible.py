"""The same image again: in another store, by another user, at another hour, from another checkout."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.built import Built
from support.images import Layout
from support.kitchen import BASE, Kitchen
from support.orca import Orca
from support.users import User

EPOCH = 1_000_000_000
DOCKERFILE = f"""\
FROM {BASE} AS made
ARG SOURCE_DATE_EPOCH
RUN mkdir -p /out/z /out/a && echo $SOURCE_DATE_EPOCH > /out/a/epoch && ln /out/a/epoch /out/z/hard && touch /out/x
RUN rm -r /var/tmp && mkdir /var/tmp && mkfifo /pipe && chmod 4755 /out/x && rm /etc/group
FROM {BASE}
LABEL a=1
COPY . /src
COPY --chown=1000:1000 dir /home/dir
COPY --from=made /out /out
WORKDIR /new/deep
USER 1000
RUN stat -c '%n %Y %a' /out/a/epoch /src/dir/one > /tmp/seen; date > /dev/null
ADD data.tar.gz /data
COPY <<EOF /here
text
EOF
CMD ["sh"]
"""


def context_at(place: Path, seconds: int, names: list[str]) -> Path:
    """A checkout: the same files, made in another order, with other times."""
    place.mkdir()
    place.chmod(0o755)
    (place / "dir").mkdir()
    for name in names:
        (place / name).write_text(name)
        (place / name).chmod(0o644)
    (place / "link").symlink_to("dir/one")
    (place / "Dockerfile").write_text(DOCKERFILE)
    os.utime(place / "link", (seconds, seconds), follow_symlinks=False)
    return place


def add_archive(contexts: list[Path]) -> None:
    """One archive, a copy in each context."""
    import gzip
    import io
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, seconds in (("old", 5), ("new", EPOCH + 5)):
            info = tarfile.TarInfo(name)
            info.mtime, info.size = seconds, 1
            tar.addfile(info, io.BytesIO(b"x"))
    for context in contexts:
        (context / "data.tar.gz").write_bytes(gzip.compress(buffer.getvalue(), mtime=0))


def touch_all(place: Path, seconds: int) -> None:
    for path in (place, *place.rglob("*")):
        os.utime(path, (seconds, seconds), follow_symlinks=False)


def shifted_clock() -> dict[str, str]:
    """orca's own clock, 40 days off where faketime is installed."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return {"LD_PRELOAD": str(found[0]), "FAKETIME": "+40d"} if found else {}


@pytest.mark.user
def test_other_store_user_hour_and_checkout(
    orca: Orca, open_path: Path, busybox_layout: Layout, ordinary_user: User
) -> None:
    names = ["dir/one", "dir/two", "b", "a"]
    one = context_at(open_path / "one", 1, names)
    two = context_at(open_path / "two", 1, names[::-1])
    add_archive([one, two])
    touch_all(one, 500_000_000)
    touch_all(two, 1_500_000_000)
    for who in (None, ordinary_user):
        orca.load(busybox_layout, BASE, user=who)
    first = orca("build", f"--source-date-epoch={EPOCH}", "-t", "x", one)
    time.sleep(1.01 - time.time() % 1)  # over the edge of a second
    env = {"SOURCE_DATE_EPOCH": str(EPOCH), "TZ": "Pacific/Auckland", "LANG": "de_DE.UTF-8", **shifted_clock()}
    mask = os.umask(0o077)
    try:
        second = orca("build", "-t", "other/name", two, env=env, user=ordinary_user)
    finally:
        os.umask(mask)
    assert second.out == first.out
    built = Built(orca.store / "images", first.out)
    built.check()
    assert built.image["created"] == "2001-09-09T01:46:40Z"
    assert built.files["src/dir/one"].mtime == EPOCH, "a checkout's time is an accident"
    assert built.files["src/link"].mtime == EPOCH
    assert built.files["data/old"].mtime == 5
    assert built.files["data/new"].mtime == EPOCH
    assert built.files["out/a/epoch"].text == f"{EPOCH}\n"
    assert built.files["tmp/seen"].text == f"/out/a/epoch {EPOCH} 644\n/src/dir/one {EPOCH} 644\n"


def test_the_base_stays_as_it_is(kitchen: Kitchen) -> None:
    """Neither its layers nor its history get our epoch, whose times are later."""
    made = kitchen.build(f"FROM {BASE}\nRUN touch /f\n", "--source-date-epoch=5")
    plain = kitchen.build(f"FROM {BASE}\nRUN touch /f\n")
    assert made.manifest["layers"][0] == plain.manifest["layers"][0]
    assert made.image["history"][0] == plain.image["history"][0]
    assert made.image["history"][-1]["created"] == "1970-01-01T00:00:05Z"
    assert made.last["f"].mtime == 5


def test_steps_of_another_clock_are_other_steps(kitchen: Kitchen) -> None:
    """What a build without an epoch has cached never gives its times to one that has it, nor the other way round."""
    context = kitchen.context({"Dockerfile": f"FROM {BASE}\nRUN touch /other-clock\nCOPY f /\nENV a=b\n", "f": "f"})
    plain = kitchen.build(context)
    with_epoch = kitchen.build(context, env={"SOURCE_DATE_EPOCH": "1000"})
    assert with_epoch.stderr.count("CACHED") == 1, "FROM"
    assert {file.mtime for layer in with_epoch.layers[1:] for file in layer.values()} == {1000}
    assert with_epoch.image["history"][-1]["created"] == "1970-01-01T00:16:40Z"
    other = kitchen.build(context, "--build-arg=SOURCE_DATE_EPOCH=2000")
    assert other.last["f"].mtime == 2000
    again = kitchen.build(context)
    assert again.digest == plain.digest
    assert kitchen.build(context, "--source-date-epoch=1000").digest == with_epoch.digest


def test_timestamp_is_exact(kitchen: Kitchen) -> None:
    """buildah's word: files that are older than it get it too."""
    text = f"FROM {BASE}\nRUN touch -d @7 /old && touch /new\n"
    clamped = kitchen.build(text, "--source-date-epoch=1000")
    assert (clamped.last["old"].mtime, clamped.last["new"].mtime) == (7, 1000)
    exact = kitchen.build(text, "--timestamp=1000")
    assert (exact.last["old"].mtime, exact.last["new"].mtime) == (1000, 1000)
    assert exact.digest != clamped.digest
    assert exact.image["created"] == "1970-01-01T00:16:40Z"


def test_fresh_and_cached_steps_look_the_same_to_the_next(kitchen: Kitchen) -> None:
    """A RUN sees the times that the layer below will say, whether that was made just now or unpacked from the store."""
    before = f"FROM {BASE}\nRUN mkdir /t && touch /t/x\n"
    options = ("--source-date-epoch=3000",)
    fresh = kitchen.build(before + "RUN stat -c %Y /t/x /t > /seen\n", *options)
    for path in (kitchen.orca.store / "snapshots").iterdir():
        shutil.rmtree(path)
    unpacked = kitchen.build(before + "RUN stat -c %Y /t/x /t > /seen2\n", *options)
    assert fresh.files["seen"].text == unpacked.files["seen2"].text == "3000\n3000\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--source-date-epoch=yesterday",), "--source-date-epoch is not a number of seconds: 'yesterday'"),
        (("--timestamp=-5",), "--timestamp is not a number of seconds: '-5'"),
        (("--build-arg=SOURCE_DATE_EPOCH=",), "--build-arg SOURCE_DATE_EPOCH is not a number"),
        (("--rewrite-timestamp",), "--rewrite-timestamp: to which time?"),
        (("--timestamp=5", "--source-date-epoch=5"), "exclude each other"),
    ],
)
def test_bad_epochs(kitchen: Kitchen, options: tuple[str, ...], message: str) -> None:
    assert message in kitchen.fails(f"FROM {BASE}\n", *options, code=2)


# --- --no-cache-filter

STAGES = f"""\
FROM {BASE} AS one
RUN head -c 8 /dev/urandom > /one
FROM {BASE} AS two
RUN head -c 8 /dev/urandom > /two
FROM {BASE} AS three
RUN echo before
COPY --from=one /one /
RUN echo after
FROM two AS four
COPY --from=three /one /
"""


def test_no_cache_filter(kitchen: Kitchen, said: Callable[[Built], list[str]]) -> None:
    first = kitchen.build(STAGES)
    again = kitchen.build(STAGES, "--no-cache-filter=ONE")
    assert said(again) == [
        "RUN head -c 8 /dev/urandom > /one", "COPY --from=one /one /", "RUN echo after", "COPY --from=three /one /",
    ]  # fmt: skip
    assert again.files["one"].data != first.files["one"].data
    assert again.files["two"].data == first.files["two"].data
    last = kitchen.build(STAGES, "--no-cache-filter=two,2")
    assert last.files["one"].data == again.files["one"].data
    assert last.files["two"].data != first.files["two"].data
    assert kitchen.build(STAGES).digest == last.digest, "what was made anew is what is cached now"
    assert "no stage 'nine' in the Dockerfile" in kitchen.fails(STAGES, "--no-cache-filter=nine", code=2)
    assert "names no stage" in kitchen.fails(STAGES, "--no-cache-filter=a,,b", code=2)


@pytest.fixture
def said() -> Callable[[Built], list[str]]:
    """The steps of a build that were carried out, in Dockerfile order, from its record."""
    import json

    def look(built: Built) -> list[str]:
        newest = max((built.images.parent / "builds").iterdir(), key=lambda path: path.stat().st_mtime)
        events = [json.loads(line) for line in (newest / "events.jsonl").read_text().splitlines()]
        names = {e["step"]: e["text"] for e in events if e["event"] == "step-started"}
        done = {e["step"] for e in events if e["event"] == "step-finished" and not e["cached"]}
        return [names[step] for step in sorted(done)]

    return look
