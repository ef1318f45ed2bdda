"""Hypothesis for this folder: no deadlines, no files left behind, the same examples on every machine."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("dockerfile", deadline=None, database=None, derandomize=True, max_examples=300)
