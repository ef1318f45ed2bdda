"""`python -m orca` and the console script."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line and exit."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        fill_streams()
    from orca.cli.main import run

    sys.exit(run(sys.argv[1:]))


def fill_streams() -> None:
    """Open /dev/null for every standard stream that the caller closed: no file of ours gets its number."""
    while (fd := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(fd, True)
    os.close(fd)
    sys.stdin = sys.stdin or open(0)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115


if __name__ == "__main__":
    main()
