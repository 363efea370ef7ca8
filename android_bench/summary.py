"""Statistics over the rows of a run: headline, spread, ratios, and which of them are unreliable."""

import itertools
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from . import delegation
from .plan import ANY_CORE
from .rows import Latency, Row, last_attempts

DOUBTFUL_SPREAD = 10.0  # percent; above it, small differences between models are meaningless
_NS_PER_MS = 1e6
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
_MAX_NAMED = 3  # maximum number of models and reasons in a warning, the worst first
_NAMES = (
    *("target", "device", "label", "threads", "delegate", "core", "engine"),
    *("model", "recipe", "file", "sha256", "size_bytes"),
)


def describe(samples_ns: Iterable[int]) -> Latency:
    """Returns the statistics of latencies.

    The standard deviation divides by the number of runs, as in TFLite's benchmark tool.

    Raises:
        ValueError: If there are no samples.
    """
    samples = list(samples_ns)
    if not samples:
        raise ValueError("no samples to describe")
    ordered = sorted(samples)
    return Latency(
        runs=len(ordered),
        statistic="median",
        median_ns=statistics.median(ordered),
        min_ns=ordered[0],
        p95_ns=percentile(ordered, 95),
        max_ns=ordered[-1],
        mean_ns=statistics.fmean(ordered),
        std_ns=statistics.pstdev(ordered),
        samples_ns=samples,
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Returns a percentile of ascending values, interpolated linearly like numpy's."""
    place = (len(ordered) - 1) * percent / 100
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return low + (high - low) * (place - math.floor(place))


def spread_pct(values: Sequence[float]) -> float | None:
    """Returns (max - min) / median in percent; None for fewer than two values, and if the median is 0."""
    if len(values) < 2 or not statistics.median(values):
        return None
    return 100 * (max(values) - min(values)) / statistics.median(values)


def summarize(rows: Iterable[Row], baseline: str | None = None) -> list[dict[str, Any]]:
    """Summarizes timed rows over their rounds.

    Args:
        rows: Rows of one or several devices. Of a repeated launch, the last attempt counts; of launches that were not
            timed, only the memory.
        baseline: Label of the model to compare with.

    Returns:
        One dict per target, device, model, recipe and configuration, sorted by these. It contains the names and facts
        of the row; `rounds`, `runs`; `statistic` and `ms`, the headline: the median over the rounds of each round's
        median (or min); `median_ms` (None if unknown), `min_ms`, `p95_ms`, `max_ms`, `mean_ms`, `std_ms`; `spread_pct`
        of the rounds' headlines; `ratio` to the baseline (see `paired_ratio`) and `ratio_spread_pct`; `flagged`, the
        number of rounds with unreliable times, and their `flags`; `doubtful`: whether any round is flagged, or the
        rounds differ much; `init_ms` and `first_ms`; the maximum `memory_mb`; `energy`, see `energies`; `ops_taken`
        and `delegation`: the ops that the delegate took, the minimum over the rounds (see
        `delegation.Delegation.to_json`).
    """
    rows = list(rows)
    groups, memory, energy = _grouped(rows), _peak_memory(rows), energies(rows)
    bases = {group[0].config: group for group in groups.values() if group[0].label == baseline}
    lines = [
        _summary_line(groups[key], bases.get(groups[key][0].config, []), memory.get(key, {})) for key in sorted(groups)
    ]
    keys = (_energy_key(groups[key][0]) for key in sorted(groups))
    return [{**line, "energy": energy.get(key, {})} for line, key in zip(lines, keys, strict=True)]


def energies(rows: Iterable[Row]) -> dict[tuple, Mapping[str, Any]]:
    """Returns the latest energy of each configuration and model; see `energy.energy_per_inference`."""
    return {_energy_key(row): row.details.energy for row in rows if row.details.energy}


def _energy_key(row: Row) -> tuple:
    return (row.config, row.label)


def row_facts(row: Row) -> dict[str, Any]:
    """Returns the names and facts of a row that are copied to a line of a summary."""
    flat: dict[str, Any] = row.to_json() | {"label": row.label}
    return {**{name: flat[name] for name in _NAMES}, **flat["facts"]}


def ratios(rows: Iterable[Row], base: Iterable[Row]) -> list[float]:
    """Returns the headline divided by the base's headline, for each round that has both.

    Within a round, the machine was in nearly the same state for both.
    """
    partners = {(row.run, row.launch.round): row.latency for row in base}
    timed = [(row.latency, partners.get((row.run, row.launch.round))) for row in rows]
    pairs = [(latency, other) for latency, other in timed if other]
    if any(latency.statistic != other.statistic for latency, other in pairs):
        return [latency.min_ns / other.min_ns for latency, other in pairs if other.min_ns]
    return [latency.headline_ns / other.headline_ns for latency, other in pairs if other.headline_ns]


def paired_ratio(rows: Iterable[Row], base: Iterable[Row]) -> float | None:
    """Returns the median of `ratios`; None if there is no common round."""
    values = ratios(rows, base)
    return statistics.median(values) if values else None


def reliability_warnings(summary: Iterable[dict[str, Any]]) -> list[str]:
    """Returns warnings that name the models with unreliable times, if there are any."""
    summary = list(summary)
    found = [*_delegation_warnings(summary), *_spread_warnings(summary), *_flag_warnings(summary)]
    if len({line["statistic"] for line in summary}) > 1:
        found.append("some times are medians and some are minima; do not compare one kind with the other")
    return found


def is_partial(line: dict[str, Any]) -> bool:
    """Returns whether a delegate is known to have taken only some of a model's ops.

    Args:
        line: A line of a summary.
    """
    return line["delegation"].get("whole") is False


def _delegation_warnings(summary: Sequence[dict[str, Any]]) -> list[str]:
    """Returns warnings about times that are not, or may not be, times of the requested delegate."""
    found = [
        f"{_description(line)}: {line['delegate']} takes {delegation.describe(line['delegation'])}; "
        "the rest runs on the CPU"
        for line in summary
        if is_partial(line) and line["delegate"] != "xnnpack"
    ]
    silent = [line for line in summary if not line["delegation"] and _must_show(line)]
    for delegate in dict.fromkeys(line["delegate"] for line in silent):
        found.append(
            f"the benchmark tool's output does not show that {delegate} took any model; they may have run without it"
        )
    return found


def _must_show(line: dict[str, Any]) -> bool:
    """Whether the tool must report the delegate: not for XNNPACK in LiteRT, which has no other CPU kernels."""
    return line["delegate"] not in ("none", "xnnpack") or (
        line["delegate"] == "xnnpack" and line["engine"].endswith("(classic)")
    )


def _spread_warnings(summary: Sequence[dict[str, Any]]) -> list[str]:
    wide = sorted((line for line in summary if _is_wide(line["spread_pct"])), key=lambda line: -line["spread_pct"])
    if not wide:
        return []
    worst = ", ".join(f"{_description(line)} by {line['spread_pct']:.0f}%" for line in wide[:_MAX_NAMED])
    more = f" and {len(wide) - _MAX_NAMED} more" if len(wide) > _MAX_NAMED else ""
    return [f"the rounds differ: {worst}{more}; ignore small differences, or repeat on an idle machine"]


def _flag_warnings(summary: Sequence[dict[str, Any]]) -> list[str]:
    flagged = [line for line in summary if line["flagged"]]
    found = []
    for line in flagged[:_MAX_NAMED]:
        reasons = "; ".join(_merge_numbers(line["flags"])[:_MAX_NAMED])
        rounds = f"{line['flagged']} of {line['rounds']} rounds"
        found.append(f"{_description(line)}: unreliable in {rounds}: {reasons}")
    if others := len(flagged[_MAX_NAMED:]):
        found.append(f"the same applies to {others} other{'s' * (others > 1)}, marked with * in the table")
    return found


def _merge_numbers(flags: Iterable[str]) -> list[str]:
    """Merges flags that differ only in their numbers, such as `throttled for 15 to 60% of the time`."""
    kinds: dict[tuple[str, ...], list[list[str]]] = {}
    for flag in flags:
        kinds.setdefault(tuple(_NUMBER.split(flag)), []).append(_NUMBER.findall(flag))
    return [
        "".join(itertools.chain(*itertools.zip_longest(words, map(_range, zip(*numbers, strict=True)), fillvalue="")))
        for words, numbers in kinds.items()
    ]


def _range(numbers: Iterable[str]) -> str:
    ordered = sorted(numbers, key=float)
    return " to ".join(dict.fromkeys((ordered[0], ordered[-1])))


def _is_wide(spread: float | None) -> bool:
    return (spread or 0) > DOUBTFUL_SPREAD


def _description(line: dict[str, Any]) -> str:
    where = "" if line["core"] == ANY_CORE else f", core={line['core']}"
    delegate = "" if line["delegate"] == "xnnpack" else f", delegate={line['delegate']}"
    return f"{line['label']} (threads={line['threads']}{where}{delegate})"


def _group_key(row: Row) -> tuple:
    """The key that rows of the same measurement share; the summary is sorted by it."""
    return (row.origin.target, row.origin.device, row.label, *row.launch.job[1:])


def _grouped(rows: Iterable[Row]) -> dict[tuple, list[Row]]:
    groups: dict[tuple, list[Row]] = {}
    for row in last_attempts(row for row in rows if row.kind == "time"):
        groups.setdefault(_group_key(row), []).append(row)
    return groups


def _peak_memory(rows: Iterable[Row]) -> dict[tuple, dict[str, float]]:
    """Returns the maximum memory of each kind, in MB."""
    peak: dict[tuple, dict[str, float]] = {}
    for row in rows:
        seen = peak.setdefault(_group_key(row), {})
        for name, megabytes in row.details.memory_mb.items():
            seen[name] = max(megabytes, seen.get(name, 0))
    return peak


def _summary_line(group: list[Row], base: list[Row], memory_mb: dict[str, float]) -> dict[str, Any]:
    latencies = [row.latency for row in group]
    statistic, headlines = _headlines(latencies)
    times = {"ms": statistics.median(headlines), **_times(latencies)}
    taken = _least_taken(group)
    spread, paired, flagged = spread_pct(headlines), ratios(group, base), [row for row in group if row.flags]
    return {
        **row_facts(group[0]),
        "rounds": len(group),
        "runs": sum(latency.runs for latency in latencies),
        "statistic": statistic,
        **{name: None if value is None else value / _NS_PER_MS for name, value in times.items()},
        "spread_pct": spread,
        "ratio": statistics.median(paired) if paired else None,
        "ratio_spread_pct": spread_pct(paired),
        "flagged": len(flagged),
        "doubtful": bool(flagged) or _is_wide(spread),
        "flags": sorted({flag for row in flagged for flag in row.flags}),
        "memory_mb": memory_mb,
        "ops_taken": delegation.ops_taken(taken),
        "delegation": taken,
    }


def _least_taken(group: Iterable[Row]) -> dict[str, Any]:
    known = [dict(row.details.delegation) for row in group if row.details.delegation]
    return min(known, key=lambda one: (bool(one.get("whole")), one.get("ops") or 0), default={})


def _headlines(latencies: Sequence[Latency]) -> tuple[str, list[float]]:
    """Returns the statistic that all rounds have, and its value in each round."""
    medians = [latency.median_ns for latency in latencies if latency.median_ns is not None]
    if len(medians) == len(latencies):
        return "median", medians
    return "min", [latency.min_ns for latency in latencies]


def _times(latencies: Sequence[Latency]) -> dict[str, float | None]:
    """Returns the statistics over all rounds, in ns."""
    mean, std = _pooled(latencies)
    return {
        "median_ms": _median_of_all(latency.median_ns for latency in latencies),
        "min_ms": min(latency.min_ns for latency in latencies),
        "p95_ms": _median_of_all(latency.p95_ns for latency in latencies),
        "max_ms": max(latency.max_ns for latency in latencies),
        "mean_ms": mean,
        "std_ms": std,
        "init_ms": _median_of_known(latency.init_ns for latency in latencies),
        "first_ms": _median_of_known(latency.first_ns for latency in latencies),
    }


def _pooled(latencies: Sequence[Latency]) -> tuple[float, float]:
    """Returns mean and standard deviation of the invocations of all rounds."""
    runs = sum(latency.runs for latency in latencies)
    mean = sum(latency.mean_ns * latency.runs for latency in latencies) / runs
    squares = sum((latency.std_ns**2 + (latency.mean_ns - mean) ** 2) * latency.runs for latency in latencies)
    return mean, math.sqrt(squares / runs)


def _median_of_all(values: Iterable[float | None]) -> float | None:
    """Returns the median; None if one of the values is unknown."""
    values = list(values)
    return None if None in values else _median_of_known(values)


def _median_of_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
