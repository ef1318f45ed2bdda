"""What orca pull and orca push share: how to get at a registry, and how to show what goes on."""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from orca.cli.options import Parser
from orca.errors import UsageError
from orca.events import Emit
from orca.store import files
from orca.ui import Mode, one_at_a_time, open_view


def add_options(parser: Parser) -> None:
    """--authfile, --creds, --tls-verify, --progress, --explain and -q."""
    add = parser.add_argument
    add("--authfile", metavar="FILE", help="credentials as skopeo login and docker login keep them")
    add("--creds", metavar="USER[:PASSWORD]", help="credentials for this time; without a password it is asked for")
    add("--tls-verify", metavar="BOOL", choices=["true", "false"], help="false: also http, and any certificate")
    add("--progress", default="auto", choices=["auto", "tty", "plain", "json", "quiet"], help="how progress is shown")
    add("--explain", action="store_true", help="show every tool call")
    add("-q", "--quiet", action="store_true", help="print nothing but the digest, and errors")


@contextlib.contextmanager
def shown(given: argparse.Namespace) -> Iterator[Emit]:
    """The view that the options choose, as something that takes events from any thread."""
    mode: Mode = "quiet" if given.quiet else given.progress
    with open_view(mode, explain=given.explain) as show, one_at_a_time(show) as emit:
        yield emit


def skopeo_options(given: argparse.Namespace, registries: Sequence[str], scratch: Path) -> list[str]:
    """The options as `skopeo inspect` takes them. Raises UsageError.

    Credentials go into a file in `scratch` that only we can read: a command line can be seen by everybody.
    """
    options = [f"--tls-verify={given.tls_verify}"] if given.tls_verify else []
    if given.creds:
        path = scratch / "auth.json"
        auth = {"auth": base64.b64encode(_credentials(given.creds).encode()).decode()}
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump({"auths": dict.fromkeys(registries, auth)}, file)
        return [*options, f"--authfile={path}"]
    if given.authfile:
        if not isinstance(files.read_json(Path(given.authfile)), dict):
            raise UsageError(
                f"--authfile {given.authfile} is missing or no JSON", hint="skopeo login makes such a file"
            )
        return [*options, f"--authfile={os.path.abspath(given.authfile)}"]
    return options


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
