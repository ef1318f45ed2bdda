"""Which repositories a registry has, by the distribution spec's `_catalog`, which not every registry offers.

skopeo does not ask for it, so orca does. A registry is not trusted: what it sends is bounded, no redirect is
followed, and credentials go to the registry itself and to no token server elsewhere.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca.errors import OrcaError, UsageError
from orca.oci import reference
from orca.sources import registries
from orca.sources.access import Access
from orca.store import files
from orca.tools import skopeo

PAGE = 1000
MOST_PAGES = 100
MOST_BYTES = 16 << 20
TIMEOUT = 30
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: Any
    body: bytes


class Catalog:
    """The list of a registry. `registry` is HOST[:PORT]."""

    def __init__(self, registry: str, access: Access) -> None:
        self.registry = registry
        self._access = access
        self._authorization: str | None = None
        self._base: str | None = None

    def repositories(self) -> Iterator[str]:
        """The names of all repositories, without the registry. Raises OrcaError."""
        path = f"/v2/_catalog?n={PAGE}"
        for _ in range(MOST_PAGES):
            answer = self._asked(path)
            yield from _names(self.registry, answer.body)
            following = _next(answer.headers.get("Link") or "")
            if following is None:
                return
            path = following
        raise OrcaError(f"{self.registry} lists more than {PAGE * MOST_PAGES} repositories", hint="name the one")

    def _asked(self, path: str) -> _Answer:
        answer = self._get(path)
        if answer.status == 401 and self._authorization is None:
            self._authorization = self._authorize(answer.headers.get("WWW-Authenticate") or "")
            answer = self._get(path)
        if answer.status == 200:
            return answer
        if answer.status in (401, 403):
            hint = f"orca login {self.registry}; many registries show their list to nobody"
            raise OrcaError(f"{self.registry}: the registry does not show its repositories", hint=hint)
        hint = "orca tags REPOSITORY lists the tags of one that you know"
        raise OrcaError(f"{self.registry}: the registry offers no list of repositories ({answer.status})", hint=hint)

    def _get(self, path: str) -> _Answer:
        """An answer of the registry; of the ways to speak to it, the first that works. Raises OrcaError."""
        if self._base is not None:
            return self._fetch(self._base + path, self._authorization)
        insecure = self._insecure()
        for scheme in ("https", "http") if insecure else ("https",):
            try:
                answer = self._fetch(f"{scheme}://{self.registry}{path}", self._authorization)
            except (OSError, ValueError) as error:
                last = error
                continue
            self._base = f"{scheme}://{self.registry}"
            return answer
        hint = (
            None if insecure else "for http or another certificate: --tls-verify=false, or insecure in registries.conf"
        )
        raise OrcaError(f"{self.registry}: {getattr(last, 'reason', None) or last}", hint=hint) from last

    def _insecure(self) -> bool:
        verify = self._access.tls_verify
        return not verify if verify is not None else registries.insecure(self.registry)

    def _fetch(self, url: str, authorization: str | None) -> _Answer:
        request = urllib.request.Request(url, headers={"Accept": "application/json"})
        if authorization:
            request.add_unredirected_header("Authorization", authorization)
        opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=self._context()), _NoRedirect)
        try:
            with opener.open(request, timeout=TIMEOUT) as answer:
                body = answer.read(MOST_BYTES + 1)
                if len(body) > MOST_BYTES:
                    raise OrcaError(f"{self.registry}: the registry's list is too large")
                return _Answer(answer.status, answer.headers, body)
        except urllib.error.HTTPError as error:
            with error:
                return _Answer(error.code, error.headers, b"")

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self._insecure():
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        for name in sorted(Path(self._access.cert_dir).glob("*.crt")) if self._access.cert_dir else ():
            context.load_verify_locations(cafile=str(name))
        return context

    def _authorize(self, challenge: str) -> str | None:
        """The header that the registry wants to see; None when we have none for it."""
        basic = credentials(self.registry, self._access)
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic":
            return basic
        if scheme.lower() != "bearer":
            return None
        given = dict(_PARAMETER.findall(rest))
        realm = urllib.parse.urlsplit(given.get("realm", ""))
        if realm.scheme not in ("http", "https") or not realm.netloc or "@" in realm.netloc:
            return None
        query = {"service": given.get("service", ""), "scope": given.get("scope", "registry:catalog:*")}
        url = realm._replace(query=urllib.parse.urlencode(query), fragment="").geturl()
        # Elsewhere is not who the credentials are for: there it must do without.
        answer = self._fetch(url, basic if url.startswith(f"{self._base}/") else None)
        try:
            value = json.loads(answer.body)
            token = value.get("token") or value.get("access_token") if isinstance(value, dict) else None
        except (ValueError, RecursionError):
            token = None
        return f"Bearer {token}" if isinstance(token, str) and re.fullmatch(r"[!-~]+", token) else None


def credentials(registry: str, access: Access) -> str | None:
    """The Basic header for a registry: from --creds, else as skopeo login has kept it."""
    if access.creds and registry in access.creds_for:
        return f"Basic {base64.b64encode(access.creds.encode()).decode()}"
    value = files.read_json(Path(access.authfile or skopeo.authfile()))
    auths = value.get("auths") if isinstance(value, dict) else None
    entry = auths.get(registry) if isinstance(auths, dict) else None
    auth = entry.get("auth") if isinstance(entry, dict) else None
    return f"Basic {auth}" if isinstance(auth, str) and re.fullmatch(r"[A-Za-z0-9+/=]+", auth) else None


def _names(registry: str, body: bytes) -> Iterator[str]:
    """The names in a page; what is no name of a repository is left out. Raises OrcaError."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise OrcaError(f"{registry}: the registry's list is not JSON") from error
    found = value.get("repositories") if isinstance(value, dict) else None
    if found is None and isinstance(value, dict):
        found = []
    if not isinstance(found, list):
        raise OrcaError(f"{registry}: the registry's list is none")
    for name in found:
        try:
            if isinstance(name, str) and reference.parse(f"{registry}/{name}").path == name:
                yield name
        except UsageError:
            continue


def _next(link: str) -> str | None:
    """The path of the next page out of a Link header; one that leads elsewhere is none."""
    match = re.search(r'<([^>]*)>\s*;\s*rel="?next"?', link)
    parts = urllib.parse.urlsplit(match[1]) if match else None
    if parts is None or not parts.path.startswith("/v2/_catalog"):
        return None
    return f"/v2/_catalog?{parts.query}"
