import statistics

import numpy as np
import pytest

from fd_keras.android_bench.rows import completed_keys
from fd_keras.android_bench.summary import describe, percentile, reliability_warnings, spread_pct, summarize


@pytest.mark.parametrize("samples", [[7], [3, 1], [5, 1, 9, 2, 2], list(range(100, 0, -3))])
def test_describe_agrees_with_statistics_and_numpy(samples):
    got = describe(samples)
    assert got.runs == len(samples)
    assert got.median_ns == statistics.median(samples)
    assert (got.min_ns, got.max_ns) == (min(samples), max(samples))
    assert got.mean_ns == pytest.approx(statistics.mean(samples))
    assert got.std_ns == pytest.approx(np.std(samples))
    assert got.p95_ns == pytest.approx(np.percentile(samples, 95))


@pytest.mark.parametrize("percent", [0, 10, 50, 90, 99, 100])
def test_percentile_agrees_with_numpy(percent):
    values = sorted([4.0, 8.5, 1.0, 100.0, 3.0])
    assert percentile(values, percent) == pytest.approx(np.percentile(values, percent))


def test_describe_without_samples_is_an_error():
    with pytest.raises(ValueError, match="no samples"):
        describe([])


def test_spread():
    assert spread_pct([]) is spread_pct([5]) is None
    assert spread_pct([9, 10, 12]) == pytest.approx(30)


def test_summary_and_ratios_are_medians_over_rounds(make_row):
    # The machine is three times slower in round 2. The ratio of pooled medians would not be 2.
    rows = [
        make_row("b", [2_000_000, 2_000_000, 2_000_000], round=1),
        make_row("a", [1_000_000], round=1),
        make_row("a", [3_000_000, 3_000_000, 3_000_000], round=2),
        make_row("b", [6_000_000], round=2),
        make_row("b", [8_000_000], round=3),  # without a counterpart, since the run was stopped
        make_row("b", [5_000_000], round=1, threads=2),
    ]
    a, b, b2 = summarize(rows, "a_float32")
    assert [line["label"] for line in (a, b, b2)] == ["a_float32", "b_float32", "b_float32"]
    assert (a["runs"], a["rounds"], b["runs"], b["rounds"]) == (4, 2, 5, 3)
    assert (a["ratio"], b["ratio"], b["ratio_spread_pct"]) == (1, 2, 0)
    assert (b["ms"], b["median_ms"], b["min_ms"], b["max_ms"]) == (6, 6, 2, 8)
    assert b["spread_pct"] == pytest.approx(100 * (8 - 2) / 6)
    assert (b2["threads"], b2["ratio"], b2["spread_pct"]) == (2, None, None)


def test_targets_and_devices_are_never_mixed(make_row):
    rows = [make_row("a", [10]), make_row("a", [30], target="adb", device="phone")]
    lines = summarize(rows, "a_float32")
    assert [(line["target"], line["device"], line["runs"]) for line in lines] == [
        ("adb", "phone", 1), ("host", "cpu", 1)
    ]  # fmt: skip
    assert [line["ratio"] for line in lines] == [1, 1]


def test_the_summary_has_the_facts_of_the_sidecar(make_row):
    assert summarize([make_row("a", [1], facts={"macs": 42})], "a_float32")[0]["macs"] == 42


def test_only_models_with_a_wide_spread_have_a_warning(make_row):
    times = {"calm": (100, 109), "wild": (100, 130)}
    rows = [make_row(name, [time], round=n) for name in times for n, time in enumerate(times[name])]
    (warning,) = reliability_warnings(summarize(rows, "calm_float32"))
    assert "wild_float32 (threads=1) by 26%" in warning
    assert "calm" not in warning
    assert reliability_warnings(summarize(rows[:2], "calm_float32")) == []
    assert [line["doubtful"] for line in summarize(rows)] == [False, True]


def test_warnings_about_many_models_name_the_worst(make_row):
    rows = [make_row(f"m{n}", [time], round=r) for n in range(9) for r, time in enumerate((100, 200 + n))]
    (warning,) = reliability_warnings(summarize(rows))
    assert "m8_float32" in warning
    assert "m0_float32" not in warning
    assert "and 6 more" in warning
    rows = [make_row(f"m{n}", [100], flags=["hot"]) for n in range(9)]
    assert len(reliability_warnings(summarize(rows))) == 4
    assert "to 6 others, marked" in reliability_warnings(summarize(rows))[-1]
    assert "to 1 other, marked" in reliability_warnings(summarize(rows[:4]))[-1]


def test_flags_that_differ_only_in_numbers_are_reported_once(make_row):
    flags = ["drifted +12% from its median", "drifted -9.5% from its median", "hot", "capped at 1000 of 2400 MHz"]
    rows = [make_row("a", [100], round=n, flags=[flag]) for n, flag in enumerate(flags)]
    (warning,) = reliability_warnings(summarize(rows))
    assert warning.endswith("capped at 1000 of 2400 MHz; drifted -9.5 to +12% from its median; hot")


def test_the_last_attempt_counts_and_flags_are_reported(make_row):
    rows = [
        make_row("a", [9_000_000], flags=["drifted"]),
        make_row("a", [1_000_000], attempt=2),
        make_row("a", [5_000_000], round=2, flags=["hot"], attempt=3),
    ]
    (line,) = summarize(rows)
    assert (line["min_ms"], line["rounds"], line["flagged"], line["flags"]) == (1, 2, 1, ["hot"])
    assert [summarize(some)[0]["doubtful"] for some in (rows, rows[:2], rows[:1])] == [True, False, True]
    assert "unreliable in 1 of 2 rounds: hot" in " ".join(reliability_warnings([line]))
    assert completed_keys(rows, repeats=2) == {row.key for row in rows[1:]}
    assert completed_keys(rows[:1], repeats=2) == set()


def test_a_median_is_never_compared_with_a_minimum(make_row):
    lower = make_row("b", [2, 4, 6], median_ns=None, p95_ns=None, statistic="min")
    a, b = summarize([make_row("a", [1, 3, 5]), lower], "a_float32")
    assert (b["ms"], b["median_ms"], b["statistic"], b["ratio"]) == (2e-6, None, "min", 2)
    assert "some times are medians and some are minima" in " ".join(reliability_warnings([a, b]))


def test_the_headline_is_the_minimum_if_a_round_has_no_median(make_row):
    rows = [make_row("a", [1, 3, 5]), make_row("a", [2, 4], round=2, median_ns=None, statistic="min")]
    (line,) = summarize(rows)
    assert (line["statistic"], line["ms"]) == ("min", 1.5e-6)


def test_launches_for_profile_and_memory_are_not_timed(make_row):
    rows = [make_row("a", [1]), make_row("a", [9], round=2, kind="profile")]
    assert summarize(rows)[0]["rounds"] == 1


def test_peak_memory_of_memory_launches_is_summarized(make_row):
    rows = [make_row("a", [1], memory_mb={"overall": 2.0}), make_row("b", [1], memory_mb={"peak": 9.0})]
    rows += [
        make_row("a", [1], round=n, kind="memory", memory_mb={"overall": 1.0, "peak": float(n)}) for n in (2, 4, 3)
    ]
    assert [line["memory_mb"] for line in summarize(rows)] == [{"overall": 2.0, "peak": 4.0}, {"peak": 9.0}]


def test_mean_and_standard_deviation_are_over_all_invocations(make_row):
    rounds = [[1_000_000, 2_000_000, 6_000_000], [4_000_000, 9_000_000]]
    (line,) = summarize(make_row("a", samples, round=n) for n, samples in enumerate(rounds))
    samples = [sample / 1e6 for part in rounds for sample in part]
    assert line["mean_ms"] == pytest.approx(np.mean(samples))
    assert line["std_ms"] == pytest.approx(np.std(samples))
