"""Flags of docker buildx and buildah that orca has no use for: each with the reason, not "unrecognized".

Where a value says what orca does anyhow, it is accepted and changes nothing. docs/options.md has all of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from orca.errors import UsageError

TITLE = "flags of other builders"
ANY = ("*",)
FALSE, TRUE = ("false",), ("true",)
OURS = ("--layers", "--http-proxy", "--tls-verify")
"""Switches that mean something here and may have a value."""


@dataclass(frozen=True)
class Foreign:
    """`names` as one types them; `value` what follows (empty: a switch); `why` ends "orca …".

    `accepted` are the values that are as orca does anyhow, ANY for all of them.
    """

    names: str
    value: str
    accepted: tuple[str, ...]
    why: str
    hint: str = ""

    @property
    def first(self) -> str:
        return self.names.split()[-1]


# fmt: off
TABLE = (
    # What changes nothing here.
    Foreign("--compress", "", ANY, "sends no context anywhere"),
    Foreign("--disable-content-trust", "", ANY, "has no content trust to disable"),
    Foreign("-D --disable-compression", "", FALSE, "compresses every layer in its store",
            "-o type=oci,compression=uncompressed"),
    Foreign("--force-rm", "", ANY, "keeps no container"),
    Foreign("--rm", "", TRUE, "keeps no container", "--on-error=keep keeps a RUN that failed"),
    Foreign("--identity-label", "", FALSE, "adds no label of its own"),
    Foreign("--skip-unused-stages", "", TRUE, "builds the stages that are needed", "--target builds another one"),
    Foreign("--inherit-labels", "", TRUE, "keeps the base's labels", "--unsetlabel NAME takes one away"),
    Foreign("--isolation", "TYPE", ("oci", "rootless", "default"), "runs every RUN in a container of runc"),
    Foreign("--runtime", "PATH", ("runc",), "drives runc, found on PATH"),
    Foreign("--cgroupns", "HOW", ("private",), "shows a RUN no cgroups"),
    Foreign("--ipc", "HOW", ("private", "container"), "gives each RUN an IPC namespace of its own"),
    Foreign("--pid", "HOW", ("private", "container"), "gives each RUN a PID namespace of its own"),
    Foreign("--uts", "HOW", ("private", "container"), "gives each RUN a UTS namespace of its own"),
    Foreign("--userns", "HOW", ("private", "container", "auto"), "has one user namespace, for root and for others"),
    Foreign("--provenance", "WHAT", FALSE, "makes no attestations"),
    Foreign("--sbom", "WHAT", FALSE, "makes no attestations", "run a scanner on the image: -o type=oci,dest=image.tar"),
    Foreign("--builder", "NAME", ("default",), "builds here, by itself; there are no builders to choose from"),
    # What has another name.
    Foreign("--all-platforms", "", FALSE, "builds the platforms that it is told", "--platform linux/amd64,linux/arm64"),
    Foreign("--arch", "ARCH", (), "takes the whole platform in one word", "--platform linux/ARCH"),
    Foreign("--os", "OS", ("linux",), "takes the whole platform in one word", "--platform OS/ARCH"),
    Foreign("--variant", "VARIANT", (), "takes the whole platform in one word", "--platform linux/arm/VARIANT"),
    Foreign("--from", "IMAGE", (), "does not replace what a FROM says", "ARG BASE; FROM $BASE; --build-arg BASE=IMAGE"),
    Foreign("--debug", "", FALSE, "has other words for it", "--explain shows every tool call"),
    Foreign("--invoke", "COMMAND", (), "has another word for it", "--on-error=shell"),
    Foreign("--print", "WHAT", (), "has another word for it", "--call outline, --call targets"),
    Foreign("--pull-always", "", FALSE, "has another word for it", "--pull=always"),
    Foreign("--pull-never", "", FALSE, "has another word for it", "--pull=never"),
    Foreign("--logsplit", "", FALSE, "writes one log file; the logs of steps are apart in the store",
            "ORCA_ROOT/builds"),
    Foreign("--save-stages", "", FALSE, "keeps every step in its cache already",
            "--target STAGE -t NAME names a stage"),
    # What is not orca's to do.
    Foreign("--attest", "SPEC", (), "makes no attestations", "a scanner or signer can take the image from the store"),
    Foreign("--policy", "SPEC", (), "evaluates no policies"),
    Foreign("--source-policy-file", "FILE", (), "evaluates no policies"),
    Foreign("--cache-ttl", "TIME", (), "gives cached steps no age", "orca prune; --no-cache; --no-cache-filter STAGE"),
    Foreign("--cpp-flag", "FLAG", (), "runs no C preprocessor over a Dockerfile",
            "cpp -P Dockerfile.in | orca build -f - ."),
    Foreign("--created-annotation", "", FALSE, "adds no annotation of its own", "--annotation NAME=VALUE"),
    Foreign("--compat-volumes", "", FALSE, "keeps what a RUN writes into a VOLUME, as BuildKit does"),
    Foreign("--cw", "SPEC", (), "makes no images for confidential computing"),
    Foreign("--decryption-key", "KEY", (), "reads no encrypted layers", "skopeo copy --decryption-key KEY … oci:DIR"),
    Foreign("--group-add", "GROUP", (), "takes groups from the image", "RUN adduser USER GROUP"),
    Foreign("--hooks-dir", "DIR", (), "runs no OCI hooks in a build"),
    Foreign("--cdi-config-dir", "DIR", (), "knows no CDI devices", "--device /dev/NAME"),
    Foreign("--inherit-annotations", "", FALSE, "takes no annotations from a base", "--annotation NAME=VALUE"),
    Foreign("--layer-label", "LABEL", (), "labels images only", "--label NAME=VALUE"),
    Foreign("--omit-history", "", FALSE, "always says how an image was made"),
    Foreign("--os-feature", "FEATURE", (), "builds for Linux, which has none"),
    Foreign("--os-version", "VERSION", (), "builds for Linux, which has none"),
    Foreign("--runtime-flag", "FLAG", (), "gives runc its own flags", "--explain shows them"),
    Foreign("--rusage", "", FALSE, "measures steps, not processes", "the end of a build says how long each step took"),
    Foreign("--rusage-logfile", "FILE", (), "measures steps, not processes"),
    Foreign("--security-opt", "OPTION", (), "has one sandbox for every RUN",
            "RUN --security=insecure, with --allow security.insecure"),
    Foreign("--sign-by", "KEY", (), "signs what is pushed, by another command", "orca push --sign-by KEY"),
    Foreign("--stdin", "", FALSE, "gives a RUN an empty standard input"),
    Foreign("--transient-mount", "SPEC", (), "has another word for it", "--volume SOURCE:TARGET:ro"),
    Foreign("--unsetannotation", "NAME", (), "takes no annotations from a base"),
    Foreign("--userns-gid-map", "MAP", (), "maps the ids of /etc/subgid, all of them"),
    Foreign("--userns-gid-map-group", "NAME", (), "maps the ids of /etc/subgid that are yours"),
    Foreign("--userns-uid-map", "MAP", (), "maps the ids of /etc/subuid, all of them"),
    Foreign("--userns-uid-map-user", "NAME", (), "maps the ids of /etc/subuid that are yours"),
)
# fmt: on


def declare(add: Callable[..., Any]) -> None:
    """Add them to a parser's group; help does not show them."""
    for flag in TABLE:
        add(*flag.names.split(), action="append", default=[], dest=_dest(flag), metavar=flag.value or "BOOL",
            help=argparse.SUPPRESS)  # fmt: skip


def _dest(flag: Foreign) -> str:
    return f"foreign {flag.first}"


def complete(words: Sequence[str]) -> Iterator[str]:
    """Command-line words with `=true` for a switch that stands alone: what follows it is the next argument."""
    switches = {*OURS, *(name for flag in TABLE if not flag.value for name in flag.names.split())}
    for number, word in enumerate(words):
        if word == "--":
            yield from words[number:]
            return
        yield (f"{word}=true" if word.startswith("--") else f"{word}true") if word in switches else word


def check(given: argparse.Namespace) -> None:
    """Raises UsageError for the first that asks for what orca does not do."""
    for flag in TABLE:
        for word in getattr(given, _dest(flag)):
            value = {"1": "true", "0": "false", "t": "true", "f": "false"}.get(word.lower(), word.lower())
            if flag.accepted != ANY and value not in flag.accepted:
                shown = flag.first if not flag.value and value == "true" else f"{flag.first} {word[:60]}"
                raise UsageError(f"{shown}: orca {flag.why}", hint=flag.hint or "leave it out")
