"""Loading saved models, and errors for invalid files."""

import keras
import numpy as np
import pytest

import fd_keras
from fd_keras.saved import load_float32, load_model


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "mine.keras"
    fd_keras.FDShuffleNet((32, 32, 3), 0.25, weights=None, classes=3).save(path)
    return path


def test_a_loaded_model_equals_the_saved_one(path):
    image = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype("float32")
    keras.utils.set_random_seed(0)
    expected = keras.saving.load_model(path).predict_on_batch(image)
    np.testing.assert_array_equal(load_model(path).predict_on_batch(image), expected)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_model_saved_with_mixed_precision_can_compute_in_float32(tmp_path, policy):
    keras.config.set_dtype_policy(policy)
    try:
        mixed = fd_keras.FDMobileNet((32, 32, 3), 0.25, weights=None, classes=3)
    finally:
        keras.config.set_dtype_policy("float32")
    mixed.save(tmp_path / "mixed.keras")
    plain = fd_keras.FDMobileNet((32, 32, 3), 0.25, weights=None, classes=3)
    plain.set_weights(mixed.get_weights())
    image = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype("float32")
    expected = plain.predict_on_batch(image)
    np.testing.assert_allclose(load_float32(tmp_path / "mixed.keras").predict_on_batch(image), expected, rtol=1e-5)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.keras: no such file"):
        load_model(tmp_path / "gone.keras")


@pytest.mark.parametrize("spot", [0.1, 0.5, 0.9])
def test_a_damaged_file_is_named(path, tmp_path, spot):
    content = bytearray(path.read_bytes())
    start = int(len(content) * spot)
    content[start : start + 64] = bytes(64)
    (tmp_path / "bad.keras").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.keras: cannot be loaded as a \.keras model"):
        load_model(tmp_path / "bad.keras")


def test_a_file_of_another_kind_is_named(tmp_path):
    (tmp_path / "note.txt").write_text("not a model")
    with pytest.raises(ValueError, match=r"note\.txt: not a \.keras file, or truncated; save the model again"):
        load_model(tmp_path / "note.txt")


def test_a_tflite_file_is_named_as_such(tmp_path):
    (tmp_path / "mine.tflite").write_bytes(b"\x1c\0\0\0TFL3 and more")
    with pytest.raises(ValueError, match=r"mine\.tflite: a \.tflite file; pass the \.keras file"):
        load_model(tmp_path / "mine.tflite")


def test_code_in_a_saved_model_is_not_run(tmp_path):
    image = keras.Input((4,))
    keras.Model(image, keras.layers.Lambda(lambda x: x + 1)(image)).save(tmp_path / "code.keras")
    with pytest.raises(ValueError, match=r"code\.keras.*(?i:lambda)"):
        load_model(tmp_path / "code.keras")
