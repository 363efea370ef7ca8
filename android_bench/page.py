"""The report as one HTML page: no script, nothing from the network, light and dark, wide and phone-sized."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from . import paper

if TYPE_CHECKING:
    from .report import Device, DeviceConfig, Table4, Table4Cell

_FAMILIES = tuple(paper.TITLES)  # each has a colour of its own, the same in all charts
_OP_KINDS = {
    "depthwise": r"depthwise|dwconv",
    "1x1, dense": r"fully",
    "convolution": r"conv",
    "pad": r"\bpad|constant pad",
    "shuffle, copy": r"transpose|reshape|permute|gather|slice|copy|split",
    "add, concat": r"add|concat",
    "pooling": r"pool|mean|softmax",
    "quantize": r"quant|convert",
    "other": r"",
}
_STYLE = """
:root { --paper:#fff; --ink:#1b1f24; --soft:#5b6470; --line:#dfe3e8; --card:#f6f7f9; --warn:#8a4b00;
  --warnback:#fff4e0;
  --f0:#1f6feb; --f1:#c2410c; --f2:#0f766e; --f3:#7c3aed; --f4:#6b7280;
  --o0:#1f6feb; --o1:#b45309; --o2:#0f766e; --o3:#be185d; --o4:#7c3aed; --o5:#4d7c0f; --o6:#0891b2; --o7:#a16207;
  --o8:#6b7280; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --paper:#14171b; --ink:#e6e9ee; --soft:#9aa4b2; --line:#2c333d;
  --card:#1b2027; --warn:#ffc56b; --warnback:#33270f;
  --f0:#6ea8fe; --f1:#fb923c; --f2:#2dd4bf; --f3:#b794f6; --f4:#9aa4b2;
  --o0:#6ea8fe; --o1:#fbbf24; --o2:#2dd4bf; --o3:#f472b6; --o4:#b794f6; --o5:#a3e635; --o6:#22d3ee; --o7:#facc15;
  --o8:#9aa4b2; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: .5rem 0; } h2 { font-size: 1.3rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1.1rem; margin: 2rem 0 .5rem; } h4 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p, li { max-width: 44rem; } .soft, figcaption { color: var(--soft); font-size: .9rem; }
.kind { display: inline-block; font-size: .8rem; font-weight: 600; border: 1px solid var(--line); border-radius: 1rem;
  padding: .1rem .6rem; vertical-align: middle; color: var(--soft); }
.warnings { background: var(--warnback); color: var(--warn); border-left: 4px solid; padding: .6rem 1rem; margin:
  1rem 0;
  overflow-wrap: anywhere; }
.warnings ul { margin: .2rem 0; padding-left: 1.1rem; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .2rem 1.5rem; background:
  var(--card);
  border-radius: .5rem; padding: .8rem 1rem; margin: 1rem 0; }
dl div { overflow-wrap: anywhere; } dt { color: var(--soft); font-size: .8rem; } dd { margin: 0; font-size: .95rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size:
  .95rem; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { font-weight: 600; font-size: .85rem; color: var(--soft); } td:first-child, th:first-child, td.word { text-align:
  left; }
tr.budget th { text-align: left; padding-top: 1rem; color: var(--ink); } .paper { color: var(--soft); }
th[scope=colgroup] { text-align: center; } .whole { white-space: nowrap; }
.mark { display: inline-block; width: .7rem; height: .7rem; border-radius: 50%; margin-right: .4rem; }
figure { margin: 1rem 0; } svg { display: block; width: 100%; max-width: 40rem; height: auto; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; } svg .soft { fill: var(--soft); font-size: 12px; }
  figcaption { margin-top: .5rem; }
.bars { display: grid; grid-template-columns: max-content 1fr; gap: .15rem .8rem; align-items: center; font-size:
  .9rem; }
.bars .name { grid-row: span 1; } .track { display: flex; align-items: center; gap: .4rem; min-width: 0; }
.bar { height: .9rem; border-radius: 2px; display: flex; overflow: hidden; flex: none; } .bar i { display: block; }
.value { font-variant-numeric: tabular-nums; font-size: .8rem; color: var(--soft); white-space: nowrap; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .85rem; margin: .5rem 0; padding: 0;
  list-style: none; }
summary { cursor: pointer; color: var(--soft); } footer { margin-top: 3rem; color: var(--soft); font-size: .85rem; }
@media (max-width: 34rem) { table { font-size: .8rem; } th, td { padding: .3rem .2rem; } th { font-size: .75rem; }
  dl { grid-template-columns: 1fr 1fr; }
  td:first-child { white-space: normal; } .bars { grid-template-columns: 1fr; } .bars .name {
  margin-top: .4rem; } }
"""


def html(devices: Sequence[Device]) -> str:
    """Returns the page."""
    body = "\n".join(map(_device, devices))
    names = ", ".join(device.name for device in devices)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Latency on {escape(names)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>Latency of .tflite models</h1>
{body}
<footer>Every number comes from rows.jsonl in the same folder; the tool's own words are in logs/.</footer>
</body>
</html>
"""


def number(value: float | None, form: str) -> str:
    """Returns a number, or a dash for None."""
    return "–" if value is None else format(value, form)


def cell_texts(cell: Table4Cell) -> tuple[str, str]:
    """Returns ms and ratio of a cell of Table 4; a star marks what cannot be trusted."""
    digits = 1 if (cell.ms or 0) >= 10 else 2 if (cell.ms or 0) >= 1 else 3
    return number(cell.ms, f".{digits}f") + "*" * cell.doubtful, number(cell.ratio, ".2f")


def _device(device: Device) -> str:
    from .report import KINDS

    configs = "\n".join(map(_config, device.configs))
    return f"""<section>
<h2>{escape(device.name)} <span class="kind">{escape(KINDS[device.kind])}</span></h2>
{_warnings(device.warnings)}
{_card(device)}
{configs}
</section>"""


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    items = "".join(f"<li>{escape(warning)}</li>" for warning in warnings)
    return f'<div class="warnings" role="note"><strong>Read with care</strong><ul>{items}</ul></div>'


def _card(device: Device) -> str:
    environment, run = device.run.get("environment", {}), device.run
    before, after = environment.get("state", {}), device.last_state
    options = run.get("options", {})
    entries = {
        "serial": run.get("device") if run.get("target") != "host" else None,
        "engine": environment.get("engine"),
        "system": _joined(environment.get("android") and f"Android {environment['android']}", environment.get("soc"))
        or environment.get("os")
        or environment.get("kernel"),
        "cores": environment.get("clocks") or environment.get("cores"),
        "ran on core": _pinned(environment.get("pinned")),
        "governor": ", ".join(sorted(set((before.get("governor") or {}).values()))) or environment.get("governor"),
        "clock while it ran": after.get("busy_mhz") and f"{after['busy_mhz']:.0f} MHz on average",
        "clocks held": _yes(environment.get("fixed_performance")),
        "temperature": _change(before.get("temperature"), after.get("temperature"), "{:.0f} °C"),
        "battery": _change(*((state.get("battery") or {}).get("percent") for state in (before, after)), "{:.0f}%"),
        "load": _change(run.get("load_before"), run.get("load_after"), "{:.1f}"),
        "plan": options and f"{options['rounds']} rounds, {options['runs']} runs or {options['min_secs']:g} s in each",
        "date": str(environment.get("date", "")).replace("T", " ").replace("+00:00", " UTC"),
    }
    cells = [f"<div><dt>{k}</dt><dd>{escape(str(v))}</dd></div>" for k, v in entries.items() if v not in (None, "", {})]
    return f"<dl>{''.join(cells)}</dl>"


def _config(config: DeviceConfig) -> str:
    parts = [f"<h3>{escape(config.title)}</h3>"]
    if config.table4:
        parts.append(_table4(config.table4))
    parts += [
        _latency_bars(config.summary),
        _scatter(config.summary),
        _profiles(config.profiles),
        _details(config.summary),
    ]
    return "\n".join(part for part in parts if part)


def _table4(table: Table4) -> str:
    from .report import TABLE4_NOTE

    groups = "".join(f'<th colspan="2" scope="colgroup">{escape(recipe or "-")}</th>' for recipe in table.recipes)
    heads = "<th>ms</th><th>ratio</th>" * len(table.recipes)
    rows = []
    for mflops, lines in table.budgets.items():
        width = 2 + 2 * len(table.recipes)
        rows.append(f'<tr class="budget"><th colspan="{width}" scope="rowgroup">{mflops} MFLOPs</th></tr>')
        for line in lines:
            cells = "".join(f"<td>{text}</td>" for r in table.recipes for text in cell_texts(line.cells[r]))
            ratio, (family, alpha) = number(line.paper_ratio, ".2f"), line.name.split()
            name = f'<span class="whole">{_mark(line.arch)}{family}</span> {alpha}'
            rows.append(f'<tr><td>{name}</td><td class="paper">{ratio}</td>{cells}</tr>')
    return f"""<h4>Table 4, beside the paper</h4>
<div class="scroll"><table>
<thead><tr><th></th><th>paper</th>{groups}</tr><tr><th>network</th><th>ratio</th>{heads}</tr></thead>
<tbody>{"".join(rows)}</tbody></table></div>
<p class="soft">{escape(TABLE4_NOTE)} * cannot be trusted, see the warnings.</p>"""


def _latency_bars(summary: Sequence[dict[str, Any]]) -> str:
    """Latency of each model, those of one network together."""
    most = max(line["ms"] for line in summary)
    rows = []
    for line in sorted(summary, key=lambda line: (_family_index(line), -(line.get("alpha") or 0), line["label"])):
        label = f"{short_name(line)} {line['recipe']}".strip()
        opacity = 1 if line["recipe"] == "float32" else 0.55
        bar = f'<span class="bar" style="width:{_share(line["ms"], most)}%"><i style="width:100%;opacity:{opacity};'
        bar += f'background:var(--f{_family_index(line)})"></i></span>'
        value = f'<span class="value">{number(line["ms"], ".3f")} ms{"*" * line["doubtful"]}</span>'
        rows.append(f'<span class="name">{escape(label)}</span><span class="track">{bar}{value}</span>')
    note = "<figcaption>Shorter is better. float32 in full colour, other recipes pale.</figcaption>"
    return f'<h4>Float against int8</h4><figure><div class="bars">{"".join(rows)}</div>{note}</figure>'


def _scatter(summary: Sequence[dict[str, Any]]) -> str:
    """Latency against accuracy, with the Pareto front; nothing where no accuracy is known."""
    from .report import pareto

    points = [(line["ms"], *found, line) for line in summary if (found := _accuracy(line))]
    if not points:
        return (
            '<h4>Latency against accuracy</h4><p class="soft">No accuracy is known of these files: their sidecars '
            "(.json) hold no <code>accuracy</code>, which <code>tflite.verify --record</code> writes.</p>"
        )
    axes = _Axes([ms for ms, *_ in points], [top1 for _, top1, *_ in points])
    front = pareto((ms, top1) for ms, top1, *_ in points)
    path = " ".join(f"{'L' if i else 'M'}{axes.x(ms):.1f} {axes.y(top1):.1f}" for i, (ms, top1) in enumerate(front))
    marks = [_point(axes, *point) for point in points]
    labels = _labels(axes, points)
    families = {_family_index(line): line for *_, line in points}
    legend = "".join(f"<li>{_dot(i)}{escape(_family_name(line))}</li>" for i, line in sorted(families.items()))
    note = "Up and left is better. Filled: float32; hollow: other recipes. Dashed line: the Pareto front."
    if any(quoted for _, _, quoted, _ in points):
        note += " Where a float32 file's own accuracy is not known, it stands at the paper's, on ImageNet."
    return f"""<h4>Latency against accuracy</h4>
<figure><ul class="legend">{legend}</ul>
<svg viewBox="0 0 {axes.width} {axes.height}" role="img" aria-label="Latency against accuracy">
{axes.frame()}
<path d="{path}" fill="none" stroke="var(--soft)" stroke-dasharray="4 4"/>
{"".join(marks)}{"".join(labels)}
</svg><figcaption>{note}</figcaption></figure>"""


def _profiles(profiles: dict[str, Sequence[Sequence[Any]]]) -> str:
    """Where the milliseconds go: a stacked bar for each model that was profiled, and its slowest ops."""
    if not profiles:
        return ""
    kinds = {label: _by_kind(ops) for label, ops in sorted(profiles.items())}
    most = max(sum(parts.values()) for parts in kinds.values())
    used = [kind for kind in _OP_KINDS if any(kind in parts for parts in kinds.values())]
    legend = "".join(f"<li>{_dot(list(_OP_KINDS).index(kind), 'o')}{kind}</li>" for kind in used)
    rows = []
    for label, parts in kinds.items():
        total = sum(parts.values())
        inner = "".join(
            f'<i style="width:{100 * parts[kind] / total:.2f}%;background:var(--o{list(_OP_KINDS).index(kind)})" '
            f'title="{kind}: {parts[kind]:.3f} ms"></i>'
            for kind in used
            if kind in parts and total
        )
        bar = f'<span class="bar" style="width:{_share(total, most)}%">{inner}</span>'
        value = f'<span class="value">{total:.3f} ms</span>'
        rows.append(f'<span class="name">{escape(label)}</span><span class="track">{bar}{value}</span>')
    slowest = "".join(_slowest(label, ops) for label, ops in sorted(profiles.items()))
    return f"""<h4>Where the time goes</h4>
<figure><ul class="legend">{legend}</ul><div class="bars">{"".join(rows)}</div>
<figcaption>Times of a launch with the profiler on, which slows it down a little.</figcaption></figure>
<details><summary>The slowest ops of each model</summary>{slowest}</details>"""


def _slowest(label: str, ops: Sequence[Sequence[Any]], count: int = 8) -> str:
    ordered = sorted(ops, key=lambda op: -op[1])[:count]
    rows = "".join(
        f'<tr><td>{escape(kind)}</td><td>{ms:.3f}</td><td class="word">{escape(name)}</td></tr>'
        for kind, ms, name in ordered
    )
    head = '<tr><th>op</th><th>ms</th><th class="word">output</th></tr>'
    return f'<h4>{escape(label)}</h4><div class="scroll"><table>{head}{rows}</table></div>'


def _details(summary: Sequence[dict[str, Any]]) -> str:
    heads = ("model", "ms", "of", "min", "p95", "mean", "std", "spread", "rounds", "runs", "init ms", "peak MB", "kB")
    rows = []
    for line in summary:
        peak = line["memory_mb"].get("peak")
        times = [number(line[f"{name}ms"], ".3f") for name in ("min_", "p95_", "mean_", "std_")]
        spread = number(line["spread_pct"], ".1f") + "%" * (line["spread_pct"] is not None)
        cells = [number(line["ms"], ".3f") + "*" * line["doubtful"], line["statistic"], *times, spread]
        cells += [str(line["rounds"]), str(line["runs"]), number(line["init_ms"], ".1f"), number(peak, ".1f")]
        cells.append(f"{line['size_bytes'] / 1000:.0f}")
        rows.append(f"<tr><td>{escape(line['label'])}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    head = "".join(f"<th>{name}</th>" for name in heads)
    return (
        f'<details><summary>All figures</summary><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></details>"
    )


class _Axes:
    """A plot area with a logarithmic x (ms) and a linear y (percent)."""

    width, height = 460, 320
    _left, _right, _top, _bottom = 44, 16, 14, 40

    def __init__(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        self._x = (math.log(min(xs) / 1.25), math.log(max(xs) * 1.25))
        low, high = min(ys), max(ys)
        margin = max(1.0, 0.15 * (high - low))
        self._y = (max(0.0, low - margin), min(100.0, high + margin))

    def x(self, ms: float) -> float:
        low, high = self._x
        return self._left + (math.log(ms) - low) / (high - low) * (self.width - self._left - self._right)

    def y(self, percent: float) -> float:
        low, high = self._y
        return self.height - self._bottom - (percent - low) / (high - low) * (self.height - self._top - self._bottom)

    def frame(self) -> str:
        """Returns grid, ticks and titles."""
        parts = []
        bottom, right = self.height - self._bottom, self.width - self._right
        for tick in _log_ticks(*(math.exp(value) for value in self._x)):
            x = self.x(tick)
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{self._top}" y2="{bottom}" stroke="var(--line)"/>')
            parts.append(f'<text class="soft" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>')
        for tick in _ticks(*self._y):
            y = self.y(tick)
            parts.append(f'<line x1="{self._left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--line)"/>')
            parts.append(f'<text class="soft" x="{self._left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
        middle = (self._left + right) / 2
        parts.append(
            f'<text class="soft" x="{middle}" y="{self.height - 6}" text-anchor="middle">ms (log scale)</text>'
        )
        turn = f'transform="rotate(-90 12 {bottom / 2:.0f})"'
        parts.append(f'<text class="soft" x="12" y="{bottom / 2:.0f}" text-anchor="middle" {turn}>top-1, %</text>')
        return "".join(parts)


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [m * 10.0**d for d in decades for m in (1, 2, 5) if low <= m * 10.0**d <= high]


def _ticks(low: float, high: float) -> list[float]:
    step = next(step for step in (0.5, 1, 2, 5, 10, 20, 50) if (high - low) / step <= 7 or step == 50)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _point(axes: _Axes, ms: float, top1: float, quoted: bool, line: dict[str, Any]) -> str:
    colour = f"var(--f{_family_index(line)})"
    fill = colour if line["recipe"] == "float32" else "var(--paper)"
    title = f"{line['label']}: {ms:.3f} ms, {top1:.1f}%{' (paper)' if quoted else ''}"
    place = f'cx="{axes.x(ms):.1f}" cy="{axes.y(top1):.1f}" r="5"'
    return f'<circle {place} fill="{fill}" stroke="{colour}" stroke-width="2"><title>{escape(title)}</title></circle>'


def _labels(axes: _Axes, points: Sequence[tuple]) -> Iterable[str]:
    """Names each network once, at its slowest point, to the left of it where there is no room to the right."""
    slowest: dict[str, tuple] = {}
    for point in points:
        name = short_name(point[3])
        if name not in slowest or point[0] > slowest[name][0]:
            slowest[name] = point
    for name, (ms, top1, _, _) in slowest.items():
        x, y = axes.x(ms), axes.y(top1) + 4
        anchor, x = ("end", x - 9) if x > axes.width - 110 else ("start", x + 9)
        y = y if anchor == "start" else y - 12
        yield f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(name)}</text>'


def _accuracy(line: dict[str, Any]) -> tuple[float, bool] | None:
    """Returns top-1 in percent, and whether it is the paper's, of the float network, rather than this file's own."""
    own = line.get("accuracy")
    if isinstance(own, dict) and isinstance(own.get("top1"), int | float):
        return own["top1"], False
    quoted = line.get("paper_top1")
    return (quoted, True) if isinstance(quoted, int | float) and line["recipe"] == "float32" else None


def short_name(line: dict[str, Any]) -> str:
    """Returns a network's name for people, where it is one of the paper's."""
    if line.get("arch") in paper.TITLES and line.get("alpha"):
        size = line.get("size") or paper.SIZE
        at = "" if size == paper.SIZE else f" at {'x'.join(map(str, dict.fromkeys(size)))}"
        return f"{paper.TITLES[line['arch']]} {line['alpha']:g}x{at}"
    return line["model"]


def _family_index(line: dict[str, Any]) -> int:
    return _FAMILIES.index(line["arch"]) if line.get("arch") in _FAMILIES else len(_FAMILIES)


def _family_name(line: dict[str, Any]) -> str:
    return paper.TITLES.get(line.get("arch"), "other")


def _by_kind(ops: Sequence[Sequence[Any]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for kind, ms, _ in ops:
        name = next(name for name, pattern in _OP_KINDS.items() if re.search(pattern, kind, re.IGNORECASE))
        total[name] = total.get(name, 0) + ms
    return total


def _share(value: float, most: float) -> float:
    """Returns the width of a bar in percent; its number must fit beside it."""
    return round(max(0.3, 72 * value / most), 2) if most else 0.3


def _mark(arch: str) -> str:
    return _dot(_FAMILIES.index(arch))


def _dot(index: int, palette: str = "f") -> str:
    return f'<span class="mark" style="background:var(--{palette}{index})"></span>'


def _joined(*parts: Any) -> str:
    return ", ".join(str(part) for part in parts if part)


def _pinned(pinned: dict[str, Sequence[int]] | None) -> str:
    return "; ".join(f"{', '.join(map(str, cores))} ({what})" for what, cores in (pinned or {}).items())


def _yes(value: bool | None) -> str | None:
    return None if value is None else "yes (fixed-performance mode)" if value else "no"


def _change(before: float | None, after: float | None, form: str) -> str | None:
    words = list(dict.fromkeys(form.format(value) for value in (before, after) if value is not None))
    return " → ".join(words) or None
