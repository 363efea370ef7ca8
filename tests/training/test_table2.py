import json

import pytest
from absl import flags

from fd_keras.training import table2


def _ended(top1):
    return {"result": {"last": {"val_top1": top1}}}


def test_runs_with_different_seeds_share_a_row():
    run = {
        "name": "fd_mobilenet_0.25_112", "classes": 10,
        "config": {"name": "paper", "model": "fd_mobilenet", "alpha": 0.25, "epochs": 30, "seed": 0},
        "data": {"val": {"photos": 15, "name": "mine", "fingerprint": "a"}},
    }  # fmt: skip
    runs = [run | _ended(0.6), run | {"config": run["config"] | {"seed": 1}} | _ended(0.7)]
    longer = run | {"config": run["config"] | {"epochs": 60}} | _ended(0.8)
    rows = table2.table([*runs, longer]).splitlines()[-2:]
    assert rows[0].split() == ["fd_mobilenet_0.25_112", "(paper)", "80.0", "mine"]
    assert rows[1].split() == ["fd_mobilenet_0.25_112", "(paper)", "65.0", "(60.0-70.0,", "2", "seeds)", "mine"]


def test_table_shows_the_paper_and_what_was_trained_on_imagenet_only():
    run = {
        "name": "fd_mobilenet_0.25_224", "classes": 1000,
        "config": {"name": "paper", "model": "fd_mobilenet", "alpha": 0.25},
        "data": {"val": {"photos": 50_000, "name": "imagenet"}}, "result": {"last": {"val_top1": 0.4512}},
    }  # fmt: skip
    other = run | {"data": {"val": {"photos": 15, "name": "mine", "fingerprint": "a"}}} | _ended(0.9)
    lines = table2.table([run, other]).splitlines()
    row = next(line for line in lines if line.startswith("FD-MobileNet 0.25x"))
    assert "45.1" in row
    assert "45.1 (paper)" in row
    assert "90.0" not in row
    assert "90.0" in lines[-1]
    assert "mine" in lines[-1]
    assert next(line for line in lines if line.startswith("MobileNet 0.5x")).split()[-1] == "-"


@pytest.mark.parametrize(
    ("place", "words"), [("x.txt", "unsupported file format"), ("none/x.png", "folder none does not")]
)
def test_invalid_figures_are_rejected(place, words):
    with pytest.raises(ValueError, match=f"{place}: .*{words}"):
        table2.check_place(place)


def test_curves_are_checked_before_the_runs_are_read():
    table2.check_place("x.png")
    flags.FLAGS(["table2", "--runs=nowhere", "--curves=x.txt"])
    with pytest.raises(ValueError, match="x.txt"):
        table2.main([])
    flags.FLAGS(["table2", "--runs=nowhere", "--curves="])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        table2.main([])


def test_runs_of_detectors_are_ignored(tmp_path, capsys):
    (tmp_path / "run.json").write_text(json.dumps({"data": {"train": {}}, "config": {}, "result": {}}))
    flags.FLAGS(["table2", f"--runs={tmp_path}", "--curves="])
    table2.main([])
    assert "on other data" not in capsys.readouterr().out
