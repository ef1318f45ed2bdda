"""orca build --check and --call: what a Dockerfile has to say before anything is built."""

from __future__ import annotations

import sys
from collections.abc import Callable

from orca.cli.flags.calling import Call
from orca.cli.options import print_json
from orca.dockerfile.instructions import Finding, Span
from orca.errors import DockerfileError, OrcaError
from orca.events import CheckFound
from orca.executor import checking
from orca.executor.build import make_scope, prepare
from orca.executor.inputs import Inputs
from orca.executor.options import Options
from orca.plan.scope import Scope
from orca.store.store import Store
from orca.ui import Terminal, human, render_finding
from orca.ui.escape import visible

FOUND = 1
"""The exit code of --check when there is something to say, as buildx has it."""


def carry_out(call: Call, options: Options) -> int:
    """Print what --call asks for; the exit code. Raises DockerfileError, UsageError."""
    return CALLS[call.method](options, call.json)


def _check(options: Options, as_json: bool) -> int:
    wanted = checking.selection(options)
    store = Store.open()
    inputs = Inputs(options, store, lambda event: None)
    scope, reached, error = _scope(options)
    found = checking.findings(options, scope, reached, inputs, wanted)
    events = [checking.event(options, finding) for finding in found]
    if as_json:
        print_json(_results(options, found, error))
    else:
        _print_findings(events, options.dockerfile.name)
        if error is not None:
            raise error
    return FOUND if found or error else 0


def _scope(options: Options) -> tuple[Scope, frozenset[int] | None, OrcaError | None]:
    """The scope, and the stages that are reached; or why nobody can say which."""
    scope = make_scope(options)
    try:
        return scope, frozenset(prepare(options)[1].stages), None
    except DockerfileError as error:
        return scope, None, error
    except OrcaError as error:
        if error.exit_code == 2:  # an unknown --target
            raise
        return scope, None, None  # what cannot be built yet can be checked


def _print_findings(events: list[CheckFound], name: str) -> None:
    terminal = Terminal(sys.stdout)
    for event in events:
        terminal.line(render_finding(event, color=terminal.color, width=terminal.width))
    count = human.count(len(events), "warning") if events else "no warnings"
    terminal.line(f"{visible(name)}: {count}")


def _results(options: Options, found: list[Finding], error: OrcaError | None) -> dict[str, object]:
    """What buildx prints for `--call check,format=json`, without addresses."""
    import base64

    from orca.plan import checks
    from orca.plan.outline import place

    text = "\n".join(options.dockerfile.lines) + "\n"
    source = {"filename": options.dockerfile.name, "language": "Dockerfile",
              "data": base64.b64encode(text.encode("utf-8", "surrogateescape")).decode()}  # fmt: skip
    warnings = [
        {"ruleName": finding.rule, "description": checks.description(finding.rule), "detail": finding.message,
         "location": place(finding.span)}
        for finding in found
    ]  # fmt: skip
    result: dict[str, object] = {"warnings": warnings, "sources": [source]}
    if error is not None:
        result["buildError"] = {"message": error.message}
        if error.location is not None:
            span = Span(error.location.line, error.location.end_line)
            result["buildError"] = {"message": error.message, "location": place(span)}
    return result


def _outline(options: Options, as_json: bool) -> int:
    from orca.plan.outline import outline

    settings, plan = prepare(options)
    found = outline(options.dockerfile, settings.scope, plan)
    if as_json:
        print_json(found.to_json())
        return 0
    heading = [("TARGET:", found.name), ("DESCRIPTION:", found.description)]
    blocks = ["\n".join(f"{label:<12} {visible(text)}" for label, text in heading if text)]
    rows = [(visible(arg.name), visible(arg.value or ""), visible(arg.description)) for arg in found.arguments]
    blocks += [human.table(rows, ("BUILD ARG", "VALUE", "DESCRIPTION"))] if rows else []
    for label, needs in (("SECRET", found.secrets), ("SSH", found.agents)):
        rows_of = [(visible(need.name), "yes" if need.required else "") for need in needs]
        blocks += [human.table(rows_of, (label, "REQUIRED"))] if rows_of else []
    blocks += [human.table([(visible(need.name),) for need in found.caches], ("CACHE",))] if found.caches else []
    print("\n\n".join(filter(None, blocks)))
    return 0


def _targets(options: Options, as_json: bool) -> int:
    from orca.plan.outline import targets

    found = targets(options.dockerfile, make_scope(options))
    if as_json:
        print_json({"targets": [target.to_json() for target in found]})
        return 0
    rows = [
        (" ".join(filter(None, (visible(target.name), "(default)" if target.default else ""))) or "-",
         visible(target.base), visible(target.description))
        for target in found
    ]  # fmt: skip
    print(human.table(rows, ("TARGET", "BASE", "DESCRIPTION")))
    return 0


CALLS: dict[str, Callable[[Options, bool], int]] = {"check": _check, "outline": _outline, "targets": _targets}
