"""What the tests of both libraries do with a model on a backbone: train a step, save, load, predict, convert."""

import pathlib

import keras
import numpy as np

from fd_keras import litert
from fd_keras.tflite import export
from fd_keras.tflite.recipes import RECIPES

SHAPE = (64, 64, 3)
IMAGES = np.random.default_rng(0).uniform(0, 255, (2, *SHAPE)).astype("float32")
BOXES = np.array([[[4, 4, 40, 40]], [[10, 10, 50, 60]]], "float32")  # x1, y1, x2, y2
LABELS = np.array([[1], [0]], "float32")
MASKS = np.random.default_rng(1).integers(0, 3, (2, 64, 64, 1))


def train_save_load(model: keras.Model, targets, path: pathlib.Path) -> keras.Model:
    """Trains a compiled model for one step, and checks that it changed; returns it as it was saved and loaded."""
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
    """A model's outputs, in an order that does not change."""
    return [np.asarray(output) for output in keras.tree.flatten(model(images, training=False))]


def assert_same(one, other) -> None:
    """Checks that two models give the same numbers."""
    for found, expected in zip(outputs(one, IMAGES), outputs(other, IMAGES), strict=True):
        assert np.array_equal(found, expected)


def assert_converts(model: keras.Model, folder: pathlib.Path) -> None:
    """Checks that a model becomes a .tflite of TFLite's own operations that gives the same numbers, decoding aside."""
    path = folder / "model.tflite"
    export.save_function(str(folder), model, lambda image: model(image, training=False), SHAPE)
    path.write_bytes(export.convert(str(folder), RECIPES["float32"]))
    run = litert.load(str(path)).get_signature_runner("serve")
    found = sorted(run(**{export.INPUT_NAME: IMAGES[:1]}).values(), key=np.shape)
    for one, other in zip(found, sorted(outputs(model, IMAGES[:1]), key=np.shape), strict=True):
        scale = np.abs(other).max()
        assert np.abs(one - other).max() < 1e-3 * scale
