"""executor.records: which records of builds are kept."""

from __future__ import annotations

from pathlib import Path

from orca.executor import records


def test_scripted_steps_push_out_no_builds(tmp_path: Path) -> None:
    builds = [f"20260101T0000{number:02}-0000" for number in range(records.KEPT + 1)]
    steps = [f"20260102T{number:06}-0000{records.STEP}" for number in range(records.KEPT_STEPS + 2)]
    for name in (*builds, *steps):
        (tmp_path / name).mkdir()
    records.forget_old(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [*builds[1:], *steps[2:]]
