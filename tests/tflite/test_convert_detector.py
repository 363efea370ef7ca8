"""The detector's .tflite: TFLite's own operations, and Keras's boxes."""

import dataclasses
import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from fd_keras import litert
from fd_keras.tflite import convert_detector as exported
from fd_keras.tflite.format.sidecar import sidecar_path
from fd_keras.training.voc import backbone, faster_rcnn, metric
from fd_keras.training.voc.dataset import Annotation, read_image
from fd_keras.training.voc.detector import Detector
from fd_keras.training.voc.detector_recipe import ConversionRecipe

RECIPE = ConversionRecipe(short_side=96, long_side=160, roi_size=7, anchor_size=32, rpn_channels=16, test_proposals=60)
CLASSES = ("ant", "bee", "cat")
SIZE = (96, 128)


@pytest.fixture(scope="module")
def detector(photo) -> Detector:
    """Random weights, scaled so that on the photo the logits of classes and anchors have a deviation of 2."""
    keras.utils.set_random_seed(4)
    net = faster_rcnn.build_net(backbone.choose("fd_mobilenet", 0.25), len(CLASSES), RECIPE)
    config = RECIPE.settings() | {"backbone": "fd_mobilenet", "alpha": 0.25}
    detector = Detector(net, config, CLASSES, "faster_rcnn_fd_mobilenet_0.25_96")
    fitted, _ = exported.fit(photo, SIZE)
    for name in ("rpn_objectness", "rpn_boxes", "roi_classes", "roi_boxes"):
        first = detector.model.propose(tf.constant(fitted), 0.25, training=False)
        logits, deltas = detector.model.classify(first, first.boxes, training=False)
        said = {"rpn_objectness": first.logits, "rpn_boxes": first.deltas, "roi_classes": logits, "roi_boxes": deltas}
        kernel, bias = net.get_layer(name).get_weights()
        deviation = 2 if name in ("rpn_objectness", "roi_classes") else 0.3
        net.get_layer(name).set_weights([kernel * deviation / said[name].numpy().std(), bias])
    return detector


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """Soft blots, 4:3 as VOC's photos are."""
    blots = np.random.default_rng(0).uniform(0, 255, (15, 20, 3))
    return tf.image.resize(blots, (375, 500), "bicubic").numpy().clip(0, 255).astype("uint8")


@pytest.fixture(scope="module")
def converted(detector, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("detector"))
    recipes = ("float32", "int8_weights", "dynamic")
    return {recipe: exported.write(detector, SIZE, recipe, "RUN", folder) for recipe in recipes}


def check_same(found, expected, least: float) -> int:
    """Checks that all sure detections of `expected` are in `found`; returns how many there are."""
    sure = expected[expected.scores > 0.5]
    for box, label in zip(sure.boxes, sure.labels, strict=True):
        assert metric.iou(box[None].astype("float64"), found.boxes[found.labels == label]).max() > least
    return len(sure)


def test_the_file_gives_kerass_boxes(detector, converted, photo):
    found, expected = exported.DetectorRunner(converted["float32"])(photo), detector(photo)
    assert check_same(found, expected, 0.95) > 3
    assert check_same(expected, found, 0.95) > 3
    assert found.boxes.dtype == np.float32
    assert found.labels.dtype == np.int64
    assert (np.diff(found.scores) <= 0).all()
    assert found.boxes.min() >= -1e-3
    assert (found.boxes.max(axis=0) <= [499.01, 374.01, 499.01, 374.01]).all()


def test_the_file_gives_kerass_boxes_on_a_real_photo(detector, converted, data):
    path = min((data / "VOCdevkit" / "VOC2007" / "JPEGImages").glob("*.jpg"))
    overlaps = exported.compare(detector, exported.DetectorRunner(converted["float32"]), read_image(str(path)))
    assert len(overlaps) > 3
    assert min(overlaps) > 0.95


def test_a_split_is_compared_and_scored(detector, converted, photo, tmp_path, capsys):
    """With the file's own detections as the truth, it has all of them right."""
    path = str(tmp_path / "photo.png")
    Image.fromarray(photo).save(path)
    runner = exported.DetectorRunner(converted["float32"])
    exported.report_on(detector, runner, {"photo": path})
    found = re.fullmatch(
        r"  photo: (\d+) of Keras's detections above 0.5, least overlap (?:0.9\d+|1.000)\n"
        r"  IoU > 0.95 with (\d+) of Keras's (\d+) detections above 0.5\n",
        capsys.readouterr().out,
    )
    assert found
    assert int(found[1]) == int(found[2]) == int(found[3]) > 3

    sure = runner(photo)
    sure = sure[sure.scores > 0.5]
    truth = Annotation("photo", path, *photo.shape[:2], sure.boxes, sure.labels, np.zeros(len(sure), bool))
    assert metric.score(CLASSES, [truth], {"photo": runner(photo)}).map_area == pytest.approx(1)
    elsewhere = dataclasses.replace(truth, boxes=np.tile(np.float32([0, 0, 2, 2]), (len(sure), 1)))
    assert metric.score(CLASSES, [elsewhere], {"photo": runner(photo)}).map_area < 0.1


def test_weights_of_eight_bits_give_kerass_boxes(detector, converted, photo):
    runner = exported.DetectorRunner(converted["int8_weights"])
    overlaps = exported.compare(detector, runner, photo)
    assert len(overlaps) > 3
    assert np.mean(np.array(overlaps) > 0.95) > 0.9
    sizes = [len(open(converted[recipe], "rb").read()) for recipe in ("int8_weights", "float32")]
    assert sizes[0] < 0.5 * sizes[1]


def test_the_converters_own_eight_bits_stay_near(detector, converted, photo):
    overlaps = exported.compare(detector, exported.DetectorRunner(converted["dynamic"]), photo)
    assert np.median(overlaps) > 0.8
    sizes = [len(open(converted[recipe], "rb").read()) for recipe in ("dynamic", "float32")]
    assert sizes[0] < 0.4 * sizes[1]


@pytest.mark.parametrize("recipe", ["float32", "int8_weights", "dynamic"])
def test_only_operations_of_tflite_itself(converted, recipe, op_names):
    ops = op_names(converted[recipe])
    assert "NON_MAX_SUPPRESSION_V4" in ops
    assert "TOPK_V2" in ops
    assert not {name for name in ops if "CUSTOM" in name or "FLEX" in name.upper() or name == "WHILE"}


def test_the_json_tells_what_it_is(detector, converted):
    facts = json.loads(open(sidecar_path(converted["float32"])).read())
    assert facts["classes"] == list(CLASSES)
    assert facts["config"] == detector.config
    assert facts["input"]["shape"] == [1, *SIZE, 3]
    assert facts["recipe"] == "float32"


def test_boxes_without_an_area_are_not_repeated(tmp_path):
    """LiteRT's suppression gives such a box again and again; `suppress` keeps them from it."""
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


def test_sizes():
    assert exported.fixed_size(None, 600) == (600, 800)
    assert exported.fixed_size("300X500", 600) == (300, 500)
    for text in ("300", "axb", "10x500", "300x-500"):
        with pytest.raises(ValueError, match="HEIGHTxWIDTH"):
            exported.fixed_size(text, 600)


def test_a_classifiers_file_is_no_detector(converted, tmp_path):
    (tmp_path / "x.tflite").write_bytes(b"12345678")
    with pytest.raises(litert.LiteRTError, match="TFL3"):
        exported.DetectorRunner(str(tmp_path / "x.tflite"))
    with pytest.raises(litert.LiteRTError, match="not a classifier"):
        litert.DetectorRunner(converted["float32"])


def test_the_program_says_what_is_wrong(run_program, tmp_path):
    for flags, words in (
        (["--recipes=int4"], "--recipes: 'int4' is none of float32, float16, int8_weights, dynamic"),
        ([], "no run of training.voc.train"),
        (["--images=none.jpg"], "none.jpg"),
    ):
        done = run_program("tflite.convert_detector", f"--run_dir={tmp_path}", f"--output_dir={tmp_path}", *flags)
        assert done.returncode == 1 and words in done.stderr, done.stderr
