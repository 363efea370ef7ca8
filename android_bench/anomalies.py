"""Reasons why the time of a launch may be unreliable: throttling, unsteadiness, drift."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from .device_info import CLOCK_SLACK
from .rows import Row

_DRIFT = 0.10  # maximum relative deviation from the usual time
_UNSTEADY = 0.5  # maximum standard deviation divided by the mean
_HISTORY = 3  # number of launches that define the usual time


class AnomalyDetector:
    """Compares launches with the device's clocks and with earlier launches of the same model.

    Args:
        max_mhz: Clock limits by core on the idle device; see `device_info.parse_state`.
        repeats: See `plan.BenchPlan.repeats`.
    """

    def __init__(self, max_mhz: Mapping[str, float], repeats: int) -> None:
        self._max_mhz, self._repeats = max_mhz, repeats
        self._history: dict[tuple, list[float]] = {}

    def flags(self, row: Row, cores: Sequence[int]) -> list[str]:
        """Returns the reasons why the time of a launch is unreliable.

        Args:
            row: The launch.
            cores: Numbers of the cores that it was pinned to; empty if it was not pinned.
        """
        found = []
        for state in (row.conditions.before, row.conditions.after):
            found += self._throttling(state, cores)
        return list(dict.fromkeys([*found, *_unsteadiness(row), *self._drift(row)]))

    def add(self, row: Row) -> None:
        """Adds a launch to the history; the last attempt even if it is flagged, since the device may have changed."""
        if row.kind == "time" and (not row.flags or row.attempt > self._repeats):
            self._history.setdefault(_history_key(row), []).append(row.latency.headline_ns)

    def _throttling(self, state: Mapping[str, Any], cores: Sequence[int]) -> list[str]:
        found = []
        for core, cap in state["max_mhz"].items():
            limit = self._max_mhz.get(core, 0)
            if cap < CLOCK_SLACK * limit and (not cores or int(core) in cores):
                found.append(f"clock capped at {cap:.0f} of {limit:.0f} MHz")
        if state["thermal_status"]:
            found.append(f"throttled by heat (thermal status {state['thermal_status']})")
        return found

    def _drift(self, row: Row) -> list[str]:
        history = self._history.get(_history_key(row), [])
        if len(history) < _HISTORY:
            return []
        drift = row.latency.headline_ns / statistics.median(history) - 1
        return [f"drifted {drift:+.0%} from its median so far"] if abs(drift) > _DRIFT else []


def _unsteadiness(row: Row) -> list[str]:
    std, mean = row.latency.std_ns, row.latency.mean_ns
    return [f"unsteady: standard deviation {100 * std / mean:.0f}% of the mean"] if std > _UNSTEADY * mean else []


def _history_key(row: Row) -> tuple:
    return (row.label, *row.launch.job[1:], row.latency.statistic)
