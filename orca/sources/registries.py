"""Which full names a short image name may stand for, by the system's registries.conf.

See containers-registries.conf(5): aliases, unqualified-search-registries. Mirrors, prefixes and
insecure registries are skopeo's to apply.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orca.errors import OrcaError, UsageError
from orca.oci import reference
from orca.oci.reference import Reference

DEFAULT_REGISTRY = "docker.io"
_HINT = "see containers-registries.conf(5)"


def configuration_files() -> Iterator[Path]:
    """The files that apply, in the order in which later ones win."""
    if named := os.environ.get("CONTAINERS_REGISTRIES_CONF"):
        yield Path(named)
        return
    config_home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    user = Path(config_home, "containers")
    system = Path("/etc/containers")
    own = (user / "registries.conf").is_file()
    yield (user if own else system) / "registries.conf"
    # A user's own file stands for the system's and what is beside that.
    for directory in (user,) if own else (system, user):
        yield from sorted((directory / "registries.conf.d").glob("*.conf"))


def _load(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        value = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise OrcaError(f"cannot read {path}: {error}", hint=_HINT) from error
    search = value.get("unqualified-search-registries", [])
    if not isinstance(search, list) or not all(isinstance(name, str) and name for name in search):
        raise OrcaError(f"{path}: unqualified-search-registries is not a list of names", hint=_HINT)
    if not isinstance(value.get("aliases", {}), dict):
        raise OrcaError(f"{path}: aliases is not a table", hint=_HINT)
    mode = value.get("short-name-mode", "permissive")
    if mode not in ("enforcing", "permissive", "disabled"):
        raise OrcaError(f"{path}: short-name-mode is none: {mode!r}", hint="enforcing, permissive or disabled")
    return value


def insecure(registry: str) -> bool:
    """Does registries.conf say that this registry may speak http, or have any certificate?"""
    found: dict[str, bool] = {}
    for path in configuration_files():
        tables = _load(path).get("registry", [])
        for table in tables if isinstance(tables, list) else ():
            if isinstance(table, dict):
                found[str(table.get("prefix") or table.get("location"))] = table.get("insecure") is True
    return found.get(registry, False)


def _alias(name: str, target: str) -> Reference:
    """Where the alias `name` leads."""
    try:
        found = reference.parse(target)
    except UsageError as error:
        raise OrcaError(f"registries.conf: the alias {name} is bad: {error.message}", hint=_HINT) from error
    if found.registry is None:
        raise OrcaError(f"registries.conf: the alias {name} names no registry: {target}", hint=_HINT)
    return found


def candidates(text: str) -> list[Reference]:
    """The references that `text` may mean in registries, in the order in which to try them.

    Raises UsageError when it is no image name, OrcaError when the configuration cannot be read.
    """
    found = reference.parse(text).tagged()
    if found.registry:
        return [normal(found)]
    aliases: dict[str, str] = {}
    search: list[str] = []
    mode = "permissive"
    for path in configuration_files():
        value = _load(path)
        aliases |= {name: target for name, target in value.get("aliases", {}).items() if isinstance(target, str)}
        search = value.get("unqualified-search-registries", search)
        mode = value.get("short-name-mode", mode)
    if aliases.get(found.path):
        target = _alias(found.path, aliases[found.path])
        return [normal(Reference(target.registry, target.path, found.tag, found.digest))]
    if mode == "enforcing" and len(search) > 1:
        names = ", ".join(str(found.at(registry)) for registry in search)
        hint = "registries.conf has short-name-mode enforcing: write the whole name, or give it an alias there"
        raise UsageError(f"{text} may be {names}", hint=hint)
    return [normal(found.at(registry)) for registry in search or [DEFAULT_REGISTRY]]


def normal(found: Reference) -> Reference:
    """docker.io keeps its own images below library/."""
    if found.registry in ("docker.io", "index.docker.io"):
        path = found.path if "/" in found.path else f"library/{found.path}"
        return Reference(DEFAULT_REGISTRY, path, found.tag, found.digest)
    return found
