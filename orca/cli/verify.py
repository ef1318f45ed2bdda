"""orca verify."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca.cli import access, build, choice
from orca.cli.options import Parser, print_json
from orca.dockerfile.remotes import looks_remote
from orca.errors import OrcaError, UsageError
from orca.events import Warned
from orca.executor import records
from orca.executor.contexts import Place, directory_of
from orca.executor.options import Options
from orca.sources import names
from orca.store.store import Store
from orca.ui.escape import visible

if TYPE_CHECKING:
    from orca.executor.compare import Difference

EXAMPLES = """\
  orca verify app                       build it again from what its record says, and compare
  orca verify --context . -f D app      an image that was built elsewhere: say what it was built from
  orca verify --ignore-times app        leave out differences of time alone
  orca verify --json app                every difference, for programs; exit code 0 the same, 1 different"""

SHOWN = 20
"""Differences of one place that are printed; --json has them all."""


def make_parser() -> Parser:
    """The options of `orca verify`."""
    parser = Parser(
        "verify",
        "Build an image again, in an empty store that has its base images only, and explain each difference.\n"
        "Exits with 0 when it is the same, with 1 when it is not.",
        EXAMPLES,
        usage="orca verify [options] IMAGE",
    )
    add = parser.add_argument
    add("image", metavar="IMAGE", help="a name, a digest, or the beginning of a digest")
    add("--context", metavar="DIR", help="the build context (default: the one in the build's record)")
    add("-f", "--file", metavar="FILE", help="the Dockerfile (default: the one in the build's record)")
    add("--build-arg", action="append", default=[], metavar="NAME[=VALUE]", help="set an ARG, besides those recorded")
    add("--secret", action="append", default=[], metavar="SPEC", help="a secret, instead of those recorded by name")
    add("--ssh", action="append", default=[], metavar="SPEC", help="an agent, instead of those recorded by name")
    choice.add_option(add)
    add("--ignore-times", action="store_true", help="differences of times alone are none")
    add("--json", action="store_true", help="print JSON: the digests and every difference")
    access.add_options(parser)
    return parser


def run(arguments: Sequence[str]) -> int:
    """Build again and compare; prints the verdict."""
    given = make_parser().parse(arguments)
    store = Store.open()
    with store.in_use():
        wanted = choice.wanted(given)
        _, descriptor, image = names.find(store, given.image, wanted)
        recipe = records.recipe_of(store, {descriptor.digest, image.descriptor.digest})
        if recipe is None and given.context is None:
            hint = "say what it was built from: orca verify --context DIR [-f FILE] IMAGE"
            raise OrcaError(f"no build of {given.image} is remembered here", hint=hint)
        platform = names.platform_of(image) or wanted
        options, warnings = make_options(given, recipe or {}, str(platform), os.environ)
        from orca.executor import verify

        pinned = {(base["text"], base["platform"]): base["digest"] for base in (recipe or {}).get("bases", ())}
        with access.shown(given) as show:
            for warning in warnings:
                show(warning)
        rebuilt, differences = verify.again(store, image, options, pinned, lambda: access.shown(given))
    if given.ignore_times:
        differences = [rest for found in differences if (rest := found.timeless()) is not None]
    report(given, image.descriptor.digest, rebuilt, differences, has_epoch=options.naming.epoch is not None)
    return int(bool(differences))


def make_options(
    given: argparse.Namespace, recipe: Mapping[str, Any], platform: str, environ: Mapping[str, str]
) -> tuple[Options, list[Warned]]:
    """The build as the record and the command line have it. Raises UsageError, DockerfileError."""
    whole = build.make_parser().parse(["."])
    for name, value in recipe.get("options", {}).items():
        setattr(whole, name, value)
    context = os.path.abspath(given.context) if given.context else whole.context
    if context == "-":
        raise UsageError("the build context came from standard input", hint="unpack it, and name it with --context DIR")
    if looks_remote(context):
        raise UsageError(f"the build context came from {context}", hint="fetch it, and name it with --context DIR")
    whole.context, whole.platform = context, [platform]
    whole.build_arg = [*whole.build_arg, *given.build_arg]
    whole.secret, whole.ssh = given.secret or whole.secret, given.ssh or whole.ssh
    for name in ("authfile", "creds", "creds_for", "tls_verify", "cert_dir", "retry", "retry_delay"):
        setattr(whole, name, getattr(given, name))
    whole.file = _dockerfile(given, recipe)
    directory = recipe.get("cwd") or "."
    with chdir(directory if os.path.isdir(directory) and not given.context else "."):
        rest = {name: environ[name] for name in environ if name not in _OURS}
        options, warnings = build.make_options(whole, rest, Place(directory_of(context)))
        options = replace(
            options,
            context=options.context.absolute() if options.context else None,
            ignore_file=options.ignore_file.absolute() if options.ignore_file else None,
            naming=replace(options.naming, tags=()),
            outputs=(),
        )
    if recipe and not given.file:
        options = replace(options, dockerfile=replace(options.dockerfile, name=recipe["dockerfile"]["name"]))
        if recipe["ignore_file"] and not given.context:
            options = replace(options, ignore_file=Path(recipe["ignore_file"]))
    return options, warnings


def _dockerfile(given: argparse.Namespace, recipe: Mapping[str, Any]) -> str | None:
    """The file that is read: the one that was named, else the text that was recorded, whatever the file says now."""
    if given.file or not recipe:
        return os.path.abspath(given.file) if given.file else None
    descriptor = os.memfd_create("Dockerfile", 0)
    os.write(descriptor, recipe["dockerfile"]["text"].encode("utf-8", "surrogateescape"))
    return f"/proc/self/fd/{descriptor}"


# What of the environment would change the image: the record has it.
_OURS = ("SOURCE_DATE_EPOCH", "BUILDAH_FORMAT")


def report(
    given: argparse.Namespace, digest: str, rebuilt: str, differences: Sequence[Difference], *, has_epoch: bool
) -> None:
    """The verdict on standard output."""
    if given.json:
        found = [difference.to_json() for difference in differences]
        print_json({"image": digest, "rebuilt": rebuilt, "same": not differences, "differences": found})
        return
    if not differences:
        print(f"the same: {digest}" if digest == rebuilt else f"the same but for times: {digest}, rebuilt {rebuilt}")
        return
    print(f"different: {digest}, rebuilt {rebuilt}")
    for place in dict.fromkeys(difference.place for difference in differences):
        here = [difference for difference in differences if difference.place == place]
        print(f"{place}")
        for difference in here[:SHOWN]:
            print(f"  {line(difference)}")
        if len(here) > SHOWN:
            print(f"  … and {len(here) - SHOWN} more (--json has them all)")
    if not has_epoch and not given.ignore_times:
        print("\nThe image was built without --source-date-epoch: times differ by themselves.", file=sys.stderr)
        print("--ignore-times leaves them out.", file=sys.stderr)


def line(difference: Difference) -> str:
    """One difference, as a line that is harmless on a terminal."""
    changes = [f"{name} {_short(one)} → {_short(two)}" for name, (one, two) in difference.fields.items()]
    if list(difference.fields) == [difference.what]:
        changes = [change.removeprefix(f"{difference.what} ") for change in changes]
    told = f": {', '.join(changes)}" if changes else ""
    return f"{difference.kind:<8} {visible(difference.what)}{told}"


def _short(text: str) -> str:
    text = visible(text)
    return (text[:19] if text.startswith("sha256:") else text if len(text) <= 60 else text[:57] + "…") or "nothing"
