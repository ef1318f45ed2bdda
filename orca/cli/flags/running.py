"""Options: what RUN gets."""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orca.cli.flags import limits, secrets
from orca.dispatch.settings import HOST_NETWORK, INSECURE
from orca.errors import UsageError
from orca.executor.options import Dns, Running, Volume

TITLE = "RUN"
GRANTS = (HOST_NETWORK, INSECURE)
NETWORKS = ("default", "none", "host")
# buildah's words for the same.
NETWORKS_TOO = {"private": "default", "slirp4netns": "default", "pasta": "default"}
# Of --volume: what changes nothing here.
_VOID = ("z", "Z", "private", "rprivate", "nosuid", "nodev", "exec", "rbind", "bind")


def declare(add: Callable[..., Any]) -> None:
    """Add the options to a parser's group."""
    add("--network", default="default", metavar="MODE", choices=[*NETWORKS, *NETWORKS_TOO],
        help="the network of RUN: default (its own, through slirp4netns), none, host")  # fmt: skip
    add("--allow", action="append", default=[], metavar="GRANT",
        help="let the Dockerfile ask for network.host (RUN --network=host) or security.insecure")  # fmt: skip
    add("--secret", action="append", default=[], metavar="SPEC",
        help="a secret for RUN --mount=type=secret: id=NAME[,src=FILE|,env=VARIABLE]")  # fmt: skip
    add("--ssh", action="append", default=[], metavar="SPEC",
        help="an agent for RUN --mount=type=ssh: default, NAME=SOCKET or NAME=KEY[,KEY]")  # fmt: skip
    add("-v", "--volume", action="append", default=[], metavar="SOURCE:TARGET[:OPTIONS]",
        help="a directory or file of this machine in every RUN, in no layer; options ro, rw, O (a copy)")  # fmt: skip
    add("--device", action="append", default=[], metavar="PATH[:TARGET]", help="a device of this machine in every RUN")
    add("--add-host", action="append", default=[], metavar="NAME:IP", help="a line for RUN's /etc/hosts")
    add("--dns", action="append", default=[], metavar="IP",
        help="a name server for RUN; none: the image's own resolv.conf")  # fmt: skip
    add("--dns-search", action="append", default=[], metavar="DOMAIN", help="a search domain; . for none")
    add("--dns-option", action="append", default=[], metavar="OPTION", help="an option of resolv.conf")
    add("--no-hosts", action="store_true", help="the image's own /etc/hosts in RUN")
    add("--no-hostname", action="store_true", help="the image's own /etc/hostname in RUN")
    add("--http-proxy", metavar="BOOL", default="true", choices=["true", "false"],
        help="false: RUN does not get the proxies of the environment")  # fmt: skip
    add("--on-error", default="stop", metavar="WHAT", choices=["stop", "shell", "keep"],
        help="when a RUN fails: stop, open a shell where it failed, or keep the file system to look at")  # fmt: skip


def read(given: argparse.Namespace, environ: Mapping[str, str]) -> Running:
    """The options as a value. Raises UsageError."""
    if given.on_error == "shell" and not (os.isatty(0) and (os.isatty(1) or os.isatty(2))):
        hint = "--on-error=keep says how to look at it later"
        raise UsageError("--on-error=shell needs a terminal to open a shell on", hint=hint)
    agents, keys = secrets.agents(given.ssh, environ)
    return Running(
        network=NETWORKS_TOO.get(given.network, given.network),
        hosts=hosts(given),
        secrets=secrets.secrets(given.secret, environ),
        agents=agents,
        keys=keys,
        allowed=_allowed(given.allow),
        volumes=(*(volume(word) for word in given.volume), *(device(word) for word in given.device)),
        own_files=own_files(given),
        dns=dns(given),
        limits=limits.read(given),
        groups=limits.groups(given),
        group_parent=given.cgroup_parent,
        on_error=given.on_error,
    )


def _allowed(words: Sequence[str]) -> frozenset[str]:
    found = frozenset(name for word in words for name in word.split(",") if name)
    for name in sorted(found):
        if name.partition("=")[0] == "device":
            raise UsageError("--allow device: orca knows no CDI devices", hint="--device /dev/NAME gives one to RUN")
        if name not in GRANTS:
            raise UsageError(f"--allow {name[:60]!r} is unknown", hint=f"choose of {', '.join(GRANTS)}")
    return found


def hosts(given: argparse.Namespace) -> tuple[tuple[str, str], ...]:
    """--add-host. Raises UsageError."""
    if given.no_hosts and given.add_host:
        raise UsageError("--add-host has no meaning with --no-hosts", hint="give one of them")
    return tuple(_host(word) for word in given.add_host)


def _host(word: str) -> tuple[str, str]:
    import ipaddress

    name, colon, address = word.partition("=") if "=" in word else word.partition(":")
    try:
        ipaddress.ip_address(address.strip("[]"))
    except ValueError as error:
        raise UsageError(f"--add-host {word!r} is not NAME:IP") from error
    if not colon or not name or any(char.isspace() for char in name):
        raise UsageError(f"--add-host {word!r} is not NAME:IP")
    return name, address.strip("[]")


def own_files(given: argparse.Namespace) -> tuple[str, ...]:
    """The files of /etc that are the image's own."""
    asked = {"resolv.conf": "none" in given.dns, "hosts": given.no_hosts, "hostname": given.no_hostname}
    return tuple(name for name, wanted in asked.items() if wanted)


def dns(given: argparse.Namespace) -> Dns:
    """--dns, --dns-search, --dns-option. Raises UsageError."""
    import ipaddress

    if "none" in given.dns:
        if len(given.dns) > 1 or given.dns_search or given.dns_option:
            raise UsageError("--dns none leaves resolv.conf to the image", hint="no other --dns option goes with it")
        return Dns()
    servers = ",".join(given.dns).split(",") if given.dns else []
    for server in servers:
        try:
            ipaddress.ip_address(server)
        except ValueError as error:
            raise UsageError(f"--dns {server[:60]!r} is not an address", hint="write an IP address, or none") from error
    for option, words in (("--dns-search", given.dns_search), ("--dns-option", given.dns_option)):
        for word in words:
            if not word or not word.isprintable() or any(char.isspace() for char in word):
                raise UsageError(f"bad {option} {word[:60]!r}", hint="one word each")
    return Dns(tuple(servers), tuple(given.dns_search), tuple(given.dns_option))


def volume(word: str) -> Volume:
    """SOURCE:TARGET[:OPTIONS]. Raises UsageError."""
    source, _, rest = word.partition(":")
    target, _, flags = rest.partition(":")
    hint = "write SOURCE:TARGET[:ro|rw|O]"
    if not source or not target.startswith("/") or "\0" in word:
        raise UsageError(f"bad --volume {word[:120]!r}", hint=hint)
    access = "rw"
    for flag in filter(None, flags.split(",")):
        if flag in ("ro", "rw", "O"):
            access = flag
        elif flag not in _VOID:
            raise UsageError(f"--volume {word[:120]!r}: {flag[:40]!r} is not supported", hint=hint)
    if "//" in f"{target}/"[:-1] or any(part in (".", "..") for part in target.split("/")):
        target = os.path.normpath(target)
    found = _found("--volume", source)
    if not (stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)):
        raise UsageError(f"--volume {source} is neither a file nor a directory")
    if target.strip("/") == "":
        raise UsageError(f"--volume {word[:120]!r} would cover the whole image")
    return Volume(os.path.realpath(source), target, access)


def device(word: str) -> Volume:
    """PATH[:TARGET]. Raises UsageError."""
    source, _, rest = word.partition(":")
    target, _, access = rest.partition(":")
    if (access and set(access) - set("rwm")) or (target and not target.startswith("/dev/")):
        raise UsageError(f"bad --device {word[:120]!r}", hint="write /dev/NAME[:/dev/OTHER]")
    if "=" in source:
        raise UsageError(f"--device {source[:80]}: orca knows no CDI devices", hint="write /dev/NAME")
    mode = _found("--device", source).st_mode
    if not (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)):
        raise UsageError(f"--device {source} is not a device", hint="--volume brings files and directories")
    return Volume(os.path.realpath(source), os.path.normpath(target or source), device=True)


def _found(option: str, path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "no path"
        raise UsageError(f"{option} {path[:120]}: {why}") from error
