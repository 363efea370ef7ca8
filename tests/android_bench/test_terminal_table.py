import pytest

from fd_keras.android_bench.count_summary import summarize_counts
from fd_keras.android_bench.summary import reliability_warnings, summarize
from fd_keras.android_bench.terminal_table import WIDTH, final_report, summary_markdown, text_table


@pytest.fixture
def report(make_row):
    rows = [make_row("a", [time], round=number) for number, time in enumerate([1_000_000, 2_000_000])]
    models = summarize(rows, "a_float32")
    return {
        "run": "r1", "target": "host", "device": "here", "state": "complete", "baseline": "a_float32",
        "environment": {"device": "some cpu", "kind": "host", "cores": 4, "engine": "LiteRT", "governor": None},
        "load_before": None, "load_after": 0.5, "models": models, "sustained": [], "counts": [],
        "failures": ["x.tflite: broken"],
        "warnings": reliability_warnings(models),
    }  # fmt: skip


def test_the_text_table_is_aligned_and_fits(make_row):
    names = {"short": "int8", "a_name_" + "much_" * 20 + "longer_0.25": "int8_" + "x" * 40, "other": ""}
    rows = [make_row(name, [12_345_678_901], recipe=recipe) for name, recipe in names.items()]
    lines = text_table(summarize(rows, "short_int8")).splitlines()
    assert len(lines) == 4
    assert max(map(len, lines)) <= WIDTH
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split() == ["model", "recipe", "threads", "ms", "min", "p95", "spread", "ratio", "size", "kB"]
    assert any("_0.25 " in line and ".." in line for line in lines)


def test_the_markdown_table_has_a_cell_per_column(make_row):
    lines = summary_markdown(summarize([make_row("a", [1_500_000])], "a_float32")).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2] == "| a | float32 | 1 | 1.500 | 1.500 | 1.500 | - | 1.00 | 2.5 |"


def test_the_final_report_shows_state_baseline_machine_and_folder(report, tmp_path):
    text = final_report([report, report], tmp_path)
    assert text.count("time of a_float32") == 2
    assert "some cpu, 4 cores" in text
    assert str(tmp_path) in text
    assert "stopped by SIGINT" in final_report([{**report, "state": "stopped by SIGINT after 2"}], tmp_path)
    assert "nothing to summarize" in final_report([{**report, "models": []}], tmp_path)
    assert max(map(len, text.splitlines()[:-1])) <= WIDTH


def test_counts_have_their_own_table(report, make_count_row, tmp_path):
    rows = [make_count_row("a", instructions=12_345_678), make_count_row("b", dot=3, flags=["moves"])]
    counted = {**report, "models": [], "counts": summarize_counts(rows, "a_float32")}
    text = final_report([counted], tmp_path)
    heads, a, b, *_ = text.splitlines()
    assert heads.split()[:3] == ["model", "recipe", "kernels"]
    assert a.split()[2:4] == ["NEON", "12.3"]
    assert a.split()[-1] == "1.00"
    assert b.split("  ")[-1] == "0.00*"
    assert "dot product" in b
    assert "counted, not timed" in text
    assert " ms" not in text
    assert "did not stabilize" in text
    assert max(map(len, text.splitlines()[:-1])) <= WIDTH


def test_estimated_times_have_a_column_if_there_are_any(report, make_count_row, tmp_path):
    rows = [make_count_row("a", device="cortex-a9", instructions=16_000_000)]
    text = final_report([{**report, "models": [], "counts": summarize_counts(rows)}], tmp_path)
    heads, line, *_ = text.splitlines()
    assert heads.split()[-2:] == ["est.", "ms"]
    assert line.split()[-1] == "10.0"  # 8 million cycles at 800 MHz
    assert "an estimate, not a measurement" in text


def test_columns_for_core_and_delegate_appear_if_they_differ(make_row):
    rows = [make_row("a", [1], core=core) for core in ("big", "little")]
    assert "core" in text_table(summarize(rows))
    assert "delegate" not in text_table(summarize(rows))


def test_peak_memory_has_a_column_if_known(make_row):
    plain, told = make_row("a", [1]), make_row("b", [1], memory_mb={"peak": 9.25})
    assert "peak" not in text_table(summarize([plain]))
    heads, _, a, b = summary_markdown(summarize([plain, told])).splitlines()
    assert "peak MB" in heads
    assert "| 9.2 |" in b
    assert "| - | - | 2.5 |" in a


def test_pipes_in_names_are_escaped_in_markdown(make_row):
    heads, _, line = summary_markdown(summarize([make_row("a|b", [1])])).splitlines()
    assert line.replace("\\|", "").count("|") == heads.count("|")
