import os

import numpy as np
import pytest

from fd_keras import litert
from fd_keras.litert import LiteRTError
from tests import needs


def details(dtype, scale=0.0, zero_point=0) -> dict:
    return {"dtype": dtype, "quantization": (scale, zero_point)}


@pytest.mark.parametrize(
    ("values", "of", "expected"),
    [
        ([0, 127.5, 255], details(np.int8, 1.0, -128), [-128, 0, 127]),
        ([-1, 300], details(np.uint8, 1.0, 0), [0, 255]),
        ([-0.5, 0.24, 0.26], details(np.int8, 0.5, 3), [2, 3, 4]),
        ([1.25, -3], details(np.float32), [1.25, -3]),
    ],
)
def test_quantize(values, of, expected):
    found = litert.quantize(np.array(values, "float32"), of)
    assert found.dtype == of["dtype"]
    assert found.tolist() == expected


def test_quantize_reverses_dequantize():
    of = details(np.int8, 0.037, 11)
    every = np.arange(-128, 128).astype(np.int8)
    assert np.array_equal(litert.quantize(litert.dequantize(every, of), of), every)


def test_dequantize_gives_float32():
    found = litert.dequantize(np.array([-128, 127], np.int8), details(np.int8, 1 / 256, -128))
    assert found.dtype == np.float32
    assert found.tolist() == [0, 255 / 256]


@pytest.mark.parametrize("content", [b"", b"abc", b"\x1c\0\0\0NOPE" + bytes(100), b"<html></html>"])
def test_a_file_that_is_not_tflite_is_named(tmp_path, content):
    (tmp_path / "broken.tflite").write_bytes(content)
    with pytest.raises(LiteRTError, match="broken.tflite: not a .tflite file"):
        litert.Runner(tmp_path / "broken.tflite")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(LiteRTError, match="missing.tflite: No such file"):
        litert.Runner(tmp_path / "missing.tflite")


def test_a_damaged_file_is_named(tmp_path):
    needs.package("ai_edge_litert")
    (tmp_path / "damaged.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(100))
    for reader in (litert.Runner, litert.load, litert.read_weights):
        with pytest.raises(LiteRTError, match="damaged.tflite"):
            reader(tmp_path / "damaged.tflite")


@pytest.mark.tensorflow_only(reason="the converter reads TensorFlow graphs")
def test_a_converted_network_gives_equal_scores(tmp_path, small, images, run):
    needs.package("ai_edge_litert")
    import tensorflow as tf

    model = small("fd_mobilenet")
    (tmp_path / "converted.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    runner = litert.Runner(tmp_path / "converted.tflite")
    assert runner.input_shape == (64, 64, 3)
    assert runner.classes == 10
    assert np.allclose(runner(images), run(model, images), rtol=1e-3, atol=1e-5)


def test_quiet_hides_native_output_inside_its_block(capfd):
    with litert.quiet():
        os.write(2, b"noise")
    os.write(2, b"message")
    assert capfd.readouterr().err == "message"
