"""A build as a shell script: the very commands that it ran, with what each is for.

What a shell can do by hand stands there as a command: skopeo, umoci and tar, on a layout of the script's own. What
needed the sandbox around it (mounts, the container, its network) stands there as a comment, and what it wrote comes
from the layer, which the store has. So the script makes the same layers again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from orca.ui import human
from orca.ui.account import Account, Call, StepAccount
from orca.ui.escape import visible
from orca.ui.shell import shell_word

_WIDTH = 110
_REF = "step"
"""The name of the image in a layout of a stage."""


@dataclass(frozen=True)
class Start:
    """The image that a layout begins with: its manifest, and all digests that it consists of."""

    media_type: str
    digest: str
    size: int
    blobs: tuple[str, ...]


_HEAD = """\
#!/bin/bash
# {title}
# {about}
#
# Commands are those that orca ran; lines behind "#  $" needed orca's sandbox, and are here to be read.
# As root, bash replays it: the layers come out the same. Needs skopeo, umoci, GNU tar, gzip.
set -eu
STORE=${{ORCA_ROOT:-{store}}}
WORK=$(mktemp -d)
echo "working in $WORK" >&2
"""

_BEGIN = """
# begin LAYOUT MEDIA-TYPE DIGEST SIZE BLOB...: a layout that holds an image of the store.
begin() {
    mkdir -p "$1/blobs/sha256"
    printf '{"imageLayoutVersion":"1.0.0"}' > "$1/oci-layout"
    printf '{"schemaVersion":2,"manifests":[{"mediaType":"%s","digest":"%s","size":%s,"annotations":' \\
        "$2" "$3" "$4" > "$1/index.json"
    printf '{"org.opencontainers.image.ref.name":"%s"}}]}' step >> "$1/index.json"
    layout=$1
    shift 4
    for blob in "$@"; do cp "$STORE/images/blobs/sha256/${blob#sha256:}" "$layout/blobs/sha256/"; done
}
"""

_WRITTEN = """
# written DIRECTORY DIGEST: what a step wrote, as its layer in the store has it.
written() {
    mkdir -p "$1/fs" "$1/pack"
    gzip -dc "$STORE/images/blobs/sha256/${2#sha256:}" > "$1/pack/layer.tar"
    tar --extract --file="$1/pack/layer.tar" --directory="$1/fs" --numeric-owner --same-permissions \\
        --xattrs --xattrs-include='*'
    tar --list --file="$1/pack/layer.tar" --quoting-style=literal | tr '\\n' '\\0' > "$1/pack/listing"
}
"""


class Script:
    """Writes the script of one build. `root` is the store, `starts` what layouts begin with, by their paths."""

    def __init__(self, account: Account, root: str, starts: Mapping[str, Start]) -> None:
        self._account = account
        self._root = root
        self._starts = starts
        self._begun: set[str] = set()
        self._places = re.compile(f"({re.escape(root)}/work/[0-9a-f]{{8}}|{re.escape(root)})(?=[/:,]|$)")

    def text(self) -> str:
        """The whole script."""
        account = self._account
        body = [*self._calls([call for call in account.calls if call.step is None], None)]
        for step in account.steps:
            body += self._step(step)
        body += self._end()
        names = f" of {', '.join(account.tags)}" if account.tags else ""
        title = visible(f"The build {account.build}{names} from {account.dockerfile}")
        count = f"{human.count(len(account.steps), 'step')}, {account.cached} of them cached: those ran no command."
        head = _HEAD.format(title=title, about=count, store=shell_word(self._root))
        needed = "\n".join(body)
        functions = [text for word, text in (("begin ", _BEGIN), ("written ", _WRITTEN)) if f"\n{word}" in needed]
        return head + "".join(functions) + needed + "\n"

    def _step(self, step: StepAccount) -> Iterator[str]:
        total = len(self._account.steps)
        yield ""
        yield f"# [{step.number}/{total}] {visible(step.text)}"
        if step.why:
            yield from human.wrap(visible(step.why), _WIDTH, first="#   ", indent="#   ")
        if step.cached:
            yield "#   It was in the cache."
        yield from self._calls(step.calls, step)
        if step.layer:
            yield f"#   made the layer {visible(step.layer)} ({human.size(step.size)})"
        elif step.layer == "":
            yield "#   changed nothing, so there is no new layer"
        if step.failed is not None:
            yield from human.wrap(visible(step.failed), _WIDTH, first="#   FAILED: ", indent="#   ")

    def _calls(self, calls: Sequence[Call], step: StepAccount | None) -> Iterator[str]:
        """The commands of a step; an archive goes to the command that takes it."""
        waiting: Call | None = None
        for call in calls:
            if call.argv[:2] == ("tar", "--create") and step is not None:
                waiting = call
            elif call.argv[:3] == ("umoci", "raw", "add-layer") and waiting is not None and step is not None:
                yield from self._pack(waiting, call, step)
                waiting = None
            else:
                yield from self._call(call)

    def _pack(self, tar: Call, umoci: Call, step: StepAccount) -> Iterator[str]:
        lines = [*self._command(tar), *self._command(umoci)]
        lines[len(self._command(tar)) - 1] += " |"
        place = next((word for word in tar.argv if word.startswith("--directory=")), "").removeprefix("--directory=")
        begin = self._begin(umoci)
        yield f"# {visible(tar.why)}; {visible(umoci.why)}"
        if begin is None or not step.layer or not place.endswith("/fs"):
            yield from (f"#  $ {line}" for line in lines)
            return
        yield from begin
        yield f"written {self._word(place.removesuffix('/fs'))} {shell_word(step.layer)}"
        yield from lines

    def _call(self, call: Call) -> Iterator[str]:
        yield f"# {visible(call.why)}" + (" (by system call)" if call.by_orca else "")
        begin = self._begin(call)
        prefix = "" if begin is not None else "#  $ "
        yield from begin or ()
        for line in self._command(call):
            yield prefix + line
        if call.exit_code:
            yield f"#   ended with code {call.exit_code}"

    def _begin(self, call: Call) -> list[str] | None:
        """What has to be done before the command can run by itself; None when it cannot."""
        tool = call.argv[0].rpartition("/")[2] if call.argv and not call.by_orca else ""
        if tool == "skopeo":
            return [] if call.exit_code == 0 else None
        if tool != "umoci" or call.exit_code != 0 or "--image" not in call.argv[:-1]:
            return None
        layout = call.argv[call.argv.index("--image") + 1].rpartition(":")[0]
        if call.argv[1] == "new":
            self._begun.add(layout)
        if layout in self._begun:
            return []
        start = self._starts.get(layout)
        if start is None:
            return None
        self._begun.add(layout)
        words = [shell_word(word) for word in (start.media_type, start.digest, str(start.size), *start.blobs)]
        return [f"begin {self._word(layout)} {' '.join(words[:3])} \\", f"    {' '.join(words[3:])}"]

    def _command(self, call: Call) -> list[str]:
        """A command in lines of a bearable length."""
        lines, line = [], ""
        for word in map(self._word, call.argv):
            if line and len(line) + len(word) > _WIDTH:
                lines.append(line + " \\")
                line = "   "
            line += f" {word}" if line else word
        return [*lines, line]

    def _word(self, word: str) -> str:
        """A word quoted, with the store and the scratch directory as variables."""
        parts = []
        for number, part in enumerate(self._places.split(word)):
            if number % 2:
                parts.append('"$STORE"' if part == self._root else '"$WORK"')
            elif part or not word:
                parts.append(shell_word(part))
        return "".join(parts)

    def _end(self) -> Iterator[str]:
        """What came of it."""
        account = self._account
        yield ""
        if account.digest is None:
            yield f"# The build is {account.status}: {visible(account.failed or 'it was interrupted')}"
        else:
            yield f"# The image was {visible(account.digest)}. Besides these calls orca has written its config anew:"
            yield "# umoci does not know HEALTHCHECK, ONBUILD and SHELL."
        for layout in sorted(self._begun):
            yield f"umoci stat --image {self._word(layout)}:{_REF}"
