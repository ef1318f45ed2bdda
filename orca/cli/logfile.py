"""--logfile: what a build shows goes to a file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TextIO

from orca.errors import OrcaError


@contextlib.contextmanager
def log_file(path: str | None) -> Iterator[TextIO | None]:
    """The file of --logfile, which is added to; None without. Raises OrcaError."""
    if path is None:
        yield None
        return
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "no path"
        raise OrcaError(f"--logfile {path}: {why}") from error
    with open(fd, "a", encoding="utf-8", errors="surrogateescape") as stream:
        yield stream
