"""Measurements as rows, and what they say: the same for every target."""

import itertools
import math
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .plan import ANY_CORE, join_label

DOUBTFUL_SPREAD = 10.0  # percent; above it, small differences between models mean nothing
_NS_PER_MS = 1e6
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
_NAMED = 3  # models and reasons that a warning names, the worst first
# What makes two rows measurements of the same thing.
_SAME = ("target", "device", "label", "threads", "delegate", "core")
# What a line of the summary repeats of its rows.
_NAMES = (*_SAME, "engine", "model", "recipe", "file", "sha256", "size_bytes")


@dataclass(frozen=True)
class Row:
    """One launch: one model in one configuration, in one round.

    Attributes:
        run: The run of the plan; a run that was interrupted goes on under its name.
        target: `host`, `adb` or `ssh`. A host row never stands for a phone.
        machine: What it is: `phone`, `emulator`, `board` or `host`; empty in rows of before that was noted.
        device: The phone's serial, the board's address, or this machine's name.
        engine: Interpreter or benchmark tool, and version.
        model: Name of the network.
        recipe: How it was quantized, empty if not known.
        file: Path of the `.tflite` file.
        sha256: Hash of that file.
        size_bytes: Its size.
        facts: What the sidecar says about the network.
        threads: Number of interpreter threads.
        round: Number of the round, from 1.
        place: Place of the model in the round, from 1.
        started: Time of the start (UTC, ISO 8601).
        runs: Number of timed invocations.
        statistic: `median`, or `min` where there is no median: which of the two is the headline.
        median_ns, min_ns, p95_ns, max_ns, mean_ns, std_ns: Latency in nanoseconds; None where not told.
        delegate, core: See `plan.Job`.
        kind: `time`, or what else the launch was for; see `plan.EXTRAS`. Only the first is summed up.
        attempt: From 1; above it, the visit was repeated. The last attempt counts.
        flags: Why its time cannot be trusted; empty if it can.
        load: Load average over the last minute at the start; None where unknown.
        samples_ns: Latency of every timed invocation, in order, where they are known.
        init_ns, first_ns: Time of loading the model, and of the very first invocation.
        memory_mb: See `parse.Output`.
        delegated: See `parse.Output`.
        ops: Profile: type, ms and name of each op.
        before, after: State of the device; see `device.read_state`.
        log: The tool's own words, relative to the folder of the results.
    """

    run: str
    target: str
    device: str
    engine: str
    model: str
    recipe: str
    file: str
    sha256: str
    size_bytes: int
    facts: dict[str, Any]
    threads: int
    round: int
    place: int
    started: str
    runs: int
    statistic: str
    median_ns: float | None
    min_ns: float
    p95_ns: float | None
    max_ns: float
    mean_ns: float
    std_ns: float
    delegate: str = "xnnpack"
    core: str = ANY_CORE
    kind: str = "time"
    attempt: int = 1
    flags: Sequence[str] = ()
    load: float | None = None
    samples_ns: Sequence[int] = ()
    init_ns: float | None = None
    first_ns: float | None = None
    memory_mb: dict[str, float] = field(default_factory=dict)
    delegated: dict[str, Sequence[int]] = field(default_factory=dict)
    ops: Sequence[Sequence[Any]] = ()
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    log: str | None = None
    machine: str = ""

    @property
    def label(self) -> str:
        """Name and recipe in one word."""
        return join_label(self.model, self.recipe)

    @property
    def headline_ns(self) -> float:
        """The latency to compare by."""
        return self.min_ns if self.median_ns is None else self.median_ns

    @property
    def key(self) -> tuple:
        """What tells this visit from the others of its run; see `plan.Visit.key`."""
        return (self.kind, self.round, self.label, self.threads, self.delegate, self.core)

    @property
    def config(self) -> tuple:
        """Where and how it ran: what rows must share to be compared."""
        return (self.target, self.device, self.threads, self.delegate, self.core)


def describe(samples_ns: Iterable[int]) -> dict[str, Any]:
    """Returns runs, headline statistic, median, min, p95, max, mean and standard deviation of latencies.

    The standard deviation is that of TFLite's benchmark tool, which divides by the number of runs.

    Raises:
        ValueError: If there is no sample.
    """
    ordered = sorted(samples_ns)
    if not ordered:
        raise ValueError("no samples to describe")
    return {
        "runs": len(ordered),
        "statistic": "median",
        "median_ns": statistics.median(ordered),
        "min_ns": ordered[0],
        "p95_ns": percentile(ordered, 95),
        "max_ns": ordered[-1],
        "mean_ns": statistics.fmean(ordered),
        "std_ns": statistics.pstdev(ordered),
    }


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Returns a percentile of ascending values, linear between the two nearest (as numpy does)."""
    place = (len(ordered) - 1) * percent / 100
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return low + (high - low) * (place - math.floor(place))


def spread_pct(values: Sequence[float]) -> float | None:
    """Returns (max - min) / median in percent; None for fewer than two values, which show no spread."""
    if len(values) < 2:
        return None
    return 100 * (max(values) - min(values)) / statistics.median(values)


def final(rows: Iterable[Row]) -> list[Row]:
    """Returns the last attempt of each visit, in the order of the visits."""
    last = {(row.run, *row.config, row.key): row for row in rows}
    return list(last.values())


def settled(rows: Iterable[Row], repeats: int) -> set[tuple]:
    """Returns the keys of the visits that need no further attempt."""
    return {row.key for row in rows if not row.flags or row.attempt > repeats}


def summarise(rows: Iterable[Row], baseline: str | None = None) -> list[dict[str, Any]]:
    """Sums up timed rows over their rounds.

    Args:
        rows: Of one or several devices; of a visit that was repeated, the last attempt counts. Of launches that
            were not timed, only the memory does.
        baseline: Label of the model to compare with.

    Returns:
        One dict per target, device, model, recipe and configuration, sorted by these. It holds the names and
        facts of the row; `rounds`, `runs`; `statistic` and `ms`, the headline: the median over the rounds of
        the median (or min) in each; `median_ms` (None if unknown), `min_ms`, `p95_ms`, `max_ms`, `mean_ms`,
        `std_ms`; `spread_pct` of the rounds' headlines; `ratio` to the baseline (see `paired_ratio`) and
        `ratio_spread_pct`; `flagged`, the number of rounds whose time cannot be trusted, and their `flags`;
        `doubtful`: whether there are any, or the rounds differ much;
        `init_ms` and `first_ms`; `memory_mb`, the largest seen.
    """
    rows = list(rows)
    groups, memory = _grouped(rows), _memory(rows)
    bases = {group[0].config: group for group in groups.values() if group[0].label == baseline}
    return [_sum_up(groups[key], bases.get(groups[key][0].config, []), memory.get(key, {})) for key in sorted(groups)]


def ratios(rows: Iterable[Row], base: Iterable[Row]) -> list[float]:
    """Returns, for each round that both took part in, headline by headline of the base.

    Within a round both ran on a machine in the same state, or nearly so.
    """
    partners = {(row.run, row.round): row for row in base}
    pairs = [(row, partners[row.run, row.round]) for row in rows if (row.run, row.round) in partners]
    if any(row.statistic != other.statistic for row, other in pairs):
        return [row.min_ns / other.min_ns for row, other in pairs]
    return [row.headline_ns / other.headline_ns for row, other in pairs if other.headline_ns]


def paired_ratio(rows: Iterable[Row], base: Iterable[Row]) -> float | None:
    """Returns the median over the rounds of `ratios`; None if there is no common round."""
    values = ratios(rows, base)
    return statistics.median(values) if values else None


def doubts(summary: Iterable[dict[str, Any]]) -> list[str]:
    """Returns warnings that name the models whose times cannot be trusted, if there are any."""
    summary, found = list(summary), []
    wide = sorted((line for line in summary if _wide(line)), key=lambda line: -line["spread_pct"])
    if wide:
        worst = ", ".join(f"{_called(line)} by {line['spread_pct']:.0f}%" for line in wide[:_NAMED])
        more = f" and {len(wide) - _NAMED} more" if len(wide) > _NAMED else ""
        advice = "trust no small difference, or repeat on a quieter machine"
        found.append(f"the rounds differ: {worst}{more}: {advice}")
    flagged = [line for line in summary if line["flagged"]]
    for line in flagged[:_NAMED]:
        reasons = "; ".join(_in_ranges(line["flags"])[:_NAMED])
        found.append(f"{_called(line)}: {line['flagged']} of {line['rounds']} rounds cannot be trusted: {reasons}")
    if len(flagged) > _NAMED:
        others = len(flagged) - _NAMED
        found.append(f"the same holds for {others} other{'s' * (others > 1)}, marked with * in the table")
    if len({line["statistic"] for line in summary}) > 1:
        found.append("some times are medians, some are minima: compare only those of one kind")
    return found


def _in_ranges(flags: Iterable[str]) -> list[str]:
    """Returns one flag for those that differ in nothing but numbers, such as `throttled for 15 to 60% of the time`."""
    kinds: dict[tuple[str, ...], list[list[str]]] = {}
    for flag in flags:
        kinds.setdefault(tuple(_NUMBER.split(flag)), []).append(_NUMBER.findall(flag))
    return [
        "".join(itertools.chain(*itertools.zip_longest(words, map(_range, zip(*numbers, strict=True)), fillvalue="")))
        for words, numbers in kinds.items()
    ]


def _range(numbers: Iterable[str]) -> str:
    return " to ".join(dict.fromkeys(f(numbers, key=float) for f in (min, max)))


def _wide(line: dict[str, Any]) -> bool:
    return (line["spread_pct"] or 0) > DOUBTFUL_SPREAD


def _called(line: dict[str, Any]) -> str:
    where = "" if line["core"] == ANY_CORE else f", core={line['core']}"
    delegate = "" if line["delegate"] == "xnnpack" else f", delegate={line['delegate']}"
    return f"{line['label']} (threads={line['threads']}{where}{delegate})"


def _same(row: Row) -> tuple:
    return tuple(getattr(row, name) for name in _SAME)


def _grouped(rows: Iterable[Row]) -> dict[tuple, list[Row]]:
    groups: dict[tuple, list[Row]] = {}
    for row in final(row for row in rows if row.kind == "time"):
        groups.setdefault(_same(row), []).append(row)
    return groups


def _memory(rows: Iterable[Row]) -> dict[tuple, dict[str, float]]:
    """Returns the most memory that was seen of each kind, in MB."""
    most: dict[tuple, dict[str, float]] = {}
    for row in rows:
        seen = most.setdefault(_same(row), {})
        for name, megabytes in row.memory_mb.items():
            seen[name] = max(megabytes, seen.get(name, 0))
    return most


def _sum_up(group: list[Row], base: list[Row], memory_mb: dict[str, float]) -> dict[str, Any]:
    first, runs = group[0], sum(row.runs for row in group)
    median = statistics.median
    statistic = min((row.statistic for row in group), key=("min", "median").index)  # what all of them have
    headlines = [row.min_ns if statistic == "min" else row.median_ns for row in group]
    medians, p95s = ([getattr(row, name) for row in group] for name in ("median_ns", "p95_ns"))
    mean = sum(row.mean_ns * row.runs for row in group) / runs
    squares = sum((row.std_ns**2 + (row.mean_ns - mean) ** 2) * row.runs for row in group) / runs
    times = {
        "ms": median(headlines),
        "median_ms": None if None in medians else median(medians),
        "min_ms": min(row.min_ns for row in group),
        "p95_ms": None if None in p95s else median(p95s),
        "max_ms": max(row.max_ns for row in group),
        "mean_ms": mean,
        "std_ms": math.sqrt(squares),
        "init_ms": _median_known(row.init_ns for row in group),
        "first_ms": _median_known(row.first_ns for row in group),
    }
    paired = ratios(group, base)
    return {
        **{name: getattr(first, name) for name in _NAMES},
        **first.facts,
        "rounds": len(group),
        "runs": runs,
        "statistic": statistic,
        **{name: None if value is None else value / _NS_PER_MS for name, value in times.items()},
        "spread_pct": spread_pct(headlines),
        "ratio": median(paired) if paired else None,
        "ratio_spread_pct": spread_pct(paired),
        "flagged": sum(bool(row.flags) for row in group),
        "doubtful": any(row.flags for row in group) or (spread_pct(headlines) or 0) > DOUBTFUL_SPREAD,
        "flags": sorted({flag for row in group for flag in row.flags}),
        "memory_mb": memory_mb,
    }


def _median_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
