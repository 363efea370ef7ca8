import itertools

import pytest

from fd_keras.android_bench import emulated_counting
from fd_keras.android_bench.emulated_counting import LONG, SHORT, count, difference, unstable
from fd_keras.android_bench.schema import COUNTERS


class Machine:
    """Counters that increase by `costs` per invocation (the last value repeats), and by 7 per reading."""

    def __init__(self, *costs):
        self.total, self.invocations = 0, 0
        self._costs = itertools.chain(costs, itertools.repeat(costs[-1]))

    def invoke(self):
        self.invocations += 1
        self.total += next(self._costs)

    def read(self):
        self.total += 7
        return dict.fromkeys(COUNTERS, self.total)


def test_the_cost_of_reading_the_counters_cancels_out():
    machine = Machine(1_000_000)
    found = count(machine.invoke, machine.read)
    assert found == {"counts": dict.fromkeys(COUNTERS, 1_000_000), "invocations": LONG - SHORT, "unstable": []}
    assert machine.invocations == 2 * (SHORT + LONG)


def test_counts_are_repeated_until_two_agree():
    machine = Machine(9_000_000, 5_000_000, 5_000_000, 5_000_000, 1_000_000)
    assert count(machine.invoke, machine.read)["counts"]["loads"] == 1_000_000
    assert machine.invocations > 2 * (SHORT + LONG)


def test_counts_that_never_stabilize_are_named():
    machine = Machine(*range(1_000_000, 100_000_000, 1_000_000))
    assert count(machine.invoke, machine.read)["unstable"] == list(COUNTERS)


def test_differences_up_to_a_percent_or_100_counts_are_stable():
    assert unstable({"loads": 1_000_000}, {"loads": 1_009_000}) == []
    assert unstable({"loads": 1_000_000}, {"loads": 1_020_000}) == ["loads"]
    assert unstable({"loads": 0}, {"loads": 100}) == []


def test_differences_are_not_negative():
    assert difference({"loads": 10}, {"loads": 7}) == {"loads": 0}


def test_reading_counts_outside_the_emulator_is_an_error():
    with pytest.raises(OSError, match="argument"):
        emulated_counting.read_counts()
