"""Tests detectors as .tflite files: built-in operations, and the same boxes as Keras."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from fd_keras import litert
from fd_keras.tflite import detector as exported
from fd_keras.tflite.format.sidecar import sidecar_path
from fd_keras.training.voc import faster_rcnn, metric
from fd_keras.training.voc.annotation import Annotation, read_image
from fd_keras.training.voc.detector import Detector
from tests.training.voc import small_retinanet

CLASSES = ("ant", "bee", "cat")
SIZE = (96, 128)


@pytest.fixture(scope="module")
def converted(detector, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("detector"))
    recipes = ("float32", "int8_weights", "dynamic")
    return {recipe: exported.write(detector, SIZE, recipe, "RUN", folder) for recipe in recipes}


def check_same(found, expected, least: float) -> int:
    """Checks that all confident detections of `expected` are in `found`; returns their number."""
    sure = expected[expected.scores > 0.5]
    for box, label in zip(sure.boxes, sure.labels, strict=True):
        assert metric.iou(box[None].astype("float64"), found.boxes[found.labels == label]).max() > least
    return len(sure)


def test_the_file_has_keras_boxes(detector, converted, detector_photo):
    found, expected = exported.TFLiteDetector(converted["float32"])(detector_photo), detector(detector_photo)
    assert check_same(found, expected, 0.95) > 3
    assert check_same(expected, found, 0.95) > 3
    assert found.boxes.dtype == np.float32
    assert found.labels.dtype == np.int64
    assert (np.diff(found.scores) <= 0).all()
    assert found.boxes.min() >= -1e-3
    assert (found.boxes.max(axis=0) <= [499.01, 374.01, 499.01, 374.01]).all()


def test_the_file_has_keras_boxes_on_a_real_photo(detector, converted, data):
    path = min((data / "VOCdevkit" / "VOC2007" / "JPEGImages").glob("*.jpg"))
    overlaps = exported.compare(detector, exported.TFLiteDetector(converted["float32"]), read_image(str(path)))
    assert len(overlaps) > 3
    assert min(overlaps) > 0.95


def test_int8_weights_have_keras_boxes(detector, converted, detector_photo):
    runner = exported.TFLiteDetector(converted["int8_weights"])
    overlaps = exported.compare(detector, runner, detector_photo)
    assert len(overlaps) > 3
    assert np.mean(np.array(overlaps) > 0.95) > 0.9
    sizes = [os.path.getsize(converted[recipe]) for recipe in ("int8_weights", "float32")]
    assert sizes[0] < 0.5 * sizes[1]


def test_dynamic_range_quantization_is_close_to_keras(detector, converted, detector_photo):
    overlaps = exported.compare(detector, exported.TFLiteDetector(converted["dynamic"]), detector_photo)
    assert np.median(overlaps) > 0.8
    sizes = [os.path.getsize(converted[recipe]) for recipe in ("dynamic", "float32")]
    assert sizes[0] < 0.4 * sizes[1]


@pytest.mark.parametrize("recipe", ["float32", "int8_weights", "dynamic"])
def test_all_operations_are_built_in(converted, recipe, op_names):
    ops = op_names(converted[recipe])
    assert "NON_MAX_SUPPRESSION_V4" in ops
    assert "TOPK_V2" in ops
    assert not {name for name in ops if "CUSTOM" in name or "FLEX" in name.upper() or name == "WHILE"}


def test_the_json_describes_the_file(detector, converted):
    facts = json.loads(Path(sidecar_path(converted["float32"])).read_text())
    assert facts["classes"] == list(CLASSES)
    assert facts["config"] == detector.config
    assert facts["input"]["shape"] == [1, *SIZE, 3]
    assert facts["recipe"] == "float32"


def test_boxes_without_an_area_are_not_repeated(tmp_path):
    """LiteRT's suppression returns such a box repeatedly, so `suppress` removes these boxes first."""
    flat = tf.constant([[10.0, 10, 10, 10], [50, 50, 50, 90], [20, 20, 40, 40]])

    @tf.function(input_signature=[tf.TensorSpec((3,), tf.float32, name="scores")])
    def suppressed(scores):
        chosen, count = faster_rcnn.suppress(flat, scores, 5, 0.5, 0.0)
        return {"chosen": chosen, "count": count}

    module = tf.Module()
    module.serve = suppressed
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"serve": suppressed})
    content = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved"), signature_keys=["serve"]).convert()
    (tmp_path / "x.tflite").write_bytes(content)
    run = litert.load(str(tmp_path / "x.tflite")).get_signature_runner("serve")
    scores = np.array([0.9, 0.8, 0.7], "float32")
    for answer in (run(scores=scores), suppressed(tf.constant(scores))):
        assert int(answer["count"]) == 3
        assert np.array(answer["chosen"])[:3].tolist() == [0, 1, 2]


@pytest.mark.parametrize("shape", [(375, 500), (500, 333), (90, 300)])
def test_photos_of_any_shape_are_fitted(shape):
    image = np.full((*shape, 3), 200, "uint8")
    fitted, factors = exported.fit(image, SIZE)
    inside = np.argwhere((np.abs(fitted - 200) < 1e-3).all(axis=-1)).max(axis=0) + 1
    assert fitted.shape == (*SIZE, 3)
    assert (fitted[inside[0] :] == 127.5).all()
    assert np.allclose(factors, np.tile((inside / shape)[::-1], 2))
    assert (inside == SIZE).any()
    assert (inside <= SIZE).all()


def test_other_files_are_not_detectors(converted, tmp_path):
    (tmp_path / "x.tflite").write_bytes(b"12345678")
    with pytest.raises(litert.LiteRTError, match="TFL3"):
        exported.TFLiteDetector(str(tmp_path / "x.tflite"))
    with pytest.raises(litert.LiteRTError, match="not a classifier"):
        litert.Runner(converted["float32"])


def test_the_file_s_own_detections_have_full_score(converted, detector_photo):
    runner = exported.TFLiteDetector(converted["float32"])
    sure = runner(detector_photo)
    sure = sure[sure.scores > 0.5]
    truth = Annotation(
        "photo", "photo.png", *detector_photo.shape[:2], sure.boxes, sure.labels, np.zeros(len(sure), bool)
    )
    assert metric.score(CLASSES, [truth], {"photo": runner(detector_photo)}).map_area == pytest.approx(1)
    elsewhere = dataclasses.replace(truth, boxes=np.tile(np.float32([0, 0, 2, 2]), (len(sure), 1)))
    assert metric.score(CLASSES, [elsewhere], {"photo": runner(detector_photo)}).map_area < 0.1


def test_default_size_is_that_of_a_photo(detector):
    assert exported.photo_size(600) == (600, 800)
    assert exported.file_size(detector, None) == exported.photo_size(detector.recipe.short_side)
    assert exported.file_size(detector, (64, 96)) == (64, 96)


def test_a_retinanet_is_converted_to_built_in_operations(tmp_path, op_names):
    small = small_retinanet.with_sure_detections(small_retinanet.build(3))
    config = small.recipe.settings() | {"detector": "retinanet", "backbone": "fd_mobilenet", "alpha": 0.25}
    one = Detector(small.net, config, CLASSES, "retinanet")
    size = exported.file_size(one, None)
    assert size == (64, 64)
    with pytest.raises(ValueError, match="--size=64x96: a RetinaNet takes the squares"):
        exported.file_size(one, (64, 96))
    path = exported.write(one, size, "float32", "RUN", str(tmp_path))
    assert json.loads(Path(sidecar_path(path)).read_text())["detector"] == "retinanet"
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), "uint8")
    overlaps = exported.compare(one, exported.TFLiteDetector(path), photo)
    assert len(overlaps) > 3
    assert min(overlaps) > 0.95
    assert not {name for name in op_names(path) if "CUSTOM" in name or "FLEX" in name.upper()}
