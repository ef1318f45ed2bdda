"""orca build."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from orca.cli.flags import caching, calling, foreign, limits, naming, registry, results, running, showing, source
from orca.cli.flow import carried_out, deliver, make_build, view_of
from orca.cli.options import Parser
from orca.errors import UsageError
from orca.events import Warned
from orca.executor import contexts
from orca.executor.options import Options
from orca.oci import platform as platforms
from orca.oci import reference
from orca.store.store import Store
from orca.ui import open_view

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
