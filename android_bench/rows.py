"""The measurement of one launch, and its format as a line of JSON, which is the same for every target."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

from . import schema
from .escaping import printable
from .models import FACTS, ModelFile
from .plan import ANY_CORE, Job, Launch

# The keys of a line, in order. Never rename a key, only add keys, so that old folders can still be read.
KEYS = (
    *("run", "target", "device", "engine"),
    *("model", "recipe", "file", "sha256", "size_bytes", "facts"),
    *("threads", "round", "place", "started"),
    *("runs", "statistic", "median_ns", "min_ns", "p95_ns", "max_ns", "mean_ns", "std_ns"),
    *("delegate", "core", "kind", "attempt", "flags", "load"),
    *("samples_ns", "init_ns", "first_ns", "memory_mb", "delegated", "ops", "before", "after", "log", "machine"),
    *("delegation", "counts", "counted_ops", "span_s", "energy"),
)
_LEFT_OUT_EMPTY = ("delegation", "counts", "counted_ops", "span_s", "energy")  # missing in old rows
COUNT = "count"  # kind of a launch that was counted, not timed
SUSTAINED = "sustained"  # kind of a launch that is part of a sustained run


@dataclass(frozen=True)
class Origin:
    """The device and the engine of a measurement.

    Attributes:
        target: `host`, `adb`, `ssh`, `browser` or `emulator`. A host row never represents a phone.
        device: Serial of the phone, address of the board, or name of this machine.
        engine: Interpreter or benchmark tool, with its version.
        machine: `phone`, `emulator` (Android's), `board`, `host`, `browser` or `core`; empty in old rows.
    """

    target: str
    device: str
    engine: str
    machine: str = ""


@dataclass(frozen=True)
class Latency:
    """Latency of a launch in nanoseconds; None where the benchmark tool does not print it.

    Attributes:
        runs: Number of timed invocations.
        statistic: Statistic used as the headline: `median`, or `min` if there is no median.
        median_ns, min_ns, p95_ns, max_ns, mean_ns, std_ns: Statistics of the timed invocations.
        samples_ns: Latency of each timed invocation, in order; empty if unknown.
        init_ns: Time to load the model.
        first_ns: Latency of the very first invocation.
    """

    runs: int
    statistic: str
    median_ns: float | None
    min_ns: float
    p95_ns: float | None
    max_ns: float
    mean_ns: float
    std_ns: float
    samples_ns: Sequence[int] = ()
    init_ns: float | None = None
    first_ns: float | None = None

    @property
    def headline_ns(self) -> float:
        """The latency used in comparisons."""
        return self.min_ns if self.median_ns is None else self.median_ns


# For a launch that was not timed; NaN, so that nothing can be computed from it by mistake.
NOT_TIMED = Latency(0, "median", None, math.nan, None, math.nan, math.nan, math.nan)
_TIMES = {part.name for part in fields(Latency)} - {"runs"}


@dataclass(frozen=True)
class Details:
    """Results of a launch besides its latency.

    Attributes:
        memory_mb: See `parse.ToolOutput`.
        delegated: See `parse.ToolOutput`.
        ops: Profile: type, ms and name of each op.
        log: File with the benchmark tool's output, relative to the folder of results.
        delegation: The ops that the delegate took; see `delegation.Delegation.to_json`. Empty if unknown.
        counts: Counts of an emulated core per inference; see `schema.COUNTERS`. Empty if timed.
        counted_ops: Type, name and counts of each op.
        energy: See `energy.energy_per_inference`; empty if not measured.
    """

    memory_mb: Mapping[str, float] = field(default_factory=dict)
    delegated: Mapping[str, Sequence[int]] = field(default_factory=dict)
    ops: Sequence[Sequence[Any]] = ()
    log: str | None = None
    delegation: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    counted_ops: Sequence[Sequence[Any]] = ()
    energy: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Conditions:
    """State of the device around a launch.

    Attributes:
        load: Load average over the last minute at the start; None if unknown.
        before, after: See `device_info.parse_state`.
        span_s: Start and end of the launch in Unix time; empty except in sustained runs.
    """

    load: float | None = None
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    span_s: Sequence[float] = ()


@dataclass(frozen=True)
class Row:
    """The measurement of one launch.

    Attributes:
        run: Name of the run; an interrupted run continues under the same name.
        origin: The device and the engine.
        launch: Model, configuration and round.
        started: Start time (UTC, ISO 8601).
        latency: Latency of the invocations; `NOT_TIMED` except for the number of runs if they were counted.
        attempt: Number of the attempt, from 1. The last attempt counts.
        flags: Reasons why the latency is unreliable; empty if there are none.
        details: Memory, delegation, profile and log.
        conditions: State of the device.
    """

    run: str
    origin: Origin
    launch: Launch
    started: str
    latency: Latency
    attempt: int = 1
    flags: Sequence[str] = ()
    details: Details = field(default_factory=Details)
    conditions: Conditions = field(default_factory=Conditions)

    @property
    def label(self) -> str:
        """Name and recipe of the model as one word."""
        return self.launch.job.model.label

    @property
    def kind(self) -> str:
        """See `plan.Launch.kind`."""
        return self.launch.kind

    @property
    def key(self) -> tuple:
        """Identifies the launch within its run; see `plan.Launch.key`."""
        return self.launch.key

    @property
    def config(self) -> tuple:
        """Device and configuration; only rows with the same values can be compared."""
        return (self.origin.target, self.origin.device, *self.launch.job[1:])

    def to_json(self) -> dict[str, Any]:
        """Returns a flat dict with the keys `KEYS`, without empty newer keys, and without times if not timed."""
        launch, job = self.launch, self.launch.job
        flat = {
            **vars(self),
            **vars(self.origin),
            **launch._asdict(),
            **job._asdict(),
            **vars(job.model),
            **vars(self.latency),
            **vars(self.details),
            **vars(self.conditions),
            "model": job.model.name,
            "file": str(job.model.path),
        }
        needless = {key for key in _LEFT_OUT_EMPTY if not flat[key]} | (_TIMES if self.kind == COUNT else set())
        return {key: flat[key] for key in KEYS if key not in needless}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Self:
        """Builds a row from the result of `to_json`; keys that older versions did not write get their defaults.

        Raises:
            ValueError: If a key is missing or unknown, or a value is invalid for its key.
        """
        if unknown := line.keys() - set(KEYS):
            raise ValueError(f"unknown keys {', '.join(map(printable, sorted(unknown)))}")
        if wrong := schema.absurdity(line) or schema.mismatch(line, schema.ROW):
            raise ValueError(wrong)
        if unknown := line["facts"].keys() - set(FACTS) if "facts" in line else ():
            raise ValueError(f"unknown facts {', '.join(map(printable, sorted(unknown)))}")
        try:
            return cls._from_known(line)
        except (KeyError, TypeError) as error:
            raise ValueError(f"missing keys ({error})") from error

    @classmethod
    def _from_known(cls, line: Mapping[str, Any]) -> Self:
        names = ("model", "recipe", "size_bytes", "sha256", "facts")
        model = ModelFile(Path(line["file"]), *(line[name] for name in names))
        job = Job(model, line["threads"], line.get("delegate", "xnnpack"), line.get("core", ANY_CORE))
        return cls(
            run=line["run"],
            origin=_part(Origin, line),
            launch=Launch(line["round"], line["place"], job, line.get("kind", "time")),
            started=line["started"],
            latency=_latency(line),
            attempt=line.get("attempt", 1),
            flags=line.get("flags", ()),
            details=_part(Details, line),
            conditions=_part(Conditions, line),
        )


def _latency(line: Mapping[str, Any]) -> Latency:
    if line.get("kind") == SUSTAINED and not line.get("span_s"):
        raise KeyError("span_s")
    if line.get("kind") != COUNT:
        return _part(Latency, line)
    if not line.get("counts"):
        raise KeyError("counts")
    return replace(NOT_TIMED, runs=line["runs"])


_Part = TypeVar("_Part", Origin, Latency, Details, Conditions)


def _part(kind: type[_Part], line: Mapping[str, Any]) -> _Part:
    return kind(**{part.name: line[part.name] for part in fields(kind) if part.name in line})


def last_attempts(rows: Iterable[Row]) -> list[Row]:
    """Returns the last attempt of each launch, in the order of the launches."""
    last = {(row.run, *row.config, row.key): row for row in rows}
    return list(last.values())


def utc_now() -> str:
    """Returns the current time as used for `started` and dates (UTC, ISO 8601, seconds)."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def completed_keys(rows: Iterable[Row], repeats: int) -> set[tuple]:
    """Returns the keys of the launches that need no further attempt; in a sustained run, the unflagged ones."""
    return {row.key for row in rows if not row.flags or (row.attempt > repeats and row.kind != SUSTAINED)}
