"""A recorded build that drives every view, and streams to draw it on."""

from __future__ import annotations

import io

import pytest

from orca import events
from orca.errors import Location


class FakeTerminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def tty() -> FakeTerminal:
    return FakeTerminal()


@pytest.fixture
def recorded() -> list[events.Event]:
    """Three steps: a pull, a RUN whose layer is committed while the cached third goes by."""
    layer = "sha256:" + "ab" * 32
    return [
        events.BuildStarted("b1", "Dockerfile", 3, ("localhost/app:latest",)),
        events.StepStarted(1, "0", "FROM debian:12", 1, "Everything is built on top of the image debian:12."),
        events.ToolStarted(1, 1, ("/usr/bin/skopeo", "copy", "docker://debian:12", "oci:images:debian"), "pull it"),
        events.Progress(1, "debian:12", 12_000_000, 48_000_000),
        events.ToolFinished(1, 1, 1.2, 0),
        events.StepFinished(1, 1.3, False),
        events.StepStarted(2, "0", "RUN echo hello && exit 0", 2, "Runs the command in a container."),
        events.Performed(2, ("mount", "-t", "overlay", "overlay", "/root"), "stack the layers"),
        events.ToolStarted(2, 2, ("runc", "run", "--bundle", "/b", "step2"), "run it"),
        events.Output(2, "hello"),
        events.Output(2, "\x1b[31mred\x1b[0m", "stderr"),
        events.ToolFinished(2, 2, 3.4, 0),
        events.StepFinished(2, 3.5, False),
        events.StepStarted(3, "0", "ENV A=b", 4, ""),
        events.ToolStarted(2, 3, ("umoci", "raw", "add-layer", "--image", "x:y", "/l.tar"), "store the layer"),
        events.StepFinished(3, 0.0, True),
        events.ToolFinished(2, 3, 0.04, 0),
        events.LayerCommitted(2, layer, 12_345_678, 0.5),
        events.Warned("JSON is better for CMD", 'write CMD ["x"]', Location("Dockerfile", 5, 5, 0, ("CMD x",))),
        events.BuildFinished(("localhost/app:latest",), "sha256:" + "cd" * 32, "", 60_345_678, 2, 5.1, 1, 3),
    ]
