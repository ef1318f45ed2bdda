"""Health checks: what an image says, and what results come to."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from orca.executor import health
from orca.executor.health import Check, Health, Monitor

SECOND = 1_000_000_000


def test_what_the_image_says() -> None:
    value = {"Test": ["CMD-SHELL", "test -e /x"], "Interval": SECOND // 2, "Timeout": SECOND, "StartPeriod": 2 * SECOND,
             "StartInterval": SECOND // 10, "Retries": 5}  # fmt: skip
    assert health.check_of(value, None) == Check(("/bin/sh", "-c", "test -e /x"), 0.5, 1, 2, 0.1, 5)
    assert health.check_of(value, ("/bin/bash", "-ec")) == Check(("/bin/bash", "-ec", "test -e /x"), 0.5, 1, 2, 0.1, 5)
    assert health.check_of({"Test": ["CMD", "/probe", "-x"]}, None) == Check(("/probe", "-x"))


@pytest.mark.parametrize(
    "value", [None, {}, {"Test": []}, {"Test": ["NONE"]}, {"Test": ["CMD"]}, {"Test": "CMD x"}, {"Test": ["CMD", 7]}]
)
def test_no_check(value: Any) -> None:
    assert health.check_of(value, None) is None


@pytest.mark.parametrize("number", [-1, 0, "x", None, True, []])
def test_strange_numbers_are_as_if_not_there(number: object) -> None:
    value = {"Test": ["CMD", "/probe"], "Interval": number, "Timeout": number, "Retries": number}
    assert health.check_of(value, None) == Check(("/probe",))


def result(code: int) -> dict[str, Any]:
    return {"ExitCode": code}


def test_what_results_come_to() -> None:
    check, found = Check(("x",), retries=2), Health()
    assert found.status == "starting"
    found = found.after(result(1), check, 10)
    assert (found.status, found.streak) == ("starting", 1)
    found = found.after(result(1), check, 20)
    assert (found.status, found.streak) == ("unhealthy", 2)
    found = found.after(result(0), check, 30)
    assert (found.status, found.streak) == ("healthy", 0)
    found = found.after(result(-1), check, 40)
    assert (found.status, found.streak) == ("healthy", 1)


def test_failures_in_the_start_period_do_not_count() -> None:
    check, found = Check(("x",), retries=1, start_period=10), Health()
    found = found.after(result(1), check, 5)
    assert (found.status, found.streak) == ("starting", 0)
    assert found.after(result(1), check, 11).status == "unhealthy"
    # once it was well, the start is over
    assert found.after(result(0), check, 6).after(result(1), check, 7).status == "unhealthy"


def test_five_results_are_remembered() -> None:
    found = Health()
    for code in range(7):
        found = found.after(result(code), Check(("x",)), 0)
    assert [each["ExitCode"] for each in found.results] == [2, 3, 4, 5, 6]
    assert found.to_json() == {"Status": "unhealthy", "FailingStreak": 6, "Log": list(found.results)}


def test_monitor() -> None:
    codes, seen, enough = iter((1, 0, 0, 0, 0, 0)), [], threading.Event()

    def write(found: Health) -> None:
        seen.append(found.status)
        if len(seen) == 3:
            enough.set()

    with Monitor(Check(("x",), interval=0.001, retries=1), lambda check: (next(codes), "said"), write):
        assert enough.wait(10)
    assert seen[:3] == ["starting", "unhealthy", "healthy"]
