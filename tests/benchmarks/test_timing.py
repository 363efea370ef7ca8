import pytest

from benchmarks import timing


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the timed functions advance."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    return now


def test_functions_alternate_and_the_minimum_time_of_a_round_counts(clock):
    calls = []

    def function(name, steps):
        def call():
            calls.append(name)
            clock[0] += steps[calls.count(name) % len(steps)]

        return call

    times = timing.interleaved({"a": function("a", [4.0, 1.0]), "b": function("b", [2.0])}, rounds=2, seconds=5)
    assert times == {"a": [1000.0, 1000.0], "b": [2000.0, 2000.0]}
    turns = [name for i, name in enumerate(calls) if i == 0 or name != calls[i - 1]]
    assert turns == ["a", "b", "a"]  # the second round begins with b


def test_ratios_are_computed_within_a_round():
    assert timing.ratio([2.0, 30.0, 8.0], [1.0, 10.0, 2.0]) == "3.00 (2.00-4.00)"
