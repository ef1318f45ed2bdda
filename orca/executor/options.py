"""What a build is asked to do, as values. Each group of `cli/flags` fills one of these."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orca.dockerfile.instructions import Dockerfile
from orca.oci import platform as platforms
from orca.oci.image import Descriptor
from orca.oci.platform import Platform
from orca.sources.access import Access
from orca.sources.places import Place
from orca.store.layout import Image

STDOUT = "-"


@dataclass(frozen=True)
class Annotation:
    """`level` is manifest, index, manifest-descriptor or index-descriptor; `platform` None means every one."""

    level: str
    name: str
    value: str
    platform: str | None = None


@dataclass(frozen=True)
class Naming:
    """What the finished image says of itself. `tags` are full names; `epoch` is SOURCE_DATE_EPOCH.

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
class Running:
    """What RUN gets, and what holds it."""

    network: str = "default"
    hosts: tuple[tuple[str, str], ...] = ()
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    agents: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Caching:
    """What may be taken from before. `pull` is one of sources.images.POLICIES.

    `no_cache_stages` are names (lower case) and numbers of stages that are carried out anew.
    """

    no_cache: bool = False
    pull: str = "missing"
    no_cache_stages: frozenset[str] = frozenset()
    cache_from: tuple[Place, ...] = ()
    cache_to: tuple[Place, ...] = ()


@dataclass(frozen=True)
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


@dataclass(frozen=True)
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
