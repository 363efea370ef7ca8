import json
import statistics

import numpy as np
import pytest

from fd_keras.android_bench import results
from fd_keras.android_bench.plan import BenchError
from fd_keras.android_bench.results import Results
from fd_keras.android_bench.rows import describe, doubts, percentile, settled, spread_pct, summarise
from fd_keras.android_bench.terminal_table import WIDTH, closing, summary_markdown, text_table


@pytest.fixture
def report(make_row):
    rows = [make_row("a", [time], round=number) for number, time in enumerate([1_000_000, 2_000_000])]
    models = summarise(rows, "a_float32")
    return {
        "run": "r1", "target": "host", "device": "here", "state": "complete", "baseline": "a_float32",
        "environment": {"device": "some cpu", "kind": "host", "cores": 4, "engine": "LiteRT", "governor": None},
        "load_before": None, "load_after": 0.5, "models": models, "failures": ["x.tflite: broken"],
        "warnings": doubts(models),
    }  # fmt: skip


@pytest.mark.parametrize("samples", [[7], [3, 1], [5, 1, 9, 2, 2], list(range(100, 0, -3))])
def test_describe_agrees_with_statistics_and_numpy(samples):
    got = describe(samples)
    assert got["runs"] == len(samples)
    assert got["median_ns"] == statistics.median(samples)
    assert (got["min_ns"], got["max_ns"]) == (min(samples), max(samples))
    assert got["mean_ns"] == pytest.approx(statistics.mean(samples))
    assert got["std_ns"] == pytest.approx(np.std(samples))
    assert got["p95_ns"] == pytest.approx(np.percentile(samples, 95))


@pytest.mark.parametrize("percent", [0, 10, 50, 90, 99, 100])
def test_percentile_agrees_with_numpy(percent):
    values = sorted([4.0, 8.5, 1.0, 100.0, 3.0])
    assert percentile(values, percent) == pytest.approx(np.percentile(values, percent))


def test_describe_needs_samples():
    with pytest.raises(ValueError, match="no samples"):
        describe([])


def test_spread():
    assert spread_pct([]) is spread_pct([5]) is None
    assert spread_pct([9, 10, 12]) == pytest.approx(30)


def test_summary_and_ratios_are_medians_over_rounds(make_row):
    # The machine is three times slower in round 2. Pooled medians would not give the ratio of 2.
    rows = [
        make_row("b", [2_000_000, 2_000_000, 2_000_000], round=1),
        make_row("a", [1_000_000], round=1),
        make_row("a", [3_000_000, 3_000_000, 3_000_000], round=2),
        make_row("b", [6_000_000], round=2),
        make_row("b", [8_000_000], round=3),  # no partner: a run that was stopped
        make_row("b", [5_000_000], round=1, threads=2),
    ]
    a, b, b2 = summarise(rows, "a_float32")
    assert [line["label"] for line in (a, b, b2)] == ["a_float32", "b_float32", "b_float32"]
    assert (a["runs"], a["rounds"], b["runs"], b["rounds"]) == (4, 2, 5, 3)
    assert (a["ratio"], b["ratio"], b["ratio_spread_pct"]) == (1, 2, 0)
    assert (b["ms"], b["median_ms"], b["min_ms"], b["max_ms"]) == (6, 6, 2, 8)
    assert b["spread_pct"] == pytest.approx(100 * (8 - 2) / 6)
    assert (b2["threads"], b2["ratio"], b2["spread_pct"]) == (2, None, None)


def test_targets_and_devices_are_never_mixed(make_row):
    rows = [make_row("a", [10]), make_row("a", [30], target="adb", device="phone")]
    lines = summarise(rows, "a_float32")
    assert [(line["target"], line["device"], line["runs"]) for line in lines] == [
        ("adb", "phone", 1), ("host", "cpu", 1)
    ]  # fmt: skip
    assert [line["ratio"] for line in lines] == [1, 1]


def test_facts_of_the_sidecar_reach_the_summary(make_row):
    assert summarise([make_row("a", [1], facts={"macs": 42})], "a_float32")[0]["macs"] == 42


def test_doubts_name_only_what_spreads(make_row):
    times = {"calm": (100, 109), "wild": (100, 130)}
    rows = [make_row(name, [time], round=n) for name in times for n, time in enumerate(times[name])]
    (warning,) = doubts(summarise(rows, "calm_float32"))
    assert "wild_float32 (threads=1) by 26%" in warning
    assert "calm" not in warning
    assert doubts(summarise(rows[:2], "calm_float32")) == []
    assert [line["doubtful"] for line in summarise(rows)] == [False, True]


def test_doubts_about_many_models_name_the_worst(make_row):
    rows = [make_row(f"m{n}", [time], round=r) for n in range(9) for r, time in enumerate((100, 200 + n))]
    (warning,) = doubts(summarise(rows))
    assert "m8_float32" in warning
    assert "m0_float32" not in warning
    assert "and 6 more" in warning
    rows = [make_row(f"m{n}", [100], flags=["hot"]) for n in range(9)]
    assert len(doubts(summarise(rows))) == 4
    assert "for 6 others, marked" in doubts(summarise(rows))[-1]
    assert "for 1 other, marked" in doubts(summarise(rows[:4]))[-1]


def test_flags_that_differ_in_numbers_alone_are_told_as_one(make_row):
    flags = ["drifted +12% from its median", "drifted -9.5% from its median", "hot", "capped at 1000 of 2400 MHz"]
    rows = [make_row("a", [100], round=n, flags=[flag]) for n, flag in enumerate(flags)]
    (warning,) = doubts(summarise(rows))
    assert warning.endswith("capped at 1000 of 2400 MHz; drifted -9.5 to +12% from its median; hot")


def test_text_table_is_aligned_and_fits(make_row):
    names = {"short": "int8", "a_name_" + "much_" * 20 + "longer_0.25": "int8_" + "x" * 40, "other": ""}
    rows = [make_row(name, [12_345_678_901], recipe=recipe) for name, recipe in names.items()]
    lines = text_table(summarise(rows, "short_int8")).splitlines()
    assert len(lines) == 4
    assert max(map(len, lines)) <= WIDTH
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split() == ["model", "recipe", "threads", "ms", "min", "p95", "spread", "ratio", "size", "kB"]
    assert any("_0.25 " in line and ".." in line for line in lines)


def test_markdown_table_has_a_cell_per_column(make_row):
    lines = summary_markdown(summarise([make_row("a", [1_500_000])], "a_float32")).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2] == "| a | float32 | 1 | 1.500 | 1.500 | 1.500 | - | 1.00 | 2.5 |"


def test_closing_tells_state_baseline_machine_and_folder(report, tmp_path):
    text = closing([report, report], tmp_path)
    assert text.count("time of a_float32") == 2
    assert "some cpu, 4 cores" in text
    assert str(tmp_path) in text
    assert "stopped by SIGINT" in closing([{**report, "state": "stopped by SIGINT after 2"}], tmp_path)
    assert "nothing to sum up" in closing([{**report, "models": []}], tmp_path)
    assert max(map(len, text.splitlines()[:-1])) <= WIDTH


def test_columns_for_core_and_delegate_appear_where_they_differ(make_row):
    rows = [make_row("a", [1], core=core) for core in ("big", "little")]
    assert "core" in text_table(summarise(rows))
    assert "delegate" not in text_table(summarise(rows))


def test_the_last_attempt_counts_and_flags_are_told(make_row):
    rows = [
        make_row("a", [9_000_000], flags=["drifted"]),
        make_row("a", [1_000_000], attempt=2),
        make_row("a", [5_000_000], round=2, flags=["hot"], attempt=3),
    ]
    (line,) = summarise(rows)
    assert (line["min_ms"], line["rounds"], line["flagged"], line["flags"]) == (1, 2, 1, ["hot"])
    assert [summarise(some)[0]["doubtful"] for some in (rows, rows[:2], rows[:1])] == [True, False, True]
    assert "1 of 2 rounds cannot be trusted: hot" in " ".join(doubts([line]))
    assert settled(rows, repeats=2) == {row.key for row in rows[1:]}
    assert settled(rows[:1], repeats=2) == set()


def test_a_median_is_never_compared_with_a_minimum(make_row):
    lower = make_row("b", [2, 4, 6], median_ns=None, p95_ns=None, statistic="min")
    a, b = summarise([make_row("a", [1, 3, 5]), lower], "a_float32")
    assert (b["ms"], b["median_ms"], b["statistic"], b["ratio"]) == (2e-6, None, "min", 2)
    assert "some times are medians, some are minima" in " ".join(doubts([a, b]))


def test_the_headline_falls_back_to_min_where_a_round_has_no_median(make_row):
    rows = [make_row("a", [1, 3, 5]), make_row("a", [2, 4], round=2, median_ns=None, statistic="min")]
    (line,) = summarise(rows)
    assert (line["statistic"], line["ms"]) == ("min", 1.5e-6)


def test_launches_for_profile_and_memory_are_not_timed(make_row):
    rows = [make_row("a", [1]), make_row("a", [9], round=2, kind="profile")]
    assert summarise(rows)[0]["rounds"] == 1


def test_the_memory_of_launches_that_were_not_timed_is_summed_up(make_row):
    rows = [make_row("a", [1], memory_mb={"overall": 2.0}), make_row("b", [1], memory_mb={"peak": 9.0})]
    rows += [make_row("a", [1], round=n, kind="memory", memory_mb={"overall": 1.0, "peak": n}) for n in (2.0, 4.0, 3.0)]
    assert [line["memory_mb"] for line in summarise(rows)] == [{"overall": 2.0, "peak": 4.0}, {"peak": 9.0}]


def test_peak_memory_has_a_column_where_it_is_known(make_row):
    plain, told = make_row("a", [1]), make_row("b", [1], memory_mb={"peak": 9.25})
    assert "peak" not in text_table(summarise([plain]))
    heads, _, a, b = summary_markdown(summarise([plain, told])).splitlines()
    assert "peak MB" in heads
    assert "| 9.2 |" in b
    assert "| - | - | 2.5 |" in a


def test_a_name_does_not_end_a_cell_of_markdown(make_row):
    heads, _, line = summary_markdown(summarise([make_row("a|b", [1])])).splitlines()
    assert line.replace("\\|", "").count("|") == heads.count("|")


def test_rows_are_appended_and_whole(make_row, tmp_path):
    row = make_row("a", [1, 2, 3])
    for _ in range(2):
        kept = Results(tmp_path / "new" / "folder")
        kept.keep(row)
    written = json.loads(json.dumps(vars(row)))
    assert [vars(read) for read in results.read_rows(kept.folder)] == [written] * 2
    assert written["samples_ns"] == [1, 2, 3]


def test_a_line_cut_by_a_crash_is_not_continued(make_row, tmp_path):
    (tmp_path / results.ROWS).write_text('{"run": "cut off')
    kept = Results(tmp_path)
    kept.keep(make_row("a", [1]))
    assert [row.model for row in results.read_rows(tmp_path)] == ["a"]


def test_rows_of_another_version_are_named(tmp_path):
    (tmp_path / results.ROWS).write_text('{"p90_ns": 1}\n')
    with pytest.raises(BenchError, match=r"rows\.jsonl: written by another version"):
        results.read_rows(tmp_path)


def test_a_file_that_cannot_be_replaced_is_left_as_it_was(tmp_path, monkeypatch):
    kept = Results(tmp_path)
    kept.replace("page", "old")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results.Path, "replace", full)
    with pytest.raises(BenchError, match="No space left on device"):
        kept.replace("page", "new")
    assert (tmp_path / "page").read_text() == "old"
    assert not list(tmp_path.glob(".page*"))


def test_two_runs_do_not_share_a_folder_at_once(tmp_path):
    with Results(tmp_path).locked():
        with pytest.raises(BenchError, match="another run is writing here"), Results(tmp_path).locked():
            pass
    with Results(tmp_path).locked():
        pass


@pytest.mark.parametrize("below", ["file", "file/folder"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, below):
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match=r"file.*: cannot be written: .*another --output_dir"):
        Results(tmp_path / below)
