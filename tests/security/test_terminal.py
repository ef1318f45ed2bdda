"""What others say on our terminal: escape sequences in everything that can have a name or a message."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Callable

import pytest
from security.conftest import BOUND, Attack, harmless
from support.hostile import HostileRegistry

Base = Callable[..., str]

EVIL = "\x1b]52;c;ZXZpbA==\x07\x1b]0;title\x07\x1b[2J\x1b[1A\x9b31m\u202etxt\x08\r\x1b[6n"
DRIVES = re.compile(r"\x1b\]|\x1b\[2J|\x1b\[6n|\x9b|\u202e|\x07|\x08")
"""What no view of orca's own ever writes."""


def on_terminal(attack: Attack, *words: str) -> str:
    """What a build shows on a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    environment = {**attack.orca.environment(), "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}
    process = subprocess.Popen(
        attack.orca.command(*words), stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=attack.orca.top
    )
    os.close(theirs)
    said, deadline = bytearray(), time.monotonic() + BOUND
    try:
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 0.2)[0]:
                if process.poll() is not None:
                    break
                continue
            try:
                data = os.read(ours, 65536)
            except OSError:
                break
            if not data:
                break
            said += data
        assert process.wait(timeout=5) is not None
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return said.decode("utf-8", "replace")


@pytest.mark.parametrize("progress", ["plain", "tty", "json"])
def test_output_of_a_run(attack: Attack, busybox: str, progress: str) -> None:
    """Sequences that set title, clipboard, cursor; half ones at the end of a chunk; a flood without lines."""
    octal = "".join(f"\\{byte:03o}" for byte in EVIL.encode())
    context = attack.context(
        f"FROM {busybox}\nRUN printf '{octal}\\n{octal}'; printf '{octal}' >&2; "
        "printf '\\033'; sleep 0.3; printf ']0;x\\007after\\n'; "
        f"for i in 1 2 3; do head -c 200000 /dev/zero | tr '\\0' x; done; exit 3\n"
    )
    said = on_terminal(attack, "build", f"--progress={progress}", str(context))
    assert not DRIVES.search(said), [said[max(0, m.start() - 60) : m.end() + 20] for m in DRIVES.finditer(said)][:3]
    assert "after" in said or progress == "tty"


def test_names_in_a_context(attack: Attack, busybox: str) -> None:
    for words in (f"COPY {EVIL.replace(chr(13), '')} /x", "COPY missing* /", "COPY d /x"):
        context = attack.context({"Dockerfile": f"FROM {busybox}\n{words}\n", "d/x": "x"})
        os.mkfifo(context / "d" / EVIL.replace("/", ""))
        attack.refused(context, "error") if "missing" not in words else attack(context)
        said = on_terminal(attack, "build", str(context))
        assert not DRIVES.search(said), repr(said)


@pytest.mark.parametrize(
    "instruction",
    [
        "RUN echo {} && false",
        "LABEL a={}",
        "FROM {}",
        "{} x",
        "USER {}\nRUN id",
        "WORKDIR /{}\nRUN false",
        "ENV A={}\nRUN false",
        "COPY --chown={} Dockerfile /",
        "EXPOSE {}",
        "# {}\nRUN false",
        "ARG {}",
    ],
)
def test_words_of_a_dockerfile(attack: Attack, busybox: str, instruction: str) -> None:
    word = EVIL.replace("\r", "")
    context = attack.context(f"FROM {busybox}\n{instruction.format(word)}\n")
    if "echo" not in instruction:  # to what is no terminal the output of a RUN goes as it is
        attack(context, "--explain")
    said = on_terminal(attack, "build", str(context))
    assert not DRIVES.search(said), repr(said)


def test_words_of_a_command_line(attack: Attack, busybox: str) -> None:
    context = attack.context(f"FROM {busybox}\n")
    for option in (
        f"--tag={EVIL}",
        f"--target={EVIL}",
        f"--file={EVIL}",
        f"--platform={EVIL}",
        f"--build-arg={EVIL}",
        f"--output={EVIL}",
        f"--add-host={EVIL}",
        f"--network={EVIL}",
        f"--{EVIL}",
    ):
        attack(context, option)
        assert not DRIVES.search(on_terminal(attack, "build", option, str(context)))


def test_labels_and_history_of_an_image(attack: Attack, base: Base) -> None:
    image = base(
        config={"Labels": {EVIL: EVIL}, "Cmd": [EVIL], "User": "0", "Entrypoint": [EVIL], "Env": [f"A={EVIL}"]}
    )
    attack.fine(f"FROM {image}\nLABEL {json.dumps('x')}=y\n", "-t", "evil")
    for words in (
        ("images",),
        ("inspect", "evil"),
        ("history", "evil"),
        ("inspect", "--json", "evil"),
        ("history", "--json", "evil"),
    ):
        result = attack.orca(*words, check=False)
        harmless(result)
        assert not DRIVES.search(on_terminal(attack, *words))


def test_message_of_a_registry(attack: Attack, evil: HostileRegistry) -> None:
    body = json.dumps({"errors": [{"code": "DENIED", "message": EVIL, "detail": EVIL}]}, ensure_ascii=False).encode()
    for code in (400, 401, 404, 500):
        evil.table["/v2/says/manifests/latest"] = lambda handler, code=code: handler.say(code, body)  # type: ignore[misc]
        context = attack.context(f"FROM {evil.address}/says:latest\n")
        attack.refused(context, "error")
        assert not DRIVES.search(on_terminal(attack, "build", str(context)))


def test_name_in_a_layer(attack: Attack, base: Base) -> None:
    """What umoci says about a name that a layer has."""
    from support.hostile import directory, file, tar

    image = base(tar(file(EVIL.replace("/", "") + "/x"), directory("a" * 300 + EVIL)))
    context = attack.context(f"FROM {image}\nRUN ls -la /; false\n")
    attack.refused(context, "error")
    assert not DRIVES.search(on_terminal(attack, "build", str(context)))
