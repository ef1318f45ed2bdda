"""What the verbs of scripted builds share: orca from, step, commit."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from orca.cli import access
from orca.cli.flags import limits, naming, registry, running, showing, source
from orca.cli.flow import carried_out, view_of
from orca.dockerfile import commandline
from orca.errors import UsageError
from orca.events import Warned
from orca.executor import contexts, scripted
from orca.executor.contexts import DOCKERFILE_LIMIT, STDIN
from orca.executor.options import Caching, Contexts, Naming, Options
from orca.oci import platform as platforms
from orca.plan.scope import PROXIES
from orca.store import sessions
from orca.store.sessions import Session
from orca.store.store import Store
from orca.ui import open_view


def declare_epoch(add: Callable[..., Any]) -> None:
    """The options that a Dockerfile's build has among those of its image."""
    add("--source-date-epoch", metavar="SECONDS",
        help="no time in the layers is later (default $SOURCE_DATE_EPOCH)")  # fmt: skip
    add("--timestamp", metavar="SECONDS", help="every time that the step writes is this one")


def naming_of(given: argparse.Namespace, environ: Mapping[str, str]) -> Naming:
    """What a step's key has of the times in an image. Raises UsageError."""
    return Naming(epoch=naming.epoch_of(given, environ), exact_times=given.timestamp is not None)


def declare_step(group: Callable[[str], Any]) -> None:
    """The options of `orca step`, which `orca shell` has too; `group` makes a group of a title."""
    add = group("what it reads").add_argument
    add("--context", metavar="CONTEXT", default=".",
        help="what COPY and ADD read: a directory (default: this one), a git repository, the URL of a tar")  # fmt: skip
    add("--ignorefile", metavar="FILE", help="the ignore file (default CONTEXT/.dockerignore)")
    add("--build-context", action="append", default=[], metavar="NAME=SOURCE", help="another context for --from")
    add("--build-arg", action="append", default=[], metavar="NAME[=VALUE]", help="set what ARG declares")
    add("--no-cache", action="store_true", help="carry the step out, even if its result is known")
    declare_epoch(add)
    for each in (running, limits, registry, showing):
        each.declare(group(each.TITLE).add_argument)


def read_stdin(what: str) -> str:
    """Standard input, which holds `what`. Raises UsageError."""
    if sys.stdin.isatty():
        raise UsageError(f"{what} is to come from standard input, which is the terminal",
                         hint="orca step ID RUN COMMAND, or orca step ID RUN <<EOF in a script")  # fmt: skip
    data = sys.stdin.buffer.read(DOCKERFILE_LIMIT + 1)
    if len(data) > DOCKERFILE_LIMIT:
        raise UsageError(f"{what} is larger than {DOCKERFILE_LIMIT} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{what} is not UTF-8") from error


def text_of(words: Sequence[str]) -> str:
    """The instruction that a command line means, with what comes from standard input. Raises UsageError."""
    if list(words) == [STDIN]:
        return read_stdin("the instruction").rstrip("\n")
    if commandline.wants_body(words):
        return commandline.instruction_text(words, read_stdin("the script of RUN"))
    return commandline.instruction_text(words)


@contextlib.contextmanager
def store_in_use() -> Iterator[Store]:
    """The store, with collectors kept away."""
    store = Store.open()
    with store.in_use():
        yield store


def place_of(given: argparse.Namespace) -> contextlib.AbstractContextManager[contexts.Place]:
    """What COPY and ADD read."""
    return contexts.opened(given.context, lambda: open_view(view_of(given), explain=given.explain))


def begin(given: argparse.Namespace, name: str, store: Store, place: contexts.Place) -> Session:
    """`orca from`: carry out the FROM; the session is kept under its name. Hold its lock.

    `place` is what the triggers of the base copy from.
    """
    other = sessions.find(store, given.base.lower())
    if other is not None and given.platform:
        raise UsageError(f"{given.base} is a scripted build, which has its platform: {other.platform}")
    asked = f"--platform={given.platform} " if given.platform else ""
    text = f"FROM {asked}{given.base}"
    reads = {given.base: other} if other is not None else {}
    dockerfile = scripted.first(text, [each.name for each in reads.values()])
    wanted = platforms.parse(other.platform if other else given.platform) if other or given.platform else None
    options = Options(
        dockerfile, place.directory, source.find_ignore_file(given.ignorefile, place, None),
        platform=wanted or platforms.host(), naming=naming_of(given, os.environ),
        caching=Caching(pull=given.pull), in_order=given.explain,
        access=access.read(given, [given.base] if given.creds else ()),
        platforms=(wanted,) if wanted else (),
    )  # fmt: skip
    build = scripted.Scripted(options, store, None, reads)
    carried_out(build, given, [], of_file=False)
    session = scripted.begun(build, name, text, reads)
    sessions.put(store, session)
    return session


def step(given: argparse.Namespace, name: str, text: str) -> None:
    """`orca step`: carry out one instruction; the session goes on from there. Where it fails nothing is changed."""
    with (
        place_of(given) as place,
        store_in_use() as store,
        sessions.locked(store, name),
    ):
        session = sessions.get(store, name)
        instruction = scripted.following(text, ()).instructions[-1]
        reads = scripted.sources_of(store, instruction, session)
        options, warnings = _options(given, os.environ, place, session, scripted.following(text, list(reads)))
        build = scripted.Scripted(options, store, session, reads)
        carried_out(build, given, warnings, of_file=False)
        sessions.put(store, scripted.after(session, build, text, reads))


def _options(
    given: argparse.Namespace, environ: Mapping[str, str], place: contexts.Place, session: Session, dockerfile: Any
) -> tuple[Options, list[Warned]]:
    args, warnings = source.given_args(given.build_arg, environ)
    named = Contexts(place.temporary, source.named(given.build_context))
    platform = platforms.parse(session.platform)
    proxies = {name: environ[name] for name in sorted(PROXIES) if environ.get(name)}
    options = Options(
        dockerfile,
        place.directory,
        source.find_ignore_file(given.ignorefile, place, None),
        platform=platform,
        build_args=args,
        proxies=proxies if given.http_proxy == "true" else {},
        in_order=given.explain,
        naming=naming_of(given, environ),
        running=running.read(given, environ),
        caching=Caching(no_cache=given.no_cache),
        access=registry.read(given, Naming(), (), Caching(), named),
        contexts=named,
    )
    return options, warnings


def new_name(store: Store, base: str) -> str:
    """A name that nobody has, after the base image's."""
    last = base.rpartition("/")[2].partition("@")[0].partition(":")[0].lower()
    kept = "".join(char for char in last if char.isascii() and (char.isalnum() or char in "_.-")).lstrip(
        "0123456789_.-"
    )
    while True:
        name = f"{kept[:40] or 'image'}-{os.urandom(4).hex()}"
        if sessions.find(store, name) is None:
            return name


def check_name(name: str) -> str:
    """The name that --name gives. Raises UsageError."""
    if not sessions.is_name(name):
        raise UsageError(
            f"bad name {name[:80]!r}", hint="a small letter, then small letters, digits, - _ . (not over 63)"
        )
    return name


def check_base(base: str) -> str:
    """What FROM is to name. Raises UsageError."""
    if not base or base.startswith("-") or any(char.isspace() or not char.isprintable() for char in base):
        raise UsageError(f"bad image {base[:80]!r}", hint="orca from IMAGE, orca from scratch, orca from SESSION")
    return base


def tell(message: str) -> None:
    """A line for people."""
    from orca.ui import Terminal
    from orca.ui.escape import visible

    Terminal(sys.stderr).line(visible(message))
