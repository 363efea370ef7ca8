"""Sustained runs: one model back to back for minutes, since a hot phone is a slower phone."""

import argparse
import itertools
import math
import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .plan import MOST_SECS, BenchPlan, Job, Launch
from .rows import SUSTAINED, Row
from .summary import energies, row_facts

NOTE = (
    "The models run one after the other, each back to back; times are medians of the launches in a window. After a "
    "pause, such as a lost connection, the device warms up for as long as the pause; the time axis leaves pauses out."
)
_FIRST_SECS, _LAST_SECS = 60.0, 600.0  # windows of a long run
_FIRST_SHARE, _LAST_SHARE = 0.1, 1 / 3  # maximum share of a short run
_SLICE_SECS, _MIN_SLICES = 10.0, 10
_MAX_PAUSE = 30.0  # seconds between two launches; a device hardly cools down in a shorter pause
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def parse_duration(text: str) -> float:
    """Converts a duration such as `30m`, `90s` or `1.5h` to seconds.

    Raises:
        argparse.ArgumentTypeError: If the text is not a duration between 0 and four months.
    """
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smh]?)", text.strip())
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not 0 < seconds <= MOST_SECS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration; expected something like 30m, 90s or 1h")
    return seconds


@dataclass(frozen=True)
class SustainedPlan(BenchPlan):
    """A plan in which each model runs for minutes, in back-to-back launches of some seconds.

    Each launch is a row, so an interruption loses only the current launch.
    """

    @classmethod
    def of(cls, plan: BenchPlan, seconds: float) -> "SustainedPlan":
        """Returns a plan that runs each model of another plan for some seconds."""
        slices = max(_MIN_SLICES, math.ceil(seconds / _SLICE_SECS))
        short = {"rounds": slices, "min_secs": seconds / slices, "runs": 1, "warmup": 1}
        return cls(**{**vars(plan), **short})

    def schedule(self) -> Iterator[Launch]:
        """Yields all launches of the first job, then of the second and so on, then the extra launches."""
        for place, job in enumerate(self.jobs, 1):
            for number in range(1, self.rounds + 1):
                yield Launch(number, place, job, SUSTAINED)
        yield from self._extra_launches()

    def options(self) -> dict[str, Any]:
        """See `BenchPlan.options`."""
        return {**super().options(), "sustained_secs": self.rounds * self.min_secs}


def missing_heat(spans: Sequence[tuple[float, float]]) -> float:
    """Returns how many seconds the device must still run to be as warm as it would be without the pauses.

    A device cools about as fast as it warms up, so a pause costs its own length, but at most all running before it.

    Args:
        spans: Start and end of each launch up to now, in seconds of any clock.
    """
    heat = most = 0.0
    for (began, ended), (next_began, _) in itertools.pairwise(spans):
        heat += max(0.0, ended - began)
        most = max(most, heat)
        pause = next_began - ended
        heat = max(0.0, heat - pause) if pause > _MAX_PAUSE else heat
    return most - heat


class SustainedClock:
    """The launches of sustained runs so far, on one device."""

    def __init__(self) -> None:
        self._spans: dict[tuple, list[tuple[float, float]]] = {}

    def has_begun(self, job: Job) -> bool:
        """Returns whether a job has had a launch."""
        return _job_key(job) in self._spans

    def add(self, row: Row) -> None:
        """Adds a launch; launches of other kinds are ignored."""
        if row.kind == SUSTAINED:
            began, ended = row.conditions.span_s
            self._spans.setdefault(_job_key(row.launch.job), []).append((began, ended))

    def timed(self, row: Row, span_s: Sequence[float]) -> Row:
        """Adds a launch; returns its row with start and end, flagged if the device is colder than before a pause.

        Other flags are dropped: a lower clock, for example, makes a single time unreliable, but is what a sustained run
        is meant to show.

        Args:
            row: The launch.
            span_s: Start and end of the launch in Unix time.
        """
        row = replace(row, conditions=replace(row.conditions, span_s=span_s))
        self.add(row)
        missing = missing_heat(self._spans[_job_key(row.launch.job)])
        return replace(row, flags=[f"warming up again for {missing:.0f} s after a pause"] if missing else [])


def _job_key(job: Job) -> tuple:
    return (job.model.label, *job[1:])


def summarize_sustained(rows: Iterable[Row], baseline: str | None = None) -> list[dict[str, Any]]:
    """Summarizes the rows of sustained runs; other rows are ignored.

    Args:
        rows: Rows of one or several devices, in the order in which they were measured.
        baseline: Label of the model to compare with.

    Returns:
        One dict per device, model and configuration, sorted by these. It contains the names and facts of the row;
        `first` and `last`, the windows at the start and at the end, each with `secs`, `ms`, `mhz`, `temperature` and
        `battery`, None where unknown; `slowdown`: last ms / first ms; `ratio_first` and `ratio_last` to the baseline,
        None if it was not measured; `pauses`: their number; `energy`, see `summary.energies`; `points`: for each launch
        `secs` of running so far, `ms`, `mhz`, `temperature`, `battery` and `after_pause`. Units are ms, MHz, degrees
        Celsius and percent.
    """
    rows, series = list(rows), {}
    energy = energies(rows)
    for row in rows:
        if row.kind == SUSTAINED:
            series.setdefault((row.config, row.label), []).append(row)
    lines = {key: _line(series[key]) for key in sorted(series)}
    for (config, label), line in lines.items():
        line["energy"] = energy.get((config, label), {})
        base = lines.get((config, baseline or ""))
        for window in ("first", "last"):
            line[f"ratio_{window}"] = line[window]["ms"] / base[window]["ms"] if base and base[window]["ms"] else None
    return list(lines.values())


def _line(rows: Sequence[Row]) -> dict[str, Any]:
    points, total = _points(rows)
    first_secs, last_secs = min(_FIRST_SECS, _FIRST_SHARE * total), min(_LAST_SECS, _LAST_SHARE * total)
    first = _window([point for point in points if _middle(point) <= first_secs] or points[:1], first_secs)
    last = _window([point for point in points if _middle(point) >= total - last_secs] or points[-1:], last_secs)
    return {
        **row_facts(rows[0]),
        "minutes": total / 60,
        "runs": sum(row.latency.runs for row in rows),
        "first": first,
        "last": last,
        "slowdown": last["ms"] / first["ms"] if first["ms"] else None,
        "pauses": sum(point["after_pause"] for point in points),
        "points": points,
    }


def _points(rows: Sequence[Row]) -> tuple[list[dict[str, Any]], float]:
    """Returns the points of a curve over running time, and the total running time in seconds."""
    points, total, last_end = [], 0.0, math.inf
    for row in rows:
        began, ended = row.conditions.span_s
        after, secs = row.conditions.after, max(0.0, ended - began)
        points.append(
            {
                "began": total,
                "secs": total + secs,
                "ms": row.latency.headline_ns / 1e6,
                "mhz": after.get("busy_mhz") or max((after.get("mhz") or {}).values(), default=None),
                "temperature": after.get("temperature"),
                "battery": (after.get("battery") or {}).get("percent"),
                "after_pause": began - last_end > _MAX_PAUSE,
            }
        )
        total, last_end = total + secs, ended
    return points, total


def _middle(point: Mapping[str, Any]) -> float:
    return (point["began"] + point["secs"]) / 2


def _window(points: Sequence[dict[str, Any]], secs: float) -> dict[str, Any]:
    window: dict[str, Any] = {"secs": secs}
    for name in ("ms", "mhz", "temperature", "battery"):
        known = [point[name] for point in points if point[name] is not None]
        window[name] = statistics.median(known) if known else None
    return window
