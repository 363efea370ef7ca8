import json
import os
import pathlib
import shlex
import subprocess

import pytest

from fd_keras import classify

ROOT = pathlib.Path(__file__).parents[2]
QUICK = ("--alpha=0.25", "--image_size=32", "--batch_size=12", "--epochs=1")


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (["--recipe=best"], 2, "--recipe"),
        (["--batchsize=8"], 2, "unknown flag --batchsize; did you mean --batch_size?"),
        (["--crop_scale=2"], 2, "--crop_scale=2.0: must be between"),
        (["--strategy=data_parallel"], 1, "KERAS_BACKEND=jax"),
        (["--freeze=all"], 2, "--freeze=all"),
        (["--data=folder:.", "--val_fraction=0.2", "--run_dir=run"], 1, "--run_dir=run: is inside the photos"),
    ],
)
def test_invalid_flags_are_reported_on_one_line(programs, photos, tmp_path, flags, status, message):
    common = [f"--data=folder:{photos}", f"--run_dir={tmp_path / 'run'}", "--batch_size=8"]
    for name in ("blue", "cyan"):
        (tmp_path / name).symlink_to(photos / "train" / name)
    result = programs.run("fd_keras.training.train", [*common, *flags], tmp_path)
    assert result.returncode == status
    assert message in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "run" / "run.json").exists()


def test_the_help_shows_the_values_of_the_chosen_recipe(programs, tmp_path):
    result = programs.run("fd_keras.training.train", ["--recipe=finetune", "--help"], tmp_path)
    assert result.returncode == 0
    assert "--epochs=15" in result.stdout
    assert "--learning_rate=0.01" in result.stdout


def pasted(line: str, folder: pathlib.Path) -> str:
    """Runs the command of a closing line in a shell; returns its output."""
    assert line.startswith("next: ")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        line.removeprefix("next: "), shell=True, cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_closing_lines_lead_from_photos_to_a_report(programs, photos, tmp_path, capsys):
    """Held-out photos are in the same folder, so files must not be calibrated on all of it."""
    (tmp_path / "my photos").symlink_to(photos / "train")
    flags = ["--data=folder:my photos", "--val_fraction=0.25", "--run_dir=a run", *QUICK]
    trained = programs.run("fd_keras.training.train", flags, tmp_path)
    assert trained.returncode == 0, trained.stderr
    line = trained.stdout.splitlines()[-1]
    assert "--calibration_dir=my photos" in shlex.split(line)
    record = json.loads((tmp_path / "a run" / "run.json").read_text())
    assert record["opened"]["data"] == f"folder:{tmp_path}/my photos"
    listed = (tmp_path / "a run" / "calibration.txt").read_text().splitlines()
    assert len(listed) == 36
    said = []
    while line.startswith("next: "):
        said.append(pasted(line, tmp_path))
        line = said[-1].splitlines()[-1]
    assert [line.split(".tflite")[0].strip() for line in said[0].splitlines()[:2]] == [
        f"a run/tflite/fd_mobilenet_0.25_32_{recipe}" for recipe in ("float32", "int8")
    ]
    assert "in percent of 12 images" in said[1]
    assert (tmp_path / "results" / "report.html").exists()
    facts = json.loads((tmp_path / "a run" / "tflite" / "fd_mobilenet_0.25_32_int8.json").read_text())
    assert set(facts["calibration"]["ids"]) == set(listed)
    assert facts["accuracy"]["images"] == 12
    for name in ("last/fd_mobilenet_0.25_32.keras", "tflite/fd_mobilenet_0.25_32_int8.tflite"):
        photo = str(photos / "val" / "blue" / "blue_000.jpg")
        assert classify.main([f"--model={tmp_path}/a run/{name}", "--json", photo]) == 0
        (result,) = json.loads(capsys.readouterr().out)
        assert {p["name"] for p in result["predictions"]} == {"amber", "blue", "cyan"}


def test_the_next_command_after_a_run_on_shards_needs_no_photos(programs, prepared, tmp_path):
    trained = programs.run(
        "fd_keras.training.train", [f"--data={prepared}", f"--run_dir={tmp_path}/run", *QUICK], tmp_path
    )
    words = shlex.split(trained.stdout.splitlines()[-1])
    assert "--recipes=float32" in words
    assert not any(word.startswith("--calibration") for word in words)
