"""skopeo's command lines."""

from __future__ import annotations

import os

from orca.tools.command import Command

OURS = ("--insecure-policy",)
"""Before a verb that reads the store, or what was made of it: policies judge what comes from elsewhere."""


def words(*arguments: str, overrides: tuple[str, ...] = ()) -> tuple[str, ...]:
    """A whole command line. `overrides` choose a platform, which skopeo takes before the verb.

    skopeo does not read CONTAINERS_REGISTRIES_CONF, as its siblings do; it has a flag for it instead.
    """
    named = os.environ.get("CONTAINERS_REGISTRIES_CONF")
    return ("skopeo", *((f"--registries-conf={named}",) if named else ()), *overrides, *arguments)


def _environment() -> tuple[tuple[str, str], ...]:
    """An ordinary user's credentials, named: a closed /run/containers is an error to skopeo, not an absence."""
    return (("REGISTRY_AUTH_FILE", authfile()),) if os.getuid() else ()


def credentials() -> str:
    """The file in which skopeo would look for our credentials: the first one that is there.

    See containers-auth.json(5). Inside the sandbox skopeo itself would take root's.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/containers/{os.getuid()}"
    home = os.path.expanduser("~")
    places = [
        os.path.join(runtime, "containers/auth.json") if "XDG_RUNTIME_DIR" in os.environ else f"{runtime}/auth.json",
        os.path.join(os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config", "containers/auth.json"),
        os.path.join(os.environ.get("DOCKER_CONFIG") or f"{home}/.docker", "config.json"),
    ]
    return next((place for place in places if os.access(place, os.R_OK)), places[1])


def inspect_raw(source: str, *options: str) -> Command:
    """The manifest or index as the registry has it."""
    return Command(words("inspect", "--raw", *options, source), "ask for the manifest", _environment())


def inspect_config(source: str, *options: str, overrides: tuple[str, ...] = ()) -> Command:
    """The image config as the registry has it."""
    return Command(
        words("inspect", "--config", "--raw", *options, source, overrides=overrides),
        "read Healthcheck, OnBuild and Shell, which a conversion to OCI drops",
        _environment(),
    )


def list_tags(repository: str, *options: str, why: str = "ask which steps the shared cache has") -> Command:
    """All tags of a repository, as JSON."""
    return Command(words("list-tags", *options, repository), why, _environment())


def login(registry: str, user: str, *options: str) -> Command:
    """Try credentials and keep them; the password comes from standard input."""
    line = words("login", f"--username={user}", "--password-stdin", *options, registry)
    return Command(line, "try the credentials, and keep them where skopeo, podman and buildah look", _kept())


def get_login(registry: str, *options: str) -> Command:
    """Print who is logged in to a registry."""
    return Command(words("login", "--get-login", *options, registry), "ask who is logged in", _environment())


def logout(registry: str | None, *options: str) -> Command:
    """Forget credentials; those of all registries without one."""
    which = "--all" if registry is None else registry
    return Command(words("logout", *options, which), "forget the credentials", _kept())


def _kept() -> tuple[tuple[str, str], ...]:
    """Where credentials are written: as skopeo does by itself, unless it would try a directory that is root's."""
    if not os.getuid() or "XDG_RUNTIME_DIR" in os.environ or "REGISTRY_AUTH_FILE" in os.environ:
        return ()
    return (("REGISTRY_AUTH_FILE", credentials()),)


def authfile() -> str:
    """The file with our credentials, by the variable that names one or by where it is."""
    return os.environ.get("REGISTRY_AUTH_FILE") or credentials()


def copy(source: str, destination: str, *options: str, why: str, overrides: tuple[str, ...] = ()) -> Command:
    """Copy an image from one transport to another."""
    return Command(words("copy", *options, source, destination, overrides=overrides), why, _environment())
