"""--secret and --ssh: where they come from, and what is refused."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.proc import run

from orca.cli.flags.secrets import LIMIT, agents, secrets
from orca.errors import OrcaError, UsageError

ENVIRON = {"TOKEN": "of the environment", "other": "o"}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory with a secret in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key").write_bytes(b"of the \xff file\n")
    (tmp_path / "a=b").write_bytes(b"equals")
    return tmp_path


@pytest.mark.parametrize(
    ("word", "name", "value"),
    [
        ("id=s,src=key", "s", b"of the \xff file\n"),
        ("id=s,source=key", "s", b"of the \xff file\n"),
        ("type=file,id=s,src=key", "s", b"of the \xff file\n"),
        ("src=./key", "key", b"of the \xff file\n"),
        ("id=key", "key", b"of the \xff file\n"),
        ("id=s,src=a=b", "s", b"equals"),
        ("id=s,env=TOKEN", "s", b"of the environment"),
        ("id=s,type=env,env=TOKEN", "s", b"of the environment"),
        ("id=s,type=env,src=TOKEN", "s", b"of the environment"),
        ("id=TOKEN", "TOKEN", b"of the environment"),
        ("id=TOKEN,type=env", "TOKEN", b"of the environment"),
    ],
)
def test_secrets(files: Path, word: str, name: str, value: bytes) -> None:
    assert secrets([word], ENVIRON) == {name: value}


def test_several_and_none(files: Path) -> None:
    assert secrets([], ENVIRON) == {}
    assert set(secrets(["id=a,src=key", "id=b,env=other"], ENVIRON)) == {"a", "b"}


@pytest.mark.parametrize(
    "word",
    ["", "x", "src=", "env=TOKEN", "id=s,src=key,env=TOKEN", "id=s,src=key,mode=1", "id=s,type=vault", "id=s,,src=key",
     "id=s,src=key,source=key"],
)  # fmt: skip
def test_bad_words(files: Path, word: str) -> None:
    with pytest.raises(UsageError, match="bad --secret") as caught:
        secrets([word], ENVIRON)
    assert "id=NAME,src=FILE" in (caught.value.hint or "")


def test_what_is_not_there(files: Path) -> None:
    with pytest.raises(UsageError, match="--secret s: NOT is not in the environment"):
        secrets(["id=s,env=NOT"], ENVIRON)
    # It asked for the environment: a file of that name is not it.
    with pytest.raises(UsageError, match="--secret key: key is not in the environment"):
        secrets(["id=key,type=env"], ENVIRON)
    with pytest.raises(OrcaError, match="--secret s: cannot read none: No such file or directory"):
        secrets(["id=s,src=none"], ENVIRON)
    # It asked for a file: a variable of that name is not it.
    with pytest.raises(OrcaError, match="cannot read TOKEN"):
        secrets(["id=TOKEN,type=file"], ENVIRON)


def test_what_is_no_file(files: Path) -> None:
    os.mkfifo(files / "pipe")
    for name in ("pipe", ".", "/dev/zero"):
        with pytest.raises(OrcaError, match=r"is not a regular file|Is a directory"):
            secrets([f"id=s,src={name}"], ENVIRON)


def test_the_limit(files: Path) -> None:
    (files / "big").write_bytes(b"x" * LIMIT)
    assert len(secrets(["id=s,src=big"], {})["s"]) == LIMIT
    (files / "big").write_bytes(b"x" * (LIMIT + 1))
    with pytest.raises(OrcaError, match="larger than 512000 bytes"):
        secrets(["id=s,src=big"], {})


@pytest.fixture
def agent() -> Iterator[Path]:
    """A socket with a short name."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{directory}/s")
        yield Path(directory) / "s"


def test_agents(agent: Path) -> None:
    environ = {"SSH_AUTH_SOCK": str(agent)}
    assert agents([], environ) == ({}, {})
    assert agents(["default"], environ) == ({"default": str(agent)}, {})
    assert agents(["k"], environ) == ({"k": str(agent)}, {})
    assert agents([f"k={agent}", "default"], environ) == ({"k": str(agent), "default": str(agent)}, {})
    with pytest.raises(UsageError, match="--ssh k is given twice"):
        agents([f"k={agent}", "k"], environ)


def test_no_agents(agent: Path, files: Path) -> None:
    for word, environ in (("default", {}), ("", {"SSH_AUTH_SOCK": str(agent)}), (f"={agent}", {})):
        with pytest.raises(UsageError, match="there is no agent") as caught:
            agents([word], environ)
        assert "--ssh NAME=SOCKET" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="No such file or directory"):
        agents(["k=none"], {})
    with pytest.raises(UsageError, match="key is no private key") as refused:
        agents(["k=key"], {})
    assert ".pub" in (refused.value.hint or "")
    with pytest.raises(UsageError, match="one socket, or keys"):
        agents([f"k={agent},key"], {})


@pytest.mark.parametrize(("kind", "form"), [("ed25519", ()), ("rsa", ("-m", "PEM")), ("rsa", ("-m", "PKCS8"))])
def test_keys(files: Path, kind: str, form: tuple[str, ...]) -> None:
    for name, phrase in (("open", ""), ("closed", "phrase")):
        run("ssh-keygen", "-q", "-t", kind, *form, "-N", phrase, "-f", name, "-C", "c")
    assert agents(["k=open,open"], {}) == ({}, {"k": ((files / "open").read_bytes(),) * 2})
    with pytest.raises(UsageError, match="closed has a passphrase") as caught:
        agents(["k=open,closed"], {})
    assert "ssh-add" in (caught.value.hint or "")
    with pytest.raises(UsageError, match=r"open.pub is no private key"):
        agents(["k=open.pub"], {})
