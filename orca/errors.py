"""Every error that orca raises on purpose, and what the edge needs to tell it well.

Lower layers raise these and nothing else on bad input; only `orca/cli` prints them and exits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

EXIT_USAGE = 2
EXIT_ORCA = 125
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Location:
    """Where in a text file something stands.

    `line` and `end_line` count from 1, both inclusive. `column` counts characters from 1 in
    `line`; 0 means the whole line. `lines` holds the source lines `line` to `end_line` (without
    newlines), so that an error can be shown long after the text is gone.
    """

    file: str
    line: int
    end_line: int
    column: int = 0
    lines: tuple[str, ...] = ()


class OrcaError(Exception):
    """Something went wrong that a user can understand: what, where, and what to do.

    `message` is one sentence without a full stop; `hint` is one suggestion or None.
    """

    exit_code = EXIT_ORCA

    def __init__(self, message: str, *, hint: str | None = None, location: Location | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.location = location


class UsageError(OrcaError):
    """The command line itself is wrong."""

    exit_code = EXIT_USAGE


class DockerfileError(OrcaError):
    """The Dockerfile (or an ignore file) is wrong; `location` says where."""


class NotYet(OrcaError):
    """A known feature that this version does not have; never silently ignored."""


class NotAllowed(OrcaError):
    """A Dockerfile asks for what the command line does not grant; `hint` names the flag."""


class StoreError(OrcaError):
    """The store is damaged, not ours, or does not hold what was asked for."""


class ImageError(OrcaError):
    """An image does not keep to the OCI image spec, or breaks a limit."""


class ToolMissing(OrcaError):
    """A tool that orca drives is not on PATH."""


class ToolError(OrcaError):
    """A tool ran and failed. `stderr` holds its last words, whole lines, at most 64 KiB."""

    def __init__(
        self,
        message: str,
        *,
        argv: Sequence[str] = (),
        returncode: int = 0,
        stderr: str = "",
        hint: str | None = None,
        location: Location | None = None,
    ) -> None:
        super().__init__(message, hint=hint, location=location)
        self.argv = tuple(argv)
        self.returncode = returncode
        self.stderr = stderr


class RunFailed(OrcaError):
    """A RUN ended with a code other than 0; orca exits with that code.

    `tail` holds the last lines that the step printed, `log` the path of its whole output. `advice` are pairs of a
    word and a line that --on-error adds; `told` says that the user has been told already.
    """

    advice: tuple[tuple[str, str], ...] = ()
    told = False

    def __init__(
        self,
        message: str,
        *,
        returncode: int,
        tail: Sequence[str] = (),
        log: str | None = None,
        hint: str | None = None,
        location: Location | None = None,
    ) -> None:
        super().__init__(message, hint=hint, location=location)
        self.exit_code = returncode
        self.tail = tuple(tail)
        self.log = log


class Interrupted(OrcaError):
    """SIGINT or SIGTERM arrived; everything has been put away."""

    exit_code = EXIT_INTERRUPTED
