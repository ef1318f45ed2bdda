"""Files from http(s) servers, into the store's cache: by what they hold, and asked for again only if they changed.

A server is not trusted: only http and https, also behind redirects; a bound on bytes and on redirects; its words
name no file. What it sent is kept as it came: nothing is decompressed.
"""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from orca.dockerfile.remotes import Http, hide
from orca.errors import OrcaError, UsageError
from orca.events import Event, Progress
from orca.store import files
from orca.store.store import Store
from orca.tools import bounds

if TYPE_CHECKING:
    import requests

VARIABLE = "ORCA_MAX_DOWNLOAD"
LIMIT = 8 << 30
REDIRECTS = 10
TRIES = 3
TIMEOUTS = (15, 60)
"""Seconds to connect, and between two pieces of what is sent."""
PAUSE = 0.5
_CHUNK = 1 << 18
_TELL_EVERY = 0.1
_LATEST = 1 << 33

# Where systems keep the authorities that they trust; the library brings its own list, which knows no company's.
_AUTHORITIES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem")


class DownloadError(OrcaError):
    """A download that failed, broke a limit or brought something else than was expected."""


class _Passing(Exception):
    """A failure that may be over the next time; the error to tell if it is not."""

    def __init__(self, error: DownloadError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True)
class Download:
    """A file in the cache: where, its sha256 (64 digits), its size; `modified` is Last-Modified in seconds."""

    path: Path
    digest: str
    size: int
    modified: int | None = None


def most() -> int:
    """The bytes that one download may have. Raises UsageError for a variable that is no size."""
    text = os.environ.get(VARIABLE, "")
    if not text:
        return LIMIT
    found = bounds.size_of(text)
    if found is None:
        raise UsageError(f"{VARIABLE} is not a size: {text[:40]!r}", hint=f"write {VARIABLE}=20G, for example")
    return found


class Downloads:
    """The downloads of one build. Several threads may ask; each URL is asked for once."""

    def __init__(self, store: Store, emit: Callable[[Event], None]) -> None:
        self.directory = store.root / "cache" / "downloads"
        self.emit = emit
        self._store = store
        self._locks: dict[Http, threading.Lock] = {}
        self._done: dict[Http, Download] = {}
        self._lock = threading.Lock()

    def get(self, source: Http, step: int | None = None) -> Download:
        """The file at a URL; with a checksum that the cache has, without asking. Raises DownloadError."""
        with self._lock:
            lock = self._locks.setdefault(source, threading.Lock())
        with lock:
            if source not in self._done:
                self._done[source] = self._get(source, step)
            return self._done[source]

    def _get(self, source: Http, step: int | None) -> Download:
        files.own_directory(self.directory)
        known = self._known(source)
        if known is not None and source.checksum and known["digest"] == source.checksum:
            return self._download(known)
        for attempt in range(1, TRIES + 1):
            try:
                return self._try(source, known, step)
            except _Passing as passing:
                if attempt == TRIES:
                    raise passing.error from passing
                time.sleep(PAUSE * attempt)
        raise AssertionError

    # -- what is in the cache

    def _note(self, source: Http) -> Path:
        """Where it is noted what a URL was; the URL itself, which may hold credentials, is written nowhere."""
        return self.directory / f"{hashlib.sha256(source.url.encode('utf-8', 'surrogateescape')).hexdigest()}.json"

    def _blob(self, digest: str) -> Path:
        return self.directory / f"{digest}.blob"

    def _known(self, source: Http) -> dict[str, Any] | None:
        """What is noted of a URL, if the file is still there with its size."""
        note = files.read_json(self._note(source))
        if not isinstance(note, dict) or not re.fullmatch(r"[0-9a-f]{64}", str(note.get("digest"))):
            return None
        with contextlib.suppress(OSError):
            if self._blob(note["digest"]).lstat().st_size == note.get("size"):
                return note
        return None

    def _download(self, note: Mapping[str, Any]) -> Download:
        modified = note.get("modified")
        return Download(
            self._blob(note["digest"]), note["digest"], note["size"], modified if isinstance(modified, int) else None
        )

    # -- asking

    def _try(self, source: Http, known: Mapping[str, Any] | None, step: int | None) -> Download:
        headers = {"Accept-Encoding": "identity", "User-Agent": "orca"}
        for name, key in (("If-None-Match", "etag"), ("If-Modified-Since", "last_modified")):
            if known is not None and isinstance(known.get(key), str):
                headers[name] = known[key]
        with _answer(source, headers) as answer:
            if answer.status_code == 304:
                if known is None:
                    raise DownloadError(f"{source.shown}: the server says that nothing changed, and nobody asked")
                self._check(source, known["digest"])
                return self._download(known)
            return self._take(source, answer, step)

    def _take(self, source: Http, answer: requests.Response, step: int | None) -> Download:
        """Keep what the server sends. Raises DownloadError, _Passing."""
        with self._store.scratch() as scratch:  # what a killed build leaves there, the next one sweeps
            digest, size = self._receive(source, answer, scratch / "download", step)
            self._check(source, digest)
            os.rename(scratch / "download", self._blob(digest))
        note = {
            "digest": digest,
            "size": size,
            "modified": modified(answer.headers.get("Last-Modified")),
            "etag": answer.headers.get("ETag"),
            "last_modified": answer.headers.get("Last-Modified"),
        }
        files.write_json(self._note(source), note, durable=False)
        return self._download(note)

    def _receive(self, source: Http, answer: requests.Response, place: Path, step: int | None) -> tuple[str, int]:
        """Write the body to `place`; its sha256 and size."""
        limit, total = most(), _length(answer)
        if total is not None and total > limit:
            raise _too_large(source, limit)
        digest, size, told = hashlib.sha256(), 0, 0.0
        try:
            with open(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
                for data in _pieces(source, answer):
                    size += len(data)
                    if size > limit:
                        raise _too_large(source, limit)
                    digest.update(data)
                    file.write(data)
                    if time.monotonic() - told > _TELL_EVERY:
                        told = time.monotonic()
                        self.emit(Progress(step, "download", size, total))
        except OSError as error:
            raise files.explain(error, f"downloading {source.shown}") from error
        if total is not None and size != total:
            raise _Passing(DownloadError(f"{source.shown}: the connection broke after {size} of {total} bytes"))
        self.emit(Progress(step, "download", size, size))
        return digest.hexdigest(), size

    @staticmethod
    def _check(source: Http, digest: str) -> None:
        if source.checksum and digest != source.checksum:
            raise DownloadError(
                f"{source.shown} has the checksum sha256:{digest}, not sha256:{source.checksum}",
                hint="the file has changed, or somebody changes it on its way",
            )


def modified(header: str | None) -> int | None:
    """Last-Modified in seconds since 1970; None when there is none that makes sense."""
    if header:
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            seconds = int(email.utils.parsedate_to_datetime(header).timestamp())
            return seconds if 0 <= seconds < _LATEST else None
    return None


def _length(answer: requests.Response) -> int | None:
    text = answer.headers.get("Content-Length", "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _too_large(source: Http, limit: int) -> DownloadError:
    return DownloadError(
        f"{source.shown} is larger than {limit} bytes",
        hint=f"if it is to be trusted, {VARIABLE}=SIZE allows more (a number with K, M, G or T)",
    )


def _pieces(source: Http, answer: requests.Response) -> Iterator[bytes]:
    """The body as it came over the wire."""
    from urllib3.exceptions import HTTPError

    try:
        # read1 would not wait for a whole piece, but older libraries lack it.
        while data := answer.raw.read(_CHUNK, decode_content=False):
            yield data
    except HTTPError as error:
        raise _Passing(DownloadError(f"{source.shown}: {_cause(error)}", hint="try again")) from error


@contextlib.contextmanager
def _answer(source: Http, headers: Mapping[str, str]) -> Iterator[requests.Response]:
    """The server's answer, redirects followed by hand. Raises DownloadError, _Passing."""
    import requests

    url = source.url
    with requests.Session() as session:
        for _ in range(REDIRECTS + 1):
            try:
                answer = _send(session, url, headers)
            except requests.RequestException as error:
                raise _failed(source, error) from error
            except ValueError as error:
                raise DownloadError(f"{source.shown}: {_cause(error)}") from error
            with answer:
                if answer.status_code not in (301, 302, 303, 307, 308) or "Location" not in answer.headers:
                    _check_status(source, answer)
                    yield answer
                    return
                url = _next(source, url, answer.headers["Location"])
    raise DownloadError(f"{source.shown} redirects more than {REDIRECTS} times")


def _send(session: requests.Session, url: str, headers: Mapping[str, str]) -> requests.Response:
    """One request. Not by way of the session, which reads the whole body of a redirect into memory."""
    import requests

    request = session.prepare_request(requests.Request("GET", url, headers=dict(headers)))
    settings = session.merge_environment_settings(url, {}, True, _trusted(), None)
    return session.get_adapter(url).send(request, timeout=TIMEOUTS, **settings)


def _next(source: Http, url: str, location: str) -> str:
    """Where a redirect leads. Raises DownloadError when that is not another http(s) URL."""
    try:
        target = urljoin(url, location)
        parts = urlsplit(target)
        scheme, host = parts.scheme.lower(), parts.hostname
    except ValueError:
        scheme, host = "", None
    if scheme not in ("http", "https") or not host:
        raise DownloadError(
            f"{source.shown} redirects to {hide(location)[:200]!r}, which is not followed",
            hint="only http and https are",
        )
    return target


def _check_status(source: Http, answer: requests.Response) -> None:
    code = answer.status_code
    if code in (200, 304):
        return
    reason = hide(str(answer.reason or ""))[:100]
    hints = {401: "it needs credentials", 403: "it needs credentials", 404: "check the URL", 410: "check the URL"}
    error = DownloadError(f"{source.shown}: the server says {code} {reason}".rstrip(), hint=hints.get(code))
    raise _Passing(error) if code == 429 or code >= 500 else error


def _trusted() -> str | bool:
    """The authorities to trust: the user's, else the system's, as the other tools do."""
    named = (os.environ.get(name) for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"))
    return next((path for path in (*named, *_AUTHORITIES) if path and os.path.exists(path)), True)


def _failed(source: Http, error: requests.RequestException) -> DownloadError | _Passing:
    """What a failure of the library means."""
    import requests

    if isinstance(error, requests.exceptions.SSLError):
        hint = "SSL_CERT_FILE names other authorities to trust"
        return DownloadError(f"{source.shown}: the certificate is not trusted: {_cause(error)}", hint=hint)
    if isinstance(error, requests.exceptions.ProxyError):
        return _Passing(DownloadError(f"{source.shown}: the proxy fails: {_cause(error)}", hint="check HTTPS_PROXY"))
    if isinstance(error, requests.exceptions.Timeout):
        return _Passing(DownloadError(f"{source.shown}: the server does not answer", hint="try again"))
    if isinstance(error, requests.exceptions.ConnectionError):
        return _Passing(DownloadError(f"{source.shown}: {_cause(error)}", hint="check the host and the network"))
    return DownloadError(f"{source.shown}: {_cause(error)}")


def _cause(error: BaseException) -> str:
    """The last cause of a chain of the libraries' exceptions, in the words of the system where they are there."""
    text = str(error)
    if match := re.search(r"\[Errno -?\d+\] ([^'\")]+)", text):
        return match[1]
    text = re.sub(r"<[^>]*>:? ?", "", re.sub(r".*Caused by \w+\((.*)\)\)?", r"\1", text))
    return hide(text).strip("'\" ")[:200] or type(error).__name__
