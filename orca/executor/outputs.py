"""--output: where else an image goes. This version writes OCI layouts; more is refused by name."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from orca.errors import NotYet, UsageError
from orca.executor.options import Result
from orca.oci.image import Descriptor, check_digest
from orca.store.layout import Layout
from orca.store.store import Store
from orca.tools import skopeo
from orca.tools.command import Runner

_LAYOUT = re.compile(r"oci:(?P<directory>[^:]+)(?::(?P<tag>.+))?")
_KNOWN = ("type=", "oci-archive:", "docker-archive:", "docker://", "dir:", "containers-storage:", "docker-daemon:")


@dataclass(frozen=True)
class Output:
    """An OCI layout to write to; `tag` may be empty."""

    directory: str
    tag: str


def parse(word: str) -> Output:
    """`oci:DIR[:TAG]`. Raises UsageError; NotYet for what this version does not write."""
    match = _LAYOUT.fullmatch(word)
    if match:
        return Output(os.path.abspath(match["directory"]), match["tag"] or "latest")
    if word.startswith(_KNOWN) or ("," not in word and ":" not in word):
        raise NotYet(f"--output {word} is not supported yet", hint="oci:DIR:TAG is")
    raise UsageError(f"bad --output {word!r}", hint="write oci:DIR:TAG")


def write(output: Output, result: Result, store: Store, runner: Runner) -> None:
    """Copy the image (or the whole index) to the layout."""
    target = f"oci:{output.directory}:{output.tag}"
    words = ("--all",) if result.index else ()
    send(result.descriptor, target, store, runner, words, why="write the image as an OCI layout")


def send(
    descriptor: Descriptor, target: str, store: Store, runner: Runner, options: Sequence[str] = (), *, why: str
) -> str:
    """Copy the image or index `descriptor` to `target`, anything that skopeo can write to.

    Returns the digest of what was written. skopeo reads a private layout, so that names which come and
    go in the store meanwhile do not matter. Raises ToolError.
    """
    with store.scratch() as scratch:
        layout = Layout(scratch / "layout").create(blobs=store.images.path / "blobs")
        layout.write_index({"image": descriptor})
        digest_file = scratch / "digest"
        words = (f"--digestfile={digest_file}", *options)
        runner.run(skopeo.copy(f"oci:{layout.path}:image", target, *words, why=why))
        return check_digest(digest_file.read_text().strip())
