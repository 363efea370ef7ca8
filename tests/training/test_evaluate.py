import json

import pytest

from fd_keras.applications import build_by_name


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """An untrained network of three classes."""
    path = tmp_path_factory.mktemp("model") / "net.keras"
    build_by_name("fd_mobilenet", alpha=0.25, input_shape=(32, 32, 3), weights=None, classes=3).save(path)
    return str(path)


@pytest.fixture
def run(programs, photos, tmp_path):
    """Runs the program on the photos."""
    return lambda *flags: programs.run("fd_keras.training.evaluate", [f"--data=folder:{photos}", *flags], tmp_path)


def test_every_photo_is_scored(run, model):
    done = run(f"--model={model}", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["images"], result["top5"]) == (15, 100.0)
    assert 0 <= result["top1"] <= 100


@pytest.mark.parametrize(("target", "status"), [(0, 0), (100, 1)])
def test_a_target_decides_the_status(run, model, target, status):
    done = run(f"--model={model}", "--check", f"--target={target}")
    assert done.returncode == status
    assert "of 15 photos" in done.stdout
    assert ("missed by" in done.stderr) == (status == 1)


def test_another_number_of_classes_is_refused(run, tmp_path):
    path = tmp_path / "two.keras"
    build_by_name("fd_mobilenet", alpha=0.25, input_shape=(32, 32, 3), weights=None, classes=2).save(path)
    done = run(f"--model={path}")
    assert done.returncode == 1
    assert f"error: {path} has 2 classes, but" in done.stderr
