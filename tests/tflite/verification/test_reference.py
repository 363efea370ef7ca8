import json
from pathlib import Path

import keras
import numpy as np
import pytest

from fd_keras import weights
from fd_keras.applications import FDMobileNet
from fd_keras.io import sha256_of
from fd_keras.tflite.format.sidecar import calibration_facts
from fd_keras.tflite.recipes import Int8Settings, load_calibration
from fd_keras.tflite.verification.reference import calibration_of, reference_classifier, reference_of


@pytest.fixture
def saved(tiny, tmp_path) -> Path:
    tiny.save(tmp_path / "tiny.keras")
    return tmp_path / "tiny.keras"


def describe(folder: Path, **facts) -> str:
    """Writes only the sidecar of a file; returns the file's path."""
    (folder / "a.json").write_text(json.dumps(facts))
    return str(folder / "a.tflite")


def origin(saved: Path) -> dict:
    return {"arch": None, "keras_model": str(saved), "weights_sha256": sha256_of(saved)}


# --- the model of a file ---------------------------------------------------------------------------------


def test_a_saved_model_is_loaded_again(saved, tiny, images, tmp_path):
    model = reference_of(describe(tmp_path, **origin(saved)))
    np.testing.assert_array_equal(model.predict_on_batch(images[:4]), tiny.predict_on_batch(images[:4]))


@pytest.mark.parametrize(
    ("size", "output", "message"),
    [
        ((64, 96, 3), lambda x: x, r"not a classifier of one image; its inputs have shape \(None, 64"),
        ((64, 64, 3), keras.layers.GlobalAveragePooling2D(), r"takes images of \(64, 64, 3\), but .* \(64, 96"),
    ],
)
def test_a_reference_of_another_form_is_named(convert_tiny, tmp_path, size, output, message):
    image = keras.Input(size)
    keras.Model(image, output(keras.layers.ReLU()(image))).save(tmp_path / "a.keras")
    with pytest.raises(ValueError, match=rf"a\.keras: {message}"):
        reference_classifier(str(tmp_path / "a.keras"), str(convert_tiny("float32")), 1)


def test_a_network_of_the_zoo_is_built_again(tmp_path, images):
    model = FDMobileNet((64, 96, 3), 0.25, weights=None)
    model.save_weights(tmp_path / "mine.weights.h5")
    facts = {"arch": "fd_mobilenet", "alpha": 0.25, "size": [64, 96], "include_preprocessing": True}
    path = str(tmp_path / "mine.weights.h5")
    again = reference_of(describe(tmp_path, **facts, weights=path, weights_sha256=sha256_of(path)))
    np.testing.assert_allclose(
        again.predict_on_batch(images[:4]), model.predict_on_batch(images[:4]), rtol=0, atol=1e-7
    )


def test_published_weights_are_found_by_the_name_of_their_collection(data, monkeypatch, tmp_path, images):
    monkeypatch.setenv(weights.DIRECTORY_VARIABLE, str(data / "weights"))
    known = next(c for c in weights.CHECKPOINTS if c.file == "0.25x-FDMobileNet-224.pth.tar")
    facts = {"arch": "fd_mobilenet", "alpha": 0.25, "size": [64, 96], "include_preprocessing": True}
    digest = known.digest.removeprefix("sha256:")
    again = reference_of(describe(tmp_path, **facts, weights="imagenet_authors", weights_sha256=digest))
    model = FDMobileNet((64, 96, 3), 0.25, weights=str(data / "weights" / known.file))
    np.testing.assert_allclose(
        again.predict_on_batch(images[:4]), model.predict_on_batch(images[:4]), rtol=0, atol=1e-7
    )


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"weights_sha256": "00"}, "the weights have changed"),
        ({"keras_model": "/gone.keras"}, "are missing"),
        ({"weights_sha256": None}, "random weights"),
        ({"arch": "fd_mobilenet"}, "does not name its source model"),
    ],
)
def test_changed_weights_are_rejected(saved, tmp_path, change, word):
    with pytest.raises(ValueError, match=f"{word}.*--reference"):
        reference_of(describe(tmp_path, **(origin(saved) | change)))


def test_a_file_without_a_sidecar_has_no_origin(tmp_path):
    with pytest.raises(ValueError, match=r"a\.json does not name its source model.*--reference"):
        reference_of(str(tmp_path / "a.tflite"))


def test_the_reference_may_be_a_file(convert_tiny, saved, tiny, images):
    path, expected = convert_tiny("float32"), tiny.predict_on_batch(images)
    for reference in (path, str(saved)):
        scores = reference_classifier(reference, path, threads=1)(images)
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


# --- its calibration images ------------------------------------------------------------------------------


@pytest.fixture
def calibrated(tmp_path, save_images, images) -> tuple[str, str]:
    """A file's sidecar with calibration images, and their folder."""
    folder = str(save_images(tmp_path / "photos", images[:8]))
    facts = calibration_facts(load_calibration(folder, (64, 96), 8))
    settings = {"fit": 0.0, "bias": False}
    return describe(
        tmp_path, calibration=facts, input={"shape": [1, 64, 96, 3]}, recipe_steps={"settings": settings}
    ), folder


def test_calibration_images_and_steps_are_found_again(calibrated):
    path, folder = calibrated
    calibration, settings = calibration_of(path, folder)
    assert calibration.images.shape == (8, 64, 96, 3)
    assert settings == Int8Settings(fit=0.0, bias=False)


def test_other_images_are_refused(calibrated, save_images, images):
    path, folder = calibrated
    save_images(Path(folder), images[8:16])
    with pytest.raises(ValueError, match="not the images that"):
        calibration_of(path, folder)


def test_a_file_without_steps_is_refused(calibrated, tmp_path):
    path, folder = calibrated
    (tmp_path / "a.json").write_text(json.dumps({"recipe_steps": {"settings": None}}))
    with pytest.raises(ValueError, match="--recipes=int8"):
        calibration_of(path, folder)
