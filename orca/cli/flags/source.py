"""Options: what is built: the context, the Dockerfile, its arguments."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca.dockerfile import parser as dockerfiles
from orca.dockerfile.instructions import Dockerfile
from orca.errors import NotYet, UsageError
from orca.events import Warned
from orca.executor.inputs import read_small
from orca.oci import platform as platforms
from orca.oci.platform import Platform
from orca.plan import builtin
from orca.plan.scope import PROXIES

TITLE = "what is built"


@dataclass(frozen=True)
class Source:
    """What a build begins with. `warnings` are worth telling before it begins."""

    dockerfile: Dockerfile
    context: Path | None
    ignore_file: Path | None
    target: str | None
    platforms: tuple[Platform, ...]
    build_args: Mapping[str, str]
    proxies: Mapping[str, str]
    warnings: tuple[Warned, ...]


def declare(add: Callable[..., Any]) -> None:
    """Add the options to a parser's group."""
    add("context", metavar="CONTEXT", nargs="?", help="the directory that COPY and ADD read from")
    add("-f", "--file", metavar="FILE", help="the Dockerfile (default CONTEXT/Dockerfile; - for standard input)")
    add("--target", metavar="STAGE", help="build this stage, not the last one")
    add("--build-arg", action="append", default=[], metavar="NAME[=VALUE]",
        help="set an ARG; without =VALUE, from the environment")  # fmt: skip
    add("--build-arg-file", action="append", default=[], metavar="FILE",
        help="NAME=VALUE lines, as --build-arg has them, which goes before")  # fmt: skip
    add("--platform", action="append", default=[], metavar="OS/ARCH[,OS/ARCH ...]",
        help="the platform to build for; several make an image index")  # fmt: skip


def read(given: argparse.Namespace, environ: Mapping[str, str]) -> Source:
    """The options as a value; the Dockerfile is read and parsed. Raises UsageError, DockerfileError."""
    context, dockerfile_path = _places(given)
    text = sys.stdin.buffer.read() if dockerfile_path is None else read_small(dockerfile_path, 16 << 20)
    name = "Dockerfile" if dockerfile_path is None else os.path.normpath(dockerfile_path)
    dockerfile = dockerfiles.parse(text, name)
    build_args, unset = _build_args([*_lines(given.build_arg_file), *given.build_arg], environ)
    return Source(
        dockerfile,
        context,
        _ignore_file(context, dockerfile_path),
        given.target,
        platforms.parse_list(given.platform),
        build_args,
        {name: environ[name] for name in sorted(PROXIES) if environ.get(name)},
        (*unset, *_frontend(dockerfile, build_args), *_unused_args(dockerfile, build_args)),
    )


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


def _lines(paths: Sequence[str]) -> Iterator[str]:
    """The words of --build-arg-file: a line each; empty ones and comments are none. Raises UsageError, OrcaError."""
    for path in paths:
        text = read_small(Path(path)).decode("utf-8", "surrogateescape")
        for number, line in enumerate(text.splitlines(), 1):
            name, equals, value = line.partition("=")
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            if not name.strip():
                raise UsageError(f"--build-arg-file {path}:{number} has no name", hint="write NAME=VALUE")
            yield f"{name.strip()}{equals}{value.strip()}"


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


def _frontend(source: Dockerfile, build_args: Mapping[str, str]) -> list[Warned]:
    """`# syntax=` (or BUILDKIT_SYNTAX) names a program that would read the Dockerfile. It is never fetched."""
    named = next((found for found in source.directives if found.name == "syntax"), None)
    if value := build_args.get(builtin.SYNTAX):
        return [Warned(f"{builtin.SYNTAX}={value} is not fetched: orca reads the Dockerfile itself")]
    if named is None:
        return []
    where = dockerfiles.location(source, named.span)
    return [Warned(f"syntax={named.value} is not fetched: orca reads the Dockerfile itself", location=where)]


def _unused_args(source: Dockerfile, build_args: Mapping[str, str]) -> list[Warned]:
    """Build arguments that no ARG declares: nothing will see them."""
    from orca.dockerfile.instructions import Arg

    if wrong := builtin.bad_value(build_args):
        raise UsageError(wrong, hint="letters, digits, dots and dashes, at most 64")
    declared = {name for found in source.instructions if isinstance(found, Arg) for name, _ in found.pairs}
    known = declared | PROXIES | builtin.NAMES | builtin.PLATFORM
    return [
        Warned(f"--build-arg {name} is not used", hint=f"declare it: ARG {name}")
        for name in build_args
        if name not in known
    ]
