import json
import math

import pytest

from fd_keras.android_bench.rows import KEYS, Conditions, Latency, Origin, Row, completed_keys, last_attempts

# A line written by the first release.
LINE = (
    '{"run":"20260101T000000.0Z-7-R58M","target":"adb","device":"R58M",'
    '"engine":"benchmark_model 0123456789ab (classic)","model":"fd_mobilenet_0.25","recipe":"int8",'
    '"file":"models/fd_mobilenet_0.25_int8.tflite","sha256":"ab12","size_bytes":2500,'
    '"facts":{"arch":"fd_mobilenet","alpha":0.25},"threads":2,"round":3,"place":1,'
    '"started":"2026-01-01T00:00:00+00:00","runs":4,"statistic":"median","median_ns":1000000.0,'
    '"min_ns":950000.0,"p95_ns":1050000.0,"max_ns":1060000.0,"mean_ns":1001000.0,"std_ns":5000.0,'
    '"delegate":"gpu","core":"big","kind":"profile","attempt":2,'
    '"flags":["throttled by heat (thermal status 2)"],"load":0.5,"samples_ns":[],"init_ns":603000.0,'
    '"first_ns":9000000.0,"memory_mb":{"peak":12.5},"delegated":{"TfLiteXNNPackDelegate":[30,31,2]},'
    '"ops":[["CONV_2D",0.75,"stem"]],"before":{"max_mhz":{"7":1800.0}},"after":{"busy_mhz":1950.0},'
    '"log":"logs/r/time.txt","machine":"phone"}'
)


def test_a_line_of_the_first_release_is_read_and_written_unchanged():
    row = Row.from_json(json.loads(LINE))
    assert json.dumps(row.to_json(), separators=(",", ":")) == LINE
    assert row.origin == Origin("adb", "R58M", "benchmark_model 0123456789ab (classic)", "phone")
    assert (row.launch.round, row.launch.place, row.kind, row.attempt) == (3, 1, "profile", 2)
    assert row.launch.job[1:] == (2, "gpu", "big")
    assert row.label == "fd_mobilenet_0.25_int8"
    assert row.latency.headline_ns == row.latency.median_ns == 1e6
    assert row.details.memory_mb == {"peak": 12.5}
    assert row.conditions.after == {"busy_mhz": 1950.0}


def test_keys_missing_in_old_lines_get_defaults():
    line = json.loads(LINE)
    for name in ("delegate", "core", "kind", "attempt", "flags", "load", "machine", "before", "after", "log"):
        del line[name]
    row = Row.from_json(line)
    assert row.launch.job[1:] == (2, "xnnpack", "any")
    assert (row.kind, row.attempt, row.flags, row.origin.machine) == ("time", 1, (), "")
    assert row.conditions == Conditions()
    assert row.details.log is None


def test_lines_with_unknown_or_missing_keys_are_rejected():
    line = json.loads(LINE)
    with pytest.raises(ValueError, match="unknown keys p90_ns"):
        Row.from_json(line | {"p90_ns": 1})
    for name in ("runs", "run", "sha256"):
        with pytest.raises(ValueError, match=f"missing keys.*{name}"):
            Row.from_json({key: value for key, value in line.items() if key != name})


def test_all_parts_of_a_row_are_in_its_line(make_row):
    row = make_row("a", [1, 2, 3], delegation={"whole": True}, span_s=[1, 2], energy={"mj": 1})
    line = row.to_json()
    assert tuple(line) == tuple(key for key in KEYS if key not in ("counts", "counted_ops"))
    for part in (row.origin, row.latency, row.conditions):
        assert vars(part).items() <= line.items()
    assert {key: value for key, value in vars(row.details).items() if value}.items() <= line.items()


def test_a_counted_row_has_counts_and_no_times(make_count_row):
    row = make_count_row("a", ops=[["CONV_2D", "op 0", make_count_row("a").details.counts]])
    line = json.loads(json.dumps(row.to_json(), allow_nan=False))
    assert not [key for key in line if key.endswith("_ns")]
    assert line["runs"] == 2
    assert Row.from_json(line).to_json() == line
    assert math.isnan(row.latency.headline_ns)
    with pytest.raises(ValueError, match="missing keys.*counts"):
        Row.from_json({key: value for key, value in line.items() if key != "counts"})
    with pytest.raises(ValueError, match="counts must be an object of instructions, "):
        Row.from_json({**line, "counts": {"instructions": 1}})
    with pytest.raises(ValueError, match="an item of counted_ops must be"):
        Row.from_json({**line, "counted_ops": [["CONV_2D", 1.5, "op 0"]]})


def test_the_headline_is_the_minimum_if_there_is_no_median():
    assert Latency(3, "min", None, 5, None, 9, 7, 1).headline_ns == 5


def test_the_last_attempt_of_each_launch_counts(make_row):
    rows = [make_row("a", [9], flags=["hot"]), make_row("b", [1]), make_row("a", [5], attempt=2)]
    assert last_attempts(rows) == [rows[2], rows[1]]
    assert completed_keys(rows, repeats=2) == {rows[1].key, rows[2].key}
    assert completed_keys(rows[:1], repeats=2) == set()
    assert completed_keys(rows[:1], repeats=0) == {rows[0].key}
