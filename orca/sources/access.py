"""How to get at registries: credentials, certificates, patience. Shared by all that talk to them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from orca.errors import ToolError
from orca.events import Emit, Warned

T = TypeVar("T")
RETRIES = 3
DELAY = 2.0
# Troubles that may be over in a moment. What is refused, unknown or misspelt stays so.
_PASSING = (
    r"(?i)toomanyrequests|too many requests|timeout|deadline exceeded|timed out|status code from registry 5\d\d|"
    r"HTTP status: 5\d\d|internal server error|service unavailable|bad gateway|"
    r"connection reset|unexpected EOF|broken pipe"
)


@dataclass(frozen=True)
class Access:
    """`creds` is USER:PASSWORD, and only the registries of `creds_for` are ever given it: not whichever a Dockerfile
    names, no mirror, no other one of a search list. `policy` is the file by which images are judged. `delay` is in
    seconds. None: as skopeo does by itself.
    """

    authfile: str | None = None
    creds: str | None = field(default=None, repr=False)
    tls_verify: bool | None = None
    cert_dir: str | None = None
    policy: str | None = None
    creds_for: frozenset[str] = frozenset()
    retries: int = RETRIES
    delay: float = DELAY

    def options(self, registry: str, scratch: Path) -> list[str]:
        """As `skopeo inspect` takes them. What is secret goes by way of a file below `scratch`."""
        words = []
        if self.tls_verify is not None:
            words.append(f"--tls-verify={str(self.tls_verify).lower()}")
        if self.cert_dir is not None:
            words.append(f"--cert-dir={self.cert_dir}")
        authfile = self._credentials(registry, scratch) if self.creds and registry in self.creds_for else self.authfile
        return [*words, f"--authfile={authfile}"] if authfile else words

    def judged(self) -> tuple[str, ...]:
        """What stands before the verb where an image comes in: the policy by which it is judged."""
        return (f"--policy={self.policy}",) if self.policy else ()

    def copy_options(self, registry: str, scratch: Path, side: str) -> list[str]:
        """As `skopeo copy` takes them for its source or destination: `side` is src or dest."""
        return [f"--{side}-{word.removeprefix('--')}" for word in self.options(registry, scratch)]

    def _credentials(self, registry: str, scratch: Path) -> str:
        """An authfile that only we can read: a command line can be seen by everybody."""
        import base64

        assert self.creds is not None
        path = scratch / f"auth-{hashlib.sha256(registry.encode()).hexdigest()[:16]}.json"
        auth = {"auth": base64.b64encode(self.creds.encode()).decode()}
        with open(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_TRUNC, 0o600), "w", encoding="utf-8"
        ) as file:
            json.dump({"auths": {registry: auth}}, file)
        return str(path)

    def again(self, attempt: Callable[[], T], emit: Emit) -> T:
        """Do `attempt`, and again for as long as what goes wrong may pass. Raises ToolError."""
        for _ in range(self.retries):
            try:
                return attempt()
            except ToolError as error:
                if not re.search(_PASSING, error.stderr):
                    raise
                last = error.stderr.splitlines()[-1]
                emit(Warned(f"{error.message}; once more in {self.delay:g} s", hint=f"it said: {last}"))
                time.sleep(self.delay)
        return attempt()
