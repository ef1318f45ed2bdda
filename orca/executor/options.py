"""What a build is asked to do, as values. Each group of `cli/flags` fills one of these.

Nobody compares or prints the large ones: without eq and repr they are defined faster, which every start pays for.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca.dockerfile.instructions import Dockerfile
from orca.oci import platform as platforms
from orca.oci.image import Descriptor, ImageConfig
from orca.oci.platform import Platform
from orca.sources.access import Access
from orca.sources.places import Place
from orca.store.layout import Image

if TYPE_CHECKING:
    from orca.oci.runtime import Limits

STDOUT = "-"

# Every build loads this, and making the methods of a dataclass takes time: those without `eq` are never compared.


@dataclass(frozen=True)
class Annotation:
    """`level` is manifest, index, manifest-descriptor or index-descriptor; `platform` None means every one."""

    level: str
    name: str
    value: str
    platform: str | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Naming:
    """What the finished image says of itself. `tags` are full names; `epoch` is SOURCE_DATE_EPOCH.

    `env` is set at the beginning of every stage; what `unset_env` and `unset_labels` name is not in the image.

    No time that a build with an epoch writes is later; with `exact_times` none is earlier either.
    `docker` asks for Docker's media types. `squash` is "" (keep every layer), "new" (the layers of this build
    become one) or "all" (those of the base image too).
    """

    tags: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    epoch: int | None = None
    exact_times: bool = False
    annotations: tuple[Annotation, ...] = ()
    docker: bool = False
    squash: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    unset_env: tuple[str, ...] = ()
    unset_labels: tuple[str, ...] = ()

    def without(self) -> dict[str, Any]:
        """What the end of a build depends on through --unsetenv and --unsetlabel."""
        given = {"unset": list(self.unset_env), "unset labels": list(self.unset_labels)}
        return {name: words for name, words in given.items() if words}

    def final(self, config: ImageConfig) -> ImageConfig:
        """A stage's config as the image has it."""
        labels = {name: text for name, text in config.labels if name not in self.unset_labels}
        env = tuple(pair for pair in config.env if pair[0] not in self.unset_env)
        return replace(config, env=env, labels=tuple({**labels, **self.labels}.items()))

    def ingredients(self) -> dict[str, Any]:
        """What the times of a step depend on: one that was made under another clock is another step."""
        if self.epoch is None:
            return {}
        return {"epoch": self.epoch, **({"exact": True} if self.exact_times else {})}


@dataclass(frozen=True)
class Output:
    """Where else the result goes, and in which shape.

    `kind` is buildx's type, or "transport": then `dest` is a whole name for skopeo. Else `dest` is an absolute
    path, STDOUT, or empty. None means: as the image in the store is. `split` writes a directory a platform.
    """

    kind: str
    dest: str = ""
    names: tuple[str, ...] = ()
    push: bool = False
    archive: bool = True
    docker: bool | None = None
    compression: str | None = None
    level: int | None = None
    force: bool = False
    annotations: tuple[Annotation, ...] = ()
    insecure: bool = False
    split: bool | None = None
    rewrite_timestamp: bool = False


@dataclass(frozen=True)
class Volume:
    """--volume and --device: a directory or file of this machine in every RUN. `source` is an absolute path."""

    source: str
    target: str
    access: str = "rw"
    """ro, rw, or O: may be written, and what is written is thrown away."""
    device: bool = False

    def __str__(self) -> str:
        return f"{self.source}:{self.target}:{self.access}"


@dataclass(frozen=True)
class Dns:
    """--dns, --dns-search, --dns-option: what is empty is as it would be without."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def applied(self, text: str) -> str:
        """A resolv.conf with these in the places of its own."""
        given = {"nameserver": self.servers, "search": self.search, "options": self.options}
        replaced = {name for name, words in given.items() if words} | ({"domain"} if self.search else set())
        kept = [line for line in text.splitlines() if line.split() and line.split()[0] not in replaced]
        lines = [f"nameserver {server}" for server in self.servers]
        # A search list of "." is none at all.
        lines += [f"search {' '.join(self.search)}"] if self.search and self.search != (".",) else []
        lines += [f"options {' '.join(self.options)}"] if self.options else []
        return "".join(f"{line}\n" for line in [*lines, *kept])


@dataclass(frozen=True)
class Running:
    """What RUN gets, and what holds it.

    `keys` are private keys for agents of our own, by id; `allowed` what --allow grants; `own_files` those of
    /etc/resolv.conf, hosts and hostname that are the image's own; `limits` None is what every RUN gets;
    `groups` are cgroup settings, by the names that `executor.cgroups` has.
    """

    network: str = "default"
    hosts: tuple[tuple[str, str], ...] = ()
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    agents: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict, repr=False)
    allowed: frozenset[str] = frozenset()
    volumes: tuple[Volume, ...] = ()
    own_files: tuple[str, ...] = ()
    dns: Dns = Dns()
    limits: Limits | None = None
    groups: Mapping[str, str] = field(default_factory=dict)
    group_parent: str | None = None
    on_error: str = "stop"

    def ingredients(self) -> dict[str, object]:
        """What of this may show in a RUN's result: every RUN's key has it, if it is not as usual.

        Limits are not among it: they decide whether a command ends well, not what it then has made. Nor is the
        content of volumes, as that of caches is not.
        """
        limits = self.limits
        found: dict[str, object] = {
            "capabilities": sorted(limits.capabilities) if limits is not None and limits.changed else None,
            "volumes": [str(volume) for volume in self.volumes],
            "own": list(self.own_files),
        }
        return {name: value for name, value in found.items() if value}


@dataclass(frozen=True, eq=False, repr=False)
class Caching:
    """What may be taken from before. `pull` is one of sources.images.POLICIES.

    `no_cache_stages` are names (lower case) and numbers of stages that are carried out anew.
    """

    no_cache: bool = False
    pull: str = "missing"
    no_cache_stages: frozenset[str] = frozenset()
    cache_from: tuple[Place, ...] = ()
    cache_to: tuple[Place, ...] = ()


@dataclass(frozen=True, eq=False, repr=False)
class Contexts:
    """What else there is to build from. `temporary`: the build context is gone after the build.

    `named` is what --build-context says, by names in lower case; see `executor.named`.
    """

    temporary: bool = False
    named: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, eq=False, repr=False)
class Options:
    """A build. `platform` is what a `Build` is for; `platforms` are those that were asked for, if any were.

    `in_order` gives up all overlap, for those who want to read along.
    """

    dockerfile: Dockerfile
    context: Path | None
    ignore_file: Path | None = None
    target: str | None = None
    platform: Platform = field(default_factory=platforms.host)
    build_args: Mapping[str, str] = field(default_factory=dict)
    proxies: Mapping[str, str] = field(default_factory=dict)
    jobs: int = 0
    in_order: bool = False
    naming: Naming = Naming()
    running: Running = Running()
    caching: Caching = Caching()
    platforms: tuple[Platform, ...] = ()
    outputs: tuple[Output, ...] = ()
    access: Access = field(default_factory=Access)
    contexts: Contexts = Contexts()


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What was built, in the store: an image, or an index of `images` of which `image` is the first."""

    image: Image
    cached: int
    steps: int
    seconds: float
    index: Descriptor | None = None
    images: tuple[tuple[Platform, Image], ...] = ()

    @property
    def descriptor(self) -> Descriptor:
        """What the tags point to."""
        return self.index or self.image.descriptor


def rfc3339(seconds: float) -> str:
    """A time as image configs write it, in whole seconds of UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
