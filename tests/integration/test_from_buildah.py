"""docs/from-buildah.md: every line of its table, run in order on one store."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path

from support.kitchen import BASE, Kitchen
from support.orca import CHECKOUT
from support.proc import run
from support.registry import Registry

ROW = re.compile(r"\| `(buildah .*|.=\$\(buildah .*)` \| `(.*)` \|")


def commands() -> list[str]:
    """The right column of the table."""
    lines = (CHECKOUT / "docs/from-buildah.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    found = [match[2].replace("\\|", "|") for line in rows if (match := ROW.fullmatch(line))]
    assert len(found) == len(rows) > 50
    return found


def test_each_line(fresh: Kitchen, registry: Registry) -> None:
    place = fresh.context({"Dockerfile": f"FROM {BASE}\nRUN touch /built\n", "site/index.html": "<p>It works"})
    pack(place / "site.tar", "packed")
    # Each line stands alone in its record; at the first that fails the script ends, and the record says which.
    script = ["set -eu", f'orca() {{ {fresh.orca.command()[0]} "$@"; }}']
    for command in commands():
        script += [f"echo {quoted(command)} >> lines", f"{command} >> said"]
    environment = {**fresh.orca.environment(), "REGISTRY": registry.address, "SOURCE_DATE_EPOCH": "1700000000"}
    found = run("sh", "-c", "\n".join(script), env=environment, cwd=place, check=False)
    last = (place / "lines").read_text().splitlines()[-1]
    assert found.returncode == 0, f"{last}\n{found}"
    config = json.loads(fresh.orca("inspect", "app").stdout)[0]["config"]
    made = config["config"]
    assert config["author"] == "Me"
    assert made["Env"][-1] == "MODE=fast" and made["Labels"] == {"title": "My app"}
    assert (made["User"], made["WorkingDir"], made["StopSignal"]) == ("daemon", "/srv", "SIGINT")
    assert (made["Entrypoint"], made["Cmd"], made["OnBuild"]) == (["/bin/sh"], ["-c", "id"], ["RUN true"])
    assert made["ExposedPorts"] == {"80/tcp": {}} and made["Volumes"] == {"/data": {}}
    look = "cat /srv/index.html /srv/www/index.html /srv/packed; ls -n /srv/passwd | cut -c 1-10"
    shown = fresh.orca("run", "app", "-c", look).stdout
    assert shown == "<p>It works<p>It workspacked-rw-r--r--\n"
    assert fresh.orca("steps", "-q").stdout == ""


def pack(path: Path, name: str) -> None:
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(name)
        archive.addfile(entry, io.BytesIO(name.encode()))


def quoted(text: str) -> str:
    """For a shell, as it is."""
    return "'" + text.replace("'", "'\\''") + "'"
