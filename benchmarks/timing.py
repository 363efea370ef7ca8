"""Measures the time of functions alternately, so that other load on the machine affects all of them."""

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


def interleaved(
    calls: Mapping[Name, Callable[[], object]], *, rounds: int = 30, seconds: float = 0.15
) -> dict[Name, list[float]]:
    """Calls all functions in each round, starting with another one each time.

    Args:
        calls: Functions to time, by name.
        rounds: Number of rounds.
        seconds: Time per function and round, after one call that is not counted.

    Returns:
        For each name, the minimum time of each round in ms, which other load on the machine affects least.
    """
    names = list(calls)
    times: dict[Name, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            times[name].append(_minimum_ms(calls[name], seconds))
    return times


def _minimum_ms(call: Callable[[], object], seconds: float) -> float:
    call()
    minimum, now = float("inf"), time.perf_counter()
    end = now + seconds
    while now < end:
        start = now
        call()
        now = time.perf_counter()
        minimum = min(minimum, now - start)
    return 1000 * minimum


def ratio(times: list[float], base: list[float]) -> str:
    """Formats the median and quartiles of the ratios within rounds, such as `1.33 (1.31-1.36)`."""
    ratios = [one / other for one, other in zip(times, base, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"
