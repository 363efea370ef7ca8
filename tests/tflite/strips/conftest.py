"""Fixtures: integer files and their networks, and their outputs in LiteRT."""

import functools
from pathlib import Path

import keras
import numpy as np
import pytest

from fd_keras import zoo
from fd_keras.litert import Runner
from fd_keras.tflite import export
from fd_keras.tflite.format.flatbuffer import pack, parse
from fd_keras.tflite.recipes import RECIPES
from tests.tflite.conftest import SIZE, prepared

OWN = "own"
NETWORKS = (*zoo.ARCHS, OWN)


def own_classifier() -> keras.Model:
    """A typical user network: convolutions with padding, a shortcut, and pooling."""
    keras.utils.set_random_seed(0)
    image = keras.Input((*SIZE, 3))
    x = keras.layers.Rescaling(1 / 64, -2)(image)
    x = keras.layers.Conv2D(6, 5, 2, "same", activation="relu")(x)
    branch = keras.layers.DepthwiseConv2D(3, padding="same", dilation_rate=2)(x)
    branch = keras.layers.Conv2D(6, 3, padding="same", activation="relu")(branch)
    x = keras.layers.MaxPooling2D()(keras.layers.Add()([x, branch]))
    x = keras.layers.Conv2D(8, 3, 2, "same", activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return prepared(keras.Model(image, keras.layers.Dense(4, "softmax")(x)))


@pytest.fixture(scope="session")
def integer_file(converted, calibration):
    """Returns the int8 file of a network by name."""

    @functools.cache
    def file(name: str) -> bytes:
        if name == OWN:
            return export.export(own_classifier(), RECIPES["int8_plain"], calibration=calibration)
        return Path(converted(name, "int8").path).read_bytes()

    return file


@pytest.fixture
def answers(tmp_path, images):
    """Computes scores of a few images in LiteRT for a model, a `schema.ModelT` or its bytes."""

    def run(model) -> np.ndarray:
        path = tmp_path / "model.tflite"
        path.write_bytes(model if isinstance(model, bytes) else pack(model))
        return Runner(path)(images[:6])

    return run


@pytest.fixture(scope="session")
def parsed(integer_file):
    """Returns the int8 file of a network as a `schema.ModelT`."""
    return lambda name: parse(integer_file(name))
