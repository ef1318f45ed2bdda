"""Options: what the image is called, and what it says of itself."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orca.cli.options import pairs
from orca.errors import UsageError
from orca.executor.options import Annotation, Naming
from orca.oci import reference

TITLE = "the image"


def declare(add: Callable[..., Any]) -> None:
    """Add the options to a parser's group."""
    add("-t", "--tag", action="append", default=[], metavar="NAME", help="name the image (may be given again)")
    add(
        "--source-date-epoch",
        metavar="SECONDS",
        help="no time in the image is later, and nothing in it depends on the clock (default $SOURCE_DATE_EPOCH)",
    )
    add("--timestamp", metavar="SECONDS", help="every time that the build writes is this one")
    add("--rewrite-timestamp", action="store_true",
        help="files in layers too: always done where there is an epoch, and an error where there is none")  # fmt: skip
    add("--label", action="append", default=[], metavar="NAME=VALUE", help="add a label to the image")
    add("--annotation", action="append", default=[], metavar="[LEVEL:]NAME=VALUE",
        help="annotate the manifest; LEVEL: manifest, index, manifest-descriptor, index-descriptor")  # fmt: skip
    add("--format", default=None, choices=["oci", "docker"], help="the format of manifest and config (default oci)")
    add("--squash", action="store_true", help="make one layer of all that this build adds")
    add("--squash-all", action="store_true", help="make one layer of everything, the base image's layers too")
    add("--layers", nargs="?", metavar="BOOL", const="true", choices=["true", "false"], help=argparse.SUPPRESS)
    add("--unsetlabel", action="append", default=[], metavar="NAME", help="a label of the base that the image lacks")
    add("--env", action="append", default=[], metavar="NAME[=VALUE]",
        help="a variable of the image, as ENV after every FROM; without =VALUE, as it is here")  # fmt: skip
    add("--unsetenv", action="append", default=[], metavar="NAME", help="a variable that the image lacks")


def read(given: argparse.Namespace, environ: Mapping[str, str]) -> Naming:
    """The options as a value. Raises UsageError."""
    return Naming(
        tags=tuple(dict.fromkeys(str(reference.local(tag)) for tag in given.tag)),
        labels=pairs(given.label, "--label"),
        epoch=epoch_of(given, environ),
        exact_times=given.timestamp is not None,
        annotations=_annotations(given),
        docker=_format(given, environ) == "docker",
        squash="all" if given.squash_all else "new" if given.squash else "",
        env=_env(given.env, environ),
        unset_env=tuple(given.unsetenv),
        unset_labels=tuple(given.unsetlabel),
    )


def _format(given: argparse.Namespace, environ: Mapping[str, str]) -> str:
    """--format, else BUILDAH_FORMAT as buildah has it. Raises UsageError."""
    found: str = given.format or environ.get("BUILDAH_FORMAT") or "oci"
    if found not in ("oci", "docker"):
        raise UsageError(f"BUILDAH_FORMAT is neither oci nor docker: {found[:40]!r}")
    if found == "docker" and given.annotation:
        raise UsageError("--annotation needs the OCI format: Docker's has none", hint="leave out --format docker")
    return found


def _annotations(given: argparse.Namespace) -> tuple[Annotation, ...]:
    if not given.annotation:
        return ()
    from orca.cli.flags import annotations

    return annotations.parse(given.annotation)


def _env(words: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """`NAME=VALUE` words, and `NAME` ones as they are here, if they are. Raises UsageError."""
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name:
            raise UsageError(f"--env {word!r} has no name", hint="write NAME=VALUE")
        if equals or name in environ:
            found[name] = value if equals else environ[name]
    return found


def epoch_of(given: argparse.Namespace, environ: Mapping[str, str]) -> int | None:
    """Seconds since 1970, from the nearest place that says. Raises UsageError."""
    if given.timestamp is not None and given.source_date_epoch is not None:
        raise UsageError("--timestamp and --source-date-epoch exclude each other", hint="give one of them")
    name = "SOURCE_DATE_EPOCH"
    build_args = [word.removeprefix(f"{name}=") for word in given.build_arg if word.startswith(f"{name}=")]
    places = (
        ("--timestamp", given.timestamp),
        ("--source-date-epoch", given.source_date_epoch),
        (f"--build-arg {name}", (build_args or [None])[-1]),
        (name, environ.get(name) or None),
    )
    where, text = next(((where, text) for where, text in places if text is not None), ("", None))
    if text is None:
        if given.rewrite_timestamp:
            raise UsageError("--rewrite-timestamp: to which time?", hint="give --source-date-epoch=SECONDS too")
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 11:
        hint = "seconds since 1970: git log -1 --format=%ct prints those of the last commit"
        raise UsageError(f"{where} is not a number of seconds: {text[:40]!r}", hint=hint)
    return int(text)
