import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests import jax_programs, needs

needs.package("jax")

from benchmarks import device_files, device_runs  # noqa: E402


@pytest.fixture
def folder(tmp_path):
    """Two classes of dark and bright photos of 40 pixels."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 3)):
        for name, level in (("bright", 200), ("dark", 50)):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.normal(level, 20, (40, 40, 3)).clip(0, 255).astype("uint8")
                Image.fromarray(pixels).save(tmp_path / split / name / f"{number}.png")
    return tmp_path


def test_photos_are_decoded_in_the_order_of_the_classes(folder):
    photos, classes = device_files.decoded(str(folder / "train"), None, workers=1)
    assert classes == ["bright", "dark"]
    assert photos.images.shape == (16, 40, 40, 3)
    np.testing.assert_array_equal(photos.labels, [0] * 8 + [1] * 8)
    assert photos.images[:8].mean() > 150 > photos.images[8:].mean()
    crops, _ = device_files.decoded(str(folder / "val"), 32, workers=1)
    assert crops.images.shape == (6, 32, 32, 3)


@pytest.mark.parametrize("size", [(40, 30), (30, 30)])
def test_a_photo_of_another_size_is_named(folder, size):
    Image.new("RGB", size).save(folder / "train" / "dark" / "other.png")
    with pytest.raises(ValueError, match="other.png: "):
        device_files.decoded(str(folder / "train"), None, workers=1)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_broken_photo_is_named(folder, split):
    (folder / split / "dark" / "broken.png").write_bytes(b"not an image")
    with pytest.raises(ValueError, match="broken.png: not a readable image"):
        device_files.decoded(str(folder / split), None if split == "train" else 32, workers=1)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="train: no such folder"):
        device_files.decoded(str(tmp_path / "train"), None)


def test_a_run_trains_and_is_listed(folder, tmp_path):
    """In another process, since Keras's backend cannot be changed in this one."""
    runs = tmp_path / "runs"
    command = [sys.executable, "-m", "benchmarks.train_on_device", f"--data={folder}", f"--run_dir={runs / 'mine_0'}"]
    command += [
        "--recipe=authors",
        "--alpha=0.25",
        "--image_size=32",
        "--batch_size=8",
        "--epochs=3",
        "--evaluate_every=2",
    ]
    subprocess.run(command, check=True, env=jax_programs.environment())
    record = json.loads((runs / "mine_0" / device_files.RECORD).read_text())
    assert record["photos"] == {"train": 16, "val": 6}
    assert record["recipe"]["epochs"] == 3
    assert (runs / "mine_0" / "fd_mobilenet_0.25_32.keras").exists()
    ((history,),) = device_runs.histories_of(runs).values()
    assert [row["epoch"] for row in history] == [2, 3]
    assert history[-1]["val_top1"] == pytest.approx(record["last"]["val_top1"], abs=1e-5)
    device_runs.main([str(runs), f"--curves={tmp_path / 'curves.png'}"])
    assert (tmp_path / "curves.png").exists()


def test_another_backend_is_rejected(folder, tmp_path):
    command = [sys.executable, "-m", "benchmarks.train_on_device", f"--data={folder}", f"--run_dir={tmp_path / 'run'}"]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert "set KERAS_BACKEND=jax" in done.stderr
