"""Backbones in keras-hub's models, which are trained for a step, saved, loaded and converted."""

import keras
import keras_hub
import numpy as np
import pytest

from fd_keras import applications, backbones, imagenet, weights, zoo
from tests.fd_keras.backbones.tasks import (
    BOXES,
    IMAGES,
    LABELS,
    MASKS,
    SHAPE,
    assert_converts,
    assert_same,
    outputs,
    train_save_load,
)

pytestmark = pytest.mark.tensorflow_only(reason="the converter reads TensorFlow graphs")


def small(network: str = "fd_mobilenet", **arguments) -> backbones.KerasHubBackbone:
    return backbones.KerasHubBackbone(network, **{"alpha": 0.25, "image_shape": SHAPE, **arguments})


@pytest.fixture(scope="module")
def backbone():
    return small()


@pytest.mark.parametrize("network", zoo.ARCHS)
def test_all_networks_are_backbones_with_pyramid_levels(network):
    ours = small(network)
    assert {level: tensor.shape[1] for level, tensor in ours.pyramid_outputs.items()} == {
        "P1": 32, "P2": 16, "P3": 8, "P4": 4, "P5": 2,
    }  # fmt: skip
    again = backbones.KerasHubBackbone.from_config(ours.get_config())
    assert again.get_config() == ours.get_config()
    assert [weight.shape for weight in again.weights] == [weight.shape for weight in ours.weights]


def test_a_backbone_equals_the_application_without_top(backbone):
    theirs = applications.FDMobileNet(SHAPE, 0.25, include_top=False, weights=None)
    theirs.set_weights(backbone.get_weights())
    assert_same(theirs, backbone)


def test_all_layers_have_the_given_dtype():
    half = small(dtype="bfloat16")
    assert {layer.compute_dtype for layer in half.layers} == {"bfloat16"}
    assert backbones.KerasHubBackbone.from_config(half.get_config()).output.dtype == "bfloat16"
    assert keras.config.dtype_policy().name == "float32"


def test_a_preset_has_the_published_weights(data, monkeypatch):
    monkeypatch.setenv(weights.DIRECTORY_VARIABLE, str(data / "weights"))
    preset = "fd_mobilenet_0.25_imagenet_authors"
    ours = backbones.KerasHubBackbone.from_preset(preset, image_shape=SHAPE)
    assert_same(ours, applications.FDMobileNet(SHAPE, 0.25, include_top=False, weights="imagenet_authors"))
    random = backbones.KerasHubBackbone.from_preset(preset, load_weights=False)
    assert random.get_config()["image_shape"] == (None, None, 3)


def test_the_image_converter_normalizes_as_the_network_does():
    whole, bare = small(), small(include_preprocessing=False)
    bare.set_weights(whole.get_weights())
    converter = backbones.KerasHubImageConverter(**imagenet.rescaling())
    normalized = np.asarray(converter(IMAGES))
    assert np.allclose(normalized, imagenet.preprocess_input(IMAGES, include_preprocessing=False), atol=1e-5)
    (found,), (expected,) = outputs(bare, normalized), outputs(whole, IMAGES)
    assert np.allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_backbones_and_tasks_are_loaded_from_a_saved_preset(backbone, tmp_path):
    backbone.save_to_preset(str(tmp_path))
    assert_same(backbones.KerasHubBackbone.from_preset(str(tmp_path)), backbone)
    assert_same(keras_hub.models.Backbone.from_preset(str(tmp_path)), backbone)
    classifier = keras_hub.models.ImageClassifier.from_preset(str(tmp_path), num_classes=3, preprocessor=None)
    assert_same(classifier.backbone, backbone)


def test_image_classifier(backbone, tmp_path):
    converter = backbones.KerasHubImageConverter(image_size=SHAPE[:2])
    model = backbones.KerasHubImageClassifier(
        backbone, num_classes=3, preprocessor=backbones.KerasHubImageClassifierPreprocessor(converter)
    )
    model.compile(optimizer="sgd", run_eagerly=True)
    loaded = train_save_load(model, np.array([0, 2]), tmp_path / "model.keras")
    model.save_to_preset(str(tmp_path / "preset"))
    again = keras_hub.models.ImageClassifier.from_preset(str(tmp_path / "preset"))
    assert isinstance(again, backbones.KerasHubImageClassifier)
    assert_same(again, loaded)
    larger = np.repeat(np.repeat(IMAGES, 2, axis=1), 2, axis=2)
    assert np.allclose(again.predict(larger, verbose=0), loaded(IMAGES), atol=1e-4)


def test_retinanet(backbone, tmp_path):
    pyramid = keras_hub.models.RetinaNetBackbone(backbone, min_level=3, max_level=5, use_p5=False, image_shape=SHAPE)
    model = keras_hub.models.RetinaNetObjectDetector(pyramid, num_classes=3, bounding_box_format="xyxy")
    model.compile(optimizer="sgd", run_eagerly=True)
    loaded = train_save_load(model, {"boxes": BOXES, "labels": LABELS}, tmp_path / "model.keras")
    loaded.compile(optimizer="sgd", run_eagerly=True)
    assert loaded.predict(IMAGES, verbose=0)["boxes"].shape == (2, 100, 4)
    assert_converts(loaded, tmp_path)


def test_deeplab(tmp_path):
    encoder = keras_hub.models.DeepLabV3Backbone(
        small(), spatial_pyramid_pooling_key="P5", low_level_feature_key="P2", upsampling_size=8,
        dilation_rates=[6, 12, 18], image_shape=SHAPE,
    )  # fmt: skip
    model = keras_hub.models.DeepLabV3ImageSegmenter(encoder, num_classes=3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="sgd", loss=loss, run_eagerly=True)
    loaded = train_save_load(model, MASKS, tmp_path / "model.keras")
    assert loaded(IMAGES).shape == (2, 64, 64, 3)
    assert_converts(loaded, tmp_path)
