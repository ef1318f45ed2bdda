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
from orca.dockerfile import remotes
from orca.dockerfile.instructions import Dockerfile
from orca.errors import UsageError
from orca.events import Warned
from orca.executor.contexts import DOCKERFILE_LIMIT, STDIN, Place
from orca.executor.inputs import read_small
from orca.executor.options import Contexts
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
    contexts: Contexts


def declare(add: Callable[..., Any]) -> None:
    """Add the options to a parser's group."""
    add("context", metavar="CONTEXT", nargs="?",
        help="what COPY and ADD read from: a directory, - (a tar or a Dockerfile on standard input), a git "
        "repository with #ref:subdirectory, the URL of a tar or a Dockerfile")  # fmt: skip
    add("-f", "--file", metavar="FILE", help="the Dockerfile (default CONTEXT/Dockerfile; - for standard input)")
    add("--ignorefile", metavar="FILE", help="the ignore file (default FILE.dockerignore, CONTEXT/.dockerignore)")
    add("--build-context", action="append", default=[], metavar="NAME=SOURCE",
        help="another context for FROM and --from: a directory, docker-image://IMAGE, oci-layout://DIRECTORY[:TAG], "
        "a git repository, the URL of a tar")  # fmt: skip
    add("--target", metavar="STAGE", help="build this stage, not the last one")
    add("--build-arg", action="append", default=[], metavar="NAME[=VALUE]",
        help="set an ARG; without =VALUE, from the environment")  # fmt: skip
    add("--build-arg-file", action="append", default=[], metavar="FILE",
        help="NAME=VALUE lines, as --build-arg has them, which goes before")  # fmt: skip
    add("--platform", action="append", default=[], metavar="OS/ARCH[,OS/ARCH ...]",
        help="the platform to build for; several make an image index")  # fmt: skip


def read(given: argparse.Namespace, environ: Mapping[str, str], place: Place) -> Source:
    """The options as a value; the Dockerfile is read and parsed. Raises UsageError, DockerfileError."""
    found = find_dockerfile(given, place)
    dockerfile = dockerfiles.parse(found.text, found.name)
    build_args, unset = given_args([*_lines(given.build_arg_file), *given.build_arg], environ)
    return Source(
        dockerfile,
        place.directory,
        find_ignore_file(given.ignorefile, place, found.path),
        given.target,
        platforms.parse_list(given.platform),
        build_args,
        {name: environ[name] for name in sorted(PROXIES) if environ.get(name)},
        (*unset, *_frontend(dockerfile, build_args), *_unused_args(dockerfile, build_args)),
        Contexts(place.temporary, named(given.build_context)),
    )


@dataclass(frozen=True)
class Found:
    """The Dockerfile: its text, what it is called, where it is (None: in no file)."""

    text: bytes
    name: str
    path: Path | None


def find_dockerfile(given: argparse.Namespace, place: Place) -> Found:
    """The Dockerfile of a context, or what -f names. Raises UsageError."""
    if place.dockerfile is not None:
        if given.file is not None:
            raise UsageError("the context is a Dockerfile itself, and -f names another", hint="leave one of them out")
        return Found(place.dockerfile, "Dockerfile", None)
    if given.file == STDIN:
        if given.context == STDIN:
            raise UsageError("the context and the Dockerfile cannot both come from standard input")
        return Found(sys.stdin.buffer.read(DOCKERFILE_LIMIT + 1), "Dockerfile", None)
    assert place.directory is not None
    path = _dockerfile_path(given, place.directory, place.temporary)
    name = os.path.relpath(path, place.directory) if place.temporary else os.path.normpath(path)
    return Found(read_small(path, DOCKERFILE_LIMIT), name, path)


def _dockerfile_path(given: argparse.Namespace, context: Path, temporary: bool) -> Path:
    if given.file is not None and temporary:
        # A context that somebody sends means its own files, never those of this machine.
        if not os.path.lexists(context / given.file.lstrip("/")):
            raise UsageError(f"there is no {given.file} in {remotes.hide(given.context)}")
        return _inside(context, given.file.lstrip("/"))
    if given.file is not None:
        found = Path(given.file)
        return found if found.exists() or not (context / given.file).exists() else context / given.file
    for name in ("Dockerfile", "dockerfile", "Containerfile"):
        if os.path.lexists(context / name):
            return _inside(context, name, "; -f FILE names one that is elsewhere")
    raise UsageError(f"there is no Dockerfile in {remotes.hide(given.context)}", hint="name it with -f FILE")


def find_ignore_file(given: str | None, place: Place, dockerfile: Path | None) -> Path | None:
    """--ignorefile, else `<Dockerfile>.dockerignore` beside the Dockerfile, else the context's .dockerignore."""
    if given is not None:
        if not os.path.exists(given):
            raise UsageError(f"--ignorefile {given} does not exist")
        return Path(given)
    if dockerfile is not None:
        beside = dockerfile.with_name(f"{dockerfile.name}.dockerignore")
        if os.path.lexists(beside):
            inside = place.directory if place.temporary and place.directory else beside.parent
            return _inside(inside, os.path.relpath(beside, inside))
    if place.directory is not None and os.path.lexists(place.directory / ".dockerignore"):
        return _inside(place.directory, ".dockerignore")
    return None


def named(words: Sequence[str]) -> dict[str, str]:
    """--build-context NAME=SOURCE; names in lower case, a later one wins."""
    result = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals or not value:
            raise UsageError(
                f"--build-context {remotes.hide(word)!r} is not NAME=SOURCE", hint="NAME=DIRECTORY, for example"
            )
        result[name.lower()] = value
    return result


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


def given_args(words: Sequence[str], environ: Mapping[str, str]) -> tuple[dict[str, str], list[Warned]]:
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
