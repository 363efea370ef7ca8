import json

import pytest

from fd_keras.android_bench import run
from fd_keras.android_bench.errors import BenchError
from fd_keras.android_bench.results import Results, read_runs

QUICK = ["--rounds=3", "--runs=4", "--min_secs=0", "--warmup=1"]


def _main(models, out, *flags):
    return run.main(["--target=host", f"--models={models}", f"--output_dir={out}", *QUICK, *flags])


def _rows(out):
    return [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]


def _runs(out):
    return list(read_runs(out).values())


def test_a_second_run_adds_rows(converted, tmp_path, capsys):
    for _ in range(2):
        assert _main(converted, tmp_path, "--baseline=mobilenet_0.5") == 0
    assert len({row["run"] for row in _rows(tmp_path)}) == len(_runs(tmp_path)) == 2
    assert {known["baseline"] for known in _runs(tmp_path)} == {"mobilenet_0.5_int8"}


@pytest.mark.parametrize("flags", [[], ["--fresh"]])
def test_an_interrupted_run_continues_by_default(converted, tmp_path, capsys, flags):
    assert _main(converted, tmp_path) == 0
    lines = (tmp_path / "rows.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "rows.jsonl").write_text("".join(lines[:4]))
    assert _main(converted, tmp_path, *flags) == 0
    rows = _rows(tmp_path)
    assert ("continuing run" in capsys.readouterr().err) == (not flags)
    assert len(rows) == (10 if flags else 6)
    assert len({row["run"] for row in rows}) == (2 if flags else 1)


@pytest.mark.parametrize("lost", [1, 2])  # the event after the report, and the event of the end
def test_a_run_that_was_killed_after_its_last_row_is_closed_and_reported(converted, tmp_path, capsys, lost):
    assert _main(converted, tmp_path) == 0
    lines = (tmp_path / "runs.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "runs.jsonl").write_text("".join(lines[:-lost]))
    report = (tmp_path / "report.csv").read_text()
    for path in tmp_path.glob("report.*"):
        path.unlink()
    assert _main(converted, tmp_path) == 0
    assert "closing run" in capsys.readouterr().err
    assert len(_rows(tmp_path)) == 6
    (known,) = _runs(tmp_path)
    assert (known["state"], known["reported"]) == ("complete", True)
    assert (tmp_path / "report.csv").read_text() == report
    assert _main(converted, tmp_path) == 0  # the run is complete, so the next one is new
    assert len(_rows(tmp_path)) == 12


def test_a_full_disk_ends_the_run_with_the_rows_so_far(converted, tmp_path, monkeypatch, capsys):
    keep, kept = Results.append_row, []

    def full_after_two(self, row):
        if len(kept) == 2:
            raise BenchError("no space left")
        kept.append(keep(self, row))

    monkeypatch.setattr(Results, "append_row", full_after_two)
    assert _main(converted, tmp_path) == 1
    captured = capsys.readouterr()
    assert "error: no space left" in captured.err
    assert "failed after 3 of 6" in captured.out
    assert len(_rows(tmp_path)) == 2
    assert _runs(tmp_path)[0]["failures"] == ["no space left"]
