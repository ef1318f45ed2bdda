"""What orca build, pull and push share: how to get at a registry, and how to show what goes on."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from orca.cli.options import Parser
from orca.dockerfile import durations
from orca.errors import UsageError
from orca.events import Emit
from orca.oci import reference
from orca.sources import registries
from orca.sources.access import DELAY, RETRIES, Access
from orca.store import files
from orca.ui import Mode, one_at_a_time, open_view


def add_options(parser: Parser) -> None:
    """What `add_registry_options` adds, and --progress, --explain and -q."""
    add = parser.add_argument
    add_registry_options(add)
    add("--progress", default="auto", choices=["auto", "tty", "plain", "json", "quiet"], help="how progress is shown")
    add("--explain", action="store_true", help="show every tool call")
    add("-q", "--quiet", action="store_true", help="print nothing but the digest, and errors")


def add_registry_options(add: Callable[..., Any]) -> None:
    """--authfile, --creds, --tls-verify, --cert-dir, --retry and --retry-delay, as buildah spells them; --creds-for."""
    add("--authfile", metavar="FILE", help="credentials as orca login, skopeo login and docker login keep them")
    add("--creds", metavar="USER[:PASSWORD]", help="credentials for this time; without a password it is asked for")
    add("--creds-for", action="append", default=[], metavar="REGISTRY",
        help="which registry --creds are for (default: the one that the command line names)")  # fmt: skip
    add("--tls-verify", metavar="BOOL", choices=["true", "false"], help="false: also http, and any certificate")
    add("--cert-dir", metavar="DIR", help="certificates and keys for registries: *.crt, *.cert, *.key")
    add("--signature-policy", metavar="FILE", help="which images to trust, in place of policy.json")
    add(
        "--retry", type=int, default=RETRIES, metavar="N", help=f"try again after a passing failure (default {RETRIES})"
    )
    add("--retry-delay", metavar="TIME", help=f"how long to wait before that: 10s, 1m (default {DELAY:g}s)")


@contextlib.contextmanager
def shown(given: argparse.Namespace) -> Iterator[Emit]:
    """The view that the options choose, as something that takes events from any thread."""
    mode: Mode = "quiet" if given.quiet else given.progress
    with open_view(mode, explain=given.explain) as show, one_at_a_time(show) as emit:
        yield emit


def read(given: argparse.Namespace, names: Iterable[str] = ()) -> Access:
    """The options as a value. `names` are the image names of the command line, for whose registry --creds are.

    Raises UsageError.
    """
    if given.retry < 0:
        raise UsageError(f"--retry {given.retry} is negative")
    if given.authfile and not isinstance(files.read_json(Path(given.authfile)), dict):
        raise UsageError(f"--authfile {given.authfile} is missing or no JSON", hint="orca login makes such a file")
    if given.cert_dir and not os.path.isdir(given.cert_dir):
        raise UsageError(f"--cert-dir {given.cert_dir} is not a directory")
    return Access(
        authfile=os.path.abspath(given.authfile) if given.authfile else None,
        creds_for=_creds_for(given, names),
        creds=_credentials(given.creds) if given.creds else None,
        tls_verify={"true": True, "false": False, None: None}[given.tls_verify],
        policy=_policy(given.signature_policy),
        cert_dir=os.path.abspath(given.cert_dir) if given.cert_dir else None,
        retries=given.retry,
        delay=_delay(given.retry_delay),
    )


def _policy(text: str | None) -> str | None:
    if text is not None and not isinstance(files.read_json(Path(text)), dict):
        raise UsageError(f"--signature-policy {text} is missing or no JSON", hint="see containers-policy.json(5)")
    return os.path.abspath(text) if text is not None else None


def _delay(text: str | None) -> float:
    """Seconds of a time as Go writes it (`1m30s`), or of a bare number."""
    if text is None:
        return DELAY
    if text.isascii() and text.isdigit() and len(text) < 4:
        return float(text)
    try:
        found = durations.parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--retry-delay {text!r} is not a time", hint="write 10s or 1m") from error
    if not 0 <= found <= 3600 * 10**9:
        raise UsageError(f"--retry-delay {text!r} is not between nothing and an hour")
    return found / 1e9


def _creds_for(given: argparse.Namespace, names: Iterable[str]) -> frozenset[str]:
    """The registries that may have --creds. Raises UsageError where nobody has said which one."""
    if not given.creds:
        if given.creds_for:
            raise UsageError("--creds-for without --creds", hint="--creds USER:PASSWORD are the credentials")
        return frozenset()
    if given.creds_for:
        return frozenset(_registry(text) for text in given.creds_for)
    found = sorted(registries_of(names))
    hint = "--creds-for REGISTRY says it; orca login keeps credentials for each"
    if len(found) > 1:
        raise UsageError(f"--creds: for which of the registries {', '.join(found)}?", hint=hint)
    if not found:
        raise UsageError("--creds: for which registry? The command line names none", hint=hint)
    return frozenset(found)


def _registry(text: str) -> str:
    """The name of a registry as references have it. Raises UsageError."""
    found = None
    with contextlib.suppress(UsageError):
        found = reference.parse(f"{text}/x")
    if found is None or found.registry is None or found.path != "x":
        raise UsageError(f"--creds-for {text[:120]!r} is no registry", hint="write HOST[:PORT]")
    return registries.normal(found).registry or ""


def registries_of(names: Iterable[str]) -> frozenset[str]:
    """The registries that are named outright; where none is, those that registries.conf makes of short names."""
    texts = [text.removeprefix("docker://") for text in names]
    parsed = [reference.parse(text) for text in texts]
    full = {registries.normal(found).registry for found in parsed if found.registry not in (None, reference.LOCAL)}
    if not full:
        short = [text for text, found in zip(texts, parsed, strict=True) if found.registry is None]
        full = {found.registry for text in short for found in registries.candidates(text)}
    return frozenset(filter(None, full))


def _credentials(text: str) -> str:
    user, colon, password = text.partition(":")
    if not user:
        raise UsageError("--creds has no user name", hint="write USER or USER:PASSWORD")
    if colon:
        return f"{user}:{password}"
    if not sys.stdin.isatty():
        raise UsageError("--creds has no password, and nobody can be asked", hint="write USER:PASSWORD")
    import getpass

    return f"{user}:{getpass.getpass(f'password of {user}: ')}"
