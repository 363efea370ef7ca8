"""Small models that are built once, and fixtures that block downloads and restore Keras's settings."""

import contextlib
import functools
from unittest import mock

import keras
import numpy as np
import pytest

from fd_keras import weights
from fd_keras.applications import build_by_name

SMALL = {"alpha": 0.25, "weights": None, "input_shape": (64, 64, 3), "classes": 10}
GET_FILE = keras.utils.get_file


@pytest.fixture
def real_get_file(no_download, monkeypatch):
    """Restores Keras's own downloader, for files on this machine."""
    monkeypatch.setattr(keras.utils, "get_file", GET_FILE)


@pytest.fixture(autouse=True)
def no_download(monkeypatch):
    """Makes downloads fail, and hides checkpoints on this machine."""

    def refuse(name, origin, **_):
        raise AssertionError(f"a test tried to download {origin}")

    monkeypatch.setattr(keras.utils, "get_file", refuse)
    monkeypatch.delenv(weights.DIRECTORY_VARIABLE, raising=False)


@pytest.fixture(autouse=True)
def keras_settings():
    """Restores Keras's global settings after a test."""
    data_format, policy = keras.config.image_data_format(), keras.config.dtype_policy()
    yield
    keras.config.set_image_data_format(data_format)
    keras.config.set_dtype_policy(policy)


@pytest.fixture(scope="session")
def quick_start():
    """A context that draws initial kernels with NumPy on JAX, which would compile a kernel for each shape."""
    if keras.backend.backend() != "jax":
        return contextlib.nullcontext
    rng = np.random.default_rng(1)

    def draw(self, shape, dtype=None):
        fan_out = np.prod(shape[:-2]) * shape[-1]
        return keras.ops.convert_to_tensor(rng.normal(0, (2 / fan_out) ** 0.5, shape), dtype or "float32")

    return lambda: mock.patch.object(keras.initializers.VarianceScaling, "__call__", draw)


@pytest.fixture(scope="session")
def build(quick_start):
    """Builds a small network with random weights: build("mobilenet", classes=3). Arguments are those of FDMobileNet."""

    def build(model: str, **arguments) -> keras.Model:
        keras.utils.set_random_seed(0)
        with quick_start():
            return build_by_name(model, **{**SMALL, **arguments})

    return build


@pytest.fixture(scope="session")
def small(build):
    """A function that returns the small network of a name with ten classes. It is built once; do not change it."""
    return functools.cache(build)


@pytest.fixture(scope="session")
def run():
    """Computes the output of a model for a batch as a NumPy array, in the way that is faster on this backend."""

    def run(model, images) -> np.ndarray:
        if keras.backend.backend() == "tensorflow":
            return np.asarray(model(images, training=False))
        return np.asarray(model.predict(images, verbose=0))  # otherwise JAX compiles each op

    return run


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """Two raw RGB images of 64x64: one of noise, one of flat squares."""
    rng = np.random.default_rng(0)
    flat = np.repeat(np.repeat(rng.integers(0, 256, (4, 4, 3)), 16, 0), 16, 1)
    return np.stack([rng.integers(0, 256, (64, 64, 3)), flat]).astype("float32")
