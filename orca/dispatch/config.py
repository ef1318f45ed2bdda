"""Instructions that change only the image config. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from orca.dispatch.ops import ConfigOp, Step
from orca.dispatch.settings import Settings
from orca.dispatch.state import State
from orca.dockerfile import instructions as i
from orca.plan.scope import PROXIES

DEFAULT_SHELL = ("/bin/sh", "-c")
_PORT = re.compile(
    r"(?:\[[^]]*\]:|[0-9.]+:)?(?:[0-9-]*:)?(?P<first>[0-9]{1,9})(?:-(?P<last>[0-9]{1,9}))?(?:/(?P<proto>\w+))?"
)
_PROTOCOLS = ("tcp", "udp", "sctp")
_SIGNAL = re.compile(r"(?:SIG)?(?:RTMIN(?:\+[0-9]{1,2})?|RTMAX(?:-[0-9]{1,2})?|[A-Z][A-Z0-9]+)")
SIGNALS = frozenset(
    "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS TERM "
    "TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ".split()
)


def _step(instruction: i.Instruction, state: State, history: str) -> Step:
    return Step(instruction, ConfigOp(history), state, history)


def quoted(words: Iterable[str]) -> str:
    """Words as history shows an argument vector: `["/bin/sh" "-c" "…"]`."""
    return "[" + " ".join(json.dumps(word, ensure_ascii=False) for word in words) + "]"


def arg(instruction: i.Arg, state: State, settings: Settings) -> Step:
    # As with ENV, all values see the state before the instruction.
    scope, before, shown = settings.scope, state, []
    for name, default in instruction.pairs:
        default_value = None if default is None else scope.expand(default, before.lookup, instruction)
        value = scope.arg_value(name, default_value)
        if name in PROXIES and name in scope.given:
            shown.append(name)  # a proxy's value may hold a password
        else:
            shown.append(name if value is None else f"{name}={value}")
        state = state.declare(name, value, given=name in scope.given)
    return _step(instruction, state, f"ARG {' '.join(shown)}")


def env(instruction: i.Env, state: State, settings: Settings) -> Step:
    # All values see the state before the instruction: `ENV abc=bye def=$abc` uses the old abc.
    pairs = {
        settings.scope.expand(name, state.lookup, instruction): settings.scope.expand(text, state.lookup, instruction)
        for name, text in instruction.pairs
    }
    if "" in pairs:
        raise settings.scope.error("ENV needs a name", instruction, "write ENV name=value")
    if bad := next((name for name in pairs if "=" in name), None):
        # The image config could not tell where the name ends.
        raise settings.scope.error(f"ENV: the name {bad!r} holds an =", instruction, "write ENV name=value")
    shown = " ".join(f"{name}={text}" for name, text in pairs.items())
    return _step(instruction, state.with_env(pairs), f"ENV {shown}")


def label(instruction: i.Label, state: State, settings: Settings) -> Step:
    expand = settings.scope.expand
    pairs = {
        expand(name, state.lookup, instruction): expand(text, state.lookup, instruction)
        for name, text in instruction.pairs
    }
    if "" in pairs:
        raise settings.scope.error("LABEL needs a name", instruction, "write LABEL name=value")
    shown = " ".join(f"{name}={text}" for name, text in pairs.items())
    return _step(instruction, replace(state, config=state.config.with_labels(pairs)), f"LABEL {shown}")


def maintainer(instruction: i.Maintainer, state: State, settings: Settings) -> Step:
    changed = replace(state.config, author=instruction.author)
    return _step(instruction, replace(state, config=changed), f"MAINTAINER {instruction.author}")


def command_argv(form: i.CommandForm, state: State) -> tuple[str, ...]:
    """The argument vector of a command: an exec form as it is, a shell form behind the image's shell."""
    if isinstance(form, i.ExecForm):
        return form.argv
    return (*(state.config.shell or DEFAULT_SHELL), form.text) if form.text else ()


def cmd(instruction: i.Cmd, state: State, settings: Settings) -> Step:
    argv = command_argv(instruction.command, state)
    escaped = isinstance(instruction.command, i.ShellForm)
    changed = replace(state.config, cmd=argv or None, args_escaped=escaped)
    return _step(instruction, replace(state, config=changed, cmd_set=True), f"CMD {quoted(argv)}")


def entrypoint(instruction: i.Entrypoint, state: State, settings: Settings) -> Step:
    argv = command_argv(instruction.command, state)
    # A CMD that came from the base was meant for the base's entrypoint.
    escaped = state.config.args_escaped or isinstance(instruction.command, i.ShellForm)
    cmd_kept = state.config.cmd if state.cmd_set else None
    changed = replace(state.config, entrypoint=argv or None, cmd=cmd_kept, args_escaped=escaped)
    return _step(instruction, replace(state, config=changed), f"ENTRYPOINT {quoted(argv)}")


def shell(instruction: i.Shell, state: State, settings: Settings) -> Step:
    changed = replace(state.config, shell=instruction.argv)
    return _step(instruction, replace(state, config=changed), f"SHELL [{' '.join(instruction.argv)}]")


def user(instruction: i.User, state: State, settings: Settings) -> Step:
    name = settings.scope.expand(instruction.user, state.lookup, instruction)
    if not name:
        raise settings.scope.error("USER is empty after its variables were expanded", instruction)
    return _step(instruction, replace(state, config=replace(state.config, user=name)), f"USER {name}")


def expose(instruction: i.Expose, state: State, settings: Settings) -> Step:
    expanded = [
        found for word in instruction.ports for found in settings.scope.expand_words(word, state.lookup, instruction)
    ]
    ports = [port for word in expanded for port in _ports(word, instruction, settings)]
    merged = tuple(dict.fromkeys([*state.config.exposed_ports, *ports]))
    shown = " ".join(sorted(set(ports)))
    return _step(instruction, replace(state, config=replace(state.config, exposed_ports=merged)), f"EXPOSE [{shown}]")


def _ports(word: str, at: i.Instruction, settings: Settings) -> list[str]:
    """`8000-8002/udp` as single ports; what stands before the container's port is dropped."""
    match = _PORT.fullmatch(word)
    protocol = (match["proto"] or "tcp").lower() if match else ""
    first = int(match["first"]) if match else 0
    last = int(match["last"] or first) if match else 0
    if protocol not in _PROTOCOLS or not 0 < first <= last <= 65535:
        hint = "write PORT[-PORT][/tcp|udp|sctp], ports from 1 to 65535"
        raise settings.scope.error(f"bad port {word!r}", at, hint)
    return [f"{port}/{protocol}" for port in range(first, last + 1)]


def volume(instruction: i.Volume, state: State, settings: Settings) -> Step:
    paths = [settings.scope.expand(word, state.lookup, instruction) for word in instruction.paths]
    if not all(paths):
        raise settings.scope.error("VOLUME is empty after its variables were expanded", instruction)
    merged = tuple(dict.fromkeys([*state.config.volumes, *paths]))
    return _step(
        instruction, replace(state, config=replace(state.config, volumes=merged)), f"VOLUME [{' '.join(paths)}]"
    )


def stopsignal(instruction: i.Stopsignal, state: State, settings: Settings) -> Step:
    signal = settings.scope.expand(instruction.signal, state.lookup, instruction)
    if not _is_signal(signal):
        hint = "write a name such as SIGTERM or a number from 1 to 64"
        raise settings.scope.error(f"unknown signal {signal!r}", instruction, hint)
    return _step(instruction, replace(state, config=replace(state.config, stop_signal=signal)), f"STOPSIGNAL {signal}")


def _is_signal(text: str) -> bool:
    if text.isascii() and text.isdigit():
        return len(text) < 10 and 0 < int(text) <= 64
    if not _SIGNAL.fullmatch(text.upper()):
        return False
    name = text.upper().removeprefix("SIG")
    return name in SIGNALS or name.startswith(("RTMIN", "RTMAX"))


def healthcheck(instruction: i.Healthcheck, state: State, settings: Settings) -> Step:
    times = {
        "Interval": instruction.interval,
        "Timeout": instruction.timeout,
        "StartPeriod": instruction.start_period,
        "StartInterval": instruction.start_interval,
        "Retries": instruction.retries,
    }
    value: dict[str, Any] = {"Test": _test(instruction.command)}
    value |= {name: number for name, number in times.items() if number}
    shown = "NONE" if instruction.command is None else quoted(value["Test"])
    return _step(instruction, replace(state, config=replace(state.config, healthcheck=value)), f"HEALTHCHECK {shown}")


def _test(form: i.CommandForm | None) -> list[str]:
    if form is None:
        return ["NONE"]
    if isinstance(form, i.ExecForm):
        return ["CMD", *form.argv]
    # Which shell is meant the container's config says: Docker runs it by the `Shell` that stands there.
    return ["CMD-SHELL", form.text]


def onbuild(instruction: i.Onbuild, state: State, settings: Settings) -> Step:
    triggers = (*state.config.onbuild, instruction.trigger)
    changed = replace(state.config, onbuild=triggers)
    return _step(instruction, replace(state, config=changed), f"ONBUILD {instruction.trigger}")
