"""A build told from its record: as a script, and as a page. Records are what a hostile Dockerfile left in them."""

from __future__ import annotations

import re
import shlex
from html.parser import HTMLParser
from typing import Any

import pytest

from orca import events
from orca.ui import account as accounts
from orca.ui import report
from orca.ui.account import Account
from orca.ui.script import Script, Start

ROOT = "/store"
WORK = f"{ROOT}/work/0123abcd"
ADD = ("umoci", "raw", "add-layer", "--image", f"{WORK}/layout-1:step", "/dev/stdin")
LAYER = "sha256:" + "1" * 64
EVIL = "RUN echo '</script><img src=x onerror=alert(1)>' \x1b[31m \u202e; $(touch /tmp/x) `id`"


def recorded(*found: events.Event) -> list[dict[str, Any]]:
    return [{"time": 100.0 + number / 2, **event.to_json()} for number, event in enumerate(found)]


def build(text: str = "RUN make", **more: Any) -> list[dict[str, Any]]:
    pack = ("tar", "--create", f"--directory={WORK}/step-1/fs", f"--files-from={WORK}/step-1/pack/listing")
    return recorded(
        events.BuildStarted("20260101T000000-0000", "Dockerfile", 2, ("localhost/app:latest",)),
        events.StepStarted(1, "0", "FROM busybox", 1, "It begins."),
        events.StepFinished(1, 0.1, cached=True),
        events.StepStarted(2, "0", text, 2, "runc runs it."),
        events.Performed(2, ("mount", "-t", "overlay", f"lowerdir={ROOT}/snapshots/a/fs:{WORK}/b"), "stack"),
        events.ToolStarted(2, 1, ("runc", "run", "--bundle", f"{WORK}/volatile/run"), "run it"),
        events.ToolFinished(2, 1, 0.25, 0),
        events.ToolStarted(2, 2, pack, "pack it"),
        events.StepFinished(2, 1.0, cached=False),
        events.ToolStarted(2, 3, ADD, "add"),
        events.ToolFinished(2, 3, 0.5, 0),
        events.ToolFinished(2, 2, 0.5, 0),
        events.LayerCommitted(2, LAYER, 1234, 0.5),
        events.BuildFinished(("localhost/app:latest",), "sha256:" + "2" * 64, "sha256:c", 1234, 1, 6.5, 1, 2),
    )


def test_an_account_has_steps_with_their_calls() -> None:
    account = accounts.tell(build())
    assert (account.build, account.status, account.cached) == ("20260101T000000-0000", "done", 1)
    assert account.seconds == 6.5
    first, second = account.steps
    assert (first.cached, first.calls) == (True, [])
    assert [call.argv[0] for call in second.calls] == ["mount", "runc", "tar", "umoci"]
    assert [call.by_orca for call in second.calls] == [True, False, False, False]
    assert second.calls[1].seconds == 0.25
    assert (second.layer, second.size, second.begun, second.committed) == (LAYER, 1234, 1.5, 6.0)


def test_a_record_that_just_ends_is_one_of_an_unfinished_build() -> None:
    assert accounts.tell(build()[:-1]).status == "unfinished"
    assert accounts.tell([]).status == "unfinished"


def test_a_failure_is_told() -> None:
    found = [*build()[:7], {"time": 104, **events.StepFailed(2, 1.0, "it broke").to_json()}]
    account = accounts.tell(found)
    assert (account.status, account.failed, account.steps[1].failed) == ("failed", "it broke", "it broke")
    assert "it broke" in report.page(account)
    assert "FAILED: it broke" in Script(account, ROOT, {}).text()


@pytest.mark.parametrize("position", range(14))
@pytest.mark.parametrize("damage", [{}, {"time": None}, {"step": [], "call": {}}, {"argv": 3, "text": None}])
def test_a_damaged_record_is_told_as_far_as_it_goes(position: int, damage: dict[str, Any]) -> None:
    found = build()
    found[position] = {**found[position], **damage} if damage else {}
    account = accounts.tell(found)
    assert len(account.steps) <= 2
    assert report.page(account).endswith("</html>\n")
    assert Script(account, ROOT, {}).text().startswith("#!/bin/bash")


# -- the script


def lines(account: Account, starts: dict[str, Start] | None = None) -> list[str]:
    return Script(account, ROOT, starts or {}).text().splitlines()


START = Start("application/vnd.oci.image.manifest.v1+json", "sha256:" + "3" * 64, 99, ("sha256:" + "3" * 64,))


def test_a_shell_does_what_can_be_done_by_hand() -> None:
    found = lines(accounts.tell(build()), {f"{WORK}/layout-1": START})
    assert '#  $ runc run --bundle "$WORK"/volatile/run' in found
    assert '#  $ mount -t overlay lowerdir="$STORE"/snapshots/a/fs:"$WORK"/b' in found
    assert f'written "$WORK"/step-1 {LAYER}' in found
    assert 'umoci raw add-layer --image "$WORK"/layout-1:step /dev/stdin' in found
    assert found.index(f'written "$WORK"/step-1 {LAYER}') > next(
        number for number, line in enumerate(found) if line.startswith('begin "$WORK"/layout-1')
    )
    assert not [line for line in found if WORK in line]


def test_what_the_store_no_longer_has_is_a_comment() -> None:
    commands = [line for line in lines(accounts.tell(build())) if "add-layer" in line]
    assert commands == ['#  $ umoci raw add-layer --image "$WORK"/layout-1:step /dev/stdin']


def test_an_instruction_stays_within_its_comment() -> None:
    found = build(EVIL + "\ntouch /tmp/y")
    text = Script(accounts.tell(found), ROOT, {}).text()
    assert "\x1b" not in text
    assert "\u202e" not in text
    (line,) = [line for line in text.splitlines() if "onerror" in line]
    assert line.startswith("# [2/2] RUN")
    assert "\\ntouch /tmp/y" in line


def test_words_of_a_command_are_quoted() -> None:
    found = build()
    found[5]["argv"] = ["skopeo", "copy", "$(id)", "a b", f"{ROOT}/x y/'z", f"{ROOT}er", ""]
    (line,) = [line for line in lines(accounts.tell(found)) if line.startswith("skopeo")]
    assert shlex.split(line) == ["skopeo", "copy", "$(id)", "a b", "$STORE/x y/'z", f"{ROOT}er", ""]


# -- the page


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_needs_nothing_and_runs_nothing() -> None:
    text = report.page(accounts.tell(build(EVIL)))
    page = Page(text)
    assert not {"script", "img", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in page.tags}
    assert not [name for _, given in page.tags for name in given if name.startswith("on") or name in ("src", "href")]
    assert "url(" not in text
    assert ("meta", {"http-equiv": "Content-Security-Policy",
                     "content": "default-src 'none'; style-src 'unsafe-inline'"}) in page.tags  # fmt: skip
    assert "</script><img src=x onerror=alert(1)>" in page.text  # told as it is, as text
    assert "\\x1b[31m \\u202e" in page.text


def test_a_page_tells_everything() -> None:
    page = Page(report.page(accounts.tell(build())))
    for words in ("localhost/app:latest", "20260101T000000-0000", "done", "1 of 2 steps", "runc runs it.", "run it",
                  "runc run --bundle", LAYER, "1.2 kB", "by system call"):  # fmt: skip
        assert words in page.text, words
    bars = [given for tag, given in page.tags if tag == "rect"]
    assert [bar["class"] for bar in bars] == ["was", "commit", "run"]
    for bar in bars:
        left, width = (float(re.sub("%", "", bar[name] or "")) for name in ("x", "width"))
        assert left >= 0
        assert left + width <= 100.01
