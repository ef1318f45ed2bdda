"""Command lines of the tools, and the one door to a process."""
