"""The list of a registry's repositories: what is believed of it, and who gets credentials."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from support import web
from support.web import Page, Web

from orca.errors import OrcaError
from orca.sources import catalog
from orca.sources.access import Access
from orca.sources.catalog import Catalog

BASIC = f"Basic {base64.b64encode(b'u:p').decode()}"
FIRST = f"/v2/_catalog?n={catalog.PAGE}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Web]:
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with web.serve() as served:
        yield served


def names(server: Web, **more: object) -> list[str]:
    access = Access(tls_verify=False, **more)  # type: ignore[arg-type]
    return list(Catalog(f"127.0.0.1:{server.port}", access).repositories())


def listed(server: Web, path: str, found: object, **headers: str) -> None:
    server.put(path, json.dumps({"repositories": found}), **headers)


def guarded(server: Web, challenge: str, wanted: str) -> None:
    """The list, for those who send `wanted`."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        good = handler.headers.get("Authorization") == wanted
        data = json.dumps({"repositories": ["secret"]}).encode()
        Page(data if good else b"", 200 if good else 401, {"WWW-Authenticate": challenge})(handler)

    server.table[FIRST] = answer


def test_pages_are_followed_on_the_same_server(server: Web) -> None:
    listed(server, FIRST, ["a", "b/c"], Link=f'<{server.url("/v2/_catalog?last=b&n=1")}>; rel="next"')
    listed(server, "/v2/_catalog?last=b&n=1", ["d"], Link='</elsewhere?n=1>; rel="next"')
    assert names(server) == ["a", "b/c", "d"]


def test_what_is_no_name_is_left_out(server: Web) -> None:
    listed(server, FIRST, ["ok", "-v", "UPPER", "x:tag", "a@b", "../x", "\x1b[2J", 7, None, ["x"], "ok/two"])
    assert names(server) == ["ok", "ok/two"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ("[" * 50_000, 200, "not JSON"),
        ("<html>", 200, "not JSON"),
        ('{"repositories": 7}', 200, "is none"),
        ("[]", 200, "is none"),
        ("", 404, "offers no list"),
        ("", 401, "does not show"),
        ("", 302, "offers no list"),
    ],
)
def test_other_answers(server: Web, body: str, status: int, message: str) -> None:
    server.put(FIRST, body, status, Location="/v2/other")
    listed(server, "/v2/other", ["followed"])
    with pytest.raises(OrcaError, match=message):
        names(server)


def test_an_endless_answer(server: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "MOST_BYTES", 100)
    listed(server, FIRST, ["x" * 200])
    with pytest.raises(OrcaError, match="too large"):
        names(server)


def test_endless_pages(server: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "MOST_PAGES", 3)
    listed(server, FIRST, ["a"], Link=f'<{FIRST}>; rel="next"')
    with pytest.raises(OrcaError, match="more than"):
        names(server)
    assert server.count(FIRST) == 3


def test_without_leave_http_is_not_spoken(server: Web) -> None:
    listed(server, FIRST, ["a"])
    with pytest.raises(OrcaError) as caught:
        list(Catalog(f"127.0.0.1:{server.port}", Access()).repositories())
    assert "--tls-verify=false" in (caught.value.hint or "") and server.requests == []


class TestCredentials:
    def test_only_once_they_are_asked_for(self, server: Web) -> None:
        guarded(server, 'Basic realm="x"', BASIC)
        registry = f"127.0.0.1:{server.port}"
        assert names(server, creds="u:p", creds_for=frozenset({registry})) == ["secret"]
        assert [headers.get("authorization") for _, headers in server.requests] == [None, BASIC]

    def test_as_login_keeps_them(self, server: Web, tmp_path: Path) -> None:
        guarded(server, 'Basic realm="x"', BASIC)
        auths = {f"127.0.0.1:{server.port}": {"auth": BASIC.removeprefix("Basic ")}}
        (tmp_path / "auth.json").write_text(json.dumps({"auths": auths}))
        assert names(server) == ["secret"]

    def test_not_somebody_elses(self, server: Web, tmp_path: Path) -> None:
        guarded(server, 'Basic realm="x"', BASIC)
        (tmp_path / "auth.json").write_text(json.dumps({"auths": {"other.example": {"auth": "dTpw"}}}))
        with pytest.raises(OrcaError, match="does not show"):
            names(server, creds="u:p", creds_for=frozenset({"other.example"}))
        assert not any("authorization" in headers for _, headers in server.requests)

    def test_a_token_of_its_own_server(self, server: Web) -> None:
        guarded(server, f'Bearer realm="{server.url("/token")}",service="s"', "Bearer T")
        server.put("/token?service=s&scope=registry%3Acatalog%3A%2A", '{"token": "T"}')
        assert names(server, creds="u:p", creds_for=frozenset({f"127.0.0.1:{server.port}"})) == ["secret"]
        assert server.requests[1][1]["authorization"] == BASIC

    @pytest.mark.parametrize("token", ['{"token": "a\\r\\nX: y"}', "[]", "{", '{"token": 7}'])
    def test_a_token_that_is_none(self, server: Web, token: str) -> None:
        guarded(server, f'Bearer realm="{server.url("/token")}"', "Bearer T")
        server.put("/token?service=&scope=registry%3Acatalog%3A%2A", token)
        with pytest.raises(OrcaError, match="does not show"):
            names(server)

    def test_a_token_server_elsewhere_gets_none(self, server: Web) -> None:
        with web.serve() as other:
            guarded(server, f'Bearer realm="{other.url("/token")}"', "Bearer T")
            other.put("/token?service=&scope=registry%3Acatalog%3A%2A", '{"token": "T"}')
            assert names(server, creds="u:p", creds_for=frozenset({f"127.0.0.1:{server.port}"})) == ["secret"]
            assert len(other.requests) == 1 and "authorization" not in other.requests[0][1]

    @pytest.mark.parametrize("realm", ["file:///etc/passwd", "", "ftp://127.0.0.1/", "http://u:p@127.0.0.1/"])
    def test_token_servers_that_are_none(self, server: Web, realm: str) -> None:
        guarded(server, f'Bearer realm="{realm}"', "Bearer T")
        with pytest.raises(OrcaError, match="does not show"):
            names(server)
