"""Baseline file of counts, for a CI check that fails if a model executes more than before."""

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from . import schema
from .atomic import write_atomically
from .count_summary import millions
from .errors import BenchError

# Cache misses are excluded, since they also depend on addresses.
CHECKED = ("instructions", "loads", "stores")
_LARGEST = 16 << 20  # maximum bytes of a file

Baseline = dict[str, dict[str, dict[str, int]]]  # counts by core and label


def collect(summary: Iterable[Mapping[str, Any]]) -> Baseline:
    """Returns the counts of a summary by core and label; see `count_summary.summarize_counts`."""
    found: Baseline = {}
    for line in summary:
        found.setdefault(line["device"], {})[line["label"]] = dict(line["counts"])
    return found


def write(path: Path, counts: Baseline) -> None:
    """Writes a file of counts.

    Raises:
        BenchError: If it cannot be written.
    """
    try:
        write_atomically(path, (json.dumps(counts, indent=1, sort_keys=True) + "\n").encode())
    except OSError as error:
        raise BenchError(f"--baseline_file={path}: cannot be written: {error.strerror}") from error


def read(path: Path) -> Baseline:
    """Reads a file of counts.

    Raises:
        BenchError: If it cannot be read, or is not a file of counts.
    """
    way_out = "use --update_baseline to write a new one"
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        found = json.loads(content) if len(content) <= _LARGEST else None
    except OSError as error:
        raise BenchError(f"--baseline_file={path}: cannot be read: {error.strerror}; {way_out}") from error
    except (ValueError, RecursionError) as error:
        raise BenchError(f"--baseline_file={path}: not valid JSON ({error}); {way_out}") from error
    wrong = schema.mismatch(found, schema.Mapped(schema.Mapped(schema.COUNTS)))
    if wrong or not isinstance(found, dict):
        raise BenchError(f"--baseline_file={path}: not a file of counts: {wrong}; {way_out}")
    return found


def regressions(counts: Baseline, baseline: Baseline, tolerance: float) -> list[str]:
    """Returns a message for each count that grew by more than the tolerance.

    Args:
        counts: The new counts.
        baseline: The counts to compare with.
        tolerance: Tolerance in percent.
    """
    return [
        f"{label} on {core}: {millions(now[name])} M {name}, {_growth(now[name], before[name])} more than "
        f"{millions(before[name])} M (limit {tolerance:g}%)"
        for core, label, now, before in _pairs(counts, baseline)
        for name in CHECKED
        if now[name] > before[name] * (1 + tolerance / 100)
    ]


def unchecked(counts: Baseline, baseline: Baseline) -> list[str]:
    """Returns a message for each model that is in only one of the two."""
    here, there = ({(core, label) for core in found for label in found[core]} for found in (counts, baseline))
    return [
        *(f"{label} on {core}: not in the baseline file, not checked" for core, label in sorted(here - there)),
        *(f"{label} on {core}: in the baseline file, but not counted now" for core, label in sorted(there - here)),
    ]


def parse_tolerance(text: str) -> float:
    """Parses a percentage such as `2%` or `2`.

    Raises:
        argparse.ArgumentTypeError: If the text is not a percentage from 0 to 1000.
    """
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = -1
    if not 0 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage from 0 to 1000")
    return value


def _pairs(counts: Baseline, baseline: Baseline) -> Iterable[tuple[str, str, dict[str, int], dict[str, int]]]:
    for core in sorted(counts):
        for label in sorted(counts[core]):
            if label in baseline.get(core, {}):
                yield core, label, counts[core][label], baseline[core][label]


def _growth(now: int, before: int) -> str:
    return f"{100 * (now / before - 1):.1f}%" if before else "infinitely"
