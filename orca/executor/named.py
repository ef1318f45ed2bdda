"""--build-context: what a name stands for in FROM and --from, instead of a stage or an image of that name.

An image (`docker-image://REFERENCE`, `oci-layout://DIRECTORY[:TAG|@DIGEST]`) goes where images go, see `bases`. All
else is a tree: a directory, a git repository, what a URL gives. Only what a step asks for is fetched.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from orca.dispatch.ops import FileOp
from orca.dockerfile.ignore import IgnoreRules
from orca.dockerfile.mounts import Mount
from orca.dockerfile.remotes import Git, hide
from orca.errors import UsageError
from orca.events import Event
from orca.executor import contexts
from orca.executor.bases import IMAGE, LAYOUT
from orca.executor.inputs import Inputs, read_small
from orca.executor.options import Options
from orca.executor.position import Miss
from orca.plan.stages import named_context
from orca.sources.statcache import StatCache
from orca.sources.tree import Tree, digest_items
from orca.store.store import Store

if TYPE_CHECKING:
    from orca.executor.rootfs import Workshop

_KNOWN = "a directory, docker-image://, oci-layout://, a git repository or an http(s) URL"


class Named:
    """The named contexts of one build. Stages on several threads may ask."""

    def __init__(self, options: Options, store: Store, emit: Callable[[Event], None]) -> None:
        self.given = options.contexts.named
        self.store = store
        self.emit = emit
        self._trees: dict[str, Tree] = {}
        self._lock = threading.RLock()

    def source(self, word: str) -> str | None:
        """What --build-context says that `word` is; None when nothing."""
        name = named_context(word, self.given)
        return None if name is None else self.given[name]

    def is_tree(self, word: str | None) -> bool:
        """Is it one of files alone?"""
        source = self.source(word) if word is not None else None
        return source is not None and not source.startswith((IMAGE, LAYOUT))

    def tree(self, word: str, shop: Workshop | None) -> Tree:
        """The files of a context that `is_tree`; fetched once. Raises Miss, OrcaError."""
        source = self.source(word)
        assert source is not None
        with self._lock:
            if source not in self._trees:
                self._trees[source] = self._open(word, source, shop)
            return self._trees[source]

    def remember(self) -> None:
        """Keep the digests of files, as for the build context."""
        for tree in self._trees.values():
            tree.remember()

    def _open(self, word: str, source: str, shop: Workshop | None) -> Tree:
        remote = contexts.remote(source)
        if remote is None:
            return self._directory(word, source)
        if shop is None:
            raise Miss
        if isinstance(remote, Git):
            return Tree(contexts.check_out(remote, shop.runner, shop.scratch))
        return Tree(contexts.download(remote, self.store, shop.runner, shop.scratch))

    def _directory(self, word: str, source: str) -> Tree:
        path = Path(source)
        if not path.is_dir():
            what = f"--build-context {word}={hide(source)}"
            raise UsageError(f"{what}: there is no such directory", hint=f"a context is {_KNOWN}")
        rules, ignore = None, path / ".dockerignore"
        if os.path.lexists(ignore):
            if not os.path.realpath(ignore).startswith(f"{os.path.realpath(path)}/"):
                raise UsageError(f"the .dockerignore of the context {word} is a link that leads out of it")
            rules = IgnoreRules.parse(read_small(ignore))
        cache = StatCache.for_directory(self.store.root / "cache", path.resolve())
        return Tree(path, rules=rules, cache=cache)

    # -- what steps depend on

    def copy_key(self, op: FileOp, inputs: Inputs, shop: Workshop | None) -> str:
        """What a COPY --from such a context depends on."""
        assert op.from_ is not None
        return digest_items(inputs.items(op, self.tree(op.from_, shop)), owners=False)

    def mount_key(self, mount: Mount, shop: Workshop | None) -> str:
        """What a RUN's mount of such a context depends on."""
        assert mount.from_ is not None
        return digest_items([self.tree(mount.from_, shop).find_one(mount.source or "/")], owners=False)
