"""What the builder knows between two instructions of a stage. Frozen; each step makes a new one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from orca.oci.image import DEFAULT_PATH, ImageConfig


@dataclass(frozen=True)
class State:
    """`config` is the image's, without its layers and history. `args` are the ARGs declared so far
    with their values (None: declared, not set); `winning` names those that beat an ENV of that name.
    `cmd_set` says that this stage has set CMD itself.
    """

    config: ImageConfig
    args: tuple[tuple[str, str | None], ...] = ()
    winning: frozenset[str] = frozenset()
    cmd_set: bool = False

    def lookup(self, name: str) -> str | None:
        """The value of a variable as instructions see it: ENV beats ARG, with the exceptions in `winning`."""
        env = self.config.environment()
        if name in env and name not in self.winning:
            return env[name]
        return dict(self.args).get(name, env.get(name))

    def set_args(self) -> dict[str, str]:
        """The ARGs that have a value."""
        return {name: text for name, text in self.args if text is not None}

    def run_environment(self, proxies: Mapping[str, str]) -> dict[str, str]:
        """What a RUN gets, HOME excepted: ARGs below ENV, proxies below both, and a PATH in any case."""
        env = self.config.environment()
        winning = {name: text for name, text in self.set_args().items() if name in self.winning}
        return {"PATH": DEFAULT_PATH, **proxies, **self.set_args(), **env, **winning}

    def declare(self, name: str, value: str | None, *, given: bool) -> State:
        """After `ARG name`; `given` says that --build-arg set it."""
        rest = tuple(pair for pair in self.args if pair[0] != name)
        wins = self.winning | {name} if given and name in self.config.environment() else self.winning
        return replace(self, args=(*rest, (name, value)), winning=frozenset(wins))

    def with_env(self, pairs: Mapping[str, str]) -> State:
        return replace(self, config=self.config.with_env(pairs), winning=self.winning - set(pairs))

    def to_json(self) -> dict[str, Any]:
        return {
            "config": self.config.to_json(),
            "args": [list(pair) for pair in self.args],
            "winning": sorted(self.winning),
            "cmd_set": self.cmd_set,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> State:
        return cls(
            ImageConfig.from_json(value["config"]),
            tuple((name, text) for name, text in value["args"]),
            frozenset(value["winning"]),
            bool(value["cmd_set"]),
        )


def from_base(config: ImageConfig) -> State:
    """The state right after FROM: the base's config, with a PATH if it had none.

    OnBuild triggers are the child's to run, not to inherit.
    """
    bare = replace(config, diff_ids=(), history=(), created=None, onbuild=())
    return State(bare if "PATH" in bare.environment() else bare.with_env({"PATH": DEFAULT_PATH}))
