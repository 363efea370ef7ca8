"""Latency against accuracy as an SVG, with the Pareto front."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, NamedTuple

from . import paper
from .page_style import color_dot, family_index
from .report_model import pareto, short_name, top1_accuracy


class _Point(NamedTuple):
    """A model in the plot; if `quoted`, the accuracy is the paper's."""

    ms: float
    top1: float
    quoted: bool
    line: dict[str, Any]


def scatter_plot(summary: Sequence[dict[str, Any]]) -> str:
    """Returns a plot of latency against accuracy as HTML; only a note if no accuracy is known.

    Args:
        summary: See `summary.summarize`.
    """
    points = [_Point(line["ms"], *found, line) for line in summary if line["ms"] > 0 and (found := top1_accuracy(line))]
    if not points:
        return (
            '<h4>Latency against accuracy</h4><p class="soft">The accuracy of these files is unknown: their .json '
            "files have no <code>accuracy</code>. Run <code>fd-keras verify --record</code> to add it.</p>"
        )
    axes = _Axes([point.ms for point in points], [point.top1 for point in points])
    return f"""<h4>Latency against accuracy</h4>
<figure><ul class="legend">{_legend(points)}</ul>
<svg viewBox="0 0 {axes.width} {axes.height}" role="img" aria-label="Latency against accuracy">
{axes.frame()}
<path d="{_front(axes, points)}" fill="none" stroke="var(--soft)" stroke-dasharray="4 4"/>
{"".join(_circle(axes, point) for point in points)}{"".join(_labels(axes, points))}
</svg><figcaption>{_caption(points)}</figcaption></figure>"""


def _legend(points: Sequence[_Point]) -> str:
    families = {family_index(point.line): point.line.get("arch", "") for point in points}
    names = {index: paper.TITLES.get(arch, "other") for index, arch in sorted(families.items())}
    return "".join(f"<li>{color_dot(index)}{escape(name)}</li>" for index, name in names.items())


def _front(axes: "_Axes", points: Sequence[_Point]) -> str:
    front = pareto((point.ms, point.top1) for point in points)
    return " ".join(f"{'L' if i else 'M'}{axes.x(ms):.1f} {axes.y(top1):.1f}" for i, (ms, top1) in enumerate(front))


def _caption(points: Sequence[_Point]) -> str:
    note = "Up and left is better. Filled: float32; hollow: other recipes. Dashed line: the Pareto front."
    if any(point.quoted for point in points):
        note += " If the accuracy of a float32 file is unknown, the paper's accuracy on ImageNet is shown."
    return note


class _Axes:
    """The plot area: logarithmic x (ms) and linear y (percent)."""

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
        """Returns grid, ticks and axis titles."""
        x_ticks = "".join(map(self._x_tick, _log_ticks(*(math.exp(value) for value in self._x))))
        return x_ticks + "".join(map(self._y_tick, _ticks(*self._y))) + self._titles()

    def _x_tick(self, ms: float) -> str:
        x, bottom = self.x(ms), self.height - self._bottom
        return (
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{self._top}" y2="{bottom}" stroke="var(--line)"/>'
            f'<text class="soft" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{ms:g}</text>'
        )

    def _y_tick(self, percent: float) -> str:
        y, right = self.y(percent), self.width - self._right
        return (
            f'<line x1="{self._left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--line)"/>'
            f'<text class="soft" x="{self._left - 6}" y="{y + 4:.1f}" text-anchor="end">{percent:g}</text>'
        )

    def _titles(self) -> str:
        x, y = (self._left + self.width - self._right) / 2, (self.height - self._bottom) / 2
        turn = f'transform="rotate(-90 12 {y:.0f})"'
        return (
            f'<text class="soft" x="{x}" y="{self.height - 6}" text-anchor="middle">ms (log scale)</text>'
            f'<text class="soft" x="12" y="{y:.0f}" text-anchor="middle" {turn}>top-1, %</text>'
        )


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [m * 10.0**d for d in decades for m in (1, 2, 5) if low <= m * 10.0**d <= high]


def _ticks(low: float, high: float) -> list[float]:
    step = next(step for step in (0.5, 1, 2, 5, 10, 20, 50) if (high - low) / step <= 7 or step == 50)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _circle(axes: _Axes, point: _Point) -> str:
    color = f"var(--f{family_index(point.line)})"
    fill = color if point.line["recipe"] == "float32" else "var(--paper)"
    title = f"{point.line['label']}: {point.ms:.3f} ms, {point.top1:.1f}%{' (paper)' if point.quoted else ''}"
    place = f'cx="{axes.x(point.ms):.1f}" cy="{axes.y(point.top1):.1f}" r="5"'
    return f'<circle {place} fill="{fill}" stroke="{color}" stroke-width="2"><title>{escape(title)}</title></circle>'


def _labels(axes: _Axes, points: Sequence[_Point]) -> Iterable[str]:
    """Yields each network's name once, at its slowest point, on the left if there is no room on the right."""
    slowest: dict[str, _Point] = {}
    for point in sorted(points, key=lambda point: -point.ms):
        slowest.setdefault(short_name(point.line), point)
    for name, point in slowest.items():
        x, y = axes.x(point.ms), axes.y(point.top1) + 4
        anchor, x, y = ("end", x - 9, y - 12) if x > axes.width - 110 else ("start", x + 9, y)
        yield f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(name)}</text>'
