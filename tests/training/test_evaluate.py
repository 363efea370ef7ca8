import pathlib
import subprocess
import sys

import pytest

from fd_keras.training import accuracy, table2

ROOT = pathlib.Path(__file__).parents[2]


def test_a_target_is_met_within_its_tolerance():
    assert "reached" in accuracy.check(44.7, 45.1, "paper")
    with pytest.raises(ValueError, match="missed by 0.61"):
        accuracy.check(44.49, 45.1, "paper")


def _ended(top1):
    return {"result": {"last": {"val_top1": top1}}}


def test_runs_that_differ_by_their_seed_are_one_row():
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
    assert next(line for line in lines if line.startswith("MobileNet 0.5x")).split()[-2:] == ["-", "-"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--recipe=best"], "--recipe"),
        (["--colour=blue"], "Unknown command line flag"),
        (["--crop_scale=2"], "--crop_scale=2.0: must be between"),
        (["--strategy=data_parallel"], "KERAS_BACKEND=jax"),
    ],
)
def test_wrong_flags_are_refused(photos, tmp_path, flags, message):
    command = [
        sys.executable,
        "-m",
        "training.train",
        f"--data=folder:{photos}",
        f"--run_dir={tmp_path / 'run'}",
        *flags,
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 1
    assert message in result.stderr + result.stdout
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("place", "words"), [("x.txt", "ends in .png"), ("none/x.png", "no folder none")])
def test_curves_that_cannot_be_written_are_refused(place, words):
    table2.check_place(None)
    table2.check_place("x.png")
    with pytest.raises(ValueError, match=f"--curves={place}: .*{words}"):
        table2.check_place(place)
