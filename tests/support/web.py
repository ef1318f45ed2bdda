"""An http server on loopback that serves what a test puts into a table, and git repositories to serve."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from support.proc import free_port, run, start, stop

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Page:
    """What a path answers. `etag` and `modified` make it answer 304 to those who have it."""

    data: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        same = [
            handler.headers.get(asked) == self.headers[told]
            for asked, told in (("If-None-Match", "ETag"), ("If-Modified-Since", "Last-Modified"))
            if told in self.headers
        ]
        fresh = bool(same) and any(same)
        handler.send_response(304 if fresh else self.status)
        for name, value in self.headers.items():
            handler.send_header(name, value)
        if not fresh:
            handler.send_header("Content-Length", str(len(self.data)))
        handler.end_headers()
        if not fresh:
            handler.wfile.write(self.data)


class Web:
    """`web.table["/path"] = Page(b"…")` or a function; `web.url("/path")`; `web.requests` is what was asked for."""

    def __init__(self, directory: Path | None = None) -> None:
        self.table: dict[str, Answer] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.directory = directory
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                answer = web.table.get(self.path) or web.file(self.path)
                with contextlib.suppress(OSError):
                    answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]

    def file(self, path: str) -> Answer:
        """A file of the directory; what is not there is 404."""
        place = self.directory / path.partition("?")[0].lstrip("/") if self.directory else None
        if place is None or ".." in path or not place.is_file():
            return Page(b"nothing here", 404)
        return Page(place.read_bytes())

    def put(self, path: str, data: bytes | str, status: int = 200, **headers: str) -> str:
        """Serve `data`; returns the URL. `_` in the names of headers stands for `-`."""
        content = data.encode() if isinstance(data, str) else data
        self.table[path] = Page(content, status, {name.replace("_", "-"): value for name, value in headers.items()})
        return self.url(path)

    def url(self, path: str, userinfo: str = "") -> str:
        return f"http://{userinfo}{'@' if userinfo else ''}127.0.0.1:{self.port}{path}"

    def count(self, path: str) -> int:
        return sum(asked == path for asked, _ in self.requests)


@contextlib.contextmanager
def serve(directory: Path | None = None) -> Iterator[Web]:
    """A server until the block is left."""
    web = Web(directory)
    thread = threading.Thread(target=web.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        web.server.shutdown()
        web.server.server_close()


class Repository:
    """A git repository to commit to; `publish` makes it one that servers can serve."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *words: str) -> str:
        settings = ("user.name=test", "user.email=test@localhost", "commit.gpgsign=false", "protocol.file.allow=always")
        options = [word for setting in settings for word in ("-c", setting)]
        env = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1",
               "GIT_AUTHOR_DATE": "@1700000000 +0000", "GIT_COMMITTER_DATE": "@1700000000 +0000"}  # fmt: skip
        return run("git", *options, "-C", self.place, *words, env=env).out

    def commit(self, files: dict[str, str | Path], message: str = "x") -> str:
        """Commit these files (a Path is a symbolic link's target); returns the commit."""
        for name, content in files.items():
            path = self.place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            if isinstance(content, Path):
                path.symlink_to(content)
            else:
                path.write_text(content)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def publish(self, place: Path) -> Path:
        """A bare copy at `place`, for the dumb http protocol and for git daemon."""
        if not place.exists():
            self.git("clone", "-q", "--bare", str(self.place), str(place))
        else:
            self.git("push", "-q", "--mirror", str(place))
        run("git", "-c", "safe.directory=*", "-C", place, "update-server-info")
        return place


@contextlib.contextmanager
def git_daemon(directory: Path, log: Path) -> Iterator[str]:
    """`git daemon` for all repositories of a directory; yields its address, `git://127.0.0.1:PORT`."""
    import socket
    import time

    port = free_port()
    words = ["--export-all", f"--base-path={directory}", "--listen=127.0.0.1", f"--port={port}", "--reuseaddr"]
    # The daemon itself, not `git daemon`, which would start it as a child that nobody here knows.
    program = f"{run('git', '--exec-path').out}/git-daemon"
    process = start([program, *words, str(directory)], log=log, env={"PATH": "/usr/bin:/bin"})
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.02)
        yield f"git://127.0.0.1:{port}"
    finally:
        stop(process)
