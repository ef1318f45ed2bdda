"""The build contexts of the benchmark. The same seed makes the same bytes on every machine."""

from __future__ import annotations

import random
from pathlib import Path

FILES = 10_000
TOTAL = 80_000_000
RUNS = 20
SEED = 20


def run_context(path: Path, base: str) -> None:
    """A Dockerfile of 20 RUNs, each of which makes a little change, as installers and `mkdir`s do."""
    path.mkdir(parents=True)
    steps = (f"RUN mkdir -p /srv/site && echo step {n} > /srv/site/{n}.txt" for n in range(1, RUNS + 1))
    (path / "Dockerfile").write_text("\n".join([f"FROM {base}", *steps, ""]))


def copy_context(path: Path, base: str) -> None:
    """A Dockerfile with one COPY, of 10,000 files in 250 directories that hold 80 MB together.

    Sizes are log-normal, as in source trees: half of the files are below 3 KB, a few are of 100 KB and more. Four of
    five are text of a small vocabulary, which gzip makes three times smaller; the fifth is noise that stays as it is.
    """
    rng = random.Random(SEED)
    words = [bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz_", k=rng.randint(2, 11))) for _ in range(4_000)]
    text = b" ".join(rng.choices(words, weights=[1 / n for n in range(1, 4_001)], k=1_500_000))
    noise = rng.randbytes(4_000_000)
    for n, size in enumerate(_sizes(rng)):
        directory = path / "tree" / f"d{n % 25:02}" / f"e{n // 25 % 10}"
        if n < 250:
            directory.mkdir(parents=True)
        pool = noise if n % 5 == 4 else text
        start = rng.randrange(len(pool) - size)
        (directory / f"file{n:05}.{'bin' if n % 5 == 4 else 'txt'}").write_bytes(pool[start : start + size])
    (path / "Dockerfile").write_text(f"FROM {base}\nCOPY tree /srv/tree\n")


def _sizes(rng: random.Random) -> list[int]:
    """10,000 file sizes with a sum of exactly TOTAL and none above 1 MB."""
    raw = [min(rng.lognormvariate(0, 1.4), 120.0) for _ in range(FILES)]
    scale = TOTAL / sum(raw)
    sizes = [int(r * scale) for r in raw]
    sizes[0] += TOTAL - sum(sizes)
    return sizes


def ignore_context(path: Path, base: str, *, rules: bool) -> None:
    """A Dockerfile with one COPY, of 20,000 small files in 1,000 directories; with `rules`, 300 lines that hide few."""
    path.mkdir(parents=True)
    kinds = ("py", "js", "c", "h", "md", "txt", "json", "css", "html", "go")
    for n in range(2 * FILES):
        directory = path / f"src{n % 20:02}" / f"mod{n // 20 % 50:02}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"file{n:05}.{kinds[n % 10]}").write_text(str(n))
    (path / "Dockerfile").write_text(f"FROM {base}\nCOPY src* /srv/\n")
    if rules:
        (path / ".dockerignore").write_text("\n".join([*_rules(), ""]))


def _rules() -> list[str]:
    """Plain paths, suffixes, names at any depth, stars between, and exceptions."""
    lines = [f"build{n}/out" for n in range(100)]
    lines += [f"**/*.o{n}" for n in range(60)]
    lines += [f"**/node_modules{n}" for n in range(40)]
    lines += [f"src*/gen{n}/**/*.tmp" for n in range(40)]
    lines += [f"docs/part{n}/*.pdf" for n in range(30)]
    lines += [f"!docs/part{n}/keep.pdf" for n in range(15)]
    return lines + [f"**/.cache{n}/[a-f]?*" for n in range(15)]
