"""Translate instructions one by one, as a stage does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest

from orca.dispatch import table
from orca.dispatch.ops import Step
from orca.dispatch.settings import Settings
from orca.dispatch.state import State, from_base
from orca.dockerfile import parser
from orca.oci.image import ImageConfig
from orca.oci.platform import Platform
from orca.plan.scope import make_scope, platform_args
from orca.plan.stages import split

Translate = Callable[..., list[Step]]
BARE = ImageConfig(architecture="amd64")


@pytest.fixture(scope="session")
def steps() -> Translate:
    """`steps("ENV A=1\\nRUN x", base=ImageConfig(…), given={…}) -> [Step, …]`: a stage's instructions translated."""

    def translate(
        text: str,
        *,
        base: ImageConfig = BARE,
        state: State | None = None,
        before: str = "",
        given: Mapping[str, str] | None = None,
        proxies: Mapping[str, str] | None = None,
        network: str = "default",
        hosts: Sequence[tuple[str, str]] = (),
        allowed: Sequence[str] = (),
        around: Mapping[str, object] | None = None,
    ) -> list[Step]:
        source = parser.parse(f"{before}FROM base\n{text}\n")
        global_args, stages = split(source)
        host = Platform("linux", "amd64")
        scope = make_scope(
            source, global_args, given=given or {}, predefined=platform_args(host, host), proxies=proxies or {}
        )
        settings = Settings(scope, network, tuple(hosts), frozenset(allowed), around or {})
        current, done = state or from_base(base), []
        for instruction in stages[0][1]:
            done.append(table.translate(instruction, current, settings))
            current = done[-1].state
        return done

    return translate
