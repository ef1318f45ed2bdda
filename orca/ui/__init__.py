"""What users see: events and errors become lines, a live screen or JSON on stderr.

Nothing here exits, starts a process or decides anything; rich is imported only by the live screen.
"""

from orca.ui.choose import Mode, open_view
from orca.ui.failure import render_error, render_warning
from orca.ui.terminal import Terminal

__all__ = ["Mode", "Terminal", "open_view", "render_error", "render_warning"]
