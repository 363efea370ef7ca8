"""Backbones in keras-cv's models, which are trained for a step, saved, loaded and converted."""

import pathlib

import keras_cv
import numpy as np
import pytest

from fd_keras import applications, backbones, weights, zoo
from tests.fd_keras.backbones.tasks import (
    BOXES,
    IMAGES,
    LABELS,
    MASKS,
    SHAPE,
    assert_converts,
    assert_same,
    train_save_load,
)

README = pathlib.Path(__file__).parents[3] / "README.md"
pytestmark = pytest.mark.tensorflow_only(reason="keras-cv's models are tested only there")
EAGER = {"optimizer": "sgd", "run_eagerly": True}  # for one step, compiling would take longer


def small(network: str = "fd_mobilenet", **arguments) -> backbones.KerasCVBackbone:
    return backbones.KerasCVBackbone(network, **{"alpha": 0.25, "image_shape": SHAPE, **arguments})


@pytest.fixture(scope="module")
def backbone():
    return small()


@pytest.mark.parametrize("network", zoo.ARCHS)
def test_all_networks_are_backbones_with_pyramid_levels(network):
    ours = small(network)
    assert ours.pyramid_level_inputs.keys() == {"P1", "P2", "P3", "P4", "P5"}
    again = backbones.KerasCVBackbone.from_config(ours.get_config())
    assert again.get_config() == ours.get_config()
    assert [weight.shape for weight in again.weights] == [weight.shape for weight in ours.weights]


def test_a_backbone_equals_the_application_without_top(backbone):
    theirs = applications.FDMobileNet(SHAPE, 0.25, include_top=False, weights=None)
    theirs.set_weights(backbone.get_weights())
    assert_same(theirs, backbone)


def test_the_arguments_reach_the_network():
    ours = small("shufflenet", groups=8, stem_multiplier=0.25, include_preprocessing=False, name="mine")
    expected = {"groups": 8, "stem_multiplier": 0.25, "include_preprocessing": False, "name": "mine"}
    assert expected.items() <= ours.get_config().items()
    assert ours.output.shape[-1] == 384


def test_a_preset_has_the_published_weights(data, monkeypatch):
    monkeypatch.setenv(weights.DIRECTORY_VARIABLE, str(data / "weights"))
    preset = "fd_mobilenet_0.25_imagenet_authors"
    ours = backbones.KerasCVBackbone.from_preset(preset, image_shape=SHAPE)
    assert_same(ours, applications.FDMobileNet(SHAPE, 0.25, include_top=False, weights="imagenet_authors"))
    random = backbones.KerasCVBackbone.from_preset(preset, load_weights=False)
    assert random.get_config()["image_shape"] == (None, None, 3)


def test_backbones_and_tasks_are_loaded_from_a_saved_preset(backbone, tmp_path):
    backbone.save_to_preset(str(tmp_path))
    assert_same(backbones.KerasCVBackbone.from_preset(str(tmp_path)), backbone)
    classifier = keras_cv.models.ImageClassifier.from_preset(str(tmp_path), num_classes=3)
    assert_same(classifier.backbone, backbone)
    with pytest.raises(ValueError, match="Unknown preset identifier"):
        backbones.KerasCVBackbone.from_preset("fd_mobilenet_0.3_imagenet")


def test_the_example_in_the_readme_trains_a_retinanet(tmp_path):
    block = next(block for block in README.read_text("utf-8").split("```python\n") if "RetinaNet(" in block)
    lines = block.partition("```")[0]
    for written, tried in (('weights="imagenet"', "weights=None"), ("jit_compile=False", "run_eagerly=True")):
        assert written in lines
        lines = lines.replace(written, tried)
    names = {"images": IMAGES, "boxes": BOXES, "classes": LABELS}
    exec(lines, names)
    loaded = train_save_load(names["detector"], {"boxes": BOXES, "classes": LABELS}, tmp_path / "model.keras")
    loaded.compile(classification_loss="focal", box_loss="smoothl1", **EAGER)
    assert loaded.predict(IMAGES, verbose=0)["boxes"].shape == (2, 100, 4)


def test_yolov8(tmp_path):
    model = keras_cv.models.YOLOV8Detector(backbone=small(), num_classes=3, bounding_box_format="xyxy", fpn_depth=1)
    model.compile(classification_loss="binary_crossentropy", box_loss="ciou", **EAGER)
    loaded = train_save_load(model, {"boxes": BOXES, "classes": LABELS}, tmp_path / "model.keras")
    loaded.compile(classification_loss="binary_crossentropy", box_loss="ciou", **EAGER)
    assert loaded.predict(IMAGES, verbose=0)["boxes"].shape == (2, 100, 4)
    assert_converts(loaded, tmp_path)


def test_deeplab(tmp_path):
    model = keras_cv.models.DeepLabV3Plus(backbone=small(), num_classes=3)
    model.compile(loss="sparse_categorical_crossentropy", **EAGER)
    loaded = train_save_load(model, MASKS, tmp_path / "model.keras")
    assert loaded(IMAGES).shape == (2, 64, 64, 3)
    assert_converts(loaded, tmp_path)


def test_image_classifier(tmp_path):
    model = keras_cv.models.ImageClassifier(backbone=small(), num_classes=3)
    model.compile(loss="sparse_categorical_crossentropy", **EAGER)
    loaded = train_save_load(model, np.array([0, 2]), tmp_path / "model.keras")
    assert np.allclose(loaded(IMAGES).numpy().sum(axis=1), 1)
