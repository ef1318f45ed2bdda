"""Downloads, from a server in this process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from support import web
from support.web import Web

from orca.dockerfile import remotes
from orca.dockerfile.remotes import Http
from orca.errors import UsageError
from orca.events import Event, Progress
from orca.sources import http
from orca.sources.http import DownloadError, Downloads
from orca.store.store import Store

MONDAY = "Mon, 06 Jan 2020 10:00:00 GMT"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr(http, "PAUSE", 0)
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with web.serve() as served:
        yield served


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def source(url: str, checksum: str = "") -> Http:
    found = remotes.parse(url)
    assert isinstance(found, Http)
    return Http(found.url, found.shown, checksum)


def get(store: Store, url: str, checksum: str = "", events: list[Event] | None = None) -> http.Download:
    """As a new build would."""
    return Downloads(store, (events if events is not None else []).append).get(source(url, checksum), 3)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_file_is_kept_by_its_content(server: Web, store: Store) -> None:
    events: list[Event] = []
    url = server.put("/a", "hello", Last_Modified=MONDAY)
    found = get(store, url, events=events)
    assert (found.digest, found.size, found.modified) == (sha(b"hello"), 5, 1578304800)
    assert found.path.read_bytes() == b"hello"
    assert events[-1] == Progress(3, "download", 5, 5)
    assert server.requests[0][1]["accept-encoding"] == "identity"
    assert sorted(path.suffix for path in found.path.parent.iterdir()) == [".blob", ".json"]


@pytest.mark.parametrize("headers", [{"ETag": '"1"'}, {"Last-Modified": MONDAY}])
def test_what_has_not_changed_is_not_sent_again(server: Web, store: Store, headers: dict[str, str]) -> None:
    sent = []

    class Counting(web.Page):
        def __call__(self, handler: BaseHTTPRequestHandler) -> None:
            sent.append(handler.headers.get("If-None-Match") or handler.headers.get("If-Modified-Since"))
            super().__call__(handler)

    server.table["/a"] = Counting(b"one", headers=headers)
    first = get(store, server.url("/a"))
    assert get(store, server.url("/a")) == first
    assert sent == [None, next(iter(headers.values()))]
    server.table["/a"] = Counting(b"two", headers={"ETag": '"2"'})
    assert get(store, server.url("/a")).digest == sha(b"two")
    # A file that is gone from the cache is asked for without conditions.
    get(store, server.url("/a")).path.unlink()
    assert get(store, server.url("/a")).path.read_bytes() == b"two"


def test_one_build_asks_once(server: Web, store: Store) -> None:
    server.put("/a", "x")
    downloads = Downloads(store, lambda event: None)
    assert downloads.get(source(server.url("/a"))) == downloads.get(source(server.url("/a")))
    assert server.count("/a") == 1


def test_a_checksum_that_is_known_asks_nobody(server: Web, store: Store) -> None:
    url = server.put("/a", "x")
    get(store, url, sha(b"x"))
    assert get(store, url, sha(b"x")).digest == sha(b"x")
    assert server.count("/a") == 1
    with pytest.raises(DownloadError, match=f"has the checksum sha256:{sha(b'x')}, not sha256:{'0' * 64}"):
        get(store, url, "0" * 64)
    assert not list((store.root / "cache/downloads").glob(".*"))


def test_redirects(server: Web, store: Store) -> None:
    server.put("/end", "end")
    server.put("/a", "", 302, Location="/b?x=1")
    server.put("/b?x=1", "", 308, Location=server.url("/end"))
    assert get(store, server.url("/a")).path.read_bytes() == b"end"
    server.put("/loop", "", 301, Location="/loop")
    with pytest.raises(DownloadError, match="redirects more than 10 times"):
        get(store, server.url("/loop"))
    assert server.count("/loop") == http.REDIRECTS + 1


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://h/x", "gopher://h", "https:///x", "http://[", "data:,x"]
)
def test_redirects_elsewhere_are_refused(server: Web, store: Store, target: str) -> None:
    server.put("/a", "", 302, Location=target)
    with pytest.raises(DownloadError, match="which is not followed"):
        get(store, server.url("/a"))


def test_credentials_go_to_their_server_only(server: Web, store: Store) -> None:
    with web.serve() as other:
        other.put("/end", "end")
        server.put("/a", "", 302, Location=other.url("/end").replace("127.0.0.1", "localhost"))
        get(store, server.url("/a", "user:s3cret"))
        assert "authorization" in server.requests[0][1]
        assert "authorization" not in other.requests[0][1]
    server.put("/no", "", 404)
    with pytest.raises(DownloadError, match="404 Not Found") as caught:
        get(store, server.url("/no", "user:s3cret"))
    assert "s3cret" not in str(caught.value)
    assert all(b"s3cret" not in path.read_bytes() for path in (store.root / "cache/downloads").iterdir())


def test_a_killed_download_is_swept(server: Web, store: Store) -> None:
    """What comes is kept below work/ until it is all there, where the next build looks for what others left."""
    seen: list[list[str]] = []

    def look(event: Event) -> None:
        """Called with the first piece, while the download is under way."""
        seen.append(sorted(path.suffix for path in (store.root / "work").iterdir()))

    found = Downloads(store, look).get(source(server.put("/a", "hello")))
    assert seen[0] == ["", ".lock"]
    assert not list((store.root / "work").iterdir())
    assert sorted(path.suffix for path in found.path.parent.iterdir()) == [".blob", ".json"]


def test_limits(server: Web, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(bytes(1 << 16))

    server.table["/endless"] = endless
    server.put("/big", bytes(5000))
    monkeypatch.setenv(http.VARIABLE, "4K")
    for path in ("/endless", "/big"):
        with pytest.raises(DownloadError, match="is larger than 4096 bytes") as caught:
            get(store, server.url(path))
        assert http.VARIABLE in (caught.value.hint or "")
    assert not list((store.root / "cache/downloads").iterdir())
    monkeypatch.setenv(http.VARIABLE, "5K")
    assert get(store, server.url("/big")).size == 5000
    monkeypatch.setenv(http.VARIABLE, "much")
    with pytest.raises(UsageError, match="ORCA_MAX_DOWNLOAD is not a size: 'much'"):
        get(store, server.url("/endless"))


def test_what_may_pass_is_tried_again(server: Web, store: Store) -> None:
    tries: list[int] = []

    def flaky(handler: BaseHTTPRequestHandler) -> None:
        tries.append(1)
        if len(tries) == 1:
            web.Page(b"", 503)(handler)
            return
        handler.send_response(200)
        handler.send_header("Content-Length", "10")
        handler.end_headers()
        handler.wfile.write(b"0123456789" if len(tries) == 3 else b"0123")

    server.table["/a"] = flaky
    assert get(store, server.url("/a")).size == 10
    assert len(tries) == 3
    server.put("/503", "", 503)
    with pytest.raises(DownloadError, match="the server says 503"):
        get(store, server.url("/503"))
    assert server.count("/503") == http.TRIES
    server.put("/403", "", 403)
    with pytest.raises(DownloadError, match="403 Forbidden") as caught:
        get(store, server.url("/403"))
    assert caught.value.hint == "it needs credentials"
    assert server.count("/403") == 1


def test_nobody_there(store: Store, server: Web) -> None:
    with web.serve() as gone:
        url = gone.url("/x", "user:s3cret")
    with pytest.raises(DownloadError, match=r"^http://\*\*\*@127.0.0.1:\d+/x: Connection refused$"):
        get(store, url)
    server.put("/304", "", 304)
    with pytest.raises(DownloadError, match="nobody asked"):
        get(store, server.url("/304"))


@pytest.mark.parametrize(
    ("header", "expected"),
    [(MONDAY, 1578304800), (None, None), ("", None), ("yesterday", None), ("Mon, 06 Jan 9999 10:00:00 GMT", None)],
)
def test_last_modified(header: str | None, expected: int | None) -> None:
    assert http.modified(header) == expected
