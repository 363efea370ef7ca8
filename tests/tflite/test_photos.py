"""Real weights and photos: what a conversion may cost in accuracy."""

import numpy as np
import pytest

from fd_keras import imagenet, weights
from fd_keras.applications import FDMobileNet
from fd_keras.litert import Runner
from fd_keras.tflite.export import write
from fd_keras.tflite.recipes import RECIPES, load_calibration
from fd_keras.tflite.verification.reference import reference_of

FILE = "0.25x-FDMobileNet-224.pth.tar"
CALIBRATED = [name for name, recipe in RECIPES.items() if recipe.calibrated]
PHOTOS = 100


@pytest.fixture(scope="module")
def model(data):
    return FDMobileNet(alpha=0.25, weights=str(data / "weights" / FILE))


@pytest.fixture(scope="module")
def calibration(data):
    return load_calibration(str(data / "imagenet" / "sample"), (imagenet.SIZE, imagenet.SIZE), 64)


@pytest.fixture(scope="module")
def photos(data) -> np.ndarray:
    """Every sixth of the 650, so that classes from all over are there; stored at 227x227 for a plain centre crop."""
    paths = imagenet.list_images(data / "imagenet" / "val")[::6][:PHOTOS]
    assert len(paths) == PHOTOS
    return np.stack([imagenet.load_image(path, resize=False) for path in paths]).astype("float32")


@pytest.fixture(scope="module")
def expected(model, photos) -> np.ndarray:
    return model.predict(photos, batch_size=50, verbose=0)


@pytest.fixture(scope="module")
def agreement(model, calibration, photos, expected, tmp_path_factory):
    """Percent of photos on which a recipe's file has the same first class as the Keras model, measured once."""
    folder = str(tmp_path_factory.mktemp("real"))
    source = {"arch": "fd_mobilenet", "alpha": 0.25, "size": [224, 224], "weights": "imagenet_authors"}
    digest = next(c.digest for c in weights.CHECKPOINTS if c.file == FILE).removeprefix("sha256:")
    names, known = ["float32", *CALIBRATED], {}
    recipes = [RECIPES[name] for name in names]
    paths = write(model, "real", {**source, "weights_sha256": digest}, recipes, folder, calibration=calibration)
    for name, path in zip(names, paths, strict=True):
        scores = Runner(path, threads=2)(photos)
        known[name] = path, 100 * np.mean(scores.argmax(axis=1) == expected.argmax(axis=1))
    return known


def test_float32_file_names_the_same_class_on_every_photo(agreement):
    assert agreement["float32"][1] == 100


@pytest.mark.parametrize("recipe", CALIBRATED)
def test_integer_file_mostly_names_the_same_class(agreement, recipe):
    """The converter alone reaches 65 to 73 on these weights, the prepared recipes 85 and more."""
    assert agreement[recipe][1] > (80 if RECIPES[recipe].settings else 60)


def test_preparing_pays(agreement):
    assert agreement["int8"][1] >= agreement["int8_plain"][1] + 5


def test_integer_input_means_pixels(agreement):
    for recipe in CALIBRATED:
        assert Runner(agreement[recipe][0]).input["quantization"] == (1.0, 0)


def test_published_weights_are_found_again(agreement, data, monkeypatch, photos, expected):
    """By the name of their collection, as the sidecar has it."""
    monkeypatch.setenv(weights.DIRECTORY_VARIABLE, str(data / "weights"))
    again = reference_of(agreement["float32"][0])
    np.testing.assert_allclose(again.predict_on_batch(photos[:8]), expected[:8], rtol=0, atol=1e-6)
