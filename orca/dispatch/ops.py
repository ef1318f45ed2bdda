"""Ops: what an instruction will do, as data. An op describes itself; only `executor` does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orca.dispatch.state import State
from orca.dockerfile import modes
from orca.dockerfile.instructions import Heredoc, Instruction
from orca.dockerfile.modes import Mode
from orca.dockerfile.mounts import Mount
from orca.dockerfile.remotes import Remote


@dataclass(frozen=True)
class Op:
    """Base of all."""

    def describe(self) -> str:
        """One sentence for a learner: what will happen."""
        raise NotImplementedError

    def ingredients(self) -> dict[str, Any]:
        """What the result depends on besides the steps before and files (those the executor adds)."""
        raise NotImplementedError


@dataclass(frozen=True)
class ConfigOp(Op):
    """Only the image config changes. `change` says how, in the words of history."""

    change: str

    def describe(self) -> str:
        return "Only the image config changes: umoci writes a new config and manifest, no layer."

    def ingredients(self) -> dict[str, Any]:
        return {"config": self.change}


@dataclass(frozen=True)
class DirectoryOp(Op):
    """WORKDIR: make the directory (with parents, owned by `user`) if it is not there."""

    path: str
    user: str

    def describe(self) -> str:
        return f"{self.path} becomes the working directory; if the image has no such directory, a layer adds it."

    def ingredients(self) -> dict[str, Any]:
        return {"directory": self.path, "user": self.user}


@dataclass(frozen=True)
class FileOp(Op):
    """COPY and ADD. `sources` are expanded patterns; `destination` is absolute, its final slash kept.

    `from_` is a stage's name or number or an image, None for the build context. `contents` are the
    heredocs with their bodies expanded. `unpack` is ADD's way with archives: None unpacks local ones
    and leaves downloaded ones alone, as ADD does by itself. `link` makes the layer as if into an empty
    root. With `parents` a source keeps its directories, those above a `/./` excepted. `exclude` are
    ignore rules that count from each source. `remotes` are ADD's URLs and git repositories.
    """

    sources: tuple[str, ...]
    destination: str
    contents: tuple[Heredoc, ...] = ()
    from_: str | None = None
    chown: str | None = None
    chmod: Mode | None = None
    unpack: bool | None = False
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    remotes: tuple[Remote, ...] = ()

    def describe(self) -> str:
        where = f"from {self.from_}" if self.from_ else "from the build context"
        if self.remotes and not self.sources:
            where = "is fetched and"
        fetched = (remote.shown for remote in self.remotes)
        what = ", ".join([*self.sources, *fetched, *(f"<<{doc.name}" for doc in self.contents)])
        archives = "" if self.unpack is False else " Archives among them are unpacked."
        if self.link:
            way = f"{what} {where} is written to {self.destination} of an empty root"
            return f"{way}; the layer fits on any base image.{archives}"
        way = f"{what} {where} is written through an overlay to {self.destination}"
        return f"{way}; what is new becomes a layer.{archives}"

    def ingredients(self) -> dict[str, Any]:
        return {
            "copy": list(self.sources),
            "to": self.destination,
            "contents": [[doc.name, doc.body] for doc in self.contents],
            "from": self.from_,
            "chown": self.chown,
            "chmod": modes.written(self.chmod),
            "unpack": self.unpack is not False,
            **({"link": True} if self.link else {}),
            **({"parents": True} if self.parents else {}),
            **({"exclude": list(self.exclude)} if self.exclude else {}),
            **({"remotes": [self._remote(remote) for remote in self.remotes]} if self.remotes else {}),
        }

    def _remote(self, remote: Remote) -> list[Any]:
        return [remote.shown, self.unpack is True, getattr(remote, "keep_git_dir", False)]


@dataclass(frozen=True)
class ExecOp(Op):
    """RUN. `environment` holds all but HOME; `hidden` are the names that no key may depend on.

    `script` is a file to execute (a heredoc that begins with `#!`), mounted for this run only.
    `around` is what the command line says of every RUN that may show in its result. Without a
    `hostname` it is the one that every RUN has.
    """

    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    hidden: frozenset[str]
    directory: str
    user: str
    network: str
    hosts: tuple[tuple[str, str], ...] = ()
    script: str | None = None
    mounts: tuple[Mount, ...] = ()
    insecure: bool = False
    around: Mapping[str, object] = field(default_factory=dict)
    hostname: str = ""

    def describe(self) -> str:
        network = {
            "default": "with a network of its own, reached through slirp4netns",
            "none": "without a network",
            "host": "in the host's network",
        }[self.network]
        who = f"user {self.user}" if self.user else "root"
        who += ", with every capability and no filter of system calls" if self.insecure else ""
        mounts = "".join(
            f" A {mount.kind} mount is at {mount.target or mount.env or 'a place of its own'}." for mount in self.mounts
        )
        return f"runc runs the command as {who}, {network}; what it changes in the overlay becomes a layer.{mounts}"

    def ingredients(self) -> dict[str, Any]:
        return {
            "run": list(self.argv),
            "env": sorted([name, text] for name, text in self.environment if name not in self.hidden),
            "cwd": self.directory,
            "user": self.user,
            "network": self.network,
            "hosts": [list(pair) for pair in self.hosts],
            "script": self.script,
            **({"security": "insecure"} if self.insecure else {}),
            **({"around": dict(self.around)} if self.around else {}),
            **({"mounts": [mount.to_json() for mount in self.mounts]} if self.mounts else {}),
            **({"hostname": self.hostname} if self.hostname else {}),
        }


@dataclass(frozen=True)
class Step:
    """One instruction translated: the op, the state after it, and what history shall say."""

    instruction: Instruction
    op: Op
    state: State
    history: str
