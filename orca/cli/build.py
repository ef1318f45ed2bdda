"""orca build."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from orca.cli.flags import caching, calling, foreign, limits, naming, registry, results, running, showing, source
from orca.cli.logfile import log_file
from orca.cli.options import Parser
from orca.errors import OrcaError, UsageError
from orca.events import BuildFinished, BuildStarted, Emit, Event, Warned
from orca.executor import contexts
from orca.executor.build import Build
from orca.executor.options import STDOUT, Options, Result
from orca.oci import platform as platforms
from orca.oci import reference
from orca.store import files
from orca.store.store import Store
from orca.ui import Mode, one_at_a_time, open_view

if TYPE_CHECKING:
    from orca.executor.several import Builds
    from orca.tools.command import Runner

EXAMPLES = """\
  orca build -t app .                          the Dockerfile of this directory
  orca build -t app -f deploy/Dockerfile .     another one
  orca build --target test --build-arg V=2 .   one stage, with a build argument
  orca build --platform linux/amd64,linux/arm64 -t app .   an image index of two
  orca build --explain .                       see and understand every tool call
  orca build -q --output oci:out:app .         the image also as an OCI layout; only its digest is printed
  orca build -t registry.example/app --push .  and send it there
  orca build -o rootfs .                       its files into a directory; -o - writes a tar to standard output
  id=$(orca build -q .) && orca run $id        the digest is all that goes to standard output"""


GROUPS = (source, naming, running, limits, caching, results, registry, showing, calling, foreign)


def make_parser() -> Parser:
    """The options of `orca build`, group by group."""
    parser = Parser(
        "build", "Build an image from a Dockerfile.", EXAMPLES, usage="orca build [options] CONTEXT"
    )  # fmt: skip
    for group in GROUPS:
        group.declare(parser.add_argument_group(group.TITLE).add_argument)
    return parser


def run(arguments: Sequence[str]) -> int:
    """Build; prints the manifest digest."""
    # A plain --pull takes no value: what follows it is the next argument.
    given = make_parser().parse(["--pull=always" if word == "--pull" else word for word in foreign.complete(arguments)])
    foreign.check(given)
    with contexts.opened(given.context, lambda: open_view(view_of(given), explain=given.explain)) as place:
        options, warnings = make_options(given, os.environ, place)
        call = calling.read(given)
        if call.method != "build":
            from orca.cli import calls

            return calls.carry_out(call, options)
        digest_of_result(given, options, warnings)
    return 0


def view_of(given: argparse.Namespace) -> Mode:
    """How the build is shown."""
    mode: Mode = "quiet" if given.quiet else given.progress
    return mode


def make_options(
    given: argparse.Namespace, environ: Mapping[str, str], place: contexts.Place
) -> tuple[Options, list[Warned]]:
    """The build that a command line asks for, and what is worth a warning. Raises UsageError, DockerfileError."""
    what = source.read(given, environ, place)
    if given.manifest is not None:
        reference.local(given.manifest)  # a bad name is told before anything is done
    named = naming.read(given, environ)
    outputs = results.read(given, named)
    if outputs and all(output.kind == "cacheonly" for output in outputs):
        named = replace(named, tags=())
    if len(what.platforms) < 2 and any(each.level.startswith("index") for each in named.annotations):
        raise UsageError("one image has no index to annotate", hint="give several platforms, or leave out index:")
    cached = caching.read(given)
    options = Options(
        what.dockerfile,
        what.context,
        what.ignore_file,
        what.target,
        what.platforms[0] if what.platforms else platforms.host(),
        what.build_args,
        what.proxies if given.http_proxy == "true" else {},
        given.jobs,
        in_order=given.explain,
        naming=named,
        running=running.read(given, environ),
        caching=cached,
        platforms=what.platforms,
        outputs=outputs,
        access=registry.read(given, named, outputs, cached, what.contexts),
        contexts=what.contexts,
    )
    return options, list(what.warnings)


def digest_of_result(given: argparse.Namespace, options: Options, warnings: list[Warned]) -> str:
    """Build and deliver; returns the manifest digest, after printing it."""
    store = Store.open()
    with store.in_use():
        result = carried_out(make_build(options, store), given, warnings)
        return deliver(given, options, result, store)


def carried_out(
    build: Build | Builds, given: argparse.Namespace, warnings: list[Warned], *, of_file: bool = True
) -> Result:
    """Do what the build has to do. `of_file`: there is a whole Dockerfile, to be checked and remembered.

    What the cache has entirely is done at once; anything else happens in the sandbox, into
    which this process moves, and so are outputs written.
    """
    mode, options, store = view_of(given), build.options, build.store
    with log_file(given.logfile) as log:
        if asks_for_checks(options):
            from orca.executor import checking

            if checking.selection(options).error:
                with open_view(mode, explain=given.explain, stream=log) as show:
                    checking.refuse(build, show)
        result = _from_cache(build, mode, given.explain, warnings, log, checks=of_file)
        if result is None or options.outputs or options.caching.cache_to:
            import sh  # noqa: F401  # loaded here once, not again on each side of the fork

            from orca.cli import curtain
            from orca.executor import cgroups, outputs, sandbox
            from orca.executor.records import Recorder, write_recipe
            from orca.executor.rootfs import workshop
            from orca.tools.command import Runner

            runner = Runner()
            claim = cgroups.claim(options.running.groups, options.running.group_parent)
            sandbox.enter(runner)
            with (
                curtain.opened(mode, explain=given.explain, stream=log) as view,
                one_at_a_time(Recorder(store, build.id, _teller(build, view.show)).emit) as emit,
            ):
                build.emit = runner.emit = emit
                if result is None:
                    for warning in warnings:
                        emit(warning)
                    with workshop(store, runner) as shop:
                        shop.claim = claim
                        view.make_room(shop, options.running.on_error)
                        result = build.run(shop)
                    if of_file:
                        write_recipe(store, build.id, result, recipe(given, options), build.shared.bases)
                        tell_checks(build, mode, emit)
                outputs.write_all(options.outputs, outputs.product(result), store, runner, options.access)
                if options.caching.cache_to:
                    share(build, result, runner)
        return result


RECORDED = (source, naming, running)
"""The groups whose options a record keeps. Credentials are in another."""


def recipe(given: argparse.Namespace, options: Options) -> dict[str, Any]:
    """What must be known to build the same again: the Dockerfile's text, and the options as they were given.

    Of secrets only their names and where they came from; no credentials, those in URLs neither.
    """
    from orca.dockerfile.remotes import hide

    probe = argparse.ArgumentParser(add_help=False)
    for group in RECORDED:
        group.declare(probe.add_argument)
    kept: dict[str, Any] = {}
    for action in probe._actions:
        value = getattr(given, action.dest, None)
        if value != action.default:
            kept[action.dest] = [hide(text) for text in value] if isinstance(value, list) else (
                hide(value) if isinstance(value, str) else value)  # fmt: skip
    kept |= {"tag": [], "build_arg": [f"{name}={text}" for name, text in options.build_args.items()]}
    kept["platform"] = [str(platform) for platform in options.platforms or (options.platform,)]
    if options.naming.epoch is not None and given.timestamp is None:
        kept["source_date_epoch"] = str(options.naming.epoch)
    lines = list(options.dockerfile.lines)
    for found in options.dockerfile.instructions:
        if found.keyword == "ADD":
            lines[found.span.first - 1 : found.span.last] = map(hide, lines[found.span.first - 1 : found.span.last])
    text = "\n".join(lines) + "\n"
    return {
        "dockerfile": {"name": options.dockerfile.name, "text": text},
        "ignore_file": str(options.ignore_file.absolute()) if options.ignore_file else None,
        "options": kept,
        "cwd": os.getcwd(),
    }


def share(build: Build | Builds, result: Result, runner: Runner) -> None:
    """--cache-to. Raises OrcaError, which says where the image is all the same."""
    from orca.executor import sharing

    try:
        with build.store.scratch() as scratch:
            for each in [build] if isinstance(build, Build) else build.builds:
                sharing.export(each, scratch, runner)
    except OrcaError as error:
        names = ", ".join(build.options.naming.tags) or "no name"
        there = f"the image itself is in the store: {result.descriptor.digest} ({names})"
        raise OrcaError(error.message, hint=f"{error.hint}; {there}" if error.hint else there) from error


def make_build(options: Options, store: Store) -> Build | Builds:
    """The build of an image, or those of an index."""
    if len(options.platforms) < 2:
        return Build(options, store)
    from orca.executor.several import Builds

    return Builds(options, store)


def _teller(build: Build | Builds, show: Emit) -> Emit:
    """`show`, without the beginning and the end of a build that is a part of something."""
    if not isinstance(build, Build) or build.whole:
        return show
    return lambda event: None if isinstance(event, BuildStarted | BuildFinished) else show(event)


def _from_cache(
    build: Build | Builds, mode: Mode, explain: bool, warnings: list[Warned], log: TextIO | None, *, checks: bool
) -> Result | None:
    events: list[Event] = []
    build.emit = events.append
    result = build.from_cache()
    if result is not None:
        with open_view(mode, explain=explain, stream=log) as show:
            for event in [*events[:1], *warnings, *events[1:]]:
                _teller(build, show)(event)
            if checks:
                tell_checks(build, mode, show)
    return result


def asks_for_checks(options: Options) -> bool:
    """Does the Dockerfile, or a build argument, say anything on the build checks?"""
    named = any(directive.name == "check" for directive in options.dockerfile.directives)
    return named or "BUILDKIT_DOCKERFILE_CHECK" in options.build_args


def tell_checks(build: Build | Builds, mode: Mode, emit: Emit) -> None:
    """What the build checks find. Nobody would see it with -q, which therefore does not even load them."""
    if mode != "quiet":
        from orca.executor import checking

        checking.tell(build, emit)


def deliver(given: argparse.Namespace, options: Options, result: Result, store: Store) -> str:
    """Print the digest; write --iidfile and --metadata-file, and the manifest list that --manifest names.

    Where standard output carries an archive, the digest goes to standard error.
    """
    if given.manifest is not None:
        from orca.sources import lists

        lists.join(store, given.manifest, result.images or ((None, result.image),))
    digest = result.descriptor.digest
    writers: list[tuple[str | None, Callable[[], bytes]]] = [
        (given.iidfile, lambda: digest.encode()),
        (given.metadata_file, lambda: json.dumps(metadata(options, result), indent=2).encode()),
    ]
    try:
        for path, content in writers:
            if path is not None:
                _written(path, content())
    finally:  # the image is there in any case
        taken = any(output.dest == STDOUT for output in options.outputs)
        print(digest, file=sys.stderr if taken else sys.stdout, flush=True)
    return digest


def _written(path: str, content: bytes) -> None:
    try:
        Path(path).write_bytes(content)
    except OSError as error:
        raise files.explain(error, f"writing {path}") from error


def metadata(options: Options, result: Result) -> dict[str, object]:
    """What --metadata-file holds, in buildx's words."""
    value: dict[str, object] = {
        "containerimage.digest": result.descriptor.digest,
        "containerimage.descriptor": result.descriptor.to_json(),
    }
    if result.index is None:
        value["containerimage.config.digest"] = result.image.manifest.config.digest
    return {**value, "image.name": ",".join(options.naming.tags)} if options.naming.tags else value
