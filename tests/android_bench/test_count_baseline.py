import argparse
import json

import pytest

from fd_keras.android_bench import count_baseline
from fd_keras.android_bench.count_summary import summarize_counts
from fd_keras.android_bench.errors import BenchError


def _counts(make_count_row, **counts):
    return count_baseline.collect(summarize_counts([make_count_row("a", **counts)]))


def test_an_increase_above_the_limit_is_a_regression(make_count_row, tmp_path):
    path = tmp_path / "counts.json"
    count_baseline.write(path, _counts(make_count_row))
    before = count_baseline.read(path)
    assert count_baseline.regressions(before, before, 0) == []
    assert count_baseline.regressions(_counts(make_count_row, instructions=1010), before, 2) == []
    (message,) = count_baseline.regressions(_counts(make_count_row, instructions=1030), before, 2)
    assert message == "a_float32 on cortex-a53: 0.001 M instructions, 3.0% more than 0.001 M (limit 2%)"


@pytest.mark.parametrize("counter", ["loads", "stores"])
def test_loads_and_stores_are_checked_but_not_misses(make_count_row, counter):
    before = _counts(make_count_row)
    assert len(count_baseline.regressions(_counts(make_count_row, **{counter: 10_000}), before, 2)) == 1
    assert count_baseline.regressions(_counts(make_count_row, l1_misses=10_000, l2_misses=10_000), before, 2) == []


def test_models_missing_in_the_baseline_or_the_counts_are_named(make_count_row):
    before = _counts(make_count_row)
    after = {"cortex-a76": before["cortex-a53"]}
    assert count_baseline.unchecked(before, before) == []
    assert count_baseline.unchecked(after, before) == [
        "a_float32 on cortex-a76: not in the baseline file, not checked",
        "a_float32 on cortex-a53: in the baseline file, but not counted now",
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "cannot be read: No such file"),
        ("{", "not valid JSON"),
        ("[]", "must be an object"),
        ('{"cortex-a53": {"a": {"instructions": 1}}}', "must be an object of instructions, "),
        (json.dumps({"a": 1}), "must be an object"),
    ],
)
def test_a_file_of_another_kind_is_rejected_with_advice(tmp_path, text, reason):
    path = tmp_path / "counts.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BenchError, match=f"--baseline_file={path}: .*{reason}.*--update_baseline"):
        count_baseline.read(path)


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(BenchError, match="cannot be written"):
        count_baseline.write(tmp_path / "nowhere" / "counts.json", {})


def test_tolerances_are_percentages():
    assert [count_baseline.parse_tolerance(text) for text in ("2%", "2", " 0.5% ")] == [2, 2, 0.5]
    for text in ("", "%", "two", "-1%", "nan", "1001"):
        with pytest.raises(argparse.ArgumentTypeError, match="is not a percentage"):
            count_baseline.parse_tolerance(text)
