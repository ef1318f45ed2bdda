"""Why a step was not in the cache: its ingredients compared with those of the step that stood there before. Pure.

A trace is what one build did: for each step its stage, text, key, whether it was cached, and for the first step of a
stage that was not, what it was made of.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from orca.dockerfile.checks import is_secret
from orca.plan.scope import PROXIES

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Memory:
    """What the store knows of earlier steps. Either function answers None for what nobody knows any more.

    `changes`: how the files of two digests differ, as (path, how). `made`: what the step of a key was made of, and
    the variables after it.
    """

    changes: Callable[[str, str], list[tuple[str, str]] | None]
    made: Callable[[str], tuple[Json, Mapping[str, str]] | None]


_ASSIGNED = re.compile(r"""\b([A-Za-z_]\w*)=("[^"]*"|'[^']*'|\S+)""")
_OLD_FORM = re.compile(r"((?:ENV|LABEL|ARG)\s+)(\S+)(\s+)(.+)", re.IGNORECASE | re.DOTALL)
_HIDDEN = "…"

# Ingredients with a name that says more than their own.
_NAMES = {
    "to": "the destination",
    "cwd": "WORKDIR",
    "user": "USER",
    "directory": "the directory",
    "run": "the command",
    "contents": "a here-document",
    "script": "a here-document",
    "mounts": "a mount",
    "hosts": "--add-host",
    "network": "the network",
    "epoch": "SOURCE_DATE_EPOCH",
    "fetched": "what the URL holds",
}
_EXPLAINED = frozenset({"env", "files", "source", "sources", "history", "config", "from", "image"})


@dataclass(frozen=True)
class Reason:
    """One ingredient that changed.

    `kind` is base, platform, stage, file, variable, instruction, option, no-cache, gone, failed, new or
    orca; `what` its name
    (a path, a variable …); `how` what happened to a file or an instruction; `old` and `new` values, never secrets.
    """

    kind: str
    what: str = ""
    how: str = ""
    old: str | None = None
    new: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value not in ("", None)}

    def __str__(self) -> str:
        return _TEXTS[self.kind](self)


def _values(reason: Reason) -> str:
    if reason.old is None and reason.new is None:
        return f"{reason.what} changed"
    return f"{reason.what}: {_value(reason.old)} → {_value(reason.new)}"


def _value(text: str | None) -> str:
    return "not set" if text is None else text or '""'


_FILE_TEXTS = {"content": "changed", "added": "is new", "removed": "is gone", "mode": "has another mode",
               "type": "is of another type"}  # fmt: skip
_TEXTS: dict[str, Callable[[Reason], str]] = {
    "base": lambda r: f"the image {_values(r)}",
    "platform": lambda r: f"the platform: {_value(r.old)} → {_value(r.new)}",
    "stage": lambda r: f"the stage {r.what} changed",
    "file": lambda r: f"{r.what} {_FILE_TEXTS[r.how]}" if r.how else "the files changed",
    "variable": _values,
    "instruction": lambda r: {
        "added": "the instruction is new",
        "removed": f"an instruction before it is gone: {r.old}",
    }.get(r.how, f"the instruction was: {r.old}"),
    "option": _values,
    "no-cache": lambda r: "the cache was not to be used",
    "gone": lambda r: "its result is not in the store any more",
    "failed": lambda r: "it failed the last time",
    "new": lambda r: "nothing like it was built before",
    "orca": lambda r: "this version of orca carries it out in another way",
}


@dataclass(frozen=True)
class Missed:
    """The first step of a stage that was not as before, and why."""

    step: Json
    reasons: tuple[Reason, ...]

    def to_json(self) -> dict[str, Any]:
        shown = {name: self.step[name] for name in ("step", "stage", "platform", "line")}
        text = masked(self.step["text"])
        return {**shown, "text": text, "reasons": [reason.to_json() for reason in self.reasons]}


def masked(text: str) -> str:
    """An instruction without the values of variables whose names look like a secret's."""
    if (old := _OLD_FORM.fullmatch(text)) and "=" not in old[2] and hides(old[2]):
        return f"{old[1]}{old[2]}{old[3]}{_HIDDEN}"
    return _ASSIGNED.sub(lambda found: f"{found[1]}={_HIDDEN}" if hides(found[1]) else found[0], text)


def hides(name: str) -> bool:
    """Shall nobody see the value of the variable?"""
    return is_secret(name) or name in PROXIES


# -- traces


def missed(trace: Json, older: Sequence[Json], memory: Memory) -> Iterator[tuple[Missed, Json | None]]:
    """For each stage with a step that was not cached: the first one, why, and the trace that it is compared with.

    `older` are the traces of builds of the same Dockerfile, the newest first.
    """
    for stage in stages(trace):
        if any(not step["cached"] for step in stage[1:]):
            before = like(stage, older)
            yield first_missed(stage, _same_stage(before, stage), trace, memory), before


def stages(trace: Json) -> list[list[Json]]:
    """The steps, stage by stage, as they were carried out; the first is FROM."""
    found: dict[tuple[str, str], list[Json]] = {}
    for step in trace["steps"]:
        found.setdefault((step["platform"], step["stage"]), []).append(step)
    return sorted(found.values(), key=lambda steps: int(steps[0]["step"]))


def like(stage: Sequence[Json], older: Sequence[Json]) -> Json | None:
    """The trace whose stage of that name has the longest beginning in common with this one; the newest of several."""
    best: tuple[int, Json] | None = None
    for trace in older:
        steps = _same_stage(trace, stage)
        common = 0
        for new, old in zip(stage, steps, strict=False):
            if new["key"] != old["key"]:
                break
            common += 1
        if steps and (best is None or common > best[0]):
            best = common, trace
    return best[1] if best else None


def _same_stage(trace: Json | None, stage: Sequence[Json]) -> list[Json]:
    name = (stage[0]["platform"], stage[0]["stage"])
    return [step for step in trace["steps"] if (step["platform"], step["stage"]) == name] if trace else []


def first_missed(stage: Sequence[Json], before: Sequence[Json], trace: Json, memory: Memory) -> Missed:
    """Why the first step of `stage` that was not cached was not; `before` is the same stage earlier."""
    at = next(number for number, step in enumerate(stage) if number and not step["cached"])
    step = stage[at]
    if trace.get("no_cache") or step.get("anew"):
        return Missed(step, (Reason("no-cache"),))
    if not before:
        return Missed(step, (Reason("new"),))
    if stage[0]["key"] != before[0]["key"]:
        return Missed(stage[0], tuple(_base(stage[0], before[0])))
    old = before[at] if at < len(before) else None
    if old is None:
        return Missed(step, (Reason("instruction", how="added"),))
    if old["key"] == step["key"]:
        return Missed(step, (Reason("failed" if old.get("failed") else "gone"),))
    if old["text"] != step["text"]:
        return Missed(step, (_edited(step, old, stage[at:], before[at:]),))
    return Missed(step, tuple(compare(step, old, memory)))


def _edited(step: Json, old: Json, rest: Sequence[Json], old_rest: Sequence[Json]) -> Reason:
    texts, old_texts = [each["text"] for each in rest], [each["text"] for each in old_rest]
    if old["text"] in texts and step["text"] not in old_texts:
        return Reason("instruction", how="added")
    if step["text"] in old_texts and old["text"] not in texts:
        return Reason("instruction", how="removed", old=masked(old["text"]))
    return Reason("instruction", how="changed", old=masked(old["text"]), new=masked(step["text"]))


def _base(new: Json, old: Json) -> Iterator[Reason]:
    """Two FROMs."""
    made, was = new.get("made_of") or {}, old.get("made_of") or {}
    if new["text"] != old["text"] and made.get("image") != was.get("image"):
        yield Reason("instruction", how="changed", old=masked(old["text"]), new=masked(new["text"]))
    elif "stage" in made:
        yield Reason("stage", made["stage"])
    elif made.get("from") != was.get("from"):
        yield Reason("base", made.get("image", ""), old=was.get("from"), new=made.get("from"))
    elif made.get("platform") != was.get("platform"):
        yield Reason("platform", old=was.get("platform"), new=made.get("platform"))
    else:
        yield Reason("orca")


# -- two steps with the same text


def compare(new: Json, old: Json, memory: Memory) -> list[Reason]:
    """What is different in what two steps were made of. At least one reason."""
    now, before = _made(new, memory), _made(old, memory)
    if now is None or before is None:
        return [Reason("option", "something that it was made of")]
    (made, variables), (was, older) = now, before
    reasons = [
        *_variables(variables, older),
        *_environment(made, was),
        *_files(made, was, memory),
        *_sources(made, was, memory),
        *_options(made, was),
    ]
    if not reasons and (made.get("config"), made.get("history")) != (was.get("config"), was.get("history")):
        texts = [masked(str(each.get("config") or each.get("history"))) for each in (was, made)]
        reasons = [Reason("option", "it", old=texts[0], new=texts[1])]
    return list(dict.fromkeys(reasons)) or [Reason("orca")]


def _made(step: Json, memory: Memory) -> tuple[Json, Mapping[str, str]] | None:
    """What the trace itself says, else the step's record."""
    if "made_of" in step and "variables" in step:
        return step["made_of"], step["variables"]
    return memory.made(step["key"])


def _variables(new: Json, old: Json) -> Iterator[Reason]:
    for name in sorted(new.keys() | old.keys()):
        if new.get(name) != old.get(name):
            hidden = hides(name)
            yield Reason("variable", name, old=None if hidden else old.get(name), new=None if hidden else new.get(name))


def _environment(made: Json, was: Json) -> Iterator[Reason]:
    yield from _variables(dict(made.get("env") or ()), dict(was.get("env") or ()))


def _files(made: Json, was: Json, memory: Memory) -> Iterator[Reason]:
    new, old = made.get("files"), was.get("files")
    if new != old:
        yield from _file_reasons(str(old or ""), str(new or ""), memory)


def _file_reasons(old: str, new: str, memory: Memory) -> Iterator[Reason]:
    found = memory.changes(old, new)
    yield from (Reason("file", path, how) for path, how in found) if found else [Reason("file")]


def _sources(made: Json, was: Json, memory: Memory) -> Iterator[Reason]:
    """COPY --from, and the bind mounts of a RUN."""
    if made.get("source") != was.get("source"):
        yield _source(str(made.get("from") or ""), str(was.get("source") or ""), str(made.get("source") or ""))
    mounts = [each for each in made.get("mounts") or () if each.get("from_") or each.get("kind") == "bind"]
    pairs = zip(made.get("sources") or (), was.get("sources") or (), mounts, strict=False)
    for new, old, mount in pairs:
        if new != old and mount.get("from_"):
            yield _source(mount["from_"], old, new)
        elif new != old:
            yield from _file_reasons(old, new, memory)


def _source(word: str, old: str, new: str) -> Reason:
    """A stage has a key, an image a digest."""
    return Reason("base", word, old=old, new=new) if new.startswith("sha256:") else Reason("stage", word)


def _options(made: Json, was: Json) -> Iterator[Reason]:
    for name in sorted((made.keys() | was.keys()) - _EXPLAINED):
        if made.get(name) != was.get(name):
            simple = all(isinstance(each.get(name), str | int | None) for each in (made, was)) and name != "script"
            old, new = (None if each.get(name) is None else str(each.get(name)) for each in (was, made))
            label = _NAMES.get(name, name)
            yield Reason("option", label, old=old, new=new) if simple else Reason("option", label)
