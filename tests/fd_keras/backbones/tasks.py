"""Shared checks of models on a backbone, for keras-cv and keras-hub: train a step, save, load, predict, convert."""

import pathlib

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from fd_keras import litert

SHAPE = (64, 64, 3)
IMAGES = np.random.default_rng(0).uniform(0, 255, (2, *SHAPE)).astype("float32")
BOXES = np.array([[[4, 4, 40, 40]], [[10, 10, 50, 60]]], "float32")  # x1, y1, x2, y2
LABELS = np.array([[1], [0]], "float32")
MASKS = np.random.default_rng(1).integers(0, 3, (2, 64, 64, 1))


def train_save_load(model: keras.Model, targets, path: pathlib.Path) -> keras.Model:
    """Trains a compiled model for a step, checks that it changed, saves it, and returns the loaded model."""
    before = [weight.numpy() for weight in model.trainable_weights]
    history = model.fit(IMAGES, targets, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert any(
        not np.array_equal(old, weight.numpy()) for old, weight in zip(before, model.trainable_weights, strict=True)
    )
    model.save(path)
    loaded = keras.saving.load_model(path, compile=False)
    assert type(loaded) is type(model)
    assert_same(loaded, model)
    return loaded


def outputs(model, images) -> list[np.ndarray]:
    """Outputs of a model, in a fixed order."""
    return [np.asarray(output) for output in keras.tree.flatten(model(images, training=False))]


def assert_same(one, other) -> None:
    """Checks that two models have equal outputs."""
    for found, expected in zip(outputs(one, IMAGES), outputs(other, IMAGES), strict=True):
        assert np.array_equal(found, expected)


def assert_converts(model: keras.Model, folder: pathlib.Path) -> None:
    """Checks that a model converts to TFLite's builtin ops with equal outputs, without the decoding of boxes."""
    path = folder / "model.tflite"
    path.write_bytes(_converted(model))
    interpreter = litert.load(str(path))
    (image,) = interpreter.get_input_details()
    interpreter.set_tensor(image["index"], IMAGES[:1])
    interpreter.invoke()
    found = [interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()]
    expected = sorted(outputs(model, IMAGES[:1]), key=np.shape)
    for one, other in zip(sorted(found, key=np.shape), expected, strict=True):
        assert np.abs(one - other).max() < 1e-3 * np.abs(other).max()


def _converted(model: keras.Model) -> bytes:
    """The .tflite content of a model. Freezing the weights makes this three times as fast as `tflite.export`."""
    image = tf.TensorSpec((1, *SHAPE), tf.float32)
    graph = tf.function(lambda image: model(image, training=False), input_signature=[image], autograph=False)
    frozen = convert_variables_to_constants_v2(graph.get_concrete_function())
    with litert.quiet():
        return tf.lite.TFLiteConverter.from_concrete_functions([frozen], tf.Module()).convert()
