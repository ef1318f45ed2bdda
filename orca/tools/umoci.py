"""umoci's command lines. Pure: they return `Command`s.

An image is named `LAYOUT:TAG`. Written for umoci 0.4.7, whose spelling differs from its manual
page in places (`--config.workingdir`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orca.oci.image import ImageConfig
from orca.tools.command import Command

TAG = "step"
HISTORY_LIMIT = 120 * 1024
"""Bytes of a history entry that are written whole; of a longer one the first quarter of so many characters."""


@dataclass(frozen=True)
class Entry:
    """The history entry that a call writes. `created` is an RFC 3339 time."""

    created_by: str
    created: str
    comment: str = "orca.dockerfile.v0"

    def flags(self) -> Iterator[str]:
        text = self.created_by
        # An argument has room for 128 KiB. The record of the step has it all.
        if len(text.encode("utf-8", "surrogateescape")) > HISTORY_LIMIT:
            text = f"{text[: HISTORY_LIMIT // 4]}…"
        yield f"--history.created_by={text}"
        yield f"--history.comment={self.comment}"
        yield f"--history.created={self.created}"


def image(layout: Path, tag: str = TAG) -> str:
    return f"{layout}:{tag}"


def new(layout: Path) -> Command:
    """FROM scratch: a config and a manifest without layers."""
    return Command(("umoci", "new", "--image", image(layout)), "an empty image to begin with")


def unpack(layout: Path, tag: str, root: Path) -> Command:
    """All layers of an image, one over the other, into the directory `root` (which must not exist)."""
    return Command(
        ("umoci", "raw", "unpack", "--image", image(layout, tag), str(root)),
        "unpack the base image's layers into a directory",
    )


def add_layer(layout: Path, entry: Entry) -> Command:
    """A layer from a tar archive on standard input, and its history entry."""
    return Command(
        ("umoci", "raw", "add-layer", "--image", image(layout), *entry.flags(), "/dev/stdin"),
        "compress the layer, hash it, add it to the image",
    )


def config(layout: Path, before: ImageConfig, after: ImageConfig, entry: Entry | None) -> Command:
    """What turns the config `before` into `after`, with a history entry unless it is None."""
    history = ("--no-history",) if entry is None else tuple(entry.flags())
    return Command(
        ("umoci", "config", "--image", image(layout), *config_flags(before, after), *history),
        "write the new image config and manifest",
    )


def config_flags(before: ImageConfig, after: ImageConfig) -> list[str]:
    """The flags for all fields that umoci knows; the others are the store's to write."""
    flags: list[str] = []
    for name, old, new in (
        ("user", before.user, after.user),
        ("workingdir", before.working_dir, after.working_dir),
        ("stopsignal", before.stop_signal, after.stop_signal),
    ):
        if old != new:
            flags.append(f"--config.{name}={new or ''}")
    for name, now, then in (
        ("env", after.env, before.env),
        ("label", after.labels, before.labels),
    ):
        flags += [f"--config.{name}={key}={text}" for key, text in now if (key, text) not in then]
    for name, there, had in (
        ("exposedports", after.exposed_ports, before.exposed_ports),
        ("volume", after.volumes, before.volumes),
    ):
        flags += [f"--config.{name}={item}" for item in there if item not in had]
    for name, argv, had_argv in (
        ("entrypoint", after.entrypoint, before.entrypoint),
        ("cmd", after.cmd, before.cmd),
    ):
        if argv != had_argv:
            flags += [f"--config.{name}={word}" for word in argv or ()] or [f"--clear=config.{name}"]
    if before.author != after.author:
        flags.append(f"--author={after.author or ''}")
    return flags
