import json
import shutil

import pytest

from fd_keras import imagenet
from fd_keras.applications import build_by_name
from fd_keras.saved import load_model
from fd_keras.training import data_sets, sources


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


def test_all_photos_are_scored(run, model):
    done = run(f"--model={model}", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["images"], result["top5"]) == (15, 100.0)
    assert 0 <= result["top1"] <= 100


@pytest.mark.parametrize(("target", "status"), [(0, 0), (100, 1)])
def test_the_target_determines_the_exit_status(run, model, target, status):
    done = run(f"--model={model}", "--check", f"--target={target}")
    assert done.returncode == status
    assert "of 15 photos" in done.stdout
    assert ("missed by" in done.stderr) == (status == 1)


def test_another_number_of_classes_is_rejected(run, tmp_path):
    path = tmp_path / "two.keras"
    build_by_name("fd_mobilenet", alpha=0.25, input_shape=(32, 32, 3), weights=None, classes=2).save(path)
    done = run(f"--model={path}")
    assert done.returncode == 1
    assert "3 class folders (amber, blue, cyan), but the model has 2 classes" in done.stderr


def test_model_photos_and_classes_of_a_run_are_found(programs, model, photos, tmp_path):
    run = tmp_path / "run"
    (run / "last").mkdir(parents=True)
    shutil.copy(model, run / "last" / "net.keras")
    (run / "classes.txt").write_text("cyan\nblue\namber\n")  # in another order than the folders
    val = data_sets.open_data(f"folder:{photos}")["val"]
    record = {"name": "net", "data": {"val": sources.describe(val)}, "opened": {"data": f"folder:{photos}"}}
    (run / "run.json").write_text(json.dumps(record))
    results = [
        json.loads(programs.run("fd_keras.training.evaluate", [*flags, "--json"], tmp_path).stdout)
        for flags in (["--run_dir=run"], [f"--model={run}/last/net.keras", f"--data={photos / 'val'}"])
    ]
    assert [result["images"] for result in results] == [15, 15]
    assert results[0]["data"] == str(photos / "val")
    network = load_model(run / "last" / "net.keras")
    hits = [0, 0]
    for label, name in enumerate(("amber", "blue", "cyan")):
        for path in (photos / "val" / name).iterdir():
            first = network.predict_on_batch(imagenet.load_image(path, (32, 32))[None].astype("float32")).argmax()
            hits = [hits[0] + (first == label), hits[1] + (first == 2 - label)]
    assert [round(result["top1"] * 15 / 100) for result in results] == hits


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--data is required"),
        (["--data=x"], "--model is required"),
        (["--run_dir=gone"], "--run_dir=gone: no such folder"),
        (["--run_dir=."], "--run_dir=.: not a run"),
        (["--run_dir=x", "--val_fraction=0.2"], "--val_fraction needs --data"),
        (["--model=gone.keras", "--data=."], "gone.keras: no such file"),
    ],
)
def test_missing_flags_are_named(programs, tmp_path, flags, message):
    done = programs.run("fd_keras.training.evaluate", flags, tmp_path)
    assert done.returncode in (1, 2)
    assert message in done.stderr.splitlines()[-1]
