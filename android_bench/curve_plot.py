"""Latency of a model over time, with clock, temperature and battery below it, as an SVG."""

from html import escape
from typing import Any, NamedTuple

from .page_style import family_index
from .report_model import short_name

_WIDTH, _LEFT, _RIGHT, _TOP, _HEIGHT, _GAP = 460, 72, 12, 8, 64, 12


class _Panel(NamedTuple):
    """A quantity over time: its key in a point, its name and its number format."""

    key: str
    name: str
    form: str


_PANELS = (
    _Panel("ms", "ms", ".3g"),
    _Panel("mhz", "MHz", ".0f"),
    _Panel("temperature", "°C", ".0f"),
    _Panel("battery", "battery %", ".0f"),
)


def curves(line: dict[str, Any]) -> str:
    """Returns the curves of a model as HTML; quantities that the device does not report are omitted.

    Args:
        line: See `sustained.summarize_sustained`.
    """
    panels = [panel for panel in _PANELS if any(point[panel.key] is not None for point in line["points"])]
    height = _TOP + len(panels) * (_HEIGHT + _GAP) + 24
    drawn = "".join(
        _panel(panel, line, _TOP + number * (_HEIGHT + _GAP), f"var(--f{family_index(line)})" if not number else "")
        for number, panel in enumerate(panels)
    )
    name = escape(f"{short_name(line)} {line['recipe']}".strip())
    return f"""<h4>{name}</h4><figure>
<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{name}: latency over time">
{drawn}{_minutes(line, height - 22)}
<text class="soft" x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{height - 6}" text-anchor="middle">minutes</text>
</svg></figure>"""


def _panel(panel: _Panel, line: dict[str, Any], top: float, color: str) -> str:
    """Returns the curve of one quantity with its frame, minimum and maximum."""
    points = [point for point in line["points"] if point[panel.key] is not None]
    values = [point[panel.key] for point in points]
    low, high = min(values), max(values)
    bottom, right = top + _HEIGHT, _WIDTH - _RIGHT
    places = [(_x(point, line), bottom - _share(point[panel.key], low, high) * _HEIGHT) for point in points]
    path = " ".join(f"{'L' if i else 'M'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(places))
    labels = "".join(
        f'<text class="soft" x="{_LEFT - 6}" y="{y:.1f}" text-anchor="end">{value:{panel.form}}</text>'
        for value, y in {high: top + 9, low: bottom}.items()
    )
    return (
        f'<rect x="{_LEFT}" y="{top}" width="{right - _LEFT}" height="{_HEIGHT}" fill="none" stroke="var(--line)"/>'
        f"{_pauses(line, top)}"
        f'<path d="{path}" fill="none" stroke="{color or "var(--soft)"}" stroke-width="2"/>{labels}'
        f'<text class="soft" x="{_LEFT - 6}" y="{top + _HEIGHT / 2 + 4}" text-anchor="end">{panel.name}</text>'
    )


def _pauses(line: dict[str, Any], top: float) -> str:
    paused = [point for point in line["points"] if point["after_pause"]]
    return "".join(
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{top + _HEIGHT}" stroke="var(--warn)" stroke-dasharray="3 3">'
        "<title>after a pause</title></line>"
        for x in (_scaled(point["began"], line) for point in paused)
    )


def _minutes(line: dict[str, Any], y: float) -> str:
    ticks = {0.0: "start", 30 * line["minutes"]: "middle", 60 * line["minutes"]: "end"}
    places = [(secs / 60, _scaled(secs, line), anchor) for secs, anchor in ticks.items()]
    return "".join(
        f'<text class="soft" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{minutes:.3g}</text>'
        for minutes, x, anchor in places
    )


def _x(point: dict[str, Any], line: dict[str, Any]) -> float:
    return _scaled((point["began"] + point["secs"]) / 2, line)


def _scaled(secs: float, line: dict[str, Any]) -> float:
    return _LEFT + _share(secs, 0, 60 * line["minutes"]) * (_WIDTH - _LEFT - _RIGHT)


def _share(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high > low else 0.5
