"""skopeo's command lines. Pure."""

from __future__ import annotations

from orca.tools.command import Command

# Which keys sign images is the system's to say (policy.json); without one, accept as skopeo's default does.
_GLOBAL = ("skopeo",)


def inspect_raw(source: str, *options: str) -> Command:
    """The manifest or index as the registry has it."""
    return Command((*_GLOBAL, "inspect", "--raw", *options, source), "ask for the manifest")


def inspect_config(source: str, *options: str) -> Command:
    """The image config as the registry has it."""
    return Command(
        (*_GLOBAL, "inspect", "--config", "--raw", *options, source),
        "read Healthcheck, OnBuild and Shell, which a conversion to OCI drops",
    )


def copy(source: str, destination: str, *options: str, why: str) -> Command:
    """Copy an image from one transport to another."""
    return Command((*_GLOBAL, "copy", *options, source, destination), why)
