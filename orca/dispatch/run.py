"""RUN. Pure."""

from __future__ import annotations

from orca.dispatch.config import command_argv
from orca.dispatch.ops import ExecOp, Step
from orca.dispatch.settings import NETWORKS, Settings
from orca.dispatch.state import State
from orca.dockerfile import instructions as i
from orca.dockerfile.parser import location
from orca.errors import NotYet
from orca.plan.scope import PROXIES

# Where heredocs that begin with `#!` stand while they run.
PIPES = "/dev/pipes"


def run(instruction: i.Run, state: State, settings: Settings) -> Step:
    _refuse(instruction, settings)
    argv = command_argv(instruction.command, state)
    if not argv:
        raise settings.scope.error("RUN has no command", instruction)
    script = instruction.script if instruction.script and instruction.script.startswith("#!") else None
    if script is not None:
        argv = (f"{PIPES}/{instruction.heredocs[0].name}",)
    op = ExecOp(
        argv,
        tuple(state.run_environment(settings.scope.proxies).items()),
        _hidden(state),
        state.config.working_dir or "/",
        state.config.user,
        _network(instruction, state, settings),
        settings.hosts,
        script,
    )
    return Step(instruction, op, state, _history(argv, script, state))


def _hidden(state: State) -> frozenset[str]:
    """Proxies that nobody declared: they reach RUN and nothing else."""
    return PROXIES - set(dict(state.args)) - set(state.config.environment())


def _network(instruction: i.Run, state: State, settings: Settings) -> str:
    if instruction.network is None:
        return settings.network
    mode = settings.scope.expand(instruction.network, state.lookup, instruction)
    if mode not in NETWORKS:
        hint = f"choose one of {', '.join(NETWORKS)}"
        raise settings.scope.error(f"unknown network mode --network={mode}", instruction, hint)
    return mode


def _refuse(instruction: i.Run, settings: Settings) -> None:
    where = location(settings.scope.source, instruction.span)
    if instruction.security == "insecure":
        raise NotYet("RUN --security=insecure is refused", hint="orca runs every RUN in its sandbox", location=where)
    if instruction.security not in (None, "sandbox"):
        hint = "choose sandbox or insecure"
        raise settings.scope.error(f"unknown --security={instruction.security}", instruction, hint)
    for name, value in (("mount", instruction.mounts), ("device", instruction.devices)):
        if value:
            hint = "docs/dockerfile.md lists what is missing"
            raise NotYet(f"RUN --{name} is not supported yet", hint=hint, location=where)


def _history(argv: tuple[str, ...], script: str | None, state: State) -> str:
    """`RUN |1 V=9 /bin/sh -c echo hi # orca`: how many ARGs are in scope, their values, the command."""
    args = [f"{name}={text}" for name, text in state.set_args().items() if name not in PROXIES]
    words = [f"|{len(args)}", *args] if args else []
    shown = f"<<EOF {script}" if script is not None else " ".join(argv)
    return " ".join(["RUN", *words, shown, "# orca"])
