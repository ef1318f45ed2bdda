"""What `orca builds`, `orca script` and `orca report` share: which build is meant, and its account."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from orca.errors import OrcaError, StoreError
from orca.executor import records, trace
from orca.sources import names
from orca.store.store import Store
from orca.ui import account as accounts
from orca.ui.account import Account
from orca.ui.script import Start


def find(store: Store, text: str | None) -> Account:
    """The build that `text` means: an id or its beginning, or an image that it made; the last one for None.

    Raises StoreError.
    """
    digests: set[str] = set()
    if text is not None and not any(name.startswith(text) for name in records.names(store)):
        digests = _digests(store, text)
    build = records.find(store, text, digests)
    account = accounts.tell(records.events_of(store, build))
    account.build = account.build or build
    return account


def _digests(store: Store, text: str) -> set[str]:
    """The manifests that an image's name or digest leads to; none when it is no image."""
    with contextlib.suppress(OrcaError):
        found = names.lookup(store, text)
        if found is not None:
            return {found[1].digest, *(image.descriptor.digest for image in store.images.all_images(found[1]))}
    return set()


def starts(store: Store, account: Account) -> dict[str, Start]:
    """What the layouts of a build's stages began with, as far as the store still has it."""
    known = trace.read(store, account.build)
    if known is None:
        return {}
    steps = sorted(known["steps"], key=lambda step: int(step["step"]))
    result: dict[str, Start] = {}
    seen: set[str] = set()
    for call in account.calls:
        if call.step is None or call.argv[:1] != ("umoci",) or "--image" not in call.argv[:-1]:
            continue
        layout = call.argv[call.argv.index("--image") + 1].rpartition(":")[0]
        if layout in seen:
            continue
        seen.add(layout)
        if call.argv[1] == "new" or "unpack" in call.argv:
            continue  # made empty by this very command, or a layout of no stage
        with contextlib.suppress(OrcaError, LookupError, TypeError):
            result[layout] = _start(store, steps, call.step)
    return result


def _start(store: Store, steps: list[Mapping[str, Any]], number: int) -> Start:
    """The image before step `number`. Raises StoreError, LookupError."""
    here = next(step for step in steps if step["step"] == number)
    before = [step for step in steps if step["step"] < number
              and (step["stage"], step["platform"]) == (here["stage"], here["platform"])][-1]  # fmt: skip
    record = store.step(before["key"])
    if record is not None:
        descriptor = record.manifest
    else:
        found = store.lookup(before["made_of"]["from"])
        if found is None:
            raise StoreError("the base image is gone")
        descriptor = found[1]
    made = store.images.image(descriptor)
    descriptor = made.descriptor
    digests = (made.descriptor.digest, made.manifest.config.digest, *(layer.digest for layer in made.manifest.layers))
    return Start(descriptor.media_type, descriptor.digest, descriptor.size, tuple(dict.fromkeys(digests)))
