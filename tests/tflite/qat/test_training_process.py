import os

import numpy as np
import pytest

from fd_keras.tflite.qat import training_process


def test_missing_packages_name_the_extra(monkeypatch):
    monkeypatch.setattr(training_process, "PACKAGES", ("keras", "no_such_package"))
    with pytest.raises(ValueError, match=r"no_such_package.*fd-keras\[qat\]") as error:
        training_process.check_installed()
    assert "keras and" not in str(error.value)


def test_images_are_taken_evenly(many_photos):
    found = training_process.image_paths(str(many_photos), 10_000)
    assert len(found) == training_process.MIN_IMAGES
    with pytest.raises(ValueError, match="found 127 images, but training needs at least 128"):
        training_process.image_paths(str(many_photos), 127)


def test_images_are_decoded_in_order(many_photos, calibration, tmp_path):
    paths = [os.path.join(many_photos, f"{index:03}.png") for index in (1, 0)]
    training_process._decode(paths, calibration.images.shape[1:], str(tmp_path / "images.npy"))
    found = np.load(tmp_path / "images.npy")
    assert found.shape == (2, *calibration.images.shape[1:])
    own, others = (np.abs(found.astype(int) - calibration.images[order]).mean() for order in ([1, 0], [0, 1]))
    assert own < others  # not 0, since they are resized and cropped


def test_lines_of_json_are_passed_on(tmp_path, monkeypatch):
    (tmp_path / "printing.py").write_text("import json, sys\nfor i in range(2): print(json.dumps({sys.argv[1]: i}))")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    lines = training_process._lines_of("printing", "loss", scratch=str(tmp_path))
    assert list(lines) == [{"loss": 0}, {"loss": 1}]


def test_training_that_fails_ends_with_its_last_line(tmp_path):
    """Any module that fails can take the place of the training."""
    with pytest.raises(ValueError, match=r"status 1: .*no_such_module"):
        list(training_process._lines_of("no_such_module", scratch=str(tmp_path)))
