"""Commands of another platform: they run if the kernel runs such programs, mostly through QEMU and binfmt_misc."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from orca.errors import OrcaError
from orca.oci import platform as platforms
from orca.oci.platform import Platform
from orca.store import files
from orca.tools import emulation

if TYPE_CHECKING:
    from orca.executor.rootfs import Workshop

PACKAGE = "qemu-user-static"

_lock = threading.Lock()
_known: dict[str, bool] = {}
_flags: dict[str, Sequence[str]] = {}


def look(platform: Platform) -> None:
    """Remember what is registered for a platform: binfmt_misc cannot be seen from inside the sandbox."""
    if platform.architecture != platforms.host().architecture:
        _flags[platform.architecture] = emulation.registered(platform.architecture)


def check(platform: Platform, shop: Workshop, step: int | None) -> None:
    """Raises OrcaError when this machine cannot run programs for `platform`. Tried once in a process."""
    host, architecture = platforms.host(), platform.architecture
    if architecture == host.architecture:
        return
    with _lock:
        if architecture not in _known:
            _known[architecture] = _try(architecture, shop, step)
        if _known[architecture]:
            return
    raise OrcaError(f"this machine ({host}) cannot run programs for {platform}", hint=hint(architecture))


def _try(architecture: str, shop: Workshop, step: int | None) -> bool:
    root = shop.volatile_directory("try")
    command = emulation.trial(architecture, root)
    if command is None:  # nobody knows: whoever runs it will see
        return True
    try:
        return shop.runner.run(command, step=step, check=False).exit_code == 0
    finally:
        files.remove_tree(root)


def hint(architecture: str) -> str:
    """What helps."""
    flags = _flags.get(architecture, ())
    name = f"qemu-{emulation.machine_name(architecture)}"
    if flags and not any("F" in each for each in flags):
        return f"{name} is registered without the flag F, so containers do not find it: install {PACKAGE} instead"
    return f"install {PACKAGE}, which registers {name}; COPY needs no emulator, and FROM --platform=$BUILDPLATFORM none"
