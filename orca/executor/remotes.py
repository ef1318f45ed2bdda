"""ADD's URLs and git repositories: what their steps depend on, and their files.

A URL is asked about before the sandbox, since that starts no process: a warm build ends there. git runs inside only,
where it ends with the build however that ends.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from orca.dockerfile.ignore import IgnoreRules
from orca.dockerfile.remotes import Git, Http, Remote
from orca.events import Event
from orca.executor.position import Miss
from orca.sources.tree import Item, Tree
from orca.store import files
from orca.store.store import Store

if TYPE_CHECKING:
    from orca.executor.rootfs import Workshop
    from orca.sources.git import Found
    from orca.sources.http import Downloads

FILE_MODE = 0o600
"""What a file from a URL gets, as Docker has it."""


class Remotes:
    """The remote sources of one build. Each is asked for once; stages on several threads may ask."""

    def __init__(self, store: Store, emit: Callable[[Event], None]) -> None:
        self.store = store
        self.emit = emit
        self._downloads: Downloads | None = None
        self._found: dict[Git, Found] = {}
        self._lock = threading.RLock()

    def key(self, remote: Remote, shop: Workshop | None, step: int) -> str:
        """What the remote source holds now: a checksum or a commit. Raises Miss, OrcaError."""
        if isinstance(remote, Http):
            return f"sha256:{remote.checksum or self.downloads().get(remote, step).digest}"
        if remote.commit is not None and remote.commit.startswith(remote.checksum):
            return remote.commit
        if shop is None:
            raise Miss
        return self._resolve(remote, shop, step).commit

    def downloads(self) -> Downloads:
        """The downloads, which need a library that a build without URLs does not load."""
        with self._lock:
            if self._downloads is None:
                from orca.sources.http import Downloads

                self._downloads = Downloads(self.store, self.emit)
            return self._downloads

    def _resolve(self, remote: Git, shop: Workshop, step: int | None) -> Found:
        from orca.sources import git

        with self._lock:
            if remote not in self._found:
                self._found[remote] = git.resolve(remote, shop.runner, step)
            return self._found[remote]

    @contextlib.contextmanager
    def files(
        self, remote: Remote, exclude: tuple[str, ...], shop: Workshop, step: int
    ) -> Iterator[tuple[Tree, list[Item]]]:
        """The files of a remote source in a scratch directory, for as long as the block lasts."""
        place = shop.directory("add")
        rules = IgnoreRules.of(exclude) if exclude else None
        try:
            if isinstance(remote, Http):
                name = self._download(remote, place, step)
                with Tree(place) as tree:
                    yield tree, [tree.find_one(name)]
            else:
                with Tree(self._check_out(remote, place, shop, step)) as tree:
                    yield tree, tree.find("/", rules)
        finally:
            files.remove_tree(place)

    def _download(self, remote: Http, place: Path, step: int) -> str:
        """Copy the file that was downloaded to `place`, as ADD has it; returns its name."""
        from orca.sources.http import DownloadError

        found = self.downloads().get(remote, step)
        path = place / remote.name
        if _copy(found.path, path) != found.digest:
            raise DownloadError(f"the download of {remote.shown} is damaged in the cache", hint="orca prune --all")
        os.chmod(path, FILE_MODE)
        os.utime(path, (found.modified or 0, found.modified or 0))
        return remote.name

    def _check_out(self, remote: Git, place: Path, shop: Workshop, step: int) -> Path:
        from orca.sources import git

        tree = place / "tree"
        git.check_out(remote, self._resolve(remote, shop, step), tree, shop.runner, step)
        return git.below(tree, remote)


def _copy(source: Path, path: Path) -> str:
    """Copy a file; returns the sha256 of what was copied."""
    import hashlib

    digest = hashlib.sha256()
    with open(source, "rb") as origin, open(path, "xb") as copy:
        while data := origin.read(1 << 20):
            digest.update(data)
            copy.write(data)
    return digest.hexdigest()
