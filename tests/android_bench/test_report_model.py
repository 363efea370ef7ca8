import pytest

from fd_keras.android_bench.errors import BenchError
from fd_keras.android_bench.report_model import (
    Table4Cell,
    cell_texts,
    pareto,
    read_report,
    short_name,
    table4,
    title,
    top1_accuracy,
)
from fd_keras.android_bench.results import Results
from fd_keras.android_bench.rows import COUNT
from fd_keras.android_bench.summary import summarize


def test_table4_compares_our_results_with_the_papers(results, milliseconds):
    phone, host = read_report(results)
    (config,) = phone.configs
    lines = {(line.arch, line.alpha): line for lines in config.table4.budgets.values() for line in lines}
    assert {key: round(line.cells["float32"].value / 1.02, 6) for key, line in lines.items()} == milliseconds
    for (arch, alpha), ours in {("mobilenet", 0.5): 1.2, ("shufflenet", 0.25): 2.0, ("fd_mobilenet", 0.5): 1.0}.items():
        assert lines[arch, alpha].cells["int8"].ratio == pytest.approx(ours)
    assert lines["mobilenet", 0.5].paper_ratio == pytest.approx(1.10, abs=0.005)
    assert lines["shufflenet", 0.25].paper_ratio == pytest.approx(1.82, abs=0.005)
    assert lines["shufflenet", 0.25].paper_ms == 103.79
    assert lines["fd_mobilenet", 0.5].paper_ratio == 1
    assert lines["fd_shufflenet", 1.0].paper_ratio is None


def test_table4_of_counts_is_in_millions_of_instructions(make_count_row):
    def row(arch, alpha, recipe, size=224, **counts):
        facts = {"arch": arch, "alpha": alpha, "size": [size, size]}
        return make_count_row(f"{arch}_{alpha}_{size}", recipe, facts=facts, **counts)

    rows = [
        row("fd_mobilenet", 0.25, "float32", instructions=10_000_000, l2_misses=1_500_000),
        row("mobilenet", 0.125, "float32", instructions=12_000_000, flags=["it did not stabilize"]),
        row("fd_mobilenet", 0.25, "int8", instructions=8_000_000),
        row("mobilenet", 0.125, "int8", size=128),
    ]
    table = table4(rows, COUNT)
    assert (table.unit, table.recipes, list(table.budgets)) == ("M", ("float32", "int8"), [12])
    lines = {line.name: [cell_texts(cell) for cell in line.cells.values()] for line in table.budgets[12]}
    assert lines == {
        "FD-MobileNet 0.25x": [("10.0", "1.00"), ("8.00", "1.00")],
        "MobileNet 0.125x": [("12.0*", "1.20"), ("–", "–")],
    }
    assert table4([make_count_row("other")], COUNT) is None
    assert table4(rows) is None


def test_a_report_of_counts_alone_does_not_mention_latency(results, make_count_row):
    Results(results).append_row(make_count_row("a"))
    timed = read_report(results)
    assert title(timed) == "Latency of .tflite models"
    assert title([device for device in timed if device.kind == "core"]) == "Instruction counts of .tflite models"


def test_the_latest_run_of_a_device_is_reported(results, make_row):
    kept = Results(results)
    kept.append_row(make_row("other", [1_000_000], run="later", target="adb", device="R58M"))
    phone = next(device for device in read_report(results) if device.run["run"] == "later")
    assert [line["model"] for line in phone.configs[0].summary] == ["other"]
    assert phone.configs[0].table4 is None
    assert "incomplete" in phone.warnings[0]


def test_two_files_of_one_network_are_not_mixed_in_table4(results, make_row):
    kept = Results(results)
    facts = {"arch": "fd_mobilenet", "alpha": 0.25}
    common = {"run": "later", "target": "adb", "device": "R58M", "recipe": "float32"}
    files = {"fd_mobilenet_0.25_128": (128, 1), "a_finetuned": (224, 2), "fd_mobilenet_0.25_224": (224, 4)}
    for name, (side, ms) in files.items():
        kept.append_row(make_row(name, [ms * 1e6], facts=facts | {"size": [side, side]}, **common))
    phone = next(device for device in read_report(results) if device.run["run"] == "later")
    assert phone.configs[0].table4.budgets[12][0].cells["float32"].value == 4
    names = [short_name(line) for line in phone.configs[0].summary]
    assert names == ["FD-MobileNet 0.25x", "FD-MobileNet 0.25x at 128", "FD-MobileNet 0.25x"]


def test_the_pareto_front_has_no_dominated_points():
    points = [(1, 40), (2, 50), (3, 45), (4, 60), (4, 55), (5, 60)]
    assert pareto(points) == [(1, 40), (2, 50), (4, 60)]
    assert pareto([]) == []


def test_measured_accuracy_overrides_the_papers(make_row):
    rows = [make_row("a", [1_000_000], facts={"accuracy": {"top1": 55.5}, "paper_top1": 45.1})]
    assert top1_accuracy(summarize(rows)[0]) == (55.5, False)
    quoted = {"paper_top1": 45.1, "recipe": "float32"}
    assert top1_accuracy(quoted) == (45.1, True)
    assert top1_accuracy({}) is None


def test_a_folder_without_rows_is_named(tmp_path):
    Results(tmp_path)
    with pytest.raises(BenchError, match="no rows"):
        read_report(tmp_path)


def test_cells_of_table4_are_rounded_and_marked():
    assert cell_texts(Table4Cell(12.34, 1.204, doubtful=True)) == ("12.3*", "1.20")
    assert cell_texts(Table4Cell(1.234)) == ("1.23", "–")
    assert cell_texts(Table4Cell(0.1234, 2)) == ("0.123", "2.00")
    assert cell_texts(Table4Cell()) == ("–", "–")


def test_the_papers_networks_have_a_short_name():
    line = {"arch": "mobilenet", "alpha": 0.5, "model": "mobilenet_0.5_96"}
    assert short_name(line) == "MobileNet 0.5x"
    assert short_name(line | {"size": [96, 96]}) == "MobileNet 0.5x at 96"
    assert short_name(line | {"size": [96, 128]}) == "MobileNet 0.5x at 96x128"
    assert short_name({"model": "other"}) == "other"
