"""Counts of emulated cores over the models of a run, and the paper's Table 4 of them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from . import paper
from .rows import COUNT, Row, last_attempts

NOTE = (
    "Counted, not timed: millions per inference on an emulated core. Loads and stores are accesses of up to 16 bytes; "
    "misses are those of a model of the data caches. The kernels are XNNPACK's."
)
TABLE4_NOTE = (
    "M: millions of instructions. Ratios are a network's divided by FD-MobileNet's at the same budget; the paper's "
    "(arXiv 1802.03750, Table 4) are those of times on one 800 MHz ARM core. FD-ShuffleNet is not in it."
)
_NAMES = (
    *("target", "device", "label", "threads", "delegate", "core", "engine"),
    *("model", "recipe", "file", "sha256", "size_bytes"),
)


def summarize_counts(rows: Iterable[Row], baseline: str | None = None) -> list[dict[str, Any]]:
    """Summarizes counted rows; others are left out.

    Args:
        rows: Rows of one or several cores.
        baseline: Label of the model to compare with.

    Returns:
        One dict per core and model, sorted by these. It holds the names and facts of the row; `counts` per inference;
        `kernels` (see `kernels`); `ratio`: instructions by those of the baseline on the same core, None if it was not
        counted there; `flags` and `doubtful`: counts that did not settle; `ops`.
    """
    counted = last_attempts(row for row in rows if row.kind == COUNT)
    bases = {row.config: row.details.counts for row in counted if row.label == baseline}
    return [
        _line(row, bases.get(row.config)) for row in sorted(counted, key=lambda row: (row.origin.device, row.label))
    ]


def kernels(counts: Mapping[str, int]) -> str:
    """Returns which of XNNPACK's kernels ran, by the instructions that only they have."""
    named = {"matmul": "i8mm", "dot": "dot product"}
    return next((name for counter, name in named.items() if counts[counter]), "NEON")


def table4(summary: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Returns heads and cells of the paper's Table 4 in instructions; no cells if none of its networks was counted.

    Args:
        summary: See `summarize_counts`; of one core.
    """
    found = _by_network(summary)
    recipes = sorted({recipe for _, _, recipe in found})
    heads = ["MFLOPs", "network", "paper, ratio"]
    heads += [f"{recipe}, {what}" for recipe in recipes for what in ("M", "ratio")]
    cells = [
        _table4_line(budget, arch, found, recipes)
        for budget in paper.TABLE4
        for arch, alpha in budget.alphas.items()
        if any((arch, alpha, recipe) in found for recipe in recipes)
    ]
    return heads, cells


def millions(count: int) -> str:
    """Returns a count in millions, with about three digits."""
    value = count / 1e6
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3}f}"


def _line(row: Row, base: Mapping[str, int] | None) -> dict[str, Any]:
    flat: dict[str, Any] = row.to_json() | {"label": row.label}
    counts = dict(row.details.counts)
    return {
        **{name: flat[name] for name in _NAMES},
        **flat["facts"],
        "counts": counts,
        "kernels": kernels(counts),
        "ratio": _ratio(counts, base),
        "flags": list(row.flags),
        "doubtful": bool(row.flags),
        "ops": row.details.counted_ops,
    }


def _ratio(counts: Mapping[str, int], base: Mapping[str, int] | None) -> float | None:
    return counts["instructions"] / base["instructions"] if base and base["instructions"] else None


def _by_network(summary: Iterable[Mapping[str, Any]]) -> dict[tuple, Mapping[str, int]]:
    """Returns the counts by arch, alpha and recipe, of images of the paper's size."""
    found: dict[tuple, Mapping[str, int]] = {}
    for line in summary:
        if line.get("arch") in paper.TITLES and (line.get("size") or paper.SIZE) == paper.SIZE:
            found.setdefault((line["arch"], line.get("alpha"), line["recipe"]), line["counts"])
    return found


def _table4_line(
    budget: paper.Table4Budget, arch: str, found: Mapping[tuple, Mapping[str, int]], recipes: Sequence[str]
) -> list[str]:
    alpha = budget.alphas[arch]
    line = [str(budget.mflops), f"{paper.TITLES[arch]} {alpha:g}x"]
    line.append(_number(1.0 if arch == paper.BASE else budget.ratios.get(arch)))
    for recipe in recipes:
        counts = found.get((arch, alpha, recipe))
        line += _table4_cells(counts, found.get((paper.BASE, budget.alphas[paper.BASE], recipe))) if counts else "––"
    return line


def _table4_cells(counts: Mapping[str, int], base: Mapping[str, int] | None) -> list[str]:
    return [millions(counts["instructions"]), _number(_ratio(counts, base))]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
