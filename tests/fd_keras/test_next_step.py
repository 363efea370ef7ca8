import shlex
import shutil
import sys

from absl import flags

from fd_keras import next_step

PATHS = ["out/a, b.tflite", "it's $HOME.tflite"]


def test_the_next_command_is_quoted_for_the_shell():
    line = next_step.next_line("verify", "a photo.jpg", tflite=PATHS, run_dir="my run", record=True, plot=None)
    assert line.startswith("next: ")
    words = shlex.split(line.removeprefix("next: "))
    assert words[-5:] == ["verify", words[-4], "--run_dir=my run", "--record", "a photo.jpg"]
    assert flags.ListParser().parse(words[-4].removeprefix("--tflite=")) == PATHS


def test_a_command_that_is_not_on_the_path_runs_with_python(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    command = next_step.command("train")
    assert shlex.split(command) == [sys.executable, "-m", "fd_keras.cli", "train"]
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert next_step.command("train") == "fd-keras train"


def test_the_first_unused_path_is_returned(tmp_path):
    path = str(tmp_path / "run")
    assert next_step.unused(path) == path
    (tmp_path / "run").mkdir()
    (tmp_path / "run_2").mkdir()
    assert next_step.unused(path) == f"{path}_3"
