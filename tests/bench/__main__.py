"""`make bench`: medians of paired, interleaved runs of orca and of Debian's buildah on the same work.

Both have the base image stored and unpacked, both store the image they build locally, both use the host's network.
Every build is checked afterwards: the layers it added must hold the same files, byte by byte, on both sides.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))

from data import copy_context, ignore_context, run_context
from sides import BASE, ORCA, BareRunc, Buildah, Orca
from support.images import Layout, busybox_layout, debian_layout
from support.proc import Failed, run
from support.stores import Maker

Side = Buildah | Orca


@dataclass(frozen=True)
class Case:
    """One row of the table. `target` is the largest share of buildah's time that is good enough, None: no promise."""

    name: str
    what: str
    context: str
    cold: bool
    target: float | None
    network: str = "host"


CASES = (
    Case("run-cold", "20 RUNs, --no-cache", "run", cold=True, target=0.4),
    Case("run-warm", "20 RUNs, all cached", "run", cold=False, target=0.5),
    Case(
        "run-net",
        "20 RUNs, --no-cache, orca with a network of its own for each",
        "run",
        cold=True,
        target=None,
        network="default",
    ),
    Case("copy-cold", "COPY of 10,000 files, 80 MB", "copy", cold=True, target=0.6),
    Case("copy-warm", "the same again", "copy", cold=False, target=0.15),
)


IGNORE = "ignore-warm"
IGNORE_TARGET = 1.5
"""What the rules may cost: the time of a warm build with them by that of one without."""

LISTING = "images-1000"
LISTING_TARGET = 2.0
"""What `orca images` may take with 1,000 images in the store, by what it takes with 10."""


def main() -> int:
    options = arguments()
    cases = [c for c in CASES if not options.only or c.name in options.only]
    ignoring = not options.only or IGNORE in options.only
    listing = not options.only or LISTING in options.only
    say = print if not options.json else lambda *_: None
    with workspace(say) as work:
        base = debian_layout() if options.base == "debian" else busybox_layout(work / "busybox")
        contexts = {"run": work / "context-run", "copy": work / "context-copy"}
        run_context(contexts["run"], BASE)
        copy_context(contexts["copy"], BASE)
        known = {"orca": Orca, "buildah": Buildah}
        sides: list[Side] = [known[name](work, base) for name in options.sides.split(",")]
        rows = []
        if "run-cold" in (c.name for c in cases):
            bare = times_of_bare_runc(BareRunc(work, base), options.runs)
            say(f"{'fastest':10} {statistics.median(bare):7.3f} s  bare `runc run` x 20 in one unpacked bundle")
            rows.append({"case": "fastest", "bare runc": bare})
        for case in cases:
            row = measure(case, sides, contexts[case.context], options.runs, base)
            rows.append(row)
            say(line(case, row))
        if ignoring:
            rows.append(measure_ignore(work, base, options.runs))
            say(ignore_line(rows[-1]))
        if listing:
            rows.append(measure_listing(work, options.runs))
            say(listing_line(rows[-1]))
    if options.json:
        json.dump(rows, sys.stdout, indent=1)
        print()
    return int(options.check and any(row.get("missed") for row in rows))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench BENCH_ARGS=…", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="measured runs a side and case (5)")
    parser.add_argument(
        "--only", action="append", choices=[*(c.name for c in CASES), IGNORE, LISTING], help="one case; may be repeated"
    )
    parser.add_argument("--base", choices=["debian", "busybox"], default="debian", help="what FROM names (debian)")
    parser.add_argument("--sides", default="orca,buildah", help="who is measured (orca,buildah)")
    parser.add_argument("--json", action="store_true", help="all times as JSON instead of the table")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    return parser.parse_args()


@contextlib.contextmanager
def workspace(say: Callable[..., None]) -> Iterator[Path]:
    """A directory for both stores, on an ext4 with a journal where root may mount one.

    The machine's own file system may be one without (virtual machines often are): there ext4 avoids inodes that
    were deleted in the last minutes by walking over them, so that each run is slower than the one before.
    """
    with tempfile.TemporaryDirectory(prefix="orca-bench-") as top:
        work = Path(top) / "disk"
        work.mkdir()
        if os.getuid():
            say(f"in {work}, as it is mounted")
            yield work
            return
        disk = Path(top) / "disk.img"
        with disk.open("wb") as f:
            f.truncate(12 << 30)
        run("mkfs.ext4", "-q", disk, env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"})
        run("mount", "-o", "loop", disk, work)
        say(f"in {work}, an ext4 of its own")
        try:
            yield work
        finally:
            run("umount", "-R", work, check=False)
            run("umount", "-l", work, check=False)


def times_of_bare_runc(bare: BareRunc, runs: int) -> list[float]:
    """Wall-clock seconds of `runs` times 20 containers."""
    times = []
    for _ in range(runs):
        bare.reset()
        os.sync()
        start = time.monotonic()
        bare.run_all()
        times.append(time.monotonic() - start)
    return times


def measure(case: Case, sides: list[Side], context: Path, runs: int, base: Layout) -> dict[str, object]:
    """Build in turns, who begins alternates; then compare what was built. The times include nothing but the build."""
    times: dict[str, list[float]] = {side.name: [] for side in sides}
    for side in sides:
        side.reset()
        if not case.cold:
            build(side, case, context)
            build(side, case, context)
    for n in range(runs):
        for side in sides[:: 1 if n % 2 == 0 else -1]:
            if case.cold:
                side.reset()
            os.sync()
            times[side.name].append(build(side, case, context))
    facts = {side.name: added_files(side.image(), base) for side in sides}
    if len({digest for _, _, digest in facts.values()}) > 1:
        raise SystemExit(f"{case.name}: the sides did not build the same: {facts}")
    row: dict[str, object] = {"case": case.name, **times, "target": case.target}
    row["built"] = {name: f"{layers} layers, {files} files" for name, (layers, files, _) in facts.items()}
    if len(sides) == 2:
        row["ratio"] = statistics.median(times["orca"]) / statistics.median(times["buildah"])
        row["missed"] = case.target is not None and row["ratio"] > case.target
    return row


def measure_ignore(work: Path, base: Layout, runs: int) -> dict[str, object]:
    """Warm builds of orca alone, of one context with 300 ignore rules and of one without any, in turns."""
    side = Orca(work / "ignore", base)
    case = Case(IGNORE, "", "", cold=False, target=None)
    places = {name: work / f"context-{name}" for name in ("plain", "rules")}
    times: dict[str, list[float]] = {name: [] for name in places}
    for name, place in places.items():
        ignore_context(place, BASE, rules=name == "rules")
        build(side, case, place)
        build(side, case, place)
    for n in range(runs):
        for name in list(places)[:: 1 if n % 2 == 0 else -1]:
            times[name].append(build(side, case, places[name]))
    ratio = statistics.median(times["rules"]) / statistics.median(times["plain"])
    return {"case": IGNORE, **times, "target": IGNORE_TARGET, "ratio": ratio, "missed": ratio > IGNORE_TARGET}


def ignore_line(row: dict[str, object]) -> str:
    """Its row for people."""
    medians = "  ".join(f"{name} {statistics.median(row[name]):7.3f} s" for name in ("rules", "plain"))  # type: ignore[call-overload]
    missed = ", MISSED" if row["missed"] else ""
    what = "20,000 files, all cached, with a .dockerignore of 300 lines and without"
    return f"{IGNORE:10} {medians}  ratio {row['ratio']:.2f} (target {IGNORE_TARGET}{missed})\n{'':10} {what}"


def measure_listing(work: Path, runs: int) -> dict[str, object]:
    """`orca images` on a store of 10 images and on one of 1,000, in turns; each of four layers, two of them shared."""
    times: dict[str, list[float]] = {"10": [], "1000": []}
    for count in times:
        maker, tags = Maker.at(work / f"store-{count}"), {}
        for n in range(int(count)):
            tags[f"localhost/app{n}:latest"] = maker.image("base", "more", f"a{n}", f"b{n}").descriptor
        maker.store.edit_tags(lambda names, tags=tags: names.update(tags))  # type: ignore[misc]
    for n in range(2 * runs + 1):
        for count, seconds in times.items():
            start = time.monotonic()
            run(ORCA, "images", env={**os.environ, "ORCA_ROOT": str(work / f"store-{count}")})
            if n:  # the first time reads them all
                seconds.append(time.monotonic() - start)
    ratio = statistics.median(times["1000"]) / statistics.median(times["10"])
    return {"case": LISTING, **times, "target": LISTING_TARGET, "ratio": ratio, "missed": ratio > LISTING_TARGET}


def listing_line(row: dict[str, object]) -> str:
    """Its row for people."""
    medians = "  ".join(f"{name} {statistics.median(row[name]):7.3f} s" for name in ("1000", "10"))  # type: ignore[call-overload]
    missed = ", MISSED" if row["missed"] else ""
    what = "orca images with 1,000 images in the store and with 10"
    return f"{LISTING:10} {medians}  ratio {row['ratio']:.2f} (target {LISTING_TARGET}{missed})\n{'':10} {what}"


def build(side: Side, case: Case, context: Path) -> float:
    """One build; its wall-clock seconds."""
    argv = side.argv(context, cold=case.cold, network=case.network)
    start = time.monotonic()
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=side.env(), check=False)
    seconds = time.monotonic() - start
    if done.returncode:
        raise Failed(f"{side.name}: {' '.join(argv)}\n{done.stdout}{done.stderr}")
    return seconds


def added_files(image: str, base: Layout) -> tuple[int, int, str]:
    """What a build added to `base`: the number of layers, of files in /srv, a digest of their names and contents.

    Only /srv: buildah leaves /etc/hosts and the like, which belong to the run, in its first layer.
    """
    base_layers = len(json.loads(run("skopeo", "inspect", "--config", base.ref).stdout)["rootfs"]["diff_ids"])
    with tempfile.TemporaryDirectory(prefix="orca-bench-") as top:
        run("skopeo", "copy", "-q", image, f"dir:{top}")
        manifest = json.loads((Path(top) / "manifest.json").read_text())
        layers = manifest["layers"][base_layers:]
        seen: dict[str, str] = {}
        for layer in layers:
            with open_layer(Path(top) / layer["digest"].removeprefix("sha256:")) as tar:
                for entry in tar:
                    name = entry.name.removeprefix("./")
                    if entry.isreg() and name.startswith("srv/"):
                        content = tar.extractfile(entry)
                        assert content
                        seen[name] = hashlib.sha256(content.read()).hexdigest()
    return len(layers), len(seen), hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def open_layer(blob: Path) -> Iterator[tarfile.TarFile]:
    """A layer's tar, gzipped or plain."""
    with blob.open("rb") as f:
        zipped = f.read(2) == b"\x1f\x8b"
    with gzip.open(blob) if zipped else blob.open("rb") as stream, tarfile.open(fileobj=stream) as tar:  # type: ignore[arg-type]
        yield tar


def line(case: Case, row: dict[str, object]) -> str:
    """A row for people."""
    medians = "  ".join(
        f"{name} {statistics.median(row[name]):7.3f} s"  # type: ignore[call-overload]
        for name in ("orca", "buildah")
        if name in row
    )
    verdict = ""
    if "ratio" in row:
        promise = f"(target {case.target}{', MISSED' if row['missed'] else ''})" if case.target else "(no target)"
        verdict = f"  ratio {row['ratio']:.2f} {promise}"
    built = "; ".join(f"{name}: {what}" for name, what in row["built"].items())  # type: ignore[attr-defined]
    return f"{case.name:10} {medians}{verdict}\n{'':10} {case.what}; {built}"


if __name__ == "__main__":
    if not ORCA.exists() and "--sides" not in " ".join(sys.argv):
        sys.exit(f"{ORCA} is missing")
    sys.exit(main())
