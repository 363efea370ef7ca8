import json
import re

import pytest

from fd_keras.android_bench import results
from fd_keras.android_bench.errors import BenchError
from fd_keras.android_bench.results import Results, ResultsWriteError


def test_rows_are_appended(make_row, tmp_path):
    row = make_row("a", [1, 2, 3])
    for _ in range(2):
        kept = Results(tmp_path / "new" / "folder")
        kept.append_row(row)
    written = json.loads(json.dumps(row.to_json()))
    assert [read.to_json() for read in results.read_rows(kept.folder)] == [written] * 2
    assert written["samples_ns"] == [1, 2, 3]


def test_rows_after_a_truncated_line_start_on_a_new_line(make_row, tmp_path):
    (tmp_path / results.ROWS).write_text('{"run": "cut off')
    kept = Results(tmp_path)
    kept.append_row(make_row("a", [1]))
    assert [row.launch.job.model.name for row in results.read_rows(tmp_path)] == ["a"]


def test_lines_that_are_not_rows_are_named_and_skipped(make_row, tmp_path):
    row = json.dumps(make_row("a", [1]).to_json())
    lines = {
        '{"p90_ns": 1}': "unknown keys p90_ns",
        "{}": "missing keys",
        "[1]": r"not a JSON object: \[1\]",
        row[:40]: "not valid JSON",
        row.replace('"runs": 1', '"runs": "1"'): "runs must be an integer of at least 1, not '1'",
        row.replace('"min_ns": 1', '"min_ns": NaN'): "NaN is not JSON",
        row.replace('"min_ns": 1', '"min_ns": 1e999'): "the number inf",
        row.replace('"min_ns": 1', '"min_ns": ' + "9" * 400): "the number 999",
        row.replace('"min_ns": 1', '"min_ns": ' + "9" * 5000): "digits",
        row.replace('"facts": {}', '"facts": {"alpha": "wide"}'): "alpha must be a number between",
        row.replace('"facts": {}', '"facts": {"ms": 1}'): "unknown facts ms",
        row.replace('"run": "r1"', '"run": "../../etc"'): "run must be the name of a run",
        row.replace(
            '"machine": ""', '"machine": "toaster"'
        ): "machine must be phone, emulator, board, host, browser or core",
        "[" * 100_000: "too deep",
        "\x00\x01": "not valid JSON",
    }
    assert len(lines) == 15
    (tmp_path / results.ROWS).write_text("\n".join([*lines, row]) + "\n")
    with (tmp_path / results.ROWS).open("ab") as file:
        file.write(b"\xff\xfe\n")
    damage = []
    assert [read.label for read in results.read_rows(tmp_path, damage)] == ["a_float32"]
    for number, (message, found) in enumerate(zip([*lines.values(), "UTF-8"], damage, strict=True), 1):
        at = number if number <= len(lines) else number + 1
        assert re.search(rf"rows\.jsonl, line {at}: .*{message}.*; skipped", found), found


def test_the_length_of_a_line_is_limited(make_row, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "_LONGEST_LINE", 10_000)
    row = json.dumps(make_row("a", [1]).to_json())
    (tmp_path / results.ROWS).write_text(f"{'x' * 35_000}\n{row}\n")
    damage = []
    assert len(results.read_rows(tmp_path, damage)) == 1
    assert "line 1: longer than 10000 bytes" in damage[0]


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ('{"a": 1}', "the key run is missing"),
        ('{"run": 7}', "run must be the name of a run"),
        ('{"run": "r", "environment": {"kind": "toaster"}}', "kind must be phone"),
        ('{"run": "r", "failures": "none"}', "failures must be a list"),
        ('{"run": "r", "options": {"rounds": null}}', "rounds must be a number"),
    ],
)
def test_lines_that_are_not_events_are_named_and_skipped(tmp_path, event, message):
    (tmp_path / results.RUNS).write_text(f'{event}\n{{"run": "good"}}\n')
    damage = []
    assert list(results.read_runs(tmp_path, damage)) == ["good"]
    assert message in damage[0]


def test_a_folder_in_use_is_locked(tmp_path):
    kept = Results(tmp_path)
    with (
        kept.lock(),
        pytest.raises(BenchError, match="another run is writing to this folder"),
        Results(tmp_path).lock(),
    ):
        pass
    with kept.lock():
        pass


@pytest.mark.parametrize("below", ["file", "file/folder"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, below):
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match=r"file.*: cannot be written: .*another --output_dir"):
        Results(tmp_path / below)


@pytest.mark.parametrize("name", ["report.html", "report.csv", "rows.jsonl"])
def test_a_folder_with_the_name_of_a_file_is_reported_at_the_start(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(BenchError, match="cannot be written"):
        Results(tmp_path)


def test_a_read_only_file_system_is_reported_at_the_start():
    with pytest.raises(BenchError, match=r"/proc/results: cannot be written: .*another --output_dir"):
        Results("/proc/results")


def test_a_start_that_failed_leaves_no_folder(tmp_path, make_row):
    Results(tmp_path / "new").remove_if_unused()
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    Results(tmp_path / "old").remove_if_unused()
    assert (tmp_path / "old").exists()
    used = Results(tmp_path / "used")
    used.append_row(make_row("a", [1]))
    used.remove_if_unused()
    assert len(results.read_rows(used.folder)) == 1


def test_a_file_that_cannot_be_written_is_an_error_with_advice(tmp_path, monkeypatch):
    kept = Results(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results, "write_atomically", full)
    with pytest.raises(ResultsWriteError, match="No space left on device; .*another --output_dir"):
        kept.write("page", "new")


def test_the_events_of_a_run_are_merged(tmp_path):
    kept = Results(tmp_path)
    kept.append_event(run="a", state="interrupted", options={"rounds": 1})
    kept.append_event(run="b", state="interrupted")
    kept.append_event(run="a", state="complete")
    assert results.read_runs(tmp_path)["a"] == {"run": "a", "state": "complete", "options": {"rounds": 1}}


def test_a_log_is_named_after_its_launch(tmp_path):
    name = Results(tmp_path).write_log("run", "time_a b/c", "text")
    assert name == "logs/run/time_a_b_c.txt"
    assert (tmp_path / name).read_text() == "text"
