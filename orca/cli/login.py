"""orca login and orca logout: credentials where skopeo, podman and buildah look for them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from orca.cli.options import Parser
from orca.errors import OrcaError, ToolError, UsageError
from orca.executor import sandbox
from orca.oci import reference
from orca.sources.images import explain
from orca.store import files
from orca.tools import skopeo
from orca.tools.command import Command, Finished, Runner, pipe
from orca.ui import Terminal
from orca.ui.escape import visible

EXAMPLES = """\
  orca login registry.example                              asks for name and password
  orca login -u me --password-stdin registry.example < file
  orca login --get-login registry.example                  who is logged in there

skopeo tries the credentials and keeps them, for orca, skopeo, podman and buildah alike, in
$REGISTRY_AUTH_FILE, $XDG_RUNTIME_DIR/containers/auth.json or (root) /run/containers/0/auth.json."""

LOGOUT_EXAMPLES = """\
  orca logout registry.example
  orca logout --all              forget the credentials of all registries"""

_LONGEST = 32 << 10


def make_parser() -> Parser:
    """The options of `orca login`."""
    parser = Parser("login", "Keep credentials for a registry.", EXAMPLES, usage="orca login [options] REGISTRY")
    add = parser.add_argument
    add("registry", metavar="REGISTRY", help="HOST[:PORT], or a repository in it")
    add("-u", "--username", metavar="USER", help="the name; else it is asked for")
    add("-p", "--password", metavar="PASSWORD", help="the password; others can see it: rather use --password-stdin")
    add("--password-stdin", action="store_true", help="read the password from standard input")
    add("--get-login", action="store_true", help="print who is logged in, and try nothing")
    _add_common(add)
    add("--tls-verify", metavar="BOOL", choices=["true", "false"], help="false: also http, and any certificate")
    add("--cert-dir", metavar="DIR", help="certificates and keys for registries: *.crt, *.cert, *.key")
    return parser


def make_logout_parser() -> Parser:
    """The options of `orca logout`."""
    parser = Parser("logout", "Forget the credentials for a registry.", LOGOUT_EXAMPLES,
                    usage="orca logout [options] REGISTRY | --all")  # fmt: skip
    parser.add_argument("registry", metavar="REGISTRY", nargs="?", help="HOST[:PORT], or a repository in it")
    parser.add_argument("-a", "--all", action="store_true", help="those for all registries")
    _add_common(parser.add_argument)
    return parser


def _add_common(add: Callable[..., Any]) -> None:
    add("--authfile", metavar="FILE", help="keep them in FILE")


def run(arguments: Sequence[str]) -> int:
    """Log in, or say who is."""
    given = make_parser().parse(arguments)
    registry, options = _registry(given.registry), _options(given)
    sandbox.catch_signals()
    if given.get_login:
        sys.stdout.write(visible(_carry_out(skopeo.get_login(registry, *options), registry).stdout.decode().strip()))
        sys.stdout.write("\n")
        return 0
    user, password = _credentials(given)
    _carry_out(skopeo.login(registry, user, *options), registry, password)
    Terminal(sys.stderr).line(f"logged in to {visible(registry)} as {visible(user)}")
    return 0


def _registry(text: str) -> str:
    """The registry, or repository, as skopeo takes it. Raises UsageError."""
    name = text.removeprefix("https://").removeprefix("http://").removesuffix("/")
    found = reference.parse(f"{name}/x")
    if found.registry is None:
        raise UsageError(f"{text[:120]!r} is no registry", hint="write HOST[:PORT]")
    return name


def _options(given: argparse.Namespace) -> list[str]:
    words = [("authfile", os.path.abspath(given.authfile) if given.authfile else None)]
    words += [(name, getattr(given, name.replace("-", "_"), None)) for name in ("tls-verify", "cert-dir")]
    return [f"--{name}={value}" for name, value in words if value is not None]


def _credentials(given: argparse.Namespace) -> tuple[str, str]:
    """User and password. Raises UsageError where nobody can be asked."""
    if given.password is not None and given.password_stdin:
        raise UsageError("--password and --password-stdin exclude each other", hint="give one of them")
    user = given.username
    if not user:
        if given.password_stdin or not sys.stdin.isatty():
            raise UsageError("who logs in?", hint="--username USER says it")
        sys.stderr.write("Username: ")
        sys.stderr.flush()
        user = sys.stdin.readline().strip()
    if not user or ":" in user or not user.isprintable():
        raise UsageError("that is no user name", hint="it has no colon and no control characters")
    return user, _password(given, user)


def _password(given: argparse.Namespace, user: str) -> str:
    if given.password is not None:
        return str(given.password)
    if given.password_stdin:
        password = sys.stdin.read(_LONGEST + 1).rstrip("\r\n")
    elif not sys.stdin.isatty():
        raise UsageError("there is no password, and nobody can be asked", hint="--password-stdin reads one")
    else:
        import getpass

        password = getpass.getpass(f"password of {user}: ")
    if not password or len(password) > _LONGEST:
        raise UsageError("there is no password" if not password else "that is no password")
    return password


def _carry_out(command: Command, registry: str, password: str | None = None) -> Finished:
    """Run it, with the password on its standard input. Raises OrcaError with what it said."""
    runner = Runner()
    try:
        if password is None:
            return runner.run(command)
        with pipe() as (read, write):
            write.write(password.encode("utf-8", "surrogateescape"))
            write.close()
            return runner.run(command, stdin=read)
    except ToolError as error:
        if "not logged into" in error.stderr.lower() or "not logged in" in error.stderr.lower():
            raise OrcaError(f"nobody is logged in to {registry}", hint=f"orca login {registry}") from error
        told = explain(error, registry)
        if password is not None and "refuses access" in told.message:
            told.hint = "check the name and the password"
        raise told from error


def logout(arguments: Sequence[str]) -> int:
    """Forget credentials."""
    given = make_logout_parser().parse(arguments)
    if given.all == (given.registry is not None):
        raise UsageError("which registry?" if not given.all else "--all, or one registry?", hint="orca logout --help")
    if given.authfile and not isinstance(files.read_json(Path(given.authfile)), dict):
        raise UsageError(f"--authfile {given.authfile} is missing or no JSON")
    registry = None if given.all else _registry(given.registry)
    sandbox.catch_signals()
    _carry_out(skopeo.logout(registry, *_options(given)), registry or "the registries")
    Terminal(sys.stderr).line(f"logged out of {visible(registry) if registry else 'all registries'}")
    return 0
