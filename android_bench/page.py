"""The report as one HTML page: no scripts, works offline, light and dark, for desktops and phones."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from . import delegation
from .count_summary import NOTE as COUNT_NOTE
from .curve_plot import curves
from .page_style import FAMILIES, STYLE, color_dot, family_index
from .report_model import (
    KINDS,
    DeviceConfig,
    DeviceReport,
    Table4,
    cell_texts,
    number,
    short_name,
    title,
)
from .scatter_plot import scatter_plot
from .sustained import NOTE as SUSTAINED_NOTE
from .terminal_table import count_columns, duration, energy_notes, energy_text, sustained_columns

# Names in the results are untrusted: the browser must not load or run anything that they contain.
_POLICY = (
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'\">"
)
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


def html(devices: Sequence[DeviceReport]) -> str:
    """Returns the page."""
    body = "\n".join(map(_device, devices))
    names = ", ".join(device.name for device in devices)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
{_POLICY}
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title(devices))}: {escape(names)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{escape(title(devices))}</h1>
{body}
<footer>Every number comes from rows.jsonl in the same folder; the output of the benchmark tool is in logs/.</footer>
</body>
</html>
"""


def _device(device: DeviceReport) -> str:
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


def _card(device: DeviceReport) -> str:
    environment, run = device.run.get("environment", {}), device.run
    before, after = environment.get("state", {}), device.last_state
    entries = {
        "serial": run.get("device") if run.get("target") not in ("host", "emulator") else None,
        "engine": environment.get("engine"),
        "system": _joined(environment.get("android") and f"Android {environment['android']}", environment.get("soc"))
        or environment.get("os")
        or environment.get("kernel"),
        "caches, modeled": environment.get("caches"),
        "cache parameters from": environment.get("source"),
        "time, estimated": environment.get("estimate"),
        "cores": environment.get("clocks") or environment.get("cores"),
        "ran on core": _pinned(environment.get("pinned")),
        "governor": ", ".join(sorted(set((before.get("governor") or {}).values()))) or environment.get("governor"),
        "clock under load": after.get("busy_mhz") and f"{after['busy_mhz']:.0f} MHz on average",
        "clocks fixed": _clocks_fixed(environment.get("fixed_performance")),
        "temperature": _temperature(before, after),
        "battery": _change(_battery_percent(before), _battery_percent(after), "{:.0f}%"),
        "load": _change(run.get("load_before"), run.get("load_after"), "{:.1f}"),
        "plan": None if run.get("target") == "emulator" else _plan(run.get("options", {})),
        "date": str(environment.get("date", "")).replace("T", " ").replace("+00:00", " UTC"),
    }
    cells = [f"<div><dt>{k}</dt><dd>{escape(str(v))}</dd></div>" for k, v in entries.items() if v not in (None, "", {})]
    return f"<dl>{''.join(cells)}</dl>"


def _plan(options: Mapping[str, Any]) -> str | None:
    if not {"rounds", "runs", "min_secs"} <= options.keys():
        return None
    if "sustained_secs" in options:
        return f"each model for {duration(options['sustained_secs'])}, in launches of {options['min_secs']:.3g} s"
    return f"{options['rounds']} rounds, {options['runs']} runs or {options['min_secs']:g} s in each"


def _temperature(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """Returns the temperatures and their sensors; old rows do not name the sensors."""
    change = _change(before.get("temperature"), after.get("temperature"), "{:.0f} °C")
    sensors = dict.fromkeys(state["sensor"] for state in (before, after) if state.get("sensor"))
    return f"{change} ({', '.join(sensors)})" if change and sensors else change


def _battery_percent(state: Mapping[str, Any]) -> float | None:
    return (state.get("battery") or {}).get("percent")


def _config(config: DeviceConfig) -> str:
    parts = [f"<h3>{escape(config.title)}</h3>"]
    if config.table4:
        parts.append(_table4(config.table4))
    if config.counts:
        parts += [_counts(config.counts), _counted_profiles(config.counts)]
    if config.sustained:
        parts += [_sustained(config.sustained), *map(curves, config.sustained)]
    if config.summary:
        parts += [_latency_bars(config.summary), scatter_plot(config.summary)]
        parts += [_profiles(config.profiles, _TIMES), _details(config.summary)]
    parts += [f'<p class="soft">{escape(note)}</p>' for note in energy_notes([*config.summary, *config.sustained])]
    return "\n".join(part for part in parts if part)


def _counts(counts: Sequence[dict[str, Any]]) -> str:
    note = f'<p class="soft">{escape(COUNT_NOTE)}</p>'
    return f"<h4>Counted, not timed</h4>{_plain_table(*count_columns(counts), words=3)}{note}"


def _sustained(sustained: Sequence[dict[str, Any]]) -> str:
    heads, lines = sustained_columns(sustained)
    line = sustained[0]
    first, last = duration(line["first"]["secs"]), duration(line["last"]["secs"])
    note = (
        f"First and last: the first {first} and the last {last} of {duration(60 * line['minutes'])}. {SUSTAINED_NOTE}"
    )
    table = _plain_table(heads, lines, words=heads.index("threads"))
    return f'<h4>Over time</h4>{table}<p class="soft">{escape(note)}</p>'


def _plain_table(heads: Sequence[str], lines: Sequence[Sequence[str]], words: int) -> str:
    """Returns an HTML table whose first `words` columns are left-aligned text."""
    kinds = [' class="word"' if column < words else "" for column in range(len(heads))]
    rows = "".join(
        f"<tr>{''.join(f'<td{kind}>{escape(cell)}</td>' for kind, cell in zip(kinds, line, strict=True))}</tr>"
        for line in lines
    )
    head = "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(kinds, heads, strict=True))
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _counted_profiles(counts: Sequence[dict[str, Any]]) -> str:
    ops = {line["label"]: [_op_in_millions(op) for op in line["ops"]] for line in counts if line["ops"]}
    return _profiles(ops, _INSTRUCTIONS)


def _op_in_millions(op: Sequence[Any]) -> tuple[str, float, str]:
    kind, name, counts = op
    return kind, counts["instructions"] / 1e6, name


def _table4(table: Table4) -> str:
    groups = "".join(f'<th colspan="2" scope="colgroup">{escape(recipe or "-")}</th>' for recipe in table.recipes)
    heads = f"<th>{table.unit}</th><th>ratio</th>" * len(table.recipes)
    rows = []
    for mflops, lines in table.budgets.items():
        width = 3 + 2 * len(table.recipes)
        rows.append(f'<tr class="budget"><th colspan="{width}" scope="rowgroup">{mflops} MFLOPs</th></tr>')
        for line in lines:
            cells = "".join(f"<td>{text}</td>" for r in table.recipes for text in cell_texts(line.cells[r]))
            published = f"{number(line.paper_ms, '.1f')}</td><td>{number(line.paper_ratio, '.2f')}"
            family, alpha = line.name.split()
            name = f'<span class="whole">{color_dot(FAMILIES.index(line.arch))}{family}</span> {alpha}'
            rows.append(f'<tr><td>{name}</td><td class="paper">{published}</td>{cells}</tr>')
    return f"""<h4>Table 4, compared with the paper</h4>
<div class="scroll"><table>
<thead><tr><th></th><th colspan="2" scope="colgroup">paper</th>{groups}</tr>
<tr><th>network</th><th>ms</th><th>ratio</th>{heads}</tr></thead>
<tbody>{"".join(rows)}</tbody></table></div>
<p class="soft">{escape(table.note)} *: unreliable, see the warnings.</p>"""


def _latency_bars(summary: Sequence[dict[str, Any]]) -> str:
    """Returns a bar chart of latencies, grouped by network."""
    most = max(line["ms"] for line in summary)
    rows = []
    for line in sorted(summary, key=lambda line: (family_index(line), -(line.get("alpha") or 0), line["label"])):
        label = f"{short_name(line)} {line['recipe']}".strip()
        opacity = 1 if line["recipe"] == "float32" else 0.55
        bar = f'<span class="bar" style="width:{_width(line["ms"], most)}%"><i style="width:100%;opacity:{opacity};'
        bar += f'background:var(--f{family_index(line)})"></i></span>'
        rows.append(_bar(label, bar, f"{number(line['ms'], '.3f')} ms{'*' * line['doubtful']}"))
    note = "<figcaption>Shorter is better. Full color: float32; pale: other recipes.</figcaption>"
    return f'<h4>Float vs. int8</h4><figure><div class="bars">{"".join(rows)}</div>{note}</figure>'


class _Cost(NamedTuple):
    """Unit and texts of a chart of costs by op."""

    unit: str
    title: str
    most: str
    note: str


_TIMES = _Cost(
    "ms",
    "Time by kind of op",
    "The slowest ops of each model",
    "Measured with the profiler on, which slows inference down a little.",
)
_INSTRUCTIONS = _Cost(
    "M",
    "Instructions by kind of op",
    "The ops of each model with the most instructions",
    "Millions of instructions inside the ops; LiteRT's overhead between them is not shown.",
)


def _profiles(profiles: Mapping[str, Sequence[Sequence[Any]]], cost: _Cost) -> str:
    """Returns a stacked bar per profiled model, its cost by kind of op, and the most expensive ops."""
    if not profiles:
        return ""
    kinds = {label: _cost_by_kind(ops) for label, ops in sorted(profiles.items())}
    most = max(sum(parts.values()) for parts in kinds.values())
    used = [kind for kind in _OP_KINDS if any(kind in parts for parts in kinds.values())]
    legend = "".join(f"<li>{color_dot(list(_OP_KINDS).index(kind), 'o')}{kind}</li>" for kind in used)
    rows = "".join(_stacked_bar(label, parts, most, cost.unit) for label, parts in kinds.items())
    most_expensive = "".join(_most_expensive(label, ops, cost.unit) for label, ops in sorted(profiles.items()))
    return f"""<h4>{cost.title}</h4>
<figure><ul class="legend">{legend}</ul><div class="bars">{rows}</div>
<figcaption>{cost.note}</figcaption></figure>
<details><summary>{cost.most}</summary>{most_expensive}</details>"""


def _stacked_bar(label: str, parts: Mapping[str, float], most: float, unit: str) -> str:
    total = sum(parts.values())
    inner = "".join(
        f'<i style="width:{100 * parts[kind] / total:.2f}%;background:var(--o{index})" '
        f'title="{kind}: {parts[kind]:.3f} {unit}"></i>'
        for index, kind in enumerate(_OP_KINDS)
        if kind in parts and total
    )
    return _bar(label, f'<span class="bar" style="width:{_width(total, most)}%">{inner}</span>', f"{total:.3f} {unit}")


def _bar(label: str, bar: str, value: str) -> str:
    """Returns one line of a bar chart: name, bar and value."""
    track = f'<span class="track">{bar}<span class="value">{value}</span></span>'
    return f'<span class="name">{escape(label)}</span>{track}'


def _most_expensive(label: str, ops: Sequence[Sequence[Any]], unit: str, count: int = 8) -> str:
    ordered = sorted(ops, key=lambda op: -op[1])[:count]
    rows = "".join(
        f'<tr><td>{escape(kind)}</td><td>{value:.3f}</td><td class="word">{escape(name)}</td></tr>'
        for kind, value, name in ordered
    )
    head = f'<tr><th>op</th><th>{unit}</th><th class="word">output</th></tr>'
    return f'<h4>{escape(label)}</h4><div class="scroll"><table>{head}{rows}</table></div>'


def _details(summary: Sequence[dict[str, Any]]) -> str:
    heads = ("model", "ms", "of", "min", "p95", "mean", "std", "spread", "rounds", "runs", "init ms", "peak MB", "kB")
    heads += ("mJ",) if any(line["energy"] for line in summary) else ()
    heads += ("ops taken",) if any(line["ops_taken"] for line in summary) else ()
    rows = []
    for line in summary:
        peak = line["memory_mb"].get("peak")
        times = [number(line[f"{name}ms"], ".3f") for name in ("min_", "p95_", "mean_", "std_")]
        spread = number(line["spread_pct"], ".1f") + "%" * (line["spread_pct"] is not None)
        cells = [number(line["ms"], ".3f") + "*" * line["doubtful"], line["statistic"], *times, spread]
        cells += [str(line["rounds"]), str(line["runs"]), number(line["init_ms"], ".1f"), number(peak, ".1f")]
        cells.append(f"{line['size_bytes'] / 1000:.0f}")
        cells += [energy_text(line)] if "mJ" in heads else []
        cells += [delegation.describe(line["delegation"]) or "-"] if "ops taken" in heads else []
        rows.append(f"<tr><td>{escape(line['label'])}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    head = "".join(f"<th>{name}</th>" for name in heads)
    return (
        f'<details><summary>All figures</summary><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def _cost_by_kind(ops: Sequence[Sequence[Any]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for kind, value, _ in ops:
        name = next(name for name, pattern in _OP_KINDS.items() if re.search(pattern, kind, re.IGNORECASE))
        total[name] = total.get(name, 0) + value
    return total


def _width(value: float, most: float) -> float:
    """Returns the width of a bar in percent, which leaves room for the number beside it."""
    return round(max(0.3, 72 * value / most), 2) if most else 0.3


def _joined(*parts: Any) -> str:
    return ", ".join(str(part) for part in parts if part)


def _pinned(pinned: dict[str, Sequence[int]] | None) -> str:
    return "; ".join(f"{', '.join(map(str, cores))} ({what})" for what, cores in (pinned or {}).items())


def _clocks_fixed(value: bool | None) -> str | None:
    return None if value is None else "yes (fixed-performance mode)" if value else "no"


def _change(before: float | None, after: float | None, form: str) -> str | None:
    words = list(dict.fromkeys(form.format(value) for value in (before, after) if value is not None))
    return " → ".join(words) or None
