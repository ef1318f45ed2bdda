"""skopeo's command lines."""

from __future__ import annotations

import os

from orca.tools.command import Command


def words(*arguments: str, overrides: tuple[str, ...] = ()) -> tuple[str, ...]:
    """A whole command line. `overrides` choose a platform, which skopeo takes before the verb.

    skopeo does not read CONTAINERS_REGISTRIES_CONF, as its siblings do; it has a flag for it instead.
    """
    named = os.environ.get("CONTAINERS_REGISTRIES_CONF")
    return ("skopeo", *((f"--registries-conf={named}",) if named else ()), *overrides, *arguments)


def inspect_raw(source: str, *options: str) -> Command:
    """The manifest or index as the registry has it."""
    return Command(words("inspect", "--raw", *options, source), "ask for the manifest")


def inspect_config(source: str, *options: str, overrides: tuple[str, ...] = ()) -> Command:
    """The image config as the registry has it."""
    return Command(
        words("inspect", "--config", "--raw", *options, source, overrides=overrides),
        "read Healthcheck, OnBuild and Shell, which a conversion to OCI drops",
    )


def copy(source: str, destination: str, *options: str, why: str, overrides: tuple[str, ...] = ()) -> Command:
    """Copy an image from one transport to another."""
    return Command(words("copy", *options, source, destination, overrides=overrides), why)
