"""What `orca build`, the steps of a scripted build and `orca commit` do with a build: carry it out and deliver."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from orca.cli.logfile import log_file
from orca.errors import OrcaError
from orca.events import BuildFinished, BuildStarted, Emit, Event, Warned
from orca.executor.build import Build
from orca.executor.options import STDOUT, Options, Result
from orca.store import files
from orca.store.store import Store
from orca.ui import Mode, one_at_a_time, open_view

if TYPE_CHECKING:
    from orca.executor.several import Builds
    from orca.tools.command import Runner


def view_of(given: argparse.Namespace) -> Mode:
    """How the build is shown."""
    mode: Mode = "quiet" if given.quiet else given.progress
    return mode


def carried_out(
    build: Build | Builds, given: argparse.Namespace, warnings: list[Warned], *, of_file: bool = True
) -> Result:
    """Do what the build has to do. `of_file`: there is a whole Dockerfile, to be checked and remembered.

    What the cache has entirely is done at once; anything else happens in the sandbox, into
    which this process moves, and so are outputs written.
    """
    mode, options, store = view_of(given), build.options, build.store
    with log_file(given.logfile) as log:
        _refuse(build, mode, given.explain, log)
        result = _from_cache(build, mode, given.explain, warnings, log, checks=of_file)
        if result is None or options.outputs or options.caching.cache_to:
            import sh  # noqa: F401  # loaded here once, not again on each side of the fork

            from orca.cli import curtain
            from orca.cli.recipe import recipe
            from orca.executor import cgroups, outputs, sandbox
            from orca.executor.records import write_recipe
            from orca.executor.rootfs import workshop
            from orca.tools.command import Runner

            runner = Runner()
            claim = cgroups.claim(options.running.groups, options.running.group_parent)
            sandbox.enter(runner)
            with (
                curtain.opened(mode, explain=given.explain, stream=log) as view,
                one_at_a_time(_listener(build, view.show, record=result is None)) as emit,
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


def _listener(build: Build | Builds, show: Emit, *, record: bool) -> Emit:
    """What hears the events. What came from the cache leaves no record, also where it is written or sent then."""
    from orca.executor.records import Recorder

    told = _teller(build, show)
    return Recorder(build.store, build.id, told).emit if record else told


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


def _refuse(build: Build | Builds, mode: Mode, explain: bool, log: TextIO | None) -> None:
    """Raise DockerfileError for a finding of the build checks, where these are to be errors."""
    if asks_for_checks(build.options):
        from orca.executor import checking

        if checking.selection(build.options).error:
            with open_view(mode, explain=explain, stream=log) as show:
                checking.refuse(build, show)


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
