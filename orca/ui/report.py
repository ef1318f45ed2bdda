"""A build as one HTML page that needs nothing else: pipeline, steps, timings as bars, commands, layers.

Everything that comes from a record is escaped; the page has no script, loads nothing, and says so to the browser.
"""

from __future__ import annotations

import html
import time
from collections.abc import Iterator, Sequence

from orca.ui import human
from orca.ui.account import Account, Call, StepAccount
from orca.ui.escape import visible
from orca.ui.shell import shell_join

_CSS = """
:root { color-scheme: light dark; --bg:#fff; --fg:#1b1f24; --soft:#59636e; --line:#d1d9e0; --box:#f6f8fa;
  --run:#0969da; --commit:#8250df; --cached:#8c959f; --bad:#cf222e; --good:#1a7f37; }
@media (prefers-color-scheme: dark) { :root { --bg:#0d1117; --fg:#e6edf3; --soft:#9198a1; --line:#3d444d;
  --box:#151b23; --run:#4493f8; --commit:#ab7df8; --cached:#656c76; --bad:#f85149; --good:#3fb950; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 70rem; background: var(--bg); color: var(--fg);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.2rem; margin: 2rem 0 .6rem; }
code, pre, .mono { font: .85rem/1.5 ui-monospace, monospace; }
pre { margin: .2rem 0 .6rem; padding: .5rem .7rem; background: var(--box); border: 1px solid var(--line);
  border-radius: 6px; white-space: pre-wrap; }
.soft { color: var(--soft); } .bad { color: var(--bad); } .good { color: var(--good); }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 1rem 0; }
.facts dt { color: var(--soft); } .facts dd { margin: 0; }
.pipe { display: flex; flex-wrap: wrap; gap: .4rem; padding: 0; list-style: none; align-items: center; }
.pipe li { padding: .3rem .7rem; background: var(--box); border: 1px solid var(--line); border-radius: 6px; }
.pipe li small { display: block; color: var(--soft); } .pipe .to { border: 0; background: none; padding: 0; }
.time { display: grid; grid-template-columns: minmax(8rem, 22rem) 1fr 5rem; gap: .2rem .8rem; align-items: center; }
.time .name { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.time .took { text-align: right; color: var(--soft); }
svg { width: 100%; height: 14px; display: block; background: var(--box); border-radius: 3px; }
.run { fill: var(--run); } .commit { fill: var(--commit); } .was { fill: var(--cached); } .broke { fill: var(--bad); }
.key span { display: inline-block; width: .8rem; height: .8rem; border-radius: 2px; margin: 0 .3rem 0 1rem; }
details { border: 1px solid var(--line); border-radius: 6px; padding: .5rem .9rem; margin: .5rem 0; }
summary { cursor: pointer; } details ol { padding-left: 1.4rem; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .25rem .8rem .25rem 0;
  border-bottom: 1px solid var(--line); vertical-align: top; } th { color: var(--soft); font-weight: 400; }
td.n, th.n { text-align: right; white-space: nowrap; }
"""

# In the order in which a step needs them.
_TOOLS = {
    "git": "fetches sources",
    "skopeo": "gets images, sends images",
    "mount": "stacks file systems",
    "slirp4netns": "gives a network",
    "pasta": "gives a network",
    "runc": "runs containers",
    "tar": "packs what changed",
    "umoci": "writes layers and configs",
}


def page(account: Account) -> str:
    """The whole page."""
    title = f"{', '.join(account.tags) or 'Build'} · {account.build}"
    body = "\n".join(
        [*_head(account), *_pipeline(account), *_timings(account), *_steps(account), *_layers(account), *_foot(account)]
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _text(text: str) -> str:
    """Text from outside as HTML: nothing in it is markup, nothing hides or turns around what stands beside it."""
    return html.escape(visible(text))


def _code(text: str) -> str:
    return f"<code>{_text(text)}</code>"


def _head(account: Account) -> Iterator[str]:
    yield f"<h1>{_text(', '.join(account.tags) or 'A build without a name')}</h1>"
    style = {"done": "good"}.get(account.status, "bad")
    yield f'<div class="soft">built by orca · <span class="{style}">{account.status}</span></div>'
    facts = [
        ("Build", _code(account.build)),
        ("Dockerfile", _code(account.dockerfile)),
        ("Began", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(account.time))),
        (
            "Took",
            f"{human.seconds(account.seconds)}, {account.cached} of {human.count(len(account.steps), 'step')} cached",
        ),
    ]
    if account.digest:
        facts.append(("Image", _code(account.digest)))
        facts.append(("Size", f"{human.size(account.size)} in {human.count(account.layers, 'layer')}"))
    if account.failed:
        facts.append(("Failed", f'<span class="bad">{_text(account.failed)}</span>'))
    yield "<dl class=facts>" + "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts) + "</dl>"
    for warning in account.warnings:
        yield f"<p>Warning: {_text(warning)}</p>"


def _pipeline(account: Account) -> Iterator[str]:
    """The way from the Dockerfile to the image, by the tools that were called."""
    used: dict[str, list[Call]] = {}
    for call in account.calls:
        if call.argv:
            used.setdefault(call.argv[0].rpartition("/")[2], []).append(call)
    yield "<h2>Pipeline</h2><ul class=pipe>"
    yield f"<li>Dockerfile<small>{human.count(len(account.steps), 'instruction')}</small></li>"
    order = {tool: place for place, tool in enumerate(_TOOLS)}
    for tool, calls in sorted(used.items(), key=lambda item: order.get(item[0], -1)):
        what = _TOOLS.get(tool, human.count(len(calls), "call"))
        took = sum(call.seconds or 0 for call in calls)
        by = "system call" if all(call.by_orca for call in calls) else human.seconds(took)
        yield '<li class="to soft">→</li>'
        yield f"<li>{_text(tool)} × {len(calls)}<small>{_text(what)} · {by}</small></li>"
    yield '<li class="to soft">→</li><li>image<small>' + human.count(account.layers, "layer") + "</small></li></ul>"


def _timings(account: Account) -> Iterator[str]:
    yield "<h2>Time</h2>"
    yield (
        '<p class="key soft">Steps and their commits overlap:'
        '<span style="background:var(--run)"></span>step'
        '<span style="background:var(--commit)"></span>its layer is packed while the next step runs'
        '<span style="background:var(--cached)"></span>cached</p><div class=time>'
    )
    whole = max([account.seconds, *(step.begun + (step.seconds or 0) for step in account.steps)], default=0) or 1.0
    for step in account.steps:
        yield f'<div class="name mono" title="{_text(step.text)}">{step.number}. {_text(step.text)}</div>'
        yield f'<svg role="img" aria-label="{_text(_took(step))}">{"".join(_bars(step, whole))}</svg>'
        yield f"<div class=took>{_took(step)}</div>"
    yield "</div>"


def _took(step: StepAccount) -> str:
    return "cached" if step.cached else "…" if step.seconds is None else human.seconds(step.seconds)


def _bars(step: StepAccount, whole: float) -> Iterator[str]:
    kind = "was" if step.cached else "broke" if step.failed is not None else "run"
    ended = step.begun + (step.seconds or 0)
    if step.committed is not None and step.committed > ended:
        yield _bar("commit", ended, step.committed, whole)
    yield _bar(kind, step.begun, ended, whole)


def _bar(kind: str, begun: float, ended: float, whole: float) -> str:
    left, width = 100 * begun / whole, max(100 * (ended - begun) / whole, 0.3)
    return f'<rect class="{kind}" x="{min(left, 99.7):.2f}%" width="{width:.2f}%" height="14"/>'


def _steps(account: Account) -> Iterator[str]:
    yield "<h2>Steps</h2>"
    loose = [call for call in account.calls if call.step is None]
    if loose:
        yield "<details><summary>Outside the steps</summary>" + "".join(_calls(loose)) + "</details>"
    for step in account.steps:
        state = "" if step.failed is None else ' <span class="bad">failed</span>'
        yield (
            f"<details{' open' if step.failed is not None else ''}><summary><strong>{step.number}</strong> "
            f'{_code(step.text)} <span class="soft">line {step.line} · {_took(step)}</span>{state}</summary>'
        )
        if step.why:
            yield f"<p>{_text(step.why)}</p>"
        if step.missed:
            yield f'<p class="soft">Not cached: {_text(step.missed)}</p>'
        if step.failed is not None:
            yield f'<p class="bad">{_text(step.failed)}</p>'
        yield from _calls(step.calls)
        if step.layer:
            yield f"<p>Layer {_code(step.layer)}, {human.size(step.size)}.</p>"
        elif step.layer == "":
            yield '<p class="soft">Nothing changed, so there is no new layer.</p>'
        yield "</details>"


def _calls(calls: Sequence[Call]) -> Iterator[str]:
    if not calls:
        return
    yield "<ol>"
    for call in calls:
        how = "by system call" if call.by_orca else human.seconds(call.seconds) if call.seconds is not None else ""
        code = f' <span class="bad">ended with code {call.exit_code}</span>' if call.exit_code else ""
        typed = _text(shell_join(call.argv))
        yield f'<li>{_text(call.why)} <span class="soft">{how}</span>{code}<pre>{typed}</pre></li>'
    yield "</ol>"


def _layers(account: Account) -> Iterator[str]:
    made = [step for step in account.steps if step.layer]
    if not made:
        return
    yield "<h2>Layers made</h2><table>"
    yield "<tr><th class=n>Step</th><th>Instruction</th><th>Digest</th><th class=n>Size</th></tr>"
    for step in made:
        yield (
            f"<tr><td class=n>{step.number}</td><td>{_code(step.text)}</td><td>{_code((step.layer or '')[:19])}…</td>"
            f"<td class=n>{human.size(step.size)}</td></tr>"
        )
    yield f"<tr><td></td><td>together</td><td></td><td class=n>{human.size(sum(step.size for step in made))}</td></tr>"
    yield "</table>"


def _foot(account: Account) -> Iterator[str]:
    yield (
        f'<p class="soft">The same as a shell script: <code>orca script {_text(account.build)}</code>. '
        "Sizes are compressed.</p>"
    )
