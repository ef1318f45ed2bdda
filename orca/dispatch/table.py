"""The translation: instruction + state → `Step`. Pure, one row an instruction.

A new instruction is a dataclass in `dockerfile`, a row in `TABLE` and a function here or in
`config`, `files`, `run`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orca.dispatch import config, files, run
from orca.dispatch.ops import Step
from orca.dispatch.settings import Settings
from orca.dispatch.state import State
from orca.dockerfile import instructions as i

Translate = Callable[[Any, State, Settings], Step]

TABLE: dict[type[i.Instruction], Translate] = {
    i.Add:         files.add,
    i.Arg:         config.arg,
    i.Cmd:         config.cmd,
    i.Copy:        files.copy,
    i.Entrypoint:  config.entrypoint,
    i.Env:         config.env,
    i.Expose:      config.expose,
    i.Healthcheck: config.healthcheck,
    i.Label:       config.label,
    i.Maintainer:  config.maintainer,
    i.Onbuild:     config.onbuild,
    i.Run:         run.run,
    i.Shell:       config.shell,
    i.Stopsignal:  config.stopsignal,
    i.User:        config.user,
    i.Volume:      config.volume,
    i.Workdir:     files.workdir,
}  # fmt: skip


def translate(instruction: i.Instruction, state: State, settings: Settings) -> Step:
    """What `instruction` does after `state`. FROM is not an instruction of a stage: it has no row.

    Raises DockerfileError at the instruction; NotYet for what this version does not have.
    """
    return TABLE[type(instruction)](instruction, state, settings)
