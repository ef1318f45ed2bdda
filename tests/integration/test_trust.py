"""Signatures and the policy that asks for them: skopeo's, with a GPG key made for the test."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import need
from support.orca import Orca
from support.proc import run
from support.registry import Registry
from support.users import SYSTEM_PATH

PLAIN = "--tls-verify=false"


@dataclass(frozen=True)
class Keys:
    """A key ring with one secret key; `file` has the public one."""

    ring: Path
    fingerprint: str
    file: Path


@pytest.fixture(scope="module")
def keys() -> Iterator[Keys]:
    need("gpg")
    with tempfile.TemporaryDirectory(prefix="gpg") as text:  # not deep: its agent's socket has a short name
        ring = Path(text)
        env = {"PATH": SYSTEM_PATH, "GNUPGHOME": text, "HOME": text}
        words = ("gpg", "--batch", "-q", "--passphrase", "")
        run(*words, "--quick-gen-key", "Test <t@localhost>", "rsa2048", "sign", "never", env=env)
        listed = run("gpg", "--batch", "--list-keys", "--with-colons", env=env).stdout
        fingerprint = next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr"))
        run("gpg", "--batch", "--output", ring / "public", "--export", env=env)
        yield Keys(ring, fingerprint, ring / "public")
        run("gpgconf", "--kill", "gpg-agent", env=env, check=False)


@dataclass(frozen=True)
class Home:
    """A home directory of the test's own, where skopeo finds its policy and where signatures are."""

    path: Path

    def policy(self, **scopes: object) -> Path:
        """Write the user's policy: everything is refused but what `scopes` names; returns the file."""
        value = {"default": [{"type": "reject"}], "transports": {"docker": {k: [v] for k, v in scopes.items()}}}
        path = self.path / ".config/containers/policy.json"
        path.write_text(json.dumps(value))
        return path


@pytest.fixture
def home(orca: Orca, keys: Keys) -> Home:
    path = orca.top / "home"
    lookaside = path / ".config/containers/registries.d/all.yaml"
    lookaside.parent.mkdir(parents=True)
    place = f"file://{orca.top}/signatures"
    lookaside.write_text(f"default-docker:\n  lookaside: {place}\n  lookaside-staging: {place}\n")
    orca.env |= {"HOME": str(path), "GNUPGHOME": str(keys.ring)}
    return Home(path)


def signed_by(keys: Keys) -> dict[str, str]:
    return {"type": "signedBy", "keyType": "GPGKeys", "keyPath": str(keys.file)}


def test_what_a_policy_refuses_stays_out(orca: Orca, busybox: str, registry: Registry, home: Home) -> None:
    good, bad = f"{registry.address}/good/app:1", f"{registry.address}/bad/app:1"
    home.policy(**{f"{registry.address}/good": {"type": "insecureAcceptAnything"}})
    for place in (good, bad):
        orca("push", "-q", PLAIN, busybox, place)  # our own images are not judged
    assert orca("pull", "-q", PLAIN, good).returncode == 0
    (orca.top / "Dockerfile").write_text(f"FROM {bad}\nRUN true\n")
    for words in (
        ("pull", PLAIN, bad),
        ("build", PLAIN, "-q", "-f", "Dockerfile", "home"),
        ("run", PLAIN, bad, "true"),
    ):
        failed = orca(*words, check=False)
        assert failed.returncode == 125, failed
        assert f"{bad}: the signature policy refuses it" in " ".join(failed.stderr.split()), failed
    assert bad not in orca("images", "--json").stdout
    assert orca("push", "-q", busybox, "oci-archive:out.tar").returncode == 0


def test_signatures(orca: Orca, busybox: str, registry: Registry, home: Home, keys: Keys) -> None:
    one, other, plain = (f"{registry.address}/signed/{name}" for name in ("app:1", "app:2", "plain:1"))
    digest = orca("push", "-q", PLAIN, "--sign-by", keys.fingerprint, busybox, one).out
    orca("push", "-q", PLAIN, busybox, plain)
    orca("push", "-q", PLAIN, busybox, other)  # an image that is signed, under a tag that is not
    home.policy(**{registry.address: signed_by(keys)})
    assert orca("pull", "-q", PLAIN, one).out == digest
    assert orca("pull", "-q", PLAIN, f"{one[:-2]}@{digest}").out == digest
    assert orca("pull", "-q", PLAIN, "--all-platforms", one).out == digest
    for place, why in ((plain, "A signature was required"), (other, "Signature for identity")):
        failed = orca("pull", PLAIN, place, check=False)
        assert failed.returncode == 125
        assert "the signature policy refuses it" in failed.stderr and why in failed.stderr
        assert place not in orca("images", "--json").stdout


def test_a_policy_for_one_command(orca: Orca, busybox: str, registry: Registry, home: Home, keys: Keys) -> None:
    place = f"{registry.address}/one/command:1"
    orca("push", "-q", PLAIN, busybox, place)
    strict = home.policy(**{registry.address: signed_by(keys)}).rename(orca.top / "strict.json")
    home.policy(**{registry.address: {"type": "insecureAcceptAnything"}})
    assert orca("pull", "-q", PLAIN, place).returncode == 0
    failed = orca("pull", PLAIN, "--signature-policy", strict, place, check=False)
    assert failed.returncode == 125 and "A signature was required" in failed.stderr
    failed = orca("pull", PLAIN, "--signature-policy", "none.json", place, check=False)
    assert failed.returncode == 2 and "is missing or no JSON" in failed.stderr


def test_what_cannot_be(orca: Orca, busybox: str, registry: Registry, home: Home, keys: Keys) -> None:
    place = f"{registry.address}/cannot/be:1"
    failed = orca("push", PLAIN, "--sign-by", "0" * 40, busybox, place, check=False)
    assert failed.returncode == 125 and "it cannot be signed" in failed.stderr
    failed = orca("push", PLAIN, "--sign-passphrase-file", "x", busybox, place, check=False)
    assert failed.returncode == 2 and "without a key" in failed.stderr
    orca("push", "-q", PLAIN, busybox, place)
    home.policy(x={"type": "sometimes"})
    failed = orca("pull", PLAIN, place, check=False)
    assert failed.returncode == 125 and "Traceback" not in failed.stderr
    assert "the signature policy refuses it" in failed.stderr, failed
