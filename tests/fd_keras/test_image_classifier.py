import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from fd_keras import imagenet
from fd_keras.head import HEADS
from fd_keras.image_classifier import of_model, open_classifier, probabilities


def means(channels: int, *layers, size=(8, 12)) -> keras.Model:
    """A model that outputs the mean of each channel."""
    image = keras.Input((*size, channels))
    x = keras.layers.GlobalAveragePooling2D(data_format="channels_last")(image)
    for layer in layers:
        x = layer(x)
    return keras.Model(image, x)


@pytest.mark.parametrize(
    ("head", "scores", "expected"),
    [
        ("classes", [0.25, 0.75], [0.25, 0.75]),
        ("classes", np.log([0.25, 0.75]), [0.25, 0.75]),
        ("logits", np.log([1, 3]), [0.25, 0.75]),
        ("logits", [0.5, 0.5], [0.5, 0.5]),
        ("values", [7, 7], [0.5, 0.5]),
        ("scores", [0.9, 0.8], [0.9, 0.8]),
        ("scores", [0.2], [0.8, 0.2]),
    ],
)
def test_outputs_become_probabilities(head, scores, expected):
    found = probabilities(np.array([scores], "float32"), HEADS[head])
    np.testing.assert_allclose(found, [expected], atol=1e-6)


@pytest.mark.parametrize("few", [False, True])
def test_a_saved_model_of_gray_images_is_loaded(tmp_path, few):
    means(1, keras.layers.Rescaling(1 / 255), keras.layers.Activation("sigmoid")).save(tmp_path / "a.keras")
    found = open_classifier(str(tmp_path / "a.keras"), few=few)
    assert (found.size, found.outputs, found.classes) == ((8, 12, 1), 1, 2)
    second = 1 / (1 + np.exp(-0.2))
    np.testing.assert_allclose(found(np.full((2, 8, 12, 1), 51, "uint8")), [[1 - second, second]] * 2, atol=1e-6)


def test_the_json_file_of_a_model_determines_its_preprocessing(tmp_path):
    means(3, keras.layers.Softmax()).save(tmp_path / "a.keras")
    (tmp_path / "a.json").write_text(json.dumps({"include_preprocessing": False}))
    image = np.full((1, 8, 12, 3), 100.0, "float32")
    logits = imagenet.preprocess_input(image, False)[0, 0, 0]
    expected = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(open_classifier(str(tmp_path / "a.keras"))(image), [expected], atol=1e-5)


@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")  # the representative data set has them
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1)])
def test_the_bytes_of_photos_are_the_input_of_others_8_bit_files(tmp_path, dtype, low, high):
    model = means(3, keras.layers.Activation("sigmoid"))
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    samples = [np.full((1, 8, 12, 3), value, "float32") for value in (low, high)]
    converter.representative_dataset = lambda: ([sample] for sample in samples)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.as_dtype(dtype)
    (tmp_path / "a.tflite").write_bytes(converter.convert())
    image = np.broadcast_to(np.array([0, 102, 255], "uint8"), (1, 8, 12, 3))
    wanted = 1 / (1 + np.exp(-np.array([[low, low + 0.4 * (high - low), high]])))
    np.testing.assert_allclose(open_classifier(str(tmp_path / "a.tflite"))(image), wanted, atol=0.02)


def test_a_model_for_any_size_uses_imagenets_size():
    assert of_model(means(3, size=(None, None)), "net").size == (224, 224, 3)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: means(1), "net: not a classifier; its only output is not a probability"),
        (lambda: means(4), "net: takes images with 4 channels"),
        (lambda: keras.Sequential([keras.Input((5,)), keras.layers.Softmax()]), r"its inputs have shape \(None, 5\)"),
        (lambda: keras.Sequential([keras.Input((8, 8, 3)), keras.layers.ReLU()]), r"outputs \(None, 8, 8, 3\)"),
    ],
)
def test_other_models_are_rejected(model, message):
    with pytest.raises(ValueError, match=message):
        of_model(model(), "net")


@pytest.mark.parametrize("name", ["gone.keras", "gone.tflite"])
def test_a_missing_file_is_named(name):
    with pytest.raises(FileNotFoundError, match=f"{name}: no such file"):
        open_classifier(name)
