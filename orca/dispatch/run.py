"""RUN. Pure."""

from __future__ import annotations

from dataclasses import replace

from orca.dispatch.config import command_argv
from orca.dispatch.ops import ExecOp, Step
from orca.dispatch.settings import HOST_NETWORK, INSECURE, NETWORKS, Settings
from orca.dispatch.state import State
from orca.dockerfile import instructions as i
from orca.dockerfile import mounts
from orca.dockerfile.parser import location
from orca.errors import NotAllowed
from orca.plan import builtin
from orca.plan.scope import PROXIES

# Where heredocs that begin with `#!` stand while they run.
PIPES = "/dev/pipes"


def run(instruction: i.Run, state: State, settings: Settings) -> Step:
    _check_security(instruction, settings)
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
        _mounts(instruction, state, settings),
        instruction.security == "insecure",
        settings.around,
        builtin.hostname(settings.scope.given),
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
    if mode == "host" and settings.network != "host" and HOST_NETWORK not in settings.allowed:
        hint = f"--allow {HOST_NETWORK} grants it; --network=host gives it to every RUN"
        where = location(settings.scope.source, instruction.span)
        raise NotAllowed(f"RUN --network=host asks for {HOST_NETWORK}", hint=hint, location=where)
    return mode


def _mounts(instruction: i.Run, state: State, settings: Settings) -> tuple[mounts.Mount, ...]:
    """The mounts with their variables replaced. Two at one place are an error."""

    def expand(text: str) -> str:
        return settings.scope.expand(text, state.lookup, instruction)

    found = []
    for text in instruction.mounts:
        try:
            found.append(mounts.parse(text, expand, state.config.working_dir))
        except mounts.MountError as error:
            raise settings.scope.error(error.message, instruction, error.hint) from error
    targets = [mount.target for mount in found if mount.target]
    for target in targets:
        if targets.count(target) > 1:
            raise settings.scope.error(f"two mounts at {target}", instruction)
    return tuple(_named(mount, settings) for mount in found)


def _named(mount: mounts.Mount, settings: Settings) -> mounts.Mount:
    return replace(mount, id=builtin.cache_id(settings.scope.given, mount.id)) if mount.kind == "cache" else mount


def _check_security(instruction: i.Run, settings: Settings) -> None:
    """--security and --device. Raises NotAllowed, DockerfileError."""
    where = location(settings.scope.source, instruction.span)
    if instruction.security == "insecure" and INSECURE not in settings.allowed:
        hint = f"--allow {INSECURE} grants it, to every RUN of this build that asks"
        raise NotAllowed(f"RUN --security=insecure asks for {INSECURE}", hint=hint, location=where)
    if instruction.security not in (None, "sandbox", "insecure"):
        hint = "choose sandbox or insecure"
        raise settings.scope.error(f"unknown --security={instruction.security}", instruction, hint)
    if instruction.devices:
        hint = "orca build --device /dev/NAME gives a device of this machine to every RUN"
        message = "RUN --device asks for a CDI device, and orca knows none"
        raise NotAllowed(message, hint=hint, location=where)


def _history(argv: tuple[str, ...], script: str | None, state: State) -> str:
    """`RUN |1 V=9 /bin/sh -c echo hi # orca`: how many ARGs are in scope, their values, the command."""
    args = [f"{name}={text}" for name, text in state.set_args().items() if name not in PROXIES]
    words = [f"|{len(args)}", *args] if args else []
    shown = f"<<EOF {script}" if script is not None else " ".join(argv)
    return " ".join(["RUN", *words, shown, "# orca"])
