"""Options: what RUN may do and use."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orca.dockerfile.mounts import size as bytes_of
from orca.errors import UsageError

if TYPE_CHECKING:
    from orca.oci.runtime import Limits, Rlimit

TITLE = "limits of RUN"

_UNLIMITED = ("-1", "unlimited")
_CPUS = re.compile(r"[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*")
LEAST_MEMORY = 16 << 20
"""The runtime itself lives in the same cgroup."""


def declare(add: Callable[..., Any]) -> None:
    """Add the options to a parser's group."""
    add("-m", "--memory", metavar="SIZE", help="memory of all processes of a RUN, as in 512m (needs a cgroup)")
    add("--memory-swap", metavar="SIZE", help="memory and swap together; -1: as much swap as there is")
    add("--cpu-period", metavar="MICROSECONDS", help="the period that --cpu-quota is a part of (default 100000)")
    add("--cpu-quota", metavar="MICROSECONDS", help="processor time of a RUN in each period")
    add("-c", "--cpu-shares", metavar="N", help="weight against others that want the processor (1024 is usual)")
    add("--cpuset-cpus", metavar="LIST", help="processors that a RUN may use, as in 0-3,7")
    add("--cpuset-mems", metavar="LIST", help="memory nodes that a RUN may use")
    add("--cgroup-parent", metavar="PATH", help="the cgroup below which those of RUN are made")
    add("--ulimit", action="append", default=[], metavar="NAME=SOFT[:HARD]",
        help="a resource limit of each process, as in nofile=1024:4096")  # fmt: skip
    add("--shm-size", metavar="SIZE", help="size of RUN's /dev/shm (default 64m)")
    add("--cap-add", action="append", default=[], metavar="NAME", help="a capability more for RUN; ALL: every one")
    add("--cap-drop", action="append", default=[], metavar="NAME", help="a capability less for RUN; ALL: every one")


def read(given: argparse.Namespace) -> Limits | None:
    """What is not of cgroups, None when nothing was said. Raises UsageError."""
    if not (given.ulimit or given.shm_size or given.cap_add or given.cap_drop):
        return None
    from orca.oci import runtime

    return runtime.Limits(
        capabilities=capabilities(given.cap_add, given.cap_drop),
        rlimits=tuple({one.name: one for one in map(_ulimit, given.ulimit)}.values()),
        shm_size=_size(given.shm_size, "--shm-size") if given.shm_size else runtime.SHM_SIZE,
    )


def capabilities(more: Sequence[str], less: Sequence[str]) -> tuple[str, ...]:
    """The usual ones with those of --cap-add and without those of --cap-drop. Raises UsageError."""
    from orca.oci import runtime

    def named(words: Sequence[str], option: str) -> set[str]:
        found: set[str] = set()
        for word in ",".join(words).split(",") if words else []:
            name = word.strip().upper()
            name = name if name.startswith("CAP_") or name == "ALL" else f"CAP_{name}"
            if name != "ALL" and name not in runtime.EVERY_CAPABILITY:
                raise UsageError(f"{option}: there is no capability {word[:40]!r}", hint="man 7 capabilities has them")
            found |= set(runtime.EVERY_CAPABILITY) if name == "ALL" else {name}
        return found

    added, dropped = named(more, "--cap-add"), named(less, "--cap-drop")
    # A name outdoes ALL, on whichever side it stands.
    if any(word.strip().upper() == "ALL" for word in ",".join(less).split(",")):
        held = named(
            [word for word in ",".join(more).split(",") if word.strip().upper() not in ("ALL", "")], "--cap-add"
        )
    else:
        held = (set(runtime.CAPABILITIES) | added) - dropped
    if held == set(runtime.CAPABILITIES):
        return runtime.CAPABILITIES
    return tuple(name for name in runtime.EVERY_CAPABILITY if name in held)


def _ulimit(word: str) -> Rlimit:
    import resource

    from orca.oci.runtime import Rlimit

    name, equals, rest = word.partition("=")
    kind = getattr(resource, f"RLIMIT_{name.upper()}", None) if name.isalnum() else None
    soft, colon, hard = rest.partition(":")
    if not equals or kind is None:
        names = ", ".join(sorted(n.removeprefix("RLIMIT_").lower() for n in dir(resource) if n.startswith("RLIMIT_")))
        raise UsageError(f"bad --ulimit {word[:80]!r}", hint=f"write NAME=SOFT[:HARD]; NAME is one of {names}")
    low = _number(soft, word)
    high = _number(hard, word) if colon else low
    if low > high:
        raise UsageError(f"--ulimit {word}: the soft limit is above the hard one")
    most = resource.getrlimit(kind)[1]
    if most != resource.RLIM_INFINITY and high > most:
        hint = f"the shell's own says: ulimit -H; give {name}={min(low, most)}:{most} or less"
        raise UsageError(f"--ulimit {word}: the hard limit here is {most}, and no sandbox can raise it", hint=hint)
    return Rlimit(f"RLIMIT_{name.upper()}", low, high)


def _number(text: str, word: str) -> int:
    if text in _UNLIMITED:
        return 2**64 - 1
    if not (text.isascii() and text.isdigit()) or len(text) > 19:
        raise UsageError(f"bad --ulimit {word[:80]!r}", hint="a limit is a number, or unlimited")
    return int(text)


def _size(text: str, option: str) -> int:
    try:
        found = bytes_of(text)
    except ValueError as error:
        raise UsageError(f"{option} {text[:40]!r} is no size", hint="write a size such as 512m") from error
    if not found:
        raise UsageError(f"{option} 0 leaves nothing")
    return found


def groups(given: argparse.Namespace) -> Mapping[str, str]:
    """What a cgroup shall say: `memory`, `swap` (bytes, memory included; -1 for any), `period`, `quota`, `shares`,
    `cpus`, `mems`. Raises UsageError."""
    found: dict[str, str] = {}
    if given.memory:
        memory = _size(given.memory, "--memory")
        if memory < LEAST_MEMORY:
            raise UsageError(f"--memory {given.memory} is too little", hint="runc alone needs 16m")
        found["memory"] = str(memory)
    if given.memory_swap:
        found["swap"] = _swap(given.memory_swap, int(found.get("memory", "0")))
    bounds = {"period": (1000, 1_000_000), "quota": (1000, 2**62), "shares": (2, 262144)}
    for name, (least, most) in bounds.items():
        text = getattr(given, f"cpu_{name}")
        if text is not None:
            if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
                raise UsageError(f"--cpu-{name} {text[:40]!r} is no number from {least} to {most}")
            found[name] = text
    for name in ("cpus", "mems"):
        text = getattr(given, f"cpuset_{name}")
        if text is not None:
            if not _CPUS.fullmatch(text):
                raise UsageError(f"--cpuset-{name} {text[:40]!r} is no list of numbers", hint="write 0-3,7")
            found[name] = text
    return found


def _swap(text: str, memory: int) -> str:
    if not memory:
        raise UsageError("--memory-swap has no meaning without --memory")
    if text == "-1":
        return text
    both = _size(text, "--memory-swap")
    if both < memory:
        raise UsageError("--memory-swap is less than --memory", hint="it is the sum of memory and swap")
    return str(both)
