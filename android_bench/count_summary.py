"""Summary of a run's counts on emulated cores."""

from collections.abc import Iterable, Mapping
from typing import Any

from .emulated_cores import CORES
from .rows import COUNT, Row, last_attempts
from .summary import row_facts

NOTE = (
    "Counted, not timed: millions per inference on an emulated core. Loads and stores are accesses of up to 16 bytes; "
    "misses are those of a model of the data caches. The kernels are XNNPACK's. Times, if any, are estimates of a "
    "simple model."
)


def summarize_counts(rows: Iterable[Row], baseline: str | None = None) -> list[dict[str, Any]]:
    """Summarizes counted rows; other rows are ignored.

    Args:
        rows: Rows of one or several cores.
        baseline: Label of the model to compare with.

    Returns:
        One dict per core and model, sorted by these. It contains the names and facts of the row; `counts` per
        inference; `kernels` (see `kernels`); `ratio`: instructions divided by the baseline's on the same core, None if
        the baseline was not counted there; `estimated_ms` (see `estimated_ms`); `flags` and `doubtful`: counts that did
        not stabilize; `ops`.
    """
    counted = last_attempts(row for row in rows if row.kind == COUNT)
    bases = {row.config: row.details.counts for row in counted if row.label == baseline}
    return [
        _line(row, bases.get(row.config)) for row in sorted(counted, key=lambda row: (row.origin.device, row.label))
    ]


def kernels(counts: Mapping[str, int]) -> str:
    """Returns which of XNNPACK's kernels ran, inferred from instructions that only these kernels use."""
    named = {"matmul": "i8mm", "dot": "dot product"}
    return next((name for counter, name in named.items() if counts[counter]), "NEON")


def millions(count: int) -> str:
    """Formats a count in millions, with about three digits."""
    value = count / 1e6
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3}f}"


def instruction_ratio(counts: Mapping[str, int], base: Mapping[str, int] | None) -> float | None:
    """Returns the instructions divided by the baseline's; None without a baseline."""
    return counts["instructions"] / base["instructions"] if base and base["instructions"] else None


def estimated_ms(core: str, counts: Mapping[str, int]) -> float | None:
    """Returns the estimated time of an inference on a core; None if the core has no time model."""
    timing = CORES[core].timing if core in CORES else None
    return timing.milliseconds(counts) if timing else None


def _line(row: Row, base: Mapping[str, int] | None) -> dict[str, Any]:
    counts = dict(row.details.counts)
    return {
        **row_facts(row),
        "counts": counts,
        "kernels": kernels(counts),
        "ratio": instruction_ratio(counts, base),
        "estimated_ms": estimated_ms(row.origin.device, counts),
        "flags": list(row.flags),
        "doubtful": bool(row.flags),
        "ops": row.details.counted_ops,
    }
