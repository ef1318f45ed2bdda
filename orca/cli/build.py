"""orca build."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from orca.cli import secrets
from orca.cli.options import Parser, pairs
from orca.dockerfile import parser as dockerfiles
from orca.dockerfile.instructions import Dockerfile
from orca.errors import NotYet, UsageError
from orca.events import Event, Warned
from orca.executor.build import Build, Options, Result, read_small
from orca.oci import platform as platforms
from orca.oci import reference
from orca.plan.scope import PROXIES
from orca.store import files
from orca.store.store import Store
from orca.ui import Mode, one_at_a_time, open_view

EXAMPLES = """\
  orca build -t app .                          the Dockerfile of this directory
  orca build -t app -f deploy/Dockerfile .     another one
  orca build --target test --build-arg V=2 .   one stage, with a build argument
  orca build --explain .                       see and understand every tool call
  orca build -q --output oci:out:app .         the image also as an OCI layout; only its digest is printed
  id=$(orca build -q .) && orca run $id        the digest is all that goes to standard output"""


def make_parser() -> Parser:
    """The options of `orca build`."""
    parser = Parser(
        "build", "Build an image from a Dockerfile.", EXAMPLES, usage="orca build [options] CONTEXT"
    )  # fmt: skip
    add = parser.add_argument
    add("context", metavar="CONTEXT", nargs="?", help="the directory that COPY and ADD read from")
    add("-t", "--tag", action="append", default=[], metavar="NAME", help="name the image (may be given again)")
    add("-f", "--file", metavar="FILE", help="the Dockerfile (default CONTEXT/Dockerfile; - for standard input)")
    add("--target", metavar="STAGE", help="build this stage, not the last one")
    add("--build-arg", action="append", default=[], metavar="NAME[=VALUE]",
        help="set an ARG; without =VALUE, from the environment")  # fmt: skip
    add("--label", action="append", default=[], metavar="NAME=VALUE", help="add a label to the image")
    add("--platform", metavar="OS/ARCH", help="the platform to build for")
    add("--no-cache", action="store_true", help="carry out every step, even if its result is known")
    add("--pull", nargs="?", const="always", default="missing", metavar="POLICY",
        choices=["always", "missing", "newer", "never", "true", "false"],
        help="when to ask the registry for base images: always (= --pull), missing, newer, never")  # fmt: skip
    add("--network", default="default", metavar="MODE", choices=["default", "none", "host"],
        help="the network of RUN: default (its own, through slirp4netns), none, host")  # fmt: skip
    add("--secret", action="append", default=[], metavar="SPEC",
        help="a secret for RUN --mount=type=secret: id=NAME[,src=FILE|,env=VARIABLE]")  # fmt: skip
    add("--ssh", action="append", default=[], metavar="SPEC",
        help="an agent for RUN --mount=type=ssh: default, or NAME=SOCKET")  # fmt: skip
    add("--add-host", action="append", default=[], metavar="NAME:IP", help="a line for RUN's /etc/hosts")
    add("-o", "--output", action="append", default=[], metavar="SPEC", help="also write the image: oci:DIR:TAG")
    add("--iidfile", metavar="FILE", help="write the image's digest to FILE")
    add("--metadata-file", metavar="FILE", help="write digests and names to FILE, as JSON")
    add("--jobs", type=int, default=0, metavar="N", help="how many stages may run at a time")
    add("--progress", default="auto", choices=["auto", "tty", "plain", "json", "quiet"], help="how progress is shown")
    add("-q", "--quiet", action="store_true", help="print nothing but the digest, and errors")
    add("--explain", action="store_true", help="say before each step what will happen, and show every tool call")
    add("--no-color", action="store_true", help=argparse.SUPPRESS)
    return parser


def run(arguments: Sequence[str]) -> int:
    """Build; prints the manifest digest."""
    # A plain --pull takes no value: what follows it is the next argument.
    given = make_parser().parse(["--pull=always" if word == "--pull" else word for word in arguments])
    options, warnings = make_options(given, os.environ)
    digest_of_result(given, options, warnings)
    return 0


def make_options(given: argparse.Namespace, environ: Mapping[str, str]) -> tuple[Options, list[Warned]]:
    """The build that a command line asks for, and what is worth a warning. Raises UsageError, DockerfileError."""
    context, dockerfile_path = _places(given)
    text = sys.stdin.buffer.read() if dockerfile_path is None else read_small(dockerfile_path, 16 << 20)
    name = "Dockerfile" if dockerfile_path is None else _shown(dockerfile_path)
    source = dockerfiles.parse(text, name)
    build_args, unset = _build_args(given.build_arg, environ)
    options = Options(
        dockerfile=source,
        context=context,
        ignore_file=_ignore_file(context, dockerfile_path),
        tags=tuple(dict.fromkeys(str(reference.local(tag)) for tag in given.tag)),
        target=given.target,
        platform=platforms.parse(_one_platform(given.platform)) if given.platform else platforms.host(),
        build_args=build_args,
        proxies={name: environ[name] for name in sorted(PROXIES) if environ.get(name)},
        labels=pairs(given.label, "--label"),
        no_cache=given.no_cache,
        pull={"true": "always", "false": "missing"}.get(given.pull, given.pull),
        network=given.network,
        hosts=tuple(_host(word) for word in given.add_host),
        jobs=given.jobs,
        in_order=given.explain,
        secrets=secrets.secrets(given.secret, environ),
        agents=secrets.agents(given.ssh, environ),
        epoch=_epoch(environ),
    )
    return options, [*_warnings(source), *unset, *_unused_args(options)]


def _places(given: argparse.Namespace) -> tuple[Path | None, Path | None]:
    """The context's directory and the Dockerfile's path (None: standard input)."""
    if given.context is None:
        raise UsageError("which directory is the build context?", hint="orca build . uses this one")
    if given.context == "-" or "://" in given.context or given.context.startswith("git@"):
        raise NotYet(f"a build context from {given.context!r} is not supported yet", hint="give a directory")
    context = Path(given.context)
    if not context.is_dir():
        kind = "is not a directory" if context.exists() else "does not exist"
        raise UsageError(f"the build context {given.context} {kind}", hint="give the directory that COPY reads from")
    if given.file == "-":
        return context, None
    if given.file is not None:
        found = Path(given.file)
        return context, found if found.exists() or not (context / given.file).exists() else context / given.file
    for name in ("Dockerfile", "dockerfile", "Containerfile"):
        if os.path.lexists(context / name):
            return context, _inside(context, name, "; -f FILE names one that is elsewhere")
    raise UsageError(f"there is no Dockerfile in {given.context}", hint="name it with -f FILE")


def _shown(path: Path) -> str:
    return os.path.normpath(path)


def _ignore_file(context: Path | None, dockerfile: Path | None) -> Path | None:
    """`<Dockerfile>.dockerignore` beside the Dockerfile, else the context's .dockerignore."""
    if dockerfile is not None:
        beside = dockerfile.with_name(f"{dockerfile.name}.dockerignore")
        if os.path.lexists(beside):
            return _inside(beside.parent, beside.name)
    if context is not None and os.path.lexists(context / ".dockerignore"):
        return _inside(context, ".dockerignore")
    return None


def _inside(directory: Path, name: str, otherwise: str = "") -> Path:
    """A file of the context (of a Dockerfile's directory) that may be a link, but not one that leads out of it."""
    path = directory / name
    try:
        inside = path.resolve().is_relative_to(directory.resolve())
    except (OSError, RuntimeError) as error:  # links in a circle
        raise UsageError(f"{name} is a link that leads nowhere", hint=f"replace it by a file{otherwise}") from error
    if not inside:
        raise UsageError(
            f"{name} is a link that leads out of the build context", hint=f"replace it by a file{otherwise}"
        )
    return path


def _build_args(words: Sequence[str], environ: Mapping[str, str]) -> tuple[dict[str, str], list[Warned]]:
    result, unset = {}, []
    for word in words:
        name, equals, value = word.partition("=")
        if not name:
            raise UsageError(f"--build-arg {word!r} has no name", hint="write NAME=VALUE")
        if equals:
            result[name] = value
        elif name in environ:
            result[name] = environ[name]
        else:
            unset.append(Warned(f"--build-arg {name} is not in the environment, so it is not set"))
    return result, unset


def _unused_args(options: Options) -> list[Warned]:
    """Build arguments that no ARG declares: nothing will see them."""
    from orca.dockerfile.instructions import Arg

    declared = {name for found in options.dockerfile.instructions if isinstance(found, Arg) for name, _ in found.pairs}
    known = declared | PROXIES | {"SOURCE_DATE_EPOCH"}
    return [
        Warned(f"--build-arg {name} is not used", hint=f"declare it: ARG {name}")
        for name in options.build_args
        if name not in known and not name.startswith(("TARGET", "BUILD"))
    ]


def _one_platform(text: str) -> str:
    if "," in text:
        raise NotYet("several platforms at once are not supported yet", hint="build them one by one")
    return text


def _host(word: str) -> tuple[str, str]:
    import ipaddress

    name, colon, address = word.partition("=") if "=" in word else word.partition(":")
    try:
        ipaddress.ip_address(address.strip("[]"))
    except ValueError as error:
        raise UsageError(f"--add-host {word!r} is not NAME:IP") from error
    if not colon or not name or any(char.isspace() for char in name):
        raise UsageError(f"--add-host {word!r} is not NAME:IP")
    return name, address.strip("[]")


def _epoch(environ: Mapping[str, str]) -> int | None:
    text = environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 11:
        raise UsageError(f"SOURCE_DATE_EPOCH is not a number of seconds: {text[:40]!r}")
    return int(text)


def _warnings(source: Dockerfile) -> list[Warned]:
    return [
        Warned(f"{found.rule}: {found.message}", location=dockerfiles.location(source, found.span))
        for found in source.warnings
    ]


def digest_of_result(given: argparse.Namespace, options: Options, warnings: list[Warned]) -> str:
    """Build and deliver; returns the manifest digest, after printing it.

    What the cache has entirely is delivered at once; anything else is done in the sandbox, into
    which this process moves.
    """
    if given.output:
        from orca.executor import outputs

        targets = [outputs.parse(word) for word in given.output]
    else:
        targets = []
    mode: Mode = "quiet" if given.quiet else given.progress
    store = Store.open()
    with store.in_use():
        build = Build(options, store)
        result = _from_cache(build, mode, given.explain, warnings)
        if result is None or targets:
            import sh  # noqa: F401  # loaded here once, not again on each side of the fork

            from orca.executor import outputs, sandbox
            from orca.executor.records import Recorder
            from orca.tools.command import Runner

            runner = Runner()
            sandbox.enter(runner)
            with (
                open_view(mode, explain=given.explain) as show,
                one_at_a_time(Recorder(store, build.id, show).emit) as emit,
            ):
                build.emit = runner.emit = emit
                if result is None:
                    for warning in warnings:
                        emit(warning)
                    result = build.run(runner)
                for target in targets:
                    outputs.write(target, result.image, store, runner)
        return deliver(given, options, result)


def _from_cache(build: Build, mode: Mode, explain: bool, warnings: list[Warned]) -> Result | None:
    events: list[Event] = []
    build.emit = events.append
    result = build.from_cache()
    if result is not None:
        with open_view(mode, explain=explain) as show:
            for event in [events[0], *warnings, *events[1:]]:
                show(event)
    return result


def deliver(given: argparse.Namespace, options: Options, result: Result) -> str:
    """Print the digest; write --iidfile and --metadata-file."""
    digest = result.image.descriptor.digest
    writers: list[tuple[str | None, Callable[[], bytes]]] = [
        (given.iidfile, lambda: digest.encode()),
        (given.metadata_file, lambda: json.dumps(metadata(options, result), indent=2).encode()),
    ]
    for path, content in writers:
        if path is not None:
            try:
                Path(path).write_bytes(content())
            except OSError as error:
                raise files.explain(error, f"writing {path}") from error
    print(digest, flush=True)
    return digest


def metadata(options: Options, result: Result) -> dict[str, object]:
    """What --metadata-file holds, in buildx's words."""
    image = result.image
    value: dict[str, object] = {
        "containerimage.digest": image.descriptor.digest,
        "containerimage.config.digest": image.manifest.config.digest,
        "containerimage.descriptor": image.descriptor.to_json(),
    }
    return {**value, "image.name": ",".join(options.tags)} if options.tags else value
