import json

import pytest

from fd_keras.android_bench import results
from fd_keras.android_bench.errors import BenchError
from fd_keras.android_bench.results import Results, ResultsWriteError


def test_rows_are_appended_and_whole(make_row, tmp_path):
    row = make_row("a", [1, 2, 3])
    for _ in range(2):
        kept = Results(tmp_path / "new" / "folder")
        kept.append_row(row)
    written = json.loads(json.dumps(row.to_json()))
    assert [read.to_json() for read in results.read_rows(kept.folder)] == [written] * 2
    assert written["samples_ns"] == [1, 2, 3]


def test_a_line_cut_by_a_crash_is_not_continued(make_row, tmp_path):
    (tmp_path / results.ROWS).write_text('{"run": "cut off')
    kept = Results(tmp_path)
    kept.append_row(make_row("a", [1]))
    assert [row.launch.job.model.name for row in results.read_rows(tmp_path)] == ["a"]


def test_rows_of_another_version_are_named(tmp_path):
    (tmp_path / results.ROWS).write_text('{"p90_ns": 1}\n')
    with pytest.raises(BenchError, match=r"rows\.jsonl: written by another version"):
        results.read_rows(tmp_path)


def test_two_runs_do_not_share_a_folder_at_once(tmp_path):
    kept = Results(tmp_path)
    with kept.lock(), pytest.raises(BenchError, match="another run is writing here"), Results(tmp_path).lock():
        pass
    with kept.lock():
        pass


@pytest.mark.parametrize("below", ["file", "file/folder"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, below):
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match=r"file.*: cannot be written: .*another --output_dir"):
        Results(tmp_path / below)


def test_a_file_that_cannot_be_written_is_an_error_with_a_way_out(tmp_path, monkeypatch):
    kept = Results(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results, "write_atomically", full)
    with pytest.raises(ResultsWriteError, match="No space left on device: .*another --output_dir"):
        kept.write("page", "new")


def test_the_events_of_a_run_are_merged(tmp_path):
    kept = Results(tmp_path)
    kept.append_event(run="a", state="interrupted", options=1)
    kept.append_event(run="b", state="interrupted")
    kept.append_event(run="a", state="complete")
    assert results.read_runs(tmp_path)["a"] == {"run": "a", "state": "complete", "options": 1}


def test_a_log_is_named_after_its_launch(tmp_path):
    name = Results(tmp_path).write_log("run", "time_a b/c", "text")
    assert name == "logs/run/time_a_b_c.txt"
    assert (tmp_path / name).read_text() == "text"
