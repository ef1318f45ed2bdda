"""Scripted builds: `sessions/ID` holds where each has got to, step by step.

A step's image and state are in the file, so a session outlives the step cache; its images are roots to the collector.
Whoever changes a session holds its lock; the file is replaced as a whole, so that readers wait for nobody.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from orca.errors import ImageError, StoreError, UsageError
from orca.oci.image import Descriptor
from orca.store import chains, files
from orca.store.store import Store

VERSION = 1
_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,62}")


@dataclass(frozen=True)
class Done:
    """A step that is done. `text` is its instruction as in a Dockerfile, here-documents too, without credentials.

    `key`, `manifest` and `state` are what `StepRecord` has. `reads` are the other sessions that it read, by the words
    that named them, as they were then (see `Session.definition`). `own` is false for the triggers of the base.
    """

    text: str
    key: str
    manifest: Descriptor
    state: Mapping[str, Any]
    cached: bool = False
    context: str | None = None
    reads: Mapping[str, Any] = field(default_factory=dict)
    args: tuple[str, ...] = ()
    own: bool = True


@dataclass(frozen=True)
class Session:
    """A scripted build. `steps` begins with its FROM; `base_layers` is how many layers that brought."""

    name: str
    platform: str
    created: float
    base_layers: int
    steps: tuple[Done, ...]

    @property
    def last(self) -> Done:
        return self.steps[-1]

    @property
    def base(self) -> str:
        """What FROM named."""
        return self.steps[0].text.rpartition(" ")[2]

    def definition(self) -> dict[str, Any]:
        """How the session was made so far, for those who read it."""
        own = [{"text": step.text, "reads": dict(step.reads)} for step in self.steps if step.own]
        return {"name": self.name, "steps": own}

    def without(self, count: int) -> Session:
        """As it was before its last `count` steps. Raises UsageError when there are not so many."""
        fixed = 1 + sum(not step.own for step in self.steps)
        if not 0 < count <= len(self.steps) - fixed:
            there = len(self.steps) - fixed
            hint = "orca abandon ends the session" if not there else f"it has {there} that can be undone"
            raise UsageError(f"{self.name} has not {count} steps after its FROM", hint=hint)
        return replace(self, steps=self.steps[:-count])

    def to_json(self) -> dict[str, Any]:
        steps = [{**asdict(step), "manifest": step.manifest.to_json()} for step in self.steps]
        return {**asdict(self), "version": VERSION, "steps": steps}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Session:
        """Raises KeyError, TypeError or ImageError when it is not what `to_json` wrote."""
        steps = tuple(
            Done(**{**step, "manifest": Descriptor.from_json(step["manifest"]), "args": tuple(step["args"])})
            for step in value["steps"]
        )
        if value["version"] != VERSION or not steps:
            raise KeyError("version")
        names = ("name", "platform", "created", "base_layers")
        return cls(**{name: value[name] for name in names}, steps=steps)


def is_name(text: str) -> bool:
    """Can a session be called so? A stage of a Dockerfile could be."""
    return _NAME.fullmatch(text) is not None


def _path(store: Store, name: str) -> Path:
    return store.root / "sessions" / name


@contextlib.contextmanager
def locked(store: Store, name: str) -> Iterator[None]:
    """Nobody else changes the session meanwhile; whoever wants to waits."""
    if not is_name(name):
        raise StoreError(f"no scripted build {name[:80]!r}", hint="orca steps lists them")
    with store.lock(f"session-{name}"):
        yield


def find(store: Store, name: str) -> Session | None:
    """The session, if there is one. Raises StoreError when its file is damaged."""
    if not is_name(name) or not _path(store, name).is_file():
        return None
    value = files.read_json(_path(store, name))
    try:
        return Session.from_json(value)
    except (KeyError, TypeError, AttributeError, ImageError) as error:
        hint = f"orca abandon {name} removes it"
        raise StoreError(f"the scripted build {name} is damaged, or another version's", hint=hint) from error


def get(store: Store, name: str) -> Session:
    """The session. Raises StoreError, with a near name, when there is none."""
    found = find(store, name)
    if found is not None:
        return found
    import difflib

    near = difflib.get_close_matches(name, names(store), 1)
    hint = f"did you mean {near[0]}?" if near else "orca from IMAGE begins one; orca steps lists them"
    raise StoreError(f"no scripted build {name[:80]!r}", hint=hint)


def image(store: Store, text: str) -> Descriptor | None:
    """The image where a session stands, or with `ID@N` after its N-th step; None when `text` begins with no id.

    Raises StoreError when there is no such step, or when its image is gone.
    """
    name, number = chains.split(text)
    session = find(store, name)
    if session is None:
        return None
    if number is not None and not 0 < number <= len(session.steps):
        hint = f"orca steps {name} lists them"
        raise StoreError(f"{name} has no step {number}: it has 1 to {len(session.steps)}", hint=hint)
    done = session.steps[number - 1] if number else session.last
    if not store.complete(done.manifest):
        hint = f"orca undo {name} goes back; orca abandon {name} ends it"
        raise StoreError(f"{text}: a layer is missing in the store, or damaged", hint=hint)
    return store.whole(done.manifest, done.state)


def put(store: Store, session: Session) -> None:
    """Keep it. Hold its lock."""
    files.write_json(_path(store, session.name), session.to_json())


def remove(store: Store, name: str) -> bool:
    """Forget it; was it there? Hold its lock."""
    path = _path(store, name)
    there = path.is_file()
    path.unlink(missing_ok=True)
    return there


def names(store: Store) -> list[str]:
    """All of them."""
    return sorted(path.name for path in (store.root / "sessions").glob("*") if is_name(path.name))


def dockerfile(session: Session) -> str:
    """The Dockerfile that makes the same image; other sessions that it read are its stages."""
    written: list[tuple[Mapping[str, Any], str]] = []
    text: list[str] = []

    def write(definition: Mapping[str, Any], *, last: bool) -> str:
        for made, name in written:
            if made == definition:
                return name
        named = [
            {word: write(read, last=False) for word, read in step["reads"].items()} for step in definition["steps"]
        ]
        name, taken = definition["name"], {other for _, other in written}
        while not last and name in taken:
            name += "_"
        written.append((definition, name))
        lines = [_renamed(step["text"], names) for step, names in zip(definition["steps"], named, strict=True)]
        text.append("\n".join([lines[0] if last else f"{lines[0]} AS {name}", *lines[1:]]) + "\n")
        return str(name)

    write(session.definition(), last=True)
    args = sorted({name for step in session.steps for name in step.args})
    head = [f"# needs --build-arg {name}=...\n" for name in args]
    return "".join(head) + "\n".join(text)


def _renamed(text: str, names: Mapping[str, str]) -> str:
    """An instruction with other names for the stages that it reads."""
    for word, name in names.items():
        if word != name:
            first, newline, rest = text.partition("\n")
            first = re.sub(rf"(^FROM |from=){re.escape(word)}(?=[\s,]|$)", rf"\g<1>{name}", first)
            text = first + newline + rest
    return text
