"""GNU tar's command lines for layers: the same tree always gives the same bytes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orca.tools.command import Command


def create(root: Path, listing: Path, *, clamp: int | None = None, exact: bool = False) -> Command:
    """The entries that `listing` names (NUL after each, in order) below `root`, as a tar on standard output.

    Whole-second times, numeric owners, no access or change times; overlay's own attributes stay out.
    `clamp` is SOURCE_DATE_EPOCH: no time is later; with `exact`, all are that.
    """
    times = () if clamp is None else (f"--mtime=@{clamp}",) if exact else (f"--mtime=@{clamp}", "--clamp-mtime")
    return Command(
        (
            "tar", "--create", "--file=-", "--format=posix",
            "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime,delete=mtime",
            "--numeric-owner", "--xattrs", "--xattrs-include=user.*", "--xattrs-include=security.capability",
            "--xattrs-exclude=user.overlay.*", *times,
            "--no-recursion", "--null", "--no-unquote", "--no-verbatim-files-from",
            f"--directory={root}", f"--files-from={listing}",
        ),
        "pack what the step changed",
    )  # fmt: skip


def archive(directory: Path, members: Sequence[str]) -> Command:
    """Files of ours below `directory`, in this order, as a tar on standard output that has nothing of this machine."""
    return Command(
        (
            "tar", "--create", "--file=-", "--format=posix", "--pax-option=delete=atime,delete=ctime,delete=mtime",
            "--owner=0", "--group=0", "--numeric-owner", "--mode=0644", "--mtime=@0", "--hard-dereference",
            "--no-recursion", f"--directory={directory}", *members,
        ),
        "put the image's files into one archive",
    )  # fmt: skip
