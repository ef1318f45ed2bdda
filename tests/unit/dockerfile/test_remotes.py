"""What words like `https://…` and `git@…` mean."""

from __future__ import annotations

import pytest

from orca.dockerfile import remotes
from orca.dockerfile.remotes import Git, Http, RemoteError

SHA = "0123456789" * 4


@pytest.mark.parametrize("word", ["a", "./a", "/a", "a.git", "a:b", "C:/x", "x/y@z:1", "ftp://h/x", "file:///etc/passwd",
                                  "ext::sh -c x", "http:/h", "-u@h:x", "https", ""])  # fmt: skip
def test_local_words(word: str) -> None:
    assert remotes.parse(word) is None
    assert not remotes.looks_remote(word)


@pytest.mark.parametrize(
    ("word", "url", "name"),
    [
        ("https://h/a/b.tar.gz", "https://h/a/b.tar.gz", "b.tar.gz"),
        ("HTTP://h:80/a?x=1#frag", "HTTP://h:80/a?x=1", "a"),
        ("https://h", "https://h", remotes.UNNAMED),
        ("https://h/a/", "https://h/a/", remotes.UNNAMED),
        ("https://h/..", "https://h/..", remotes.UNNAMED),
        ("https://h/a%2f..%2Fb%20c", "https://h/a%2f..%2Fb%20c", "b c"),
        ("https://h/a/%2e%2e", "https://h/a/%2e%2e", remotes.UNNAMED),
        ("https://h/a%00b", "https://h/a%00b", remotes.UNNAMED),
        ("https://[::1]:8080/x", "https://[::1]:8080/x", "x"),
        ("https://h/x.git.tar", "https://h/x.git.tar", "x.git.tar"),
    ],
)
def test_urls(word: str, url: str, name: str) -> None:
    found = remotes.parse(word)
    assert isinstance(found, Http)
    assert (found.url, found.name) == (url, name)


def git(word: str, url: str, ref: str = "", subdir: str = "", **fields: object) -> Git:
    return Git(url, word, ref, subdir, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "found",
    [
        git("git@h.org:a/b.git", "git@h.org:a/b.git"),
        git("me@h:b#main:sub/x", "me@h:b", "main", "sub/x"),
        git("git://h/a", "git://h/a"),
        git("ssh://git@h:22/a.git#v1", "ssh://git@h:22/a.git", "v1"),
        git("https://h/a.git", "https://h/a.git"),
        git("https://h/a.git#:sub", "https://h/a.git", "", "sub"),
        git("https://h/a.git#feature/x", "https://h/a.git", "feature/x"),
        git("https://h/a.git?branch=b&subdir=s", "https://h/a.git", "b", "s", kind="branch"),
        git("https://h/a.git?tag=v1&keep-git-dir=1", "https://h/a.git", "v1", kind="tag", keep_git_dir=True),
        git("https://h/a.git?ref=x&submodules=false", "https://h/a.git", "x", submodules=False),
        git(f"https://h/a.git?commit={SHA}", "https://h/a.git", checksum=SHA),
    ],
)
def test_repositories(found: Git) -> None:
    assert remotes.parse(found.shown) == found
    assert remotes.looks_remote(found.shown)


def test_a_commit_is_known_by_its_look() -> None:
    assert git("", "", SHA).commit == SHA
    assert git("", "", SHA[:39]).commit is None
    assert git("", "", SHA[:39] + "G").commit is None


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("https://h/a.git#-u", "is not a git ref"),
        ("https://h/a.git#--upload-pack=x", "is not a git ref"),
        ("https://h/a.git#a..b", "is not a git ref"),
        ("https://h/a.git#a^{x}", "is not a git ref"),
        ("https://h/a.git?branch=-u", "is not a git ref"),
        ("https://h/a.git#main:a/../../b", "not inside the repository"),
        ("https://h/a.git?branch=a#b", "both a #fragment and a \\?query"),
        ("https://h/a.git?branch=a&tag=b", "\\?branch= and \\?tag= cannot stand together"),
        ("https://h/a.git?branch=a&branch=b", "twice"),
        ("https://h/a.git?upload-pack=x", "\\?upload-pack= means nothing"),
        ("https://h/a.git?keep-git-dir=maybe", "neither true nor false"),
        ("https://h/a.git?checksum=xyz", "bad checksum"),
        ("ssh://-oProxyCommand=x/a", "no right host name"),
        ("ssh://-oX@h/a", "no right user name"),
        ("https:///a", "no right host name"),
        ("https://h:port/a", "is not a URL"),
        ("https://[::/a", "is not a URL"),
        ("https://h/a b", "blanks or controls"),
    ],
)
def test_what_cannot_be_a_remote(word: str, message: str) -> None:
    with pytest.raises(RemoteError, match=message):
        remotes.parse(word)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("a https://u:p@h/x b", "a https://***@h/x b"),
        ("https://token@h/x", "https://***@h/x"),
        ("https://u:p@ss@h/x@y", "https://***@h/x@y"),
        ("HTTPS://u:p@h", "HTTPS://***@h"),
        ("git://u:p@h/x", "git://u:***@h/x"),
        ("ssh://git@h/x", "ssh://git@h/x"),
        ("https://h/x?a=1&token=s3&b=2", "https://h/x?a=1&token=***&b=2"),
        ("https://h/x?X-Amz-Signature=s3", "https://h/x?X-Amz-Signature=***"),
        ("https://h/a@b", "https://h/a@b"),
        ('["https://u:p@h/x", "/"]', '["https://***@h/x", "/"]'),
        ("nothing", "nothing"),
    ],
)
def test_credentials_are_hidden(text: str, hidden: str) -> None:
    assert remotes.hide(text) == hidden
    assert remotes.hide(hidden) == hidden


def test_a_source_does_not_show_its_credentials() -> None:
    for word in ("https://u:s3@h/x", "https://u:s3@h/x.git#main"):
        assert "s3" not in repr(remotes.parse(word))
        with pytest.raises(RemoteError) as caught:
            remotes.parse(word.replace("h/", "-/"))
        assert "s3" not in str(caught.value)
