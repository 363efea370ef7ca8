import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from fd_keras.training import run_record
from fd_keras.training.voc import detector
from tests.training.voc.small_nets import SMALL, build, net_of


def test_the_saved_network_equals_the_network(tmp_path):
    path = str(tmp_path / "net.keras")
    net_of("fd_shufflenet").save(path)
    config = SMALL.settings() | {"backbone": "fd_shufflenet", "alpha": 0.25}
    image = np.random.default_rng(3).integers(0, 256, (70, 90, 3), "uint8")
    found = [
        detector.Detector(net, config, ("a", "b", "c"), "x")(image)
        for net in (net_of("fd_shufflenet"), keras.models.load_model(path))
    ]
    assert len(found[0])
    assert np.array_equal(found[0].boxes, found[1].boxes)
    assert np.array_equal(found[0].scores, found[1].scores)


def test_detections_are_in_pixels_of_the_photo(monkeypatch):
    config = dataclasses.replace(SMALL, short_side=80, long_side=160).settings()
    one = detector.Detector(build("fd_mobilenet"), config, ("a", "b", "c"), "x")
    inside = tf.constant([[0.0, 0, 120, 80], [30, 20, 60, 40]])
    monkeypatch.setattr(one.model, "detect", lambda *_: (inside, tf.ones(2), tf.zeros(2, tf.int32), 2))
    found = one(np.zeros((40, 60, 3), "uint8"))
    assert found.boxes.tolist() == [[0, 0, 59, 39], [15, 10, 29, 19]]


@pytest.mark.parametrize("image", [np.zeros((4, 4, 3)), np.zeros((4, 4), "uint8"), np.zeros((4, 4, 4), "uint8")])
def test_other_arrays_are_rejected(image):
    one = detector.Detector(net_of("fd_mobilenet"), SMALL.settings(), ("a", "b", "c"), "x")
    with pytest.raises(ValueError, match="uint8 RGB"):
        one(image)


def test_a_run_is_loaded_and_other_folders_are_rejected(tmp_path):
    with pytest.raises(FileNotFoundError, match="not a run of fd-keras detect train"):
        detector.load(str(tmp_path))
    record = tmp_path / run_record.FILE
    record.write_text("{}")
    with pytest.raises(ValueError, match="run.json: damaged, or not from fd-keras detect train"):
        detector.load(str(tmp_path))
    record.write_text(json.dumps({"config": SMALL.settings(), "class_names": ["a", "b", "c"], "name": "net"}))
    with pytest.raises(FileNotFoundError, match="at the end of each epoch"):
        detector.load(str(tmp_path))
    run_record.save_model(net_of("fd_mobilenet"), run_record.model_path(str(tmp_path), "last", "net"))
    one = detector.load(str(tmp_path))
    assert (one.name, one.classes, one.recipe) == ("net", ("a", "b", "c"), SMALL)
