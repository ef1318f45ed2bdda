"""The options of `orca run`, and what they come to."""

from __future__ import annotations

import argparse
import math
import os
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orca.cli.flags import limits, running
from orca.dockerfile import durations
from orca.errors import UsageError
from orca.executor.cgroups import PERIOD
from orca.executor.container import Request
from orca.executor.network import parse_ports
from orca.executor.options import Volume

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")
PULLS = ("missing", "always", "newer", "never")
_TMPFS = re.compile(r"(?:size|mode|uid|gid|nr_inodes)=[0-9a-zA-Z%]+|ro|rw|exec|noexec|nosuid|nodev|noatime")
# Of docker run and podman run: what orca has no use for, and why.
REFUSED = {
    "--restart": "nobody is there who could start it again: orca has no daemon; a systemd unit can",
    "--privileged": "a container is never more than its sandbox; --cap-add and --device grant what one needs",
    "--link": "containers have no network in common; publish a port and use --network host, or --add-host",
    "--init": "orca brings no init program: let the image's own be the ENTRYPOINT",
    "--pid": "every container has its own processes",
    "--ipc": "every container has its own",
    "--userns": "every container is in the sandbox's user namespace",
    "--runtime": "orca runs containers by runc",
}


def declare(add: Callable[..., Any]) -> None:
    """Add what says what runs, where, and how it is seen."""
    add("-d", "--detach", action="store_true", help="let it run in the background; prints the container's id")
    add("-i", "--interactive", action="store_true",
        help="with -d: keep its standard input open; else it is connected anyway")  # fmt: skip
    add("-t", "--tty", action="store_true", help="give it a terminal")
    add("--rm", action="store_true", help="with -d: delete the container when it ends")
    add("--keep", action="store_true", help="without -d: do not delete the container when it ends")
    add("--name", metavar="NAME", help="what the container is called, and its host name")
    add("-l", "--label", action="append", default=[], metavar="NAME[=VALUE]", help="a label of the container")
    add("--cidfile", metavar="FILE", help="write the container's id to a new file")
    add("-e", "--env", action="append", default=[], metavar="NAME[=VALUE]",
        help="set a variable; without =VALUE, as it is here")  # fmt: skip
    add("--env-file", action="append", default=[], metavar="FILE", help="set variables, one a line")
    add("-w", "--workdir", metavar="DIRECTORY", help="where to start, instead of the image's WORKDIR")
    add("-u", "--user", metavar="USER[:GROUP]", help="who to be, instead of the image's USER")
    add("--entrypoint", metavar="WORD", help="run this instead of the image's ENTRYPOINT and CMD; '' for none")
    add("--stop-signal", metavar="SIGNAL", help="what asks it to end, instead of the image's STOPSIGNAL")
    add("--stop-timeout", metavar="SECONDS", help="how long it has then (default 10)")
    add("--pull", default="missing", metavar="POLICY", choices=PULLS,
        help="when to ask a registry for the image: missing, always, newer, never")  # fmt: skip
    add("--platform", metavar="OS/ARCH", help="the platform, where an image is there for several")
    add("-q", "--quiet", action="store_true", help="do not show how an image is pulled")


def declare_surroundings(add: Callable[..., Any]) -> None:
    """Add what says what is around it."""
    add("-p", "--publish", action="append", default=[], metavar="[[IP:]HOST:]CONTAINER[/PROTO]",
        help="make a port of the container reachable at a port of this machine (may be given again)")  # fmt: skip
    add("-P", "--publish-all", action="store_true", help="publish all ports that the image EXPOSEs, at free ports")
    add("--network", "--net", default="default", metavar="MODE", choices=[*running.NETWORKS, *running.NETWORKS_TOO],
        help="default (its own, through slirp4netns), none, host")  # fmt: skip
    add("--hostname", metavar="NAME", help="the host name, if not --name")
    add("-v", "--volume", action="append", default=[], metavar="[SOURCE:]TARGET[:OPTIONS]",
        help="a directory or file of this machine (ro, rw, O: a copy); without SOURCE a new one")  # fmt: skip
    add("--mount", action="append", default=[], metavar="SPEC",
        help="type=bind,source=S,target=T[,readonly], or type=volume|tmpfs,target=T")  # fmt: skip
    add("--tmpfs", action="append", default=[], metavar="TARGET[:OPTIONS]",
        help="an empty directory in memory; options size=, mode=, …")  # fmt: skip
    add("--read-only", action="store_true", help="no writing but into volumes and tmpfs")
    add("--device", action="append", default=[], metavar="PATH[:TARGET]", help="a device of this machine")
    add("--cpus", metavar="N", help="so many processors' time, as in 1.5: --cpu-quota in other words")
    add("--add-host", action="append", default=[], metavar="NAME:IP", help="a line for /etc/hosts")
    add("--dns", action="append", default=[], metavar="IP", help="a name server; none: the image's own resolv.conf")
    add("--dns-search", action="append", default=[], metavar="DOMAIN", help="a search domain; . for none")
    add("--dns-option", action="append", default=[], metavar="OPTION", help="an option of resolv.conf")
    add("--no-hosts", action="store_true", help="the image's own /etc/hosts")
    add("--no-hostname", action="store_true", help="the image's own /etc/hostname")


def declare_health(add: Callable[..., Any]) -> None:
    """Add what says whether it is well."""
    add("--health-cmd", metavar="COMMAND", help="a shell command that says so, instead of the image's HEALTHCHECK")
    for name, what in (("interval", "between two checks"), ("timeout", "that a check may take"),
                       ("start-period", "in which failures do not count"),
                       ("start-interval", "between two checks in the start period")):  # fmt: skip
        add(f"--health-{name}", metavar="DURATION", help=f"the time {what}, as in 30s")
    add("--health-retries", metavar="N", help="failures in a row that make it unhealthy")
    add("--no-healthcheck", action="store_true", help="no health check")


def refuse(arguments: Sequence[str]) -> None:
    """Say why, of an option that other tools have and orca has not. Raises UsageError."""
    for word in arguments:
        name = word.partition("=")[0]
        if not word.startswith("-"):
            return
        if name in REFUSED:
            raise UsageError(f"orca run has no {name}", hint=REFUSED[name])


def read(given: argparse.Namespace, environ: Mapping[str, str]) -> Request:
    """The container that a command line asks for. Raises UsageError."""
    network = running.NETWORKS_TOO.get(given.network, given.network)
    _check(given, network)
    volumes, anonymous, tmpfs = mounts(given)
    return Request(
        given.image,
        tuple(given.command),
        given.entrypoint,
        environment(given.env_file, given.env, environ),
        given.workdir,
        given.user,
        network,
        tuple(port for word in given.publish for port in parse_ports(word)),
        hostname=given.hostname or given.name or Request.hostname,
        stdin=given.interactive if given.detach else True,
        terminal=given.tty,
        read_only=given.read_only,
        hosts=running.hosts(given),
        own_files=running.own_files(given),
        dns=running.dns(given),
        volumes=(*volumes, *(running.device(word) for word in given.device)),
        anonymous=anonymous,
        tmpfs=tmpfs,
        limits=limits.read(given),
        groups=groups(given),
        group_parent=given.cgroup_parent,
        stop_signal=given.stop_signal and stop_signal(given.stop_signal),
        stop_timeout=None if given.stop_timeout is None else seconds(given.stop_timeout, "--stop-timeout"),
        health=health(given),
        publish_all=given.publish_all,
        pull=given.pull,
        platform=given.platform,
    )


def _check(given: argparse.Namespace, network: str) -> None:
    if (given.publish or given.publish_all) and network != "default":
        hint = "with the host's network every port is the host's own" if network == "host" else None
        raise UsageError(f"--publish has no meaning with --network {network}", hint=hint)
    for option, name in (("--name", given.name), ("--hostname", given.hostname)):
        if name is not None and not NAME.fullmatch(name):
            raise UsageError(f"bad {option} {name[:80]!r}", hint="letters, digits, dots, dashes; not more than 63")
    if given.workdir is not None and not given.workdir.startswith("/"):
        raise UsageError(f"--workdir {given.workdir!r} is not absolute", hint="begin it with /")
    if given.rm and given.keep:
        raise UsageError("--rm and --keep say the opposite of each other")
    if given.platform:
        from orca.oci import platform

        platform.parse(given.platform)


def environment(paths: Sequence[str], words: Sequence[str], environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """`NAME=VALUE` words, and `NAME` ones as `environ` has them; those it has not are left out.

    What files say comes first, a line each; empty lines and those with # are nothing. Raises UsageError.
    """
    result = {}
    lines = [line for path in paths for line in _env_lines(path)]
    for option, word in (*(("--env-file", line) for line in lines), *(("--env", word) for word in words)):
        name, equals, value = word.partition("=")
        if not name or "\0" in word:
            raise UsageError(f"{option} {word[:80]!r} has no name", hint="write NAME=VALUE")
        if equals:
            result[name] = value
        elif name in environ:
            result[name] = environ[name]
    return tuple(result.items())


def _env_lines(path: str) -> list[str]:
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "not text in UTF-8"
        raise UsageError(f"--env-file {path[:120]}: {why}") from error
    return [line for line in (line.strip() for line in text.splitlines()) if line and not line.startswith("#")]


Tmpfs = tuple[str, tuple[str, ...]]


def mounts(given: argparse.Namespace) -> tuple[tuple[Volume, ...], tuple[str, ...], tuple[Tmpfs, ...]]:
    """What --volume, --mount and --tmpfs bring: things of this machine, new directories, tmpfs. Raises UsageError."""
    volumes: list[Volume] = []
    anonymous: list[str] = []
    tmpfs = [_tmpfs(word, "--tmpfs") for word in given.tmpfs]
    for word in given.volume:
        _volume(word, volumes, anonymous)
    for word in given.mount:
        kind, target, rest = _mount(word)
        if kind == "bind":
            volumes.append(running.volume(rest))
        elif kind == "tmpfs":
            tmpfs.append(_tmpfs(rest, "--mount"))
        else:
            anonymous.append(_target(target, "--mount"))
    targets = [*(each.target for each in volumes), *anonymous, *(target for target, _ in tmpfs)]
    twice = {target for target in targets if targets.count(target) > 1}
    if twice:
        raise UsageError(f"two mounts at {min(twice)}", hint="give one of them")
    return tuple(volumes), tuple(anonymous), tuple(tmpfs)


def _volume(word: str, volumes: list[Volume], anonymous: list[str]) -> None:
    source, colon, rest = word.partition(":")
    if not colon:
        anonymous.append(_target(word, "--volume"))
        return
    if "/" not in source and source not in (".", ".."):
        hint = f"for a directory here write ./{source}:{rest}; a new one that goes with the container: -v {rest}"
        raise UsageError(f"--volume {word[:120]!r}: orca has no named volumes", hint=hint)
    volumes.append(running.volume(word))


def _target(text: str, option: str) -> str:
    path = posixpath.normpath(text) if text.startswith("/") and "\0" not in text else ""
    if path.strip("/") == "":
        raise UsageError(f"bad {option} {text[:120]!r}", hint="the target is an absolute path other than /")
    return "/" + path.lstrip("/")


def _tmpfs(word: str, option: str) -> Tmpfs:
    target, _, rest = word.partition(":")
    options = tuple(filter(None, rest.split(",")))
    for one in options:
        if not _TMPFS.fullmatch(one):
            raise UsageError(f"{option} {word[:120]!r}: {one[:40]!r} is not supported", hint="size=64m, mode=1777, …")
    return _target(target, option), options


def _mount(word: str) -> tuple[str, str, str]:
    """--mount as its kind, its target, and the same in the words of --volume or --tmpfs."""
    fields: dict[str, str] = {}
    names = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
    for part in word.split(","):
        name, _, value = part.partition("=")
        fields[names.get(name, name)] = value
    kind = fields.pop("type", "volume")
    known = {"bind": {"source", "target", "readonly"}, "volume": {"target"},
             "tmpfs": {"target", "tmpfs-size", "tmpfs-mode"}}  # fmt: skip
    if kind not in known:
        raise UsageError(f"--mount {word[:120]!r}: unknown type {kind[:40]!r}", hint="bind, volume or tmpfs")
    for name in fields:
        if name not in known[kind]:
            raise UsageError(f"--mount {word[:120]!r}: {name[:40]!r} is not supported for type {kind}")
    target = fields.get("target", "")
    if kind == "bind":
        read_only = fields.get("readonly", "false") in ("", "true", "1")
        return kind, target, f"{fields.get('source', '')}:{target}:{'ro' if read_only else 'rw'}"
    options = [f"{name}={fields[f'tmpfs-{name}']}" for name in ("size", "mode") if f"tmpfs-{name}" in fields]
    return kind, target, f"{target}:{','.join(options)}"


def groups(given: argparse.Namespace) -> Mapping[str, str]:
    """What a cgroup shall say, --cpus too. Raises UsageError."""
    found = dict(limits.groups(given))
    if given.cpus is not None:
        if "quota" in found or "period" in found:
            raise UsageError("--cpus says the same as --cpu-quota and --cpu-period", hint="give one of them")
        if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,3})?", given.cpus) or float(given.cpus) < 0.01:
            raise UsageError(f"--cpus {given.cpus[:40]!r} is no number of processors", hint="write 1.5, for example")
        found["quota"] = str(round(float(given.cpus) * PERIOD))
    return found


def stop_signal(text: str) -> str:
    """A signal's name or number, as given. Raises UsageError."""
    from orca.errors import ImageError
    from orca.executor.stopping import signal_number

    try:
        signal_number(text)
    except ImageError as error:
        raise UsageError(f"there is no signal {text[:40]!r}", hint="kill -l lists them") from error
    return text


def seconds(text: str, option: str) -> float:
    """A number of seconds, not less than 0. Raises UsageError."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found < 2**31:
        raise UsageError(f"{option} {text[:40]!r} is no number of seconds")
    return found


def health(given: argparse.Namespace) -> Mapping[str, Any] | None:
    """The options as an image's Healthcheck: what they leave out is as the image says. Raises UsageError."""
    times = {
        "Interval": given.health_interval, "Timeout": given.health_timeout, "StartPeriod": given.health_start_period,
        "StartInterval": given.health_start_interval,
    }  # fmt: skip
    found: dict[str, Any] = {name: _duration(text) for name, text in times.items() if text is not None}
    if given.health_retries is not None:
        if not re.fullmatch(r"[1-9][0-9]{0,5}", given.health_retries):
            raise UsageError(f"--health-retries {given.health_retries[:40]!r} is no number")
        found["Retries"] = int(given.health_retries)
    if given.health_cmd is not None:
        found["Test"] = ["NONE"] if given.health_cmd == "none" else ["CMD-SHELL", given.health_cmd]
    if given.no_healthcheck:
        if found:
            raise UsageError("--no-healthcheck goes with no other --health option")
        return {"Test": ["NONE"]}
    return found or None


def _duration(text: str) -> int:
    try:
        found = durations.parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{text[:40]!r} is no duration", hint="write 30s or 1m30s") from error
    if found < 0:
        raise UsageError(f"{text[:40]!r} is less than nothing")
    return found


def labels(words: Sequence[str]) -> dict[str, str]:
    """--label. Raises UsageError."""
    found = {}
    for word in words:
        name, _, value = word.partition("=")
        if not name:
            raise UsageError(f"--label {word[:80]!r} has no name")
        found[name] = value
    return found


def cidfile(path: str | None) -> Path | None:
    """--cidfile, which must not be there. Raises UsageError."""
    if path is None:
        return None
    if os.path.lexists(path):
        raise UsageError(f"--cidfile {path[:120]} is there already", hint="remove it, or name another")
    return Path(path).absolute()
