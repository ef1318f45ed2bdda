"""Where a stage stands, and what is left of it when it is finished."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orca.dispatch.state import State
from orca.dockerfile import remotes
from orca.dockerfile.instructions import Instruction
from orca.oci.image import Descriptor

if TYPE_CHECKING:
    from orca.executor.rootfs import RootFs


class Miss(Exception):
    """A step is not in the cache, and this pass was only to look."""


@dataclass(frozen=True)
class Position:
    """Where a stage stands: the key of its last step, the state after it, its snapshots as far as known.

    While nobody has unpacked what is below them, `loose` are the snapshots of COPY --link, uppermost first.
    """

    key: str
    state: State
    snapshots: tuple[str, ...] = ()
    loose: tuple[str, ...] = ()


@dataclass(frozen=True)
class StageResult:
    """A finished stage. `image` is as umoci left it: fields that umoci does not know are in the state.

    `anew` says that it had to be carried out anew, by --no-cache-filter: so has whoever reads it.
    `only_key` says that it was not built, because nothing that will be carried out needs its files.
    """

    position: Position
    manifest: Descriptor
    rootfs: RootFs | None
    cached: int
    anew: bool = False
    base_layers: int = 0  # how many of the image's layers are its base image's
    only_key: bool = False


def shown(instruction: Instruction) -> str:
    """The text of an instruction, for eyes and records: without the credentials of an ADD's URLs."""
    return remotes.hide(instruction.text) if instruction.keyword == "ADD" else instruction.text
