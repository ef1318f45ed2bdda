"""Sources and contexts that are elsewhere: what a word like `https://…` or `git@…` means. Pure.

`ADD` takes them, and so do the build context and --build-context. See docs/dockerfile.md, "Remote sources".
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field

UNNAMED = "__unnamed__"
"""BuildKit's name for a file whose URL has none."""

# Every build loads this and few have anything remote: `re` compiles these, and urllib is imported, when first needed.
_SCHEME = r"(?i:(https?|git|ssh)://)"
_SCP = r"(?P<user>[A-Za-z0-9_][\w.-]*)@(?P<host>[A-Za-z0-9][\w.-]*):(?P<path>(?!//)[^\s].*)"
_HOST = r"[A-Za-z0-9_][\w.-]*|\[[0-9A-Fa-f:.]+\]"
_USER = r"[A-Za-z0-9_][\w.-]*"
_COMMIT = r"[0-9a-f]{40}|[0-9a-f]{64}"
_COMMIT_PREFIX = r"[0-9a-f]{7,64}"
_BAD_IN_REF = r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[-/.]|[/.]$|\.lock$"
_SHA256 = r"sha256:[0-9a-f]{64}"

_USERINFO = r"(?i)(https?://)[^/?#\s\"']*@"
_PASSWORD = r"(?i)((?:git|ssh|ftp)://[^/?#\s:@\"']*):[^/?#\s\"']*@"
_TOKEN = (
    r"(?i)([?&](?:[\w.-]*(?:token|secret|signature|password|credential|apikey|api[_-]key)[\w.-]*|sig|auth|key)=)"
    r"[^&#\s\"']+"
)


class RemoteError(Exception):
    """A word that looks like a remote source and cannot be one."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True)
class Http:
    """A file at an http(s) URL. `url` may hold credentials: only `shown` is for eyes and records.

    `checksum` is 64 digits of sha256, or empty.
    """

    url: str = field(repr=False)
    shown: str
    checksum: str = ""

    @property
    def name(self) -> str:
        """The name of the file when its destination is a directory, from the URL's path alone."""
        from urllib.parse import unquote, urlsplit

        name = posixpath.basename(unquote(urlsplit(self.url).path))
        return UNNAMED if name in ("", ".", "..") or "\0" in name else name


@dataclass(frozen=True)
class Git:
    """A tree of a git repository: `subdir` of the commit that `ref` (a name, a commit; "" the default branch) means.

    `url` may hold credentials; `shown` is all that was written, without them. `kind` is "branch" or "tag" where only
    such a ref will do. `checksum` is a commit, or its beginning.
    """

    url: str = field(repr=False)
    shown: str
    ref: str = ""
    subdir: str = ""
    kind: str = ""
    checksum: str = ""
    keep_git_dir: bool = False
    submodules: bool = True

    @property
    def commit(self) -> str | None:
        """The commit, if the ref itself says it."""
        return self.ref if re.fullmatch(_COMMIT, self.ref) else None


Remote = Http | Git


def hide(text: str) -> str:
    """`text` without the credentials of the URLs in it."""
    if "://" not in text:
        return text
    return re.sub(_TOKEN, r"\1***", re.sub(_PASSWORD, r"\1:***@", re.sub(_USERINFO, r"\1***@", text)))


def looks_remote(word: str) -> bool:
    """Is the word meant as something remote, rightly or not?"""
    return ":" in word and bool(re.match(_SCHEME, word) or re.fullmatch(_SCP, word))


def parse(word: str) -> Remote | None:
    """The remote source that a word means, None for a local path. Raises RemoteError."""
    if ":" not in word:
        return None
    from urllib.parse import urlsplit

    if match := re.fullmatch(_SCP, word):
        path, _, fragment = word.partition("#")
        return _git(word, path, fragment, query="")
    match = re.match(_SCHEME, word)
    if match is None:
        return None
    if re.search(r"[\x00-\x20\x7f]", word):
        raise RemoteError(f"a URL cannot have blanks or controls in it: {hide(word)!r}", "write a blank as %20")
    try:
        parts = urlsplit(word)
        host, user = parts.hostname or "", parts.username
        _ = parts.port
    except ValueError as error:
        raise RemoteError(f"{hide(word)} is not a URL: {error}") from error
    if not re.fullmatch(_HOST, f"[{host}]" if ":" in host else host):
        raise RemoteError(f"{hide(word)} has no right host name")
    if match[1].lower() == "ssh" and user is not None and not re.fullmatch(_USER, user):
        raise RemoteError(f"{hide(word)} has no right user name")
    if match[1].lower() in ("http", "https") and not parts.path.endswith(".git"):
        return Http(word.partition("#")[0], hide(word))
    return _git(word, word.partition("#")[0].partition("?")[0], parts.fragment, parts.query)


def _git(word: str, url: str, fragment: str, query: str) -> Git:
    """A repository with `ref:subdir`, or with BuildKit's query. Raises RemoteError."""
    ref, _, subdir = fragment.partition(":")
    found = Git(url, hide(word), ref, subdir)
    if query:
        if fragment:
            raise RemoteError(f"{hide(url)} has both a #fragment and a ?query", "one of them says the ref")
        found = _queried(word, url, query)
    if found.ref and re.search(_BAD_IN_REF, found.ref):
        raise RemoteError(f"{found.ref!r} is not a git ref", "name a branch, a tag or a commit")
    if ".." in found.subdir.split("/") or "\0" in found.subdir:
        raise RemoteError(f"the directory {found.subdir!r} is not inside the repository")
    return found


def _queried(word: str, url: str, query: str) -> Git:
    from urllib.parse import parse_qsl

    given: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in given:
            raise RemoteError(f"{hide(url)} has ?{name}= twice")
        given[name] = value
    if "commit" in given:
        given.setdefault("checksum", given.pop("commit"))
    known = {"ref", "branch", "tag", "subdir", "checksum", "keep-git-dir", "submodules"}
    if unknown := sorted(set(given) - known):
        raise RemoteError(f"?{unknown[0]}= means nothing to a git source", f"known are {', '.join(sorted(known))}")
    refs = [name for name in ("ref", "branch", "tag") if name in given]
    if len(refs) > 1:
        raise RemoteError(f"?{refs[0]}= and ?{refs[1]}= cannot stand together", "one of them says the ref")
    kind = refs[0] if refs else "ref"
    return Git(
        url,
        hide(word),
        given.get(kind, ""),
        given.get("subdir", ""),
        "" if kind == "ref" else kind,
        git_checksum(given["checksum"]) if given.get("checksum") else "",
        _truth("keep-git-dir", given, default=False),
        _truth("submodules", given, default=True),
    )


def _truth(name: str, given: dict[str, str], *, default: bool) -> bool:
    if name not in given:
        return default
    value = given[name].lower()
    if value not in ("", "1", "true", "0", "false"):
        raise RemoteError(f"?{name}={given[name]} is neither true nor false")
    return value in ("", "1", "true")


def http_checksum(text: str) -> str:
    """The 64 digits of `sha256:…`. Raises RemoteError."""
    if not re.fullmatch(_SHA256, text):
        raise RemoteError(f"bad checksum {text!r}", "for a URL it is sha256: and 64 hexadecimal digits")
    return text.removeprefix("sha256:")


def git_checksum(text: str) -> str:
    """A commit, or its beginning. Raises RemoteError."""
    if not re.fullmatch(_COMMIT_PREFIX, text):
        raise RemoteError(f"bad checksum {text!r}", "for a git repository it is the commit: 40 hexadecimal digits")
    return text
