"""git's command lines, for repositories that nobody trusts.

No file but the repository's own configures git, no hook and no filter is run, and only network protocols are spoken,
also by submodules and behind redirects. Credentials of a URL are in the environment, not in the arguments.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from orca.tools.command import Command

PROTOCOLS = "https:http:ssh:git"

_SETTINGS = (
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.autocrlf", "false"),
    ("core.untrackedCache", "false"),
    ("credential.helper", ""),
    ("advice.detachedHead", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("init.defaultBranch", "main"),
    ("safe.directory", "*"),
    ("submodule.recurse", "false"),
)


@dataclass(frozen=True)
class Origin:
    """Where a repository is: the URL without credentials, and how git learns of those."""

    url: str
    environment: tuple[tuple[str, str], ...]


def origin(url: str) -> Origin:
    """`url` for git's arguments, with all of git's settings in the environment."""
    plain, settings = _plain(url), list(_SETTINGS)
    if plain != url:
        settings.append((f"url.{url}.insteadOf", plain))
    env = [("GIT_CONFIG_COUNT", str(len(settings)))]
    for number, (key, value) in enumerate(settings):
        env += [(f"GIT_CONFIG_KEY_{number}", key), (f"GIT_CONFIG_VALUE_{number}", value)]
    env += [
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", os.devnull),
        ("GIT_ATTR_NOSYSTEM", "1"),
        ("GIT_ALLOW_PROTOCOL", PROTOCOLS),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_ASKPASS", "true"),
        ("GIT_LFS_SKIP_SMUDGE", "1"),
        ("GIT_SSH_COMMAND", _ssh()),
    ]
    return Origin(plain, tuple(env))


def _plain(url: str) -> str:
    """An http(s) URL without its user and password."""
    if not url.lower().startswith(("http://", "https://")):
        return url
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _ssh() -> str:
    """ssh that asks nobody. In the sandbox an ordinary user is root: ssh has to be told whose files to read."""
    home = Path(os.environ.get("HOME") or os.path.expanduser("~")) / ".ssh"
    words = ["ssh", "-oBatchMode=yes", f"-oUserKnownHostsFile={home / 'known_hosts'}"]
    words += [
        f"-oIdentityFile={home / name}"
        for name in ("id_ed25519", "id_ecdsa", "id_rsa")
        if os.access(home / name, os.R_OK)
    ]
    return shlex.join(words)


def _git(origin: Origin, why: str, *words: str, tree: Path | None = None) -> Command:
    where = ("-C", str(tree)) if tree else ()
    return Command(("git", *where, *words), why, origin.environment)


def ls_remote(origin: Origin, *patterns: str) -> Command:
    """The repository's refs that end like one of `patterns`."""
    return _git(origin, "ask which commit is meant", "ls-remote", "-q", "--", origin.url, *patterns)


def init(origin: Origin, tree: Path) -> Command:
    """An empty repository without hooks."""
    return _git(origin, "make an empty repository", "init", "-q", "--template=", "--", str(tree))


def add_origin(origin: Origin, tree: Path) -> Command:
    """Name the repository: relative URLs of submodules begin there."""
    return _git(origin, "name where it comes from", "remote", "add", "origin", origin.url, tree=tree)


def fetch(origin: Origin, tree: Path, *refs: str, shallow: bool) -> Command:
    """Get `refs` (names, commits, or refspecs)."""
    depth = ("--depth=1",) if shallow else ()
    words = ("fetch", "-q", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", *depth, "origin", *refs)
    return _git(origin, "get the commit" if shallow else "get the repository", *words, tree=tree)


def resolve(origin: Origin, tree: Path, name: str) -> Command:
    """Print the commit that `name` is."""
    words = ("rev-parse", "-q", "--verify", "--end-of-options", f"{name}^{{commit}}")
    return _git(origin, "see that the commit is there", *words, tree=tree)


def commit_time(origin: Origin, tree: Path, commit: str) -> Command:
    """Print when the commit was made, in seconds since 1970."""
    return _git(origin, "see when it was made", "log", "-1", "--format=%ct", commit, "--", tree=tree)


def checkout(origin: Origin, tree: Path, commit: str) -> Command:
    """Write the commit's files into the tree."""
    return _git(origin, "write its files", "checkout", "-q", "--detach", commit, "--", tree=tree)


def submodules(origin: Origin, tree: Path, *, shallow: bool) -> Command:
    """Get the repositories inside the repository, and theirs."""
    depth = ("--depth=1",) if shallow else ()
    words = ("submodule", "--quiet", "update", "--init", "--recursive", *depth)
    return _git(origin, "get its submodules", *words, tree=tree)
