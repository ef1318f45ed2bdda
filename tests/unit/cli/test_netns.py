"""orca-netns: what its command line means."""

from __future__ import annotations

import pytest

from orca.cli import netns
from orca.errors import UsageError
from orca.executor.netcommand import Request
from orca.executor.network import Port


def request(*words: str) -> Request:
    return netns.make_request(netns.make_parser().parse(words))


@pytest.mark.parametrize("words", [["--", "ls", "-l", "--", "x"], ["ls", "-l", "--", "x"]])
def test_the_command_is_taken_as_it_is(words: list[str]) -> None:
    assert request(*words) == Request(("ls", "-l", "--", "x"))


def test_options() -> None:
    found = request("-p", "8080:80", "--allow-host-loopback", "--", "httpd", "-p", "80")
    assert found == Request(("httpd", "-p", "80"), "default", (Port("0.0.0.0", 8080, 80),), True)
    assert request("--network", "none", "true").mode == "none"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which command"),
        (["--"], "which command"),
        (["--network", "host", "ls"], "invalid choice"),
        (["--network", "none", "-p", "1:2", "ls"], "--publish has no meaning"),
        (["--network", "none", "--allow-host-loopback", "ls"], "--allow-host-loopback has no meaning"),
        (["-p", "x", "ls"], "bad port"),
    ],
)
def test_bad_words(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        request(*words)


def test_help_has_the_name_of_the_tool() -> None:
    text = netns.make_parser().format_help()
    assert text.startswith("usage: orca-netns [options]")
    assert "orca-netns -- runc run" in text
