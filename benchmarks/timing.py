"""Times functions beside each other, so that what disturbs the machine disturbs all of them."""

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


def interleaved(
    calls: Mapping[Name, Callable[[], object]], *, rounds: int = 30, seconds: float = 0.15
) -> dict[Name, list[float]]:
    """Calls all functions in turn, in rounds that start with another one each.

    Args:
        calls: Functions to time, by name.
        rounds: Number of rounds.
        seconds: Time to call a function for in each round, after one call that does not count.

    Returns:
        For each name the least time of each round, in ms: what others who use the machine disturb least.
    """
    names = list(calls)
    times: dict[Name, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            times[name].append(_least_ms(calls[name], seconds))
    return times


def _least_ms(call: Callable[[], object], seconds: float) -> float:
    call()
    least, now = float("inf"), time.perf_counter()
    end = now + seconds
    while now < end:
        start = now
        call()
        now = time.perf_counter()
        least = min(least, now - start)
    return 1000 * least


def ratio(times: list[float], base: list[float]) -> str:
    """Median and quartiles of the rounds' ratios, for people: `1.33 (1.31-1.36)`."""
    ratios = [one / other for one, other in zip(times, base, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"
