"""What users see: events and errors become lines, a live screen or JSON on stderr.

Nothing here exits, starts a process or decides anything; rich is imported only by the live screen.
Also for the commands: `orca.ui.human` (sizes, durations, tables), `orca.ui.escape.visible` for text
from outside, `orca.ui.shell` for commands as one types them.
"""

from typing import TYPE_CHECKING, Any

from orca.ui.choose import Mode, one_at_a_time, open_view
from orca.ui.terminal import Terminal

if TYPE_CHECKING:
    from orca.ui.failure import render_error, render_finding, render_warning

__all__ = ["Mode", "Terminal", "one_at_a_time", "open_view", "render_error", "render_finding", "render_warning"]


def __getattr__(name: str) -> Any:
    """Import what tells failures when there is one to tell."""
    if name in __all__:
        from orca.ui import failure

        return getattr(failure, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
