"""What COPY, ADD and RUN's mounts read of the build context: found and hashed once, whichever pass asks first."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from orca.dispatch.ops import FileOp
from orca.dockerfile.glob import GlobError
from orca.dockerfile.ignore import IgnoreRules
from orca.dockerfile.mounts import Mount
from orca.errors import OrcaError
from orca.events import Event, Warned
from orca.executor.options import Options
from orca.sources.statcache import StatCache
from orca.sources.tree import Item, SourceError, Tree, digest_items
from orca.store.store import Store


class Inputs:
    """The build context of one build. Stages on several threads may ask."""

    def __init__(self, options: Options, store: Store, emit: Callable[[Event], None]) -> None:
        self.options = options
        self.store = store
        self.emit = emit
        self._context: Tree | None = None
        self._rules: IgnoreRules | None = None
        self._items: dict[FileOp, list[Item]] = {}
        self._mounted: dict[str, Item] = {}
        self._lock = threading.RLock()

    def remember(self) -> None:
        """Keep the digests of the context's files: whichever pass found them, no other need read them again."""
        if self._context is not None:
            self._context.remember()

    def context(self) -> Tree:
        """The build context. Raises SourceError when there is none."""
        with self._lock:
            if self._context is None:
                self._context = self._open_context()
            return self._context

    def _open_context(self) -> Tree:
        path = self.options.context
        if path is None:
            raise SourceError("there is no build context to copy from", hint="give a directory: orca build DIR")
        rules, name = self.ignore_rules()
        cache = None
        if not self.options.contexts.temporary:
            cache = StatCache.for_directory(self.store.root / "cache", path.resolve())
        return Tree(path, rules=rules, rules_name=name, cache=cache)

    def ignore_rules(self) -> tuple[IgnoreRules | None, str]:
        """The rules of the ignore file, if there is one, and its name. Read once. Raises DockerfileError, OrcaError."""
        with self._lock:
            found = self.options.ignore_file
            if self._rules is None and found is not None:
                self._rules = IgnoreRules.parse(read_small(found), found.name)
            return self._rules, found.name if found is not None else ".dockerignore"

    def items(self, op: FileOp, source: Tree) -> list[Item]:
        """What a COPY's sources are. Found and hashed once for the context, where both passes ask."""
        with self._lock:
            if op.from_ is not None:
                return self._find(op, source)
            if op not in self._items:
                self._items[op] = self._find(op, source)
            return self._items[op]

    def _find(self, op: FileOp, source: Tree) -> list[Item]:
        items: list[Item] = []
        exclude = IgnoreRules.of(op.exclude) if op.exclude else None
        for pattern in op.sources:
            try:
                found = (source.find_below if op.parents else source.find)(pattern, exclude)
            except GlobError as error:
                raise SourceError(error.message, hint=error.hint) from error
            if not found:
                self.emit(Warned(f"{pattern} matches nothing", hint="a pattern that matches nothing copies nothing"))
            items += found
        return items

    def context_digest(self, op: FileOp) -> str:
        """What a COPY from the context depends on."""
        return digest_items(self.items(op, self.context()), owners=False) if op.sources else ""

    def mount_item(self, mount: Mount, context: Tree) -> Item:
        """What a bind mount from the context shows; found and hashed once."""
        with self._lock:
            source = mount.source or "/"
            if source not in self._mounted:
                self._mounted[source] = context.find_one(source)
            return self._mounted[source]


def read_small(path: Path, limit: int = 1 << 20) -> bytes:
    """A text file that must be a small regular one: nothing else is opened. Raises OrcaError."""
    import stat

    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OrcaError(f"{path} is not a regular file")
            data = file.read(limit + 1)
    except OSError as error:
        raise OrcaError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > limit:
        raise OrcaError(f"{path} is larger than {limit} bytes")
    return data
