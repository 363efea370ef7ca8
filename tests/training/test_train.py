import pytest


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (["--recipe=best"], 2, "--recipe"),
        (["--batchsize=8"], 2, "unknown flag --batchsize; did you mean --batch_size?"),
        (["--crop_scale=2"], 2, "--crop_scale=2.0: must be between"),
        (["--strategy=data_parallel"], 1, "KERAS_BACKEND=jax"),
        (["--freeze=all"], 2, "--freeze=all"),
    ],
)
def test_wrong_flags_are_refused_in_a_line(programs, photos, tmp_path, flags, status, message):
    common = [f"--data=folder:{photos}", f"--run_dir={tmp_path / 'run'}", "--batch_size=8"]
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
