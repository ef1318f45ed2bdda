"""orca logout."""

from orca.cli.login import logout as run
from orca.cli.login import make_logout_parser as make_parser

__all__ = ["make_parser", "run"]
